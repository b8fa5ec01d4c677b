"""Image files before decoding: which format, which size, and whether the file is complete."""

import re
import struct
import zlib
from collections.abc import Iterator

from pneumoscope.errors import UnreadableImage
from pneumoscope.radiographs.codestream import (
    exif_orientation,
    exif_orientation_of_tiff,
    is_frame_marker,
    jpeg_segments,
)
from pneumoscope.radiographs.dicom.reader import is_dicom
from pneumoscope.radiographs.raster_formats import (
    bmp_size,
    check_tiff,
    is_bmp,
    is_tiff,
    is_webp,
    tiff_orientation,
    tiff_size,
    webp_orientation,
    webp_size,
)

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_JPEG_SIGNATURE = b"\xff\xd8\xff"

_OTHER_FORMATS = (  # (first bytes of the file, name for the message)
    (rb"GIF8", "a GIF"), (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000"), (rb".{4}ftyp", "a HEIF or AVIF"),
    (rb"%PDF", "a PDF"), (rb"PK\x03\x04", "a zip archive"), (rb"\x1f\x8b", "a gzip archive"),
    (rb"\s*<(!doctype|html)", "a web page"),
)  # fmt: skip

#: JPEG frames that the decoders support: baseline, extended and progressive, Huffman or arithmetic (T.81, table B.1).
_JPEG_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height from the header of a JPEG, PNG, TIFF, BMP or WebP, without decoding.

    Raises:
        UnreadableImage: none of these, or cut off.

    >>> from pneumoscope import sample_paths
    >>> width, height = image_size(sample_paths()[0].read_bytes())
    """
    if not data:
        raise UnreadableImage(
            "expected a JPEG, PNG, TIFF, BMP, WebP or DICOM image, received an empty file: export it again",
            code="empty",
        )
    if is_png(data):
        return _png_size(data)
    if is_jpeg(data):
        return _jpeg_size(data)
    if is_tiff(data) and not is_dicom(data):
        return tiff_size(data)
    if is_bmp(data):
        return bmp_size(data)
    if is_webp(data):
        return webp_size(data)
    if is_dicom(data):
        raise UnreadableImage(
            "expected a JPEG or PNG image, received a DICOM file: export it as PNG", code="unsupported_format"
        )
    flags = re.DOTALL | re.IGNORECASE
    names = (name for pattern, name in _OTHER_FORMATS if re.match(pattern, data[:64], flags))
    raise UnreadableImage(
        f"expected a JPEG, PNG, TIFF, BMP, WebP or DICOM image, received {next(names, 'something else')}: "
        "convert it to PNG or JPEG",
        code="unsupported_format",
    )


def is_jpeg(data: bytes) -> bool:
    """Whether bytes start like a JPEG file."""
    return data.startswith(_JPEG_SIGNATURE)


def is_image(head: bytes) -> bool:
    """Whether the first 512 bytes of a file are those of a format that this package reads."""
    return is_png(head) or is_jpeg(head) or is_dicom(head) or is_tiff(head) or is_bmp(head) or is_webp(head)


def is_png(data: bytes) -> bool:
    """Whether bytes start with the PNG signature."""
    return data.startswith(_PNG_SIGNATURE)


def orientation(data: bytes) -> int:
    """How the picture of a file is turned: 1 to 8 as in EXIF, where 1 is upright; 0 if the file is unclear."""
    if is_png(data):
        contents = [content for kind, content in png_chunks(data) if kind == b"eXIf"]
        if not contents:
            return 1
        return exif_orientation_of_tiff(contents[0]) if len(contents) == 1 else 0
    if is_tiff(data):
        return tiff_orientation(data)
    if is_webp(data):
        return webp_orientation(data)
    return exif_orientation(data) if is_jpeg(data) else 1


def png_chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Type and content of each chunk of a PNG that is complete, without the pixels (PNG, section 5.3)."""
    position = len(_PNG_SIGNATURE)
    while position + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        if kind != b"IDAT":
            yield kind, data[position + 8 : position + 8 + length]
        position += 12 + length


def check_complete(data: bytes) -> None:
    """Refuse a PNG or TIFF that is cut off or changed, and a JPEG that is cut off.

    Lenient decoders fill the missing part with gray.

    Args:
        data: of a file whose size :func:`image_size` could read.

    Raises:
        UnreadableImage: cut off or damaged; also an animated PNG.
    """
    if is_png(data):
        _check_png_chunks(data)
        return
    if is_tiff(data):
        check_tiff(data)
    if not is_jpeg(data):
        return  # image_size checks a BMP and a WebP
    scan = next((start for marker, start, _ in jpeg_segments(data) if marker == 0xDA), len(data))
    if data.rfind(b"\xff\xd9", scan) < 0:  # an end-of-image marker before the scan belongs to an EXIF thumbnail
        raise UnreadableImage(
            "expected a whole JPEG image, received one that is cut off: export it again", code="cut_off"
        )


def _png_size(data: bytes) -> tuple[int, int]:
    """Width and height from IHDR, the first chunk (PNG specification, section 11.2.2)."""
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise UnreadableImage(
            "expected a whole PNG image, received one that is cut off: export it again", code="cut_off"
        )
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Width and height from the frame header (T.81, B.2.2)."""
    for marker, start, end in jpeg_segments(data):
        if is_frame_marker(marker) and end - start >= 6:
            bits, height, width = struct.unpack(">BHH", data[start : start + 5])
            if bits != 8 or marker not in _JPEG_FRAMES:
                raise UnreadableImage(
                    f"expected an 8-bit baseline or progressive JPEG, received {bits}-bit coding "
                    f"SOF{marker - 0xC0}: convert it to PNG",
                    code="unsupported_format",
                )
            return width, height
    raise UnreadableImage(
        "expected a whole JPEG image, received one that is cut off or damaged: export it again", code="damaged"
    )


def _check_png_chunks(data: bytes) -> None:
    """Check that each chunk is complete and matches its checksum, and that IEND is there (PNG, section 5.3)."""
    position = len(_PNG_SIGNATURE)
    while position + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        end = position + 12 + length
        if end > len(data):
            break
        (checksum,) = struct.unpack(">I", data[end - 4 : end])
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != checksum:
            raise UnreadableImage("expected a whole PNG image, received a damaged one: export it again", code="damaged")
        if kind == b"acTL":  # decoders disagree about which frame is the image
            raise UnreadableImage(
                "expected one image, received an animated PNG: save one frame of it", code="several_frames"
            )
        if kind == b"IEND":
            return
        position = end
    raise UnreadableImage("expected a whole PNG image, received one that is cut off: export it again", code="cut_off")
