"""Bytes, path or array -> Radiograph: the only place that decodes image files.

Limits are checked on the header, before a pixel is decoded, so a decompression bomb costs nothing.
"""

import os
import re
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumoscope.errors import ImageTooLarge, RefusedImage, UnreadableImage, UsageError
from pneumoscope.radiographs.codestream import check_size, exif_orientation, is_frame, jpeg_segments
from pneumoscope.radiographs.dicom.reader import is_dicom, read_dicom
from pneumoscope.radiographs.remote import is_address, read_address

#: File endings that a folder or glob is searched for.
SUFFIXES = (".jpeg", ".jpg", ".png", ".dcm")

#: Pixels in one image; the largest Kermany radiograph has 7.3 million, a full CR plate about 20 million.
MAX_PIXELS = 50_000_000
#: Bytes in one file: a 50-megapixel 16-bit PNG without any compression.
MAX_BYTES = 100_000_000
#: Below this many pixels a side nothing is left to read (the smallest training radiograph has 140).
MIN_SIDE = 64
#: Width over height, or height over width; training radiographs stay under 3.2.
MAX_ASPECT = 4.0
#: Standard deviation in gray levels under which an image is blank; training radiographs stay above 19.
MIN_CONTRAST = 5.0
#: Colour: a channel spread above 30 levels in more than 5 % of the pixels (training radiographs: none).
COLOUR_SPREAD, MAX_COLOURED = 30, 0.05

_KNOWN_FOREIGN = (  # beginnings of files
    (rb"GIF8", "a GIF"), (rb"BM.{4}\0{4}", "a BMP"), (rb"II\*\0|MM\0\*", "a TIFF"), (rb"RIFF.{4}WEBP", "a WebP"),
    (rb"\0\0\0\x0cjP  |\xff\x4f\xff\x51", "a JPEG 2000"), (rb".{4}ftyp", "a HEIF or AVIF"),
    (rb"%PDF", "a PDF"), (rb"PK\x03\x04", "a zip archive"), (rb"\x1f\x8b", "a gzip archive"),
    (rb"\s*<(!doctype|html)", "a web page"),
)  # fmt: skip

_ROWS = 256  # that are worked on at a time

# What each EXIF orientation asks for (Exif 2.32, 4.6.4 A).
_TURNS = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}

#: JPEG frames that the decoder reads: baseline, extended and progressive, Huffman or arithmetic (T.81, table B.1).
_JPEG_FRAMES = (0xC0, 0xC1, 0xC2, 0xC9, 0xCA)


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One gray radiograph in memory.

    Attributes:
        pixels: (H, W) uint8, 0 black to 255 white, bone white.
        source: where it came from, for messages; ``"<array>"`` or ``"<bytes>"`` in memory.
    """

    pixels: np.ndarray
    source: str = "<array>"

    def __post_init__(self) -> None:
        if getattr(self.pixels, "dtype", None) != np.uint8 or self.pixels.ndim != 2:
            raise UnreadableImage(
                f"expected (H, W) uint8 pixels, received {_describe(self.pixels)}: make it with read_radiograph"
            )

    @property
    def height(self) -> int:
        """Rows."""
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        """Columns."""
        return self.pixels.shape[1]


def read_radiograph(source: "str | Path | bytes | np.ndarray | Radiograph", least: int = 0) -> Radiograph:
    """Read a JPEG, PNG or DICOM file, its bytes, or an array, as one gray 8-bit radiograph.

    Colour files are turned to luma (ITU-R BT.601), transparency is laid on black, and 16-bit files are
    scaled by the number of bits their brightest pixel needs (a 12-bit image in a 16-bit file keeps its
    brightness). The EXIF orientation of a JPEG is applied. A file that is cut off is refused, and so is any
    changed byte of a PNG; a JPEG has no checksums, so a changed byte among its pixels is noticed only where it
    breaks the code, which about half of them do.
    DICOM (extra ``dicom``) is shown as its header says, see :func:`pneumoscope.radiographs.dicom.reader.read_dicom`.

    Args:
        source: path, encoded bytes, or an array (H, W), (H, W, 3) RGB or (H, W, 4) RGBA, uint8 or uint16.
        least: a JPEG is decoded at some eighths of its size, as libjpeg-turbo does from its coefficients: the
            smallest whose sides have this many pixels; 0 is the full size.

    Returns:
        The radiograph, at its full size but for ``least``.

    Raises:
        UnreadableImage: not a JPEG, PNG or DICOM, or damaged.
        ImageTooLarge: over :data:`MAX_BYTES` or :data:`MAX_PIXELS`.
        RefusedImage: blank, tiny, a strip, in colour, or of what is no frontal chest radiograph by its header.
        UsageError: none of these types.

    >>> import numpy as np
    >>> read_radiograph(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).pixels.max()
    np.uint8(255)
    """
    if isinstance(source, Radiograph):
        return source
    if isinstance(source, np.ndarray):
        return _checked(_from_array(source), "<array>")
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _checked(_decode(bytes(source), least), "<bytes>")
    if not isinstance(source, (str, os.PathLike)):
        raise UsageError(f"expected a path, encoded bytes or an array of pixels, received {_describe(source)}")
    return _checked(_decode(read_file(source), least), str(source))


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height from the header of a JPEG or PNG, without decoding.

    Raises:
        UnreadableImage: not a JPEG or PNG, or cut off.

    >>> from pneumoscope import sample_paths
    >>> width, height = image_size(sample_paths()[0].read_bytes())
    """
    if not data:
        raise UnreadableImage("expected a JPEG, PNG or DICOM image, received an empty file: export it again")
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png_size(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg_size(data)
    if is_dicom(data):
        raise UnreadableImage("expected a JPEG or PNG image, received a DICOM file: export it as PNG")
    start = data[:64]
    flags = re.DOTALL | re.IGNORECASE
    what = next((name for pattern, name in _KNOWN_FOREIGN if re.match(pattern, start, flags)), "something else")
    raise UnreadableImage(f"expected a JPEG, PNG or DICOM image, received {what}: convert it to PNG or JPEG")


def read_file(path: str | os.PathLike) -> bytes:
    """Bytes of an image file; of a larger file or an endless device only :data:`MAX_BYTES` + 1, which no one decodes.

    Args:
        path: of the file, or its address, such as ``s3://bucket/chest.png`` (extra ``remote``).

    Raises:
        UnreadableImage: a folder, not there, or not to be read.
    """
    if is_address(path):
        return read_address(path, MAX_BYTES + 1)
    try:
        if Path(path).is_dir():
            raise UnreadableImage("expected an image file, received a folder: name the files in it")
        with Path(path).open("rb") as file:
            size = os.fstat(file.fileno()).st_size  # read() makes room for all that it is asked for
            data = file.read(size + 1) if 0 < size < MAX_BYTES else b""
            return data if 0 < len(data) <= size else data + file.read(MAX_BYTES + 1 - len(data))  # a pipe; it grew
    except FileNotFoundError:
        raise UnreadableImage("expected an image file, found nothing under this name: check the path") from None
    except PermissionError:
        raise UnreadableImage("expected a readable file, received 'permission denied': check its rights") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        reason = getattr(error, "strerror", None) or error
        raise UnreadableImage(f"expected a readable file, the system says {reason}: check the path") from None


def _decode(data: bytes, least: int) -> np.ndarray:
    """Encoded bytes -> (H, W) uint8."""
    if len(data) > MAX_BYTES:
        raise ImageTooLarge(f"expected a file of at most {MAX_BYTES // 10**6} MB, received more: save it smaller")
    if is_dicom(data):
        return read_dicom(data, MAX_PIXELS, MAX_BYTES)
    width, height = image_size(data)
    check_size(width, height, MAX_PIXELS)
    _check_complete(data)
    is_png = data[0] == 0x89
    if not is_png and (upright := _sound_jpeg(data, least)) is not None:
        return _from_array(upright)
    import cv2

    # A PNG keeps its alpha channel for the composition below; a JPEG has none and wants its EXIF orientation.
    flags = cv2.IMREAD_UNCHANGED if is_png else cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise UnreadableImage("expected a whole JPEG or PNG image, received a damaged one: export it again")
    if image.ndim == 3:
        image = _to_eight_bits(image)
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    return _from_array(image)


def _sound_jpeg(data: bytes, least: int) -> np.ndarray | None:
    """The pixels of a JPEG, (H, W) or (H, W, 3) uint8; None of one that OpenCV converts, or whose EXIF is not plain.

    OpenCV fills what it cannot decode with gray and goes on; this decoder stops there.
    """
    import simplejpeg

    try:
        space = simplejpeg.decode_jpeg_header(data)[2]
        wanted = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}.get(space, "RGB")
        pixels = simplejpeg.decode_jpeg(data, wanted, min_height=least, min_width=least, strict=True)
    except ValueError:
        raise UnreadableImage("expected a whole JPEG image, received a damaged one: export it again") from None
    turned = _TURNS.get(exif_orientation(data))
    if wanted == "CMYK" or turned is None:
        return None
    return turned(pixels[:, :, 0] if wanted == "GRAY" else pixels)


def _check_complete(data: bytes) -> None:
    """Refuse what a lenient decoder would fill with gray: files cut off or altered on the way."""
    if data[0] == 0x89:
        _check_png_chunks(data)
        return
    scan = next((start for marker, start, _ in jpeg_segments(data) if marker == 0xDA), len(data))
    if data.rfind(b"\xff\xd9", scan) < 0:  # an end of image further up is that of an EXIF thumbnail
        raise UnreadableImage("expected a whole JPEG image, received one that is cut off: export it again")


def _png_size(data: bytes) -> tuple[int, int]:
    if len(data) < 33 or data[12:16] != b"IHDR":
        raise UnreadableImage("expected a whole PNG image, received one that is cut off: export it again")
    return struct.unpack(">II", data[16:24])


def _check_png_chunks(data: bytes) -> None:
    """Walk the chunks (PNG specification, section 5.3): each complete, each with its checksum, IEND last."""
    position = 8
    while position + 12 <= len(data):
        length, kind = struct.unpack(">I4s", data[position : position + 8])
        end = position + 12 + length
        if end > len(data):
            break
        (checksum,) = struct.unpack(">I", data[end - 4 : end])
        if zlib.crc32(memoryview(data)[position + 4 : end - 4]) != checksum:
            raise UnreadableImage("expected a whole PNG image, received a damaged one: export it again")
        if kind == b"acTL":  # decoders disagree on which frame is the image
            raise UnreadableImage("expected one image, received an animated PNG: save one frame of it")
        if kind == b"IEND":
            return
        position = end
    raise UnreadableImage("expected a whole PNG image, received one that is cut off: export it again")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Read the frame header (T.81, B.2.2)."""
    for marker, start, end in jpeg_segments(data):
        if is_frame(marker) and end - start >= 6:
            bits, height, width = struct.unpack(">BHH", data[start : start + 5])
            if bits != 8 or marker not in _JPEG_FRAMES:
                raise UnreadableImage(
                    f"expected an 8-bit baseline or progressive JPEG, received {bits}-bit coding "
                    f"SOF{marker - 0xC0}: convert it to PNG"
                )
            return width, height
    raise UnreadableImage("expected a whole JPEG image, received one that is cut off or damaged: export it again")


def _from_array(image: np.ndarray) -> np.ndarray:
    """(H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA, uint8 or uint16 -> (H, W) uint8."""
    if image.dtype.kind != "u" or image.dtype.itemsize > 2:
        raise UnreadableImage(
            f"expected uint8 or uint16 pixels, received {_describe(image)}: "
            "scale the image to 0-255 and convert it to uint8"
        )
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.size == 0 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)):
        raise UnreadableImage(
            f"expected an array (H, W), (H, W, 3) or (H, W, 4), received shape {image.shape}: pass one image"
        )
    image = _to_eight_bits(image)
    if image.ndim == 2:
        return np.ascontiguousarray(image)
    import cv2

    colour = np.ascontiguousarray(image[:, :, :3])
    _refuse_colour(colour)
    gray = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    if image.shape[2] == 4:  # transparency on black, the background of a radiograph
        gray = cv2.multiply(gray, np.ascontiguousarray(image[:, :, 3]), scale=1 / 255)
    return gray


def _to_eight_bits(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    image = image.astype(np.uint16, copy=False)  # a DICOM array may be big-endian
    values = image[..., :3] if image.ndim == 3 else image  # alpha is 16-bit also over 12-bit values
    bits = max(8, int(values.max()).bit_length())  # 12-bit data in a 16-bit file: 12
    eight = np.empty(image.shape, np.uint8)
    for row in range(0, len(image), _ROWS):  # a whole shifted copy would double the memory of the largest images
        part = image[row : row + _ROWS]
        eight[row : row + _ROWS] = part >> (bits - 8)
        if image.ndim == 3 and image.shape[2] == 4:
            eight[row : row + _ROWS, :, 3] = part[..., 3] >> 8
    return eight


def _refuse_colour(colour: np.ndarray) -> None:
    import cv2

    red, green, blue = cv2.split(colour)
    spread = cv2.subtract(cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue))
    coloured = float((spread > COLOUR_SPREAD).mean())
    if coloured > MAX_COLOURED:
        raise RefusedImage(
            f"expected a gray radiograph, {coloured:.0%} of this image is in colour: "
            "send the radiograph itself, not a photograph or a screenshot of it"
        )


def _checked(pixels: np.ndarray, source: str) -> Radiograph:
    """Refuse what no classifier should be asked about."""
    import cv2

    height, width = pixels.shape
    if min(height, width) < MIN_SIDE:
        raise RefusedImage(
            f"expected at least {MIN_SIDE} pixels a side, received {width}x{height}: send the full-size radiograph"
        )
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise RefusedImage(
            f"expected a radiograph at most {MAX_ASPECT:.0f} times as long as wide, received {width}x{height}: "
            "send the whole radiograph, not a strip of it"
        )
    contrast = float(cv2.meanStdDev(pixels)[1][0, 0])  # NumPy's makes a float64 copy and takes as long as decoding
    if contrast < MIN_CONTRAST:
        raise RefusedImage(
            f"expected a radiograph, received a blank image (contrast {contrast:.1f} gray levels, "
            f"at least {MIN_CONTRAST:.0f} needed): check the export"
        )
    return Radiograph(pixels, source)


def _describe(source: object) -> str:
    """What a source is, for a message; never its content."""
    if isinstance(source, np.ndarray):
        return f"{source.dtype} of shape {source.shape}"
    return type(source).__name__
