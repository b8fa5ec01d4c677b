"""Bytes, path or array -> Radiograph: the only place that decodes image files.

Limits are checked on the header, before a pixel is decoded, so a decompression bomb costs nothing.
"""

import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumoscope.errors import ImageTooLarge, RefusedImage, UnreadableImage

#: File endings that a folder or glob is searched for.
SUFFIXES = (".jpeg", ".jpg", ".png")

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

_KNOWN_FOREIGN = (
    (b"GIF8", "a GIF"), (b"BM", "a BMP"), (b"II*\0", "a TIFF"), (b"MM\0*", "a TIFF"),
    (b"RIFF", "a WebP"), (b"%PDF", "a PDF"), (b"PK\3\4", "a zip archive"), (b"\x1f\x8b", "a gzip archive"),
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One gray radiograph in memory.

    Attributes:
        pixels: (H, W) uint8, 0 black to 255 white, bone white.
        source: where it came from, for messages; ``"<array>"`` or ``"<bytes>"`` in memory.
    """

    pixels: np.ndarray
    source: str = "<array>"

    @property
    def height(self) -> int:
        """Rows."""
        return self.pixels.shape[0]

    @property
    def width(self) -> int:
        """Columns."""
        return self.pixels.shape[1]


def read_radiograph(source: "str | Path | bytes | np.ndarray | Radiograph") -> Radiograph:
    """Read a JPEG or PNG file, its bytes, or an array, as one gray 8-bit radiograph.

    Colour files are turned to luma (ITU-R BT.601), transparency is laid on black, and 16-bit files are
    scaled by the number of bits their brightest pixel needs (a 12-bit image in a 16-bit file keeps its
    brightness). The EXIF orientation of a JPEG is applied.

    Args:
        source: path, encoded bytes, or an array (H, W), (H, W, 3) RGB or (H, W, 4) RGBA, uint8 or uint16.

    Returns:
        The radiograph, at its full size.

    Raises:
        UnreadableImage: not a JPEG or PNG, or damaged.
        ImageTooLarge: over :data:`MAX_BYTES` or :data:`MAX_PIXELS`.
        RefusedImage: blank, tiny, a strip, or in colour.

    >>> import numpy as np
    >>> read_radiograph(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).pixels.max()
    np.uint8(255)
    """
    if isinstance(source, Radiograph):
        return source
    if isinstance(source, np.ndarray):
        return _checked(_from_array(source), "<array>")
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _checked(_decode(bytes(source)), "<bytes>")
    return _checked(_decode(_read_file(Path(source))), str(source))


def image_size(data: bytes) -> tuple[int, int]:
    """Width and height from the header of a JPEG or PNG, without decoding.

    Raises:
        UnreadableImage: not a JPEG or PNG, or cut off.

    >>> from pneumoscope import sample_paths
    >>> width, height = image_size(sample_paths()[0].read_bytes())
    """
    if not data:
        raise UnreadableImage("expected a JPEG or PNG image, received an empty file: export it again")
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return _png_size(data)
    if data.startswith(b"\xff\xd8\xff"):
        return _jpeg_size(data)
    if data[128:132] == b"DICM":
        raise UnreadableImage(
            "expected a JPEG or PNG image, received a DICOM file, which this version does not read yet: "
            "export it as PNG"
        )
    what = next((name for magic, name in _KNOWN_FOREIGN if data.startswith(magic)), "something else")
    raise UnreadableImage(f"expected a JPEG or PNG image, received {what}: convert it to PNG or JPEG")


def _read_file(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise UnreadableImage("expected an image file, received a folder: name the files in it")
        size = path.stat().st_size
        if size > MAX_BYTES:
            raise ImageTooLarge(
                f"expected at most {MAX_BYTES // 10**6} MB, received {size / 1e6:.0f} MB: save it smaller"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise UnreadableImage("expected an image file, found nothing under this name: check the path") from None
    except PermissionError:
        raise UnreadableImage("expected a readable file, received 'permission denied': check its rights") from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the name
        raise UnreadableImage(f"expected a readable file, the system says {error}: check the path") from None


def _decode(data: bytes) -> np.ndarray:
    """Encoded bytes -> (H, W) uint8."""
    width, height = image_size(data)
    if width * height > MAX_PIXELS:
        raise ImageTooLarge(
            f"expected at most {MAX_PIXELS // 10**6} megapixels, the header announces {width}x{height} "
            f"({width * height / 1e6:.0f} megapixels): save it smaller"
        )
    _check_complete(data)
    import cv2

    is_png = data[0] == 0x89
    # A PNG keeps its alpha channel for the composition below; a JPEG has none and wants its EXIF orientation.
    flags = cv2.IMREAD_UNCHANGED if is_png else cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise UnreadableImage("expected a whole JPEG or PNG image, received a damaged one: export it again")
    if image.ndim == 3:
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    return _from_array(image)


def _check_complete(data: bytes) -> None:
    """Refuse what a lenient decoder would fill with gray: files cut off or altered on the way."""
    if data[0] == 0x89:
        _check_png_chunks(data)
    elif data.rfind(b"\xff\xd9") <= data.find(b"\xff\xda"):  # end of image before the start of the scan
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
        if kind == b"IEND":
            return
        position = end
    raise UnreadableImage("expected a whole PNG image, received one that is cut off: export it again")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    """Walk the segments to the frame header (ITU-T T.81, B.2.2)."""
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xFF:
            break
        marker = data[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame, not a table
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return width, height
        position += 2 + struct.unpack(">H", data[position + 2 : position + 4])[0]
    raise UnreadableImage("expected a whole JPEG image, received one that is cut off: export it again")


def _from_array(image: np.ndarray) -> np.ndarray:
    """(H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA, uint8 or uint16 -> (H, W) uint8."""
    if image.dtype not in (np.uint8, np.uint16) or image.size == 0:
        raise UnreadableImage(
            f"expected uint8 or uint16 pixels, received {image.dtype} of shape {image.shape}: "
            "scale the image to 0-255 and convert it to uint8"
        )
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    image = _to_eight_bits(image)
    if image.ndim == 2:
        return np.ascontiguousarray(image)
    if image.ndim != 3 or image.shape[2] not in (3, 4):
        raise UnreadableImage(
            f"expected an array (H, W), (H, W, 3) or (H, W, 4), received shape {image.shape}: pass one image"
        )
    import cv2

    colour = image[:, :, :3]
    if image.shape[2] == 4:  # transparency on black, the background of a radiograph
        colour = (colour * (image[:, :, 3:] / np.float32(255))).round().astype(np.uint8)
    colour = np.ascontiguousarray(colour)
    _refuse_colour(colour)
    return cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)


def _to_eight_bits(image: np.ndarray) -> np.ndarray:
    if image.dtype == np.uint8:
        return image
    bits = max(8, int(image.max()).bit_length())  # 12-bit data in a 16-bit file: 12
    return (image >> (bits - 8)).astype(np.uint8)


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
    contrast = float(pixels.std())
    if contrast < MIN_CONTRAST:
        raise RefusedImage(
            f"expected a radiograph, received a blank image (contrast {contrast:.1f} gray levels, "
            f"at least {MIN_CONTRAST:.0f} needed): check the export"
        )
    return Radiograph(pixels, source)
