"""Damaged, inconsistent and hostile image files, made from real ones and repeatable from a seed.

Each mutation is a function ``(random generator, real file) -> bytes``. ``benchmarks/service/fuzz_service.py`` sends
them to a service; ``tests/radiographs/test_mutations.py`` reads some of them.
"""

import io
import struct
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, JPEGBaseline8Bit, RLELossless

from builders.dicom_files import compress_frame, dicom_file, dicom_with_frame, make_dataset
from builders.image_files import png_chunk, png_file, with_jpeg_size

_PREFIX = b"\0" * 128 + b"DICM"


def real_files(jpegs: list[Path]) -> dict[str, list[bytes]]:
    """The radiographs as they are, and small copies as PNG and as DICOM in four encodings."""
    files: dict[str, list[bytes]] = {"jpeg": [path.read_bytes() for path in jpegs], "png": [], "dicom": []}
    for path in jpegs:
        pixels = cv2.resize(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE), (320, 256), interpolation=cv2.INTER_AREA)
        files["png"] += [cv2.imencode(".png", image)[1].tobytes() for image in (pixels, pixels.astype(np.uint16) * 257)]
        encodings = (ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian, RLELossless, JPEGBaseline8Bit)
        files["dicom"] += [_dicom(pixels, syntax) for syntax in encodings]
    return files


def mutated_files(jpegs: list[Path], count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield ``count`` files, each with the name of its mutation; the mutations take turns."""
    files, names = real_files(jpegs), list(MUTATIONS)
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        name = names[index % len(names)]
        mutation, formats = MUTATIONS[name]
        candidates = files[formats[index // len(names) % len(formats)]]
        yield name, mutation(rng, candidates[int(rng.integers(len(candidates)))])


def _dicom(pixels: np.ndarray, syntax: pydicom.uid.UID) -> bytes:
    if syntax in (RLELossless, JPEGBaseline8Bit):
        return dicom_with_frame(compress_frame(pixels, syntax), syntax, make_dataset(pixels))
    return dicom_file(pixels, syntax=syntax)


# Damage ------------------------------------------------------------------------------------------------------------


def flipped_bits(rng: np.random.Generator, data: bytes, end: int | None = None) -> bytes:
    """Flip one to twenty bits anywhere before ``end``."""
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 21))):
        changed[int(rng.integers(min(end or len(data), len(data))))] ^= 1 << int(rng.integers(8))
    return bytes(changed)


def flipped_header_bits(rng: np.random.Generator, data: bytes) -> bytes:
    """Flip bits where sizes, tables and types are stored."""
    return flipped_bits(rng, data, end=900)


def cut_off(rng: np.random.Generator, data: bytes) -> bytes:
    """An upload that was interrupted."""
    return data[: int(rng.integers(1, len(data)))]


def piece_missing(rng: np.random.Generator, data: bytes) -> bytes:
    """Up to four kilobytes are missing anywhere."""
    start = int(rng.integers(len(data)))
    return data[:start] + data[start + int(rng.integers(1, 4097)) :]


def piece_inserted(rng: np.random.Generator, data: bytes) -> bytes:
    """Up to four kilobytes of random bytes are inserted anywhere."""
    start = int(rng.integers(len(data)))
    return data[:start] + rng.bytes(int(rng.integers(1, 4097))) + data[start:]


def piece_repeated(rng: np.random.Generator, data: bytes) -> bytes:
    """512 bytes of the file are there three or fifty-one times."""
    start = int(rng.integers(len(data)))
    return data[:start] + data[start : start + 512] * int(rng.choice([2, 50])) + data[start:]


def zeroed_sector(rng: np.random.Generator, data: bytes) -> bytes:
    """One disk sector of 512 bytes is zero."""
    start = int(rng.integers(len(data))) // 512 * 512
    return data[:start] + bytes(512) + data[start + 512 :]


# Inconsistent and hostile content ----------------------------------------------------------------------------------


def rubbish(rng: np.random.Generator, data: bytes) -> bytes:
    """Random bytes, as many as the file has, up to 64 kB."""
    return rng.bytes(min(len(data), 65_536))


def wrong_type(rng: np.random.Generator, data: bytes) -> bytes:
    """The first bytes of another format, then this file."""
    heads = (
        b"GIF89a",
        b"%PDF-1.7\n",
        b"PK\3\4",
        b"BM",
        b"II*\0",
        b"\x7fELF",
        b"<svg xmlns='",
        b"\xff\x4f\xff\x51",
        _PREFIX,
    )
    return heads[int(rng.integers(len(heads)))] + data


def polyglot(rng: np.random.Generator, data: bytes) -> bytes:
    """The image, then an archive, a page with a script, or another image."""
    tails = (
        b"PK\3\4" + rng.bytes(200),
        b"<html><script>alert(1)</script></html>",
        data,
        b"\x89PNG\r\n\x1a\n" + rng.bytes(99),
    )
    return data + tails[int(rng.integers(len(tails)))]


def disguised_jpeg(rng: np.random.Generator, data: bytes) -> bytes:
    """A JPEG after the preamble of a DICOM file. The 128 bytes of the preamble may contain anything."""
    return data[:128].ljust(128, b"\0") + b"DICM" + data


def exif_trick(rng: np.random.Generator, data: bytes) -> bytes:
    """EXIF of either byte order: an orientation, possible or not; a loop of directories; an offset outside the file."""
    order, start = (("<", b"II*\0"), (">", b"MM\0*"))[int(rng.integers(2))]
    entries = int(rng.choice([1, 1, 65535]))
    kind, values = int(rng.choice([3, 3, 3, 4, 200])), int(rng.choice([1, 1, 1, 2**32 - 1]))
    orientation = struct.pack(order + "HHIHH", 0x0112, kind, values, int(rng.integers(10)), int(rng.integers(2)))
    following = int(rng.choice([0, 8, 2**32 - 1]))  # 8: the directory itself
    directory = int(rng.choice([8, 8, 8, 2**32 - 1]))
    tiff = start + struct.pack(order + "IH", directory, entries) + orientation + struct.pack(order + "I", following)
    content = b"Exif\0\0" + tiff + bytes(int(rng.choice([0, 60_000])))
    length = len(content) + 2 if rng.random() < 0.7 else int(rng.integers(65536))
    return data[:2] + b"\xff\xe1" + struct.pack(">H", length) + content + data[2:]


def other_size_in_jpeg(rng: np.random.Generator, data: bytes) -> bytes:
    """Another height and width in the frame header."""
    return with_jpeg_size(data, *rng.choice([0, 1, 63, 64, 4000, 65535], 2))


def many_segments(rng: np.random.Generator, data: bytes) -> bytes:
    """Up to a megabyte of comments before the image."""
    return data[:2] + (b"\xff\xfe\xff\xff" + bytes(65_533)) * int(rng.integers(1, 17)) + data[2:]


def other_size_in_png(rng: np.random.Generator, data: bytes) -> bytes:
    """Another header chunk, with a valid checksum."""
    width, height = rng.choice([0, 1, 63, 64, 500, 7000, 2**31 - 1], 2)
    depth, colour, interlace = int(rng.choice([1, 8, 16])), int(rng.choice([0, 2, 3, 4, 6])), int(rng.integers(2))
    return (
        data[:8]
        + png_chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace))
        + data[33:]
    )


def png_bomb(rng: np.random.Generator, data: bytes) -> bytes:
    """Up to two hundred megabytes of zeros, compressed to a few hundred kilobytes, with any size in the header."""
    side = int(rng.choice([64, 1000, 7000, 14_000, 60_000]))
    return png_file(side, side, bytes(min(side * (side + 1), 200_000_000)))


def deflate_bomb_in_dicom(rng: np.random.Generator, data: bytes) -> bytes:
    """A deflated data set that grows a thousand times."""
    file, packed = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True), zlib.compressobj(9, wbits=-15)
    file.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
    head = io.BytesIO()
    pydicom.dcmwrite(
        head, pydicom.dataset.FileDataset(None, pydicom.Dataset(), file_meta=file.file_meta, preamble=bytes(128))
    )
    size = int(rng.choice([10_000_000, 150_000_000]))
    element = b"\xe0\x7f\x10\x00OB\0\0" + struct.pack("<I", size)
    return head.getvalue() + packed.compress(element + bytes(size)) + packed.flush()


def other_value_in_dicom(rng: np.random.Generator, data: bytes) -> bytes:
    """One element of the header has an unusual or impossible value."""
    file = pydicom.dcmread(io.BytesIO(data))
    elements = {
        "Rows": [0, 1, 65535], "Columns": [0, 65535], "BitsAllocated": [0, 1, 7, 32, 64], "BitsStored": [0, 99],
        "HighBit": [0, 99], "PixelRepresentation": [2, 77], "SamplesPerPixel": [0, 3, 65535],
        "PhotometricInterpretation": ["PALETTE COLOR", "YBR_FULL", "", "X" * 16], "NumberOfFrames": [0, -1, 2**31 - 1],
        "RescaleSlope": [0, float("1e300"), -1], "RescaleIntercept": [float("-1e300")],
        "WindowWidth": [0, -5, float("1e300")], "WindowCenter": [float("1e300")],
        "PixelAspectRatio": [[0, 1], [1, 0], [-1, 1]], "Modality": ["MR", ""], "ViewPosition": ["LL", "X" * 16],
        "BodyPartExamined": ["HAND"],
    }  # fmt: skip
    keyword = list(elements)[int(rng.integers(len(elements)))]
    with pydicom.config.disable_value_validation():
        value = elements[keyword][int(rng.integers(len(elements[keyword])))]
        setattr(file, keyword, value)
        out = io.BytesIO()
        pydicom.dcmwrite(out, file)
    return out.getvalue()


def nested_dicom(rng: np.random.Generator, data: bytes) -> bytes:
    """Up to thousands of nested sequences that do not end."""
    return data[: data.find(b"DICM") + 4] + (
        b"\x08\0\x40\x11SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\0\xe0\xff\xff\xff\xff"
    ) * int(rng.integers(10, 3000))


def long_dicom_element(rng: np.random.Generator, data: bytes) -> bytes:
    """An element whose length goes far beyond the end of the file."""
    start = data.find(b"DICM") + 4
    return (
        data[:start]
        + b"\x02\0\x02\1OB\0\0"
        + struct.pack("<I", int(rng.choice([10**6, 2**31, 2**32 - 2])))
        + data[start:]
    )


_ANY = ("jpeg", "png", "dicom")

#: Name -> mutation, and the formats that it is applied to.
MUTATIONS: dict[str, tuple[Callable[[np.random.Generator, bytes], bytes], tuple[str, ...]]] = {
    function.__name__: (function, formats)
    for function, formats in (
        (flipped_bits, _ANY),
        (flipped_header_bits, _ANY),
        (cut_off, _ANY),
        (piece_missing, _ANY),
        (piece_inserted, _ANY),
        (piece_repeated, _ANY),
        (zeroed_sector, _ANY),
        (rubbish, _ANY),
        (wrong_type, _ANY),
        (polyglot, _ANY),
        (disguised_jpeg, ("jpeg",)),
        (exif_trick, ("jpeg",)),
        (other_size_in_jpeg, ("jpeg",)),
        (many_segments, ("jpeg",)),
        (other_size_in_png, ("png",)),
        (png_bomb, ("png",)),
        (deflate_bomb_in_dicom, ("dicom",)),
        (other_value_in_dicom, ("dicom",)),
        (nested_dicom, ("dicom",)),
        (long_dicom_element, ("dicom",)),
    )
}
