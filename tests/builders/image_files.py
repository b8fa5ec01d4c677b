"""PNG and JPEG files made from pixels; byte by byte where no encoder would write them."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAY, RGB, PALETTE, GRAY_ALPHA = 0, 2, 3, 4  # PNG colour types


def encode(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    """The file that Pillow writes in a format such as PNG or JPEG."""
    file = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(file, kind, **options)
    return file.getvalue()


def png_chunk(kind: bytes, content: bytes) -> bytes:
    """Length, type, content and checksum."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def png_file(width: int, height: int, rows: bytes, depth: int = 8, colour: int = GRAY, interlace: int = 0) -> bytes:
    """A PNG whose header need not agree with its scan lines."""
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlace)
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")
    return PNG_SIGNATURE + b"".join(png_chunk(kind, content) for kind, content in chunks)


def unfiltered_rows(rows: np.ndarray) -> bytes:
    """PNG scan lines, each with filter type 0."""
    return b"".join(b"\0" + row.tobytes() for row in rows)


def with_jpeg_size(data: bytes, width: int, height: int) -> bytes:
    """A JPEG with another size in its frame header than in its scan."""
    start = data.index(b"\xff\xc0")
    return data[: start + 5] + struct.pack(">HH", height, width) + data[start + 9 :]


def with_profile_name(png: bytes, name: bytes) -> bytes:
    """A PNG with a broken colour profile of this name, about which libpng complains with the name as it is."""
    end_of_header = len(PNG_SIGNATURE) + 25
    profile = png_chunk(b"iCCP", name + b"\0\0" + zlib.compress(struct.pack(">I", 200) + bytes(range(196))))
    return png[:end_of_header] + profile + png[end_of_header:]
