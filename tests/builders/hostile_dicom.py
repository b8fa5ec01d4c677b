"""DICOM files that cost a reader much more than their size, repeatable from a seed.

Each kind is a function ``(random generator) -> bytes``. ``benchmarks/damage/hostile_headers.py`` measures what they
cost; ``tests/radiographs/test_dicom_budget.py`` reads some of them.
"""

import functools
import io
import struct
import zlib
from collections.abc import Callable, Iterator

import imagecodecs
import numpy as np
import pydicom
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    RLELossless,
)

from builders.dicom_files import dicom_with_frame, make_dataset, to_bytes

_UNDEFINED = 0xFFFFFFFF
_VIEW_CODE_SEQUENCE = b"\x54\x00\x20\x02"
_PRIVATE_SEQUENCE = b"\x09\x00\x10\x10"
_ITEM, _ITEM_END, _SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0" + bytes(4), b"\xfe\xff\xdd\xe0" + bytes(4)
_SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian)


def hostile_files(count: int, seed: int = 0) -> Iterator[tuple[str, bytes]]:
    """Yield ``count`` files, each with the name of its kind; the kinds take turns."""
    names = list(KINDS)
    for index in range(count):
        name = names[index % len(names)]
        yield name, KINDS[name](np.random.default_rng([seed, index]))


def _file(elements: bytes, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    """A file of these elements, encoded for the syntax; deflated if it asks for that."""
    meta = pydicom.dataset.FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = syntax, "1.2.3", "1.2.3.4"
    head = io.BytesIO()
    pydicom.filewriter.write_file_meta_info(head, meta, enforce_standard=True)
    if syntax == DeflatedExplicitVRLittleEndian:
        packer = zlib.compressobj(1, wbits=-15)
        elements = packer.compress(elements) + packer.flush()
    return bytes(128) + b"DICM" + head.getvalue() + elements


def _length_form(rng: np.random.Generator) -> tuple[UID, Callable[[bytes, bytes, int], bytes]]:
    """A little-endian syntax, and how it writes (tag, VR, length) of an element with a long length."""
    syntax = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)[int(rng.integers(3))]
    if syntax == ImplicitVRLittleEndian:
        return syntax, lambda tag, vr, length: tag + struct.pack("<I", length)
    return syntax, lambda tag, vr, length: tag + vr + b"\0\0" + struct.pack("<I", length)


def many_items(rng: np.random.Generator) -> bytes:
    """Up to five million empty items in one sequence, of defined or undefined length."""
    syntax, head = _length_form(rng)
    count = int(rng.choice([10_000, 300_000, 5_000_000 if syntax == DeflatedExplicitVRLittleEndian else 1_000_000]))
    item = _ITEM + bytes(4) if rng.random() < 0.5 else _ITEM + b"\xff" * 4 + _ITEM_END
    items = item * (count // (len(item) // 8))
    tag = (_VIEW_CODE_SEQUENCE, _PRIVATE_SEQUENCE)[int(rng.integers(2))]
    if rng.random() < 0.5:
        return _file(head(tag, b"SQ", len(items)) + items, syntax)
    return _file(head(tag, b"SQ", _UNDEFINED) + items + _SEQUENCE_END, syntax)


def deep_sequences(rng: np.random.Generator) -> bytes:
    """Up to two hundred thousand sequences inside each other."""
    syntax, head = _length_form(rng)
    level = head(_VIEW_CODE_SEQUENCE, b"SQ", _UNDEFINED) + _ITEM + b"\xff" * 4
    return _file(level * int(rng.choice([15, 100, 2000, 200_000])), syntax)


def many_private_elements(rng: np.random.Generator) -> bytes:
    """Up to half a million private elements, of any value representation."""
    count, vr = int(rng.choice([15_000, 100_000, 500_000])), bytes(rng.choice([b"UN", b"LO", b"SQ", b"OB", b"ZZ"]))
    long = vr in (b"UN", b"OB", b"SQ")
    numbers = np.arange(count, dtype=np.uint32)
    rows = np.zeros((count, 12 if long else 8), np.uint8)
    rows[:, :2] = np.frombuffer(b"\x11\x00", np.uint8)
    rows[:, 2:4] = (numbers & 0xFFFF).astype("<u2").view(np.uint8).reshape(-1, 2)
    rows[:, 4:6] = np.frombuffer(vr, np.uint8)
    return _file(rows.tobytes(), DeflatedExplicitVRLittleEndian if rng.random() < 0.7 else ExplicitVRLittleEndian)


def long_values(rng: np.random.Generator) -> bytes:
    """An element that is converted to numbers or text has megabytes of values."""
    dataset = make_dataset(np.zeros((64, 64), np.uint8))
    tags = {
        b"\x28\x00\x50\x10": b"DS", b"\x28\x00\x51\x10": b"DS", b"\x20\x00\x20\x00": b"CS", b"\x28\x00\x30\x00": b"DS",
        b"\x08\x00\x05\x00": b"CS", b"\x10\x00\x10\x10": b"AS", b"\x28\x00\x08\x00": b"IS", b"\x18\x00\x15\x00": b"CS",
    }  # fmt: skip
    tag = list(tags)[int(rng.integers(len(tags)))]
    value = b"1\\" * int(rng.choice([20_000, 500_000, 5_000_000]))
    element = tag + (b"UN\0\0" if rng.random() < 0.8 else tags[tag] + b"\0\0") + struct.pack("<I", len(value)) + value
    if rng.random() < 0.5:  # implicit: any length is possible
        dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian
        element = tag + struct.pack("<I", len(value)) + value
    return _with_first_element(to_bytes(dataset), element)


def _with_first_element(data: bytes, element: bytes) -> bytes:
    """Insert an element before the data set. Elements out of order are read all the same."""
    end_of_meta = 144 + struct.unpack("<I", data[140:144])[0]
    return data[:end_of_meta] + element + data[end_of_meta:]


def unclosed(rng: np.random.Generator) -> bytes:
    """Undefined lengths without an end, in any value representation."""
    syntax, head = _length_form(rng)
    vr = (b"SQ", b"UN", b"OB", b"OW", b"UT")[int(rng.integers(5))]
    tag = (_VIEW_CODE_SEQUENCE, _PRIVATE_SEQUENCE, b"\xe0\x7f\x10\x00")[int(rng.integers(3))]
    return _file(head(tag, vr, _UNDEFINED) + rng.bytes(int(rng.choice([0, 100, 1_000_000]))), syntax)


def deflate_bomb(rng: np.random.Generator) -> bytes:
    """Up to 150 megabytes of zeros, or of one element, deflated."""
    return _zeros(int(rng.choice([50_000_000, 99_000_000, 150_000_000])), bool(rng.integers(2)))


@functools.cache
def _zeros(size: int, are_pixels: bool) -> bytes:
    head = b"\xe0\x7f\x10\x00OW\0\0" + struct.pack("<I", size) if are_pixels else b""
    return _file(head + bytes(size), DeflatedExplicitVRLittleEndian)


def many_fragments(rng: np.random.Generator) -> bytes:
    """Up to a million fragments of a compressed frame."""
    syntax = (JPEG2000, JPEGBaseline8Bit, RLELossless, JPEGLSLossless)[int(rng.integers(4))]
    data = dicom_with_frame(bytes(8), syntax, make_dataset(np.zeros((64, 64), np.uint8)))
    end = data.rindex(b"\xe0\x7f\x10\x00") + 12
    fragment = _ITEM + struct.pack("<I", 2) + b"\xff\xd8" if rng.random() < 0.5 else _ITEM + bytes(4)
    return data[:end] + _ITEM + bytes(4) + fragment * int(rng.choice([100, 20_000, 1_000_000])) + _SEQUENCE_END


def offset_table(rng: np.random.Generator) -> bytes:
    """An offset table of up to eight megabytes, basic or extended, of any content."""
    count = int(rng.choice([2, 10_000, 2_000_000]))
    numbers = rng.integers(0, 2**31, count, dtype=np.uint32) if rng.random() < 0.5 else np.zeros(count, np.uint32)
    dataset = make_dataset(np.zeros((64, 64), np.uint8))
    data = dicom_with_frame(bytes(8), JPEG2000, dataset)
    if rng.random() < 0.5:
        dataset.ExtendedOffsetTable = dataset.ExtendedOffsetTableLengths = numbers.tobytes() * 2
        return to_bytes(dataset)
    end = data.rindex(b"\xe0\x7f\x10\x00") + 12
    return data[:end] + _ITEM + struct.pack("<I", 4 * count) + numbers.tobytes() + data[end + 8 :]


def odd_text(rng: np.random.Generator) -> bytes:
    """Texts in odd character sets, with escape sequences, line breaks and bytes that are no text."""
    sets = (
        "ISO_IR 192", "GB18030", "ISO 2022 IR 87\\ISO 2022 IR 159", "\\ISO 2022 IR 149", "ISO_IR 13", "nonsense",
        "ISO 2022 IR 6\\" * 200, "\x1b]0;title\x07",
    )  # fmt: skip
    with pydicom.config.disable_value_validation():
        dataset = make_dataset(np.tile(np.arange(64, dtype=np.uint8), (64, 1)))
        data = to_bytes(dataset)
    text = sets[int(rng.integers(len(sets)))].encode()
    charset = b"\x08\x00\x05\x00CS" + struct.pack("<H", len(text) % 65536) + text
    body = rng.bytes(int(rng.choice([4, 16, 1000]))) if rng.random() < 0.7 else b"\x1b$B\x1b(B\x1b[2J\n" * 90
    return _with_first_element(
        _with_first_element(data, b"\x18\x00\x15\x00CS" + struct.pack("<H", len(body)) + body), charset
    )


def lookup_tables(rng: np.random.Generator) -> bytes:
    """Lookup tables with megabytes of data, or with impossible descriptors."""
    size = int(rng.choice([0, 200_000, 10_000_000]))
    item = b"\x28\x00\x02\x30US\x06\0" + struct.pack("<3H", *rng.integers(0, 65536, 3))
    item += b"\x28\x00\x06\x30OW\0\0" + struct.pack("<I", size) + bytes(size)
    sequence = (
        b"\x28\x00\x10\x30SQ\0\0" + struct.pack("<I", len(item) + 8) + _ITEM + struct.pack("<I", len(item)) + item
    )
    return _with_first_element(to_bytes(make_dataset(np.zeros((64, 64), np.uint8))), sequence)


def large_frame(rng: np.random.Generator) -> bytes:
    """A frame of up to forty-nine megapixels in a small file."""
    side = int(rng.choice([1000, 4000, 7000]))
    if side not in _LARGE_FRAMES:
        blank = np.zeros((side, side), np.uint8)
        blank[side // 4 : side // 2] = 99
        _LARGE_FRAMES[side] = (
            (JPEG2000, imagecodecs.jpeg2k_encode(blank, level=40, codecformat="J2K", resolutions=6)),
            (JPEGLSLossless, imagecodecs.jpegls_encode(blank)),
            (JPEGLosslessSV1, imagecodecs.jpeg8_encode(blank, lossless=True)),
            (JPEGBaseline8Bit, imagecodecs.jpeg8_encode(blank)),
        )
    syntax, frame = _LARGE_FRAMES[side][int(rng.integers(4))]
    data = dicom_with_frame(frame, syntax, make_dataset(np.zeros((1, 1), np.uint8)))
    dataset = pydicom.dcmread(io.BytesIO(data))
    dataset.Rows = dataset.Columns = side
    return to_bytes(dataset)


def random_lengths(rng: np.random.Generator) -> bytes:
    """A real header in which four bytes in a few places are another number."""
    pixels = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    data = bytearray(to_bytes(make_dataset(pixels, syntax=_SYNTAXES[int(rng.integers(4))])))
    for _ in range(int(rng.integers(1, 5))):
        place = int(rng.integers(132, min(900, len(data) - 4)))
        data[place : place + 4] = struct.pack("<I", int(rng.choice([0, 1, 2**16, 2**31, _UNDEFINED])))
    return bytes(data)


_LARGE_FRAMES: dict[int, tuple[tuple[UID, bytes], ...]] = {}

KINDS: dict[str, Callable[[np.random.Generator], bytes]] = {
    function.__name__: function
    for function in (
        many_items, deep_sequences, many_private_elements, long_values, unclosed, deflate_bomb, many_fragments,
        offset_table, odd_text, lookup_tables, large_frame, random_lengths,
    )
}  # fmt: skip
