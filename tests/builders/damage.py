"""Compressed DICOM files of every encoding, whole and damaged, repeatable from a seed.

``benchmarks/damage/damaged_frames.py`` measures what is noticed; ``tests/radiographs/test_dicom_damage.py`` tests it.
"""

import struct
from collections.abc import Iterator

import cv2
import imagecodecs
import numpy as np
from pydicom.uid import (
    JPEG2000,
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from builders.dicom_files import compress_frame, dicom_file, dicom_with_frame, make_dataset

#: Where a frame is damaged, as parts of its length.
PLACES = (0.1, 0.5, 0.9, 0.99)
#: Bytes that are missing or zero.
PIECE = 400
_END_OF_IMAGE = b"\xff\xd9"


def compressed_frames(image: np.ndarray) -> dict[str, tuple[UID, int, bytes]]:
    """(H, W) uint8 -> by name of the encoding: transfer syntax, bits, and the frame."""
    deep = image.astype(np.uint16) << 4 | image >> 4  # 12 bits
    return {
        "JPEG, 8 bits": (JPEGBaseline8Bit, 8, cv2.imencode(".jpg", image)[1].tobytes()),
        "JPEG, 12 bits": (JPEGExtended12Bit, 12, imagecodecs.jpeg8_encode(deep, bitspersample=12, level=90)),
        "JPEG lossless, 8 bits": (JPEGLosslessSV1, 8, imagecodecs.jpeg8_encode(image, lossless=True)),
        "JPEG lossless, 12 bits": (
            JPEGLosslessSV1,
            12,
            imagecodecs.jpeg8_encode(deep, bitspersample=12, lossless=True),
        ),
        "JPEG-LS, 8 bits": (JPEGLSLossless, 8, imagecodecs.jpegls_encode(image)),
        "JPEG-LS, 12 bits": (JPEGLSLossless, 12, imagecodecs.jpegls_encode(deep)),
        "JPEG-LS near-lossless": (JPEGLSNearLossless, 8, imagecodecs.jpegls_encode(image, level=2)),
        "JPEG 2000, 8 bits": (JPEG2000Lossless, 8, _jpeg_2000(image, 8, reversible=True)),
        "JPEG 2000, 12 bits": (JPEG2000Lossless, 12, _jpeg_2000(deep, 12, reversible=True)),
        "JPEG 2000 lossy": (JPEG2000, 8, _jpeg_2000(image, 8, level=45)),
        "RLE, 8 bits": (RLELossless, 8, compress_frame(image, RLELossless)),
        "RLE, 12 bits": (RLELossless, 12, _rle(deep)),
    }


def whole_files(image: np.ndarray) -> dict[str, bytes]:
    """A DICOM file of each compressed encoding."""
    return {name: _wrap(image, *frame) for name, frame in compressed_frames(image).items()}


def damaged_files(image: np.ndarray, changes: int, seed: int = 0) -> Iterator[tuple[str, str, bytes]]:
    """Yield the name of the encoding, the name of the damage, and the file.

    Args:
        image: (H, W) uint8.
        changes: files of each encoding with one changed byte.
        seed: of the places and values of the changed bytes.
    """
    for name, (syntax, bits, frame) in compressed_frames(image).items():
        for damage, damaged in _damaged_frames(frame, changes, seed, syntax == RLELossless):
            yield name, damage, _wrap(image, syntax, bits, damaged)
    for name, syntax in (("deflated", DeflatedExplicitVRLittleEndian), ("uncompressed", ExplicitVRLittleEndian)):
        data = dicom_file(image, syntax=syntax)
        for place in PLACES:
            yield name, f"cut at {place:.0%}", data[: int(place * len(data))]
            start = int(place * len(data)) - PIECE
            yield name, "piece missing", data[:start] + data[start + PIECE :]


def _damaged_frames(frame: bytes, changes: int, seed: int, is_rle: bool) -> Iterator[tuple[str, bytes]]:
    header = 64 if is_rle else _header_length(frame)
    body = len(frame) - header
    for place in PLACES:
        cut = header + int(place * body)
        yield f"cut at {place:.0%}", frame[:cut]
        if not is_rle:  # RLE has no end marker
            yield f"cut at {place:.0%} and closed", frame[:cut] + _END_OF_IMAGE
        start = max(header, cut - PIECE)
        yield "piece missing", frame[:start] + frame[start + PIECE :]
        yield "piece zeroed", frame[:start] + bytes(PIECE) + frame[start + PIECE :]
    rng = np.random.default_rng(seed)
    for _ in range(changes):
        changed = bytearray(frame)
        changed[int(rng.integers(header, len(frame) - 2))] ^= int(rng.integers(1, 256))
        yield "one byte changed", bytes(changed)


def _header_length(frame: bytes) -> int:
    """Up to the first compressed byte, roughly."""
    return max(frame.find(b"\xff\xda") + 14, frame.find(b"\xff\x93") + 2)


def _wrap(image: np.ndarray, syntax: UID, bits: int, frame: bytes) -> bytes:
    pixels = image if bits == 8 else image.astype(np.uint16)
    return dicom_with_frame(
        frame, syntax, make_dataset(pixels, bits, WindowCenter=1 << (bits - 1), WindowWidth=1 << bits)
    )


def _rle(deep: np.ndarray) -> bytes:
    """Two segments: the high bytes, then the low bytes (PS3.5, annex G)."""
    segments = []
    for half in (deep >> 8, deep & 255):
        one = compress_frame(half.astype(np.uint8), RLELossless)
        segments.append(one[64:])
    offsets = [64, 64 + len(segments[0])]
    return struct.pack("<16I", 2, *offsets, *[0] * 13) + b"".join(segments)


def _jpeg_2000(pixels: np.ndarray, bits: int, **options: object) -> bytes:
    frame: bytes = imagecodecs.jpeg2k_encode(pixels, codecformat="J2K", bitspersample=bits, resolutions=5, **options)
    return frame
