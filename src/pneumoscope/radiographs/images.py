"""How a path, bytes or an array becomes a :class:`Radiograph`. The only module that decodes image files.

The steps of :func:`read_radiograph`:

1. :func:`~pneumoscope.radiographs.files.read_file` reads the bytes of a path or an address.
2. ``_decode`` checks the size in the header, then decodes. A decompression bomb is refused before it is decoded.
3. ``_to_gray`` reduces colour, transparency and 16 bits to one gray 8-bit channel.
4. ``_check_radiograph`` refuses what the models cannot judge: blank, tiny or very long images.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias, Union

import numpy as np

from pneumoscope.errors import ImageTooLarge, RefusedImage, UnreadableImage, UsageError
from pneumoscope.radiographs.codestream import check_size, exif_orientation
from pneumoscope.radiographs.containers import check_complete, image_size, is_jpeg, orientation
from pneumoscope.radiographs.dicom.reader import is_dicom, read_dicom
from pneumoscope.radiographs.dicom.reference import NO_REFERENCE, InstanceReference
from pneumoscope.radiographs.files import MAX_BYTES, read_file
from pneumoscope.radiographs.memory import (
    BinaryFile,
    check_range,
    is_file_object,
    is_pillow_image,
    pillow_pixels,
    read_file_object,
    scale_values,
)
from pneumoscope.radiographs.raster_formats import is_bmp, is_tiff, is_white_zero

if TYPE_CHECKING:
    from PIL.Image import Image

#: An image as a caller gives it: a path or an address, encoded bytes, a file object, pixels, or a radiograph.
ImageSource: TypeAlias = Union[str, "os.PathLike[str]", bytes, BinaryFile, np.ndarray, "Image", "Radiograph"]

#: Endings of the file names that are searched for in a folder.
SUFFIXES = (
    ".jpeg",
    ".jpg",
    ".jpe",
    ".jfif",
    ".png",
    ".tif",
    ".tiff",
    ".bmp",
    ".webp",
    ".dcm",
    ".dicom",
    ".dic",
    ".ima",
)

#: Pixels in one image. The largest Kermany radiograph has 7.3 million, a full CR plate about 20 million.
MAX_PIXELS = 50_000_000
#: Shortest side in pixels. A smaller image has too little detail (the smallest training radiograph has 140).
MIN_SIDE = 64
#: Longer side over shorter side; training radiographs stay under 3.2.
MAX_ASPECT = 4.0
#: Standard deviation in gray levels. An image below it is blank; training radiographs stay above 19.
MIN_CONTRAST = 5.0
#: An image is in colour if its channels differ by over 30 levels in over 5 % of its pixels. No training radiograph is.
COLOUR_SPREAD, MAX_COLOURED = 30, 0.05

_ROWS_PER_STEP = 256

# Value of the EXIF orientation -> the change that makes the picture upright (Exif 2.32, 4.6.4 A).
_EXIF_ORIENTATIONS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: pixels[::-1].swapaxes(0, 1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: pixels[:, ::-1].swapaxes(0, 1),
}


@dataclass(frozen=True, eq=False)
class Radiograph:
    """One gray radiograph in memory.

    Attributes:
        pixels: (H, W) uint8, 0 black to 255 white, bone white.
        source: where the image came from, for messages; ``"<array>"`` or ``"<bytes>"`` if it came from memory.
        notes: sentences that say what was assumed where a file is not as its format asks; of DICOM files only.
        reference: study, series and instance of a DICOM file; empty identifiers for other images.
    """

    pixels: np.ndarray
    source: str = "<array>"
    notes: tuple[str, ...] = ()
    reference: InstanceReference = NO_REFERENCE

    def __post_init__(self) -> None:
        if getattr(self.pixels, "dtype", None) != np.uint8 or self.pixels.ndim != 2:
            raise UnreadableImage(
                f"expected (H, W) uint8 pixels, received {_describe(self.pixels)}: make it with read_radiograph",
                code="pixel_values",
            )

    @property
    def height(self) -> int:
        """Rows."""
        return int(self.pixels.shape[0])

    @property
    def width(self) -> int:
        """Columns."""
        return int(self.pixels.shape[1])


def read_radiograph(
    source: ImageSource,
    min_side: int = 0,
    *,
    value_range: tuple[float, float] | None = None,
    any_age: bool = False,
) -> Radiograph:
    """Read a JPEG, PNG or DICOM file, its bytes, or pixels, as one gray 8-bit radiograph.

    - Colour becomes luma (ITU-R BT.601). Transparent pixels become black.
    - A 16-bit image is scaled by the number of bits that its brightest pixel needs: a 12-bit image in a 16-bit file
      keeps its brightness.
    - The EXIF orientation of a JPEG is applied, and that of a Pillow image.
    - A file that is cut off is refused, and so is a PNG with any changed byte. A JPEG has no checksums: a changed byte
      in its pixel data is detected only if it breaks the code, which is the case for about half of them.
    - DICOM (extra ``dicom``) is displayed as its header says, see
      :func:`pneumoscope.radiographs.dicom.reader.read_dicom`.

    Args:
        source: path, encoded bytes, file object that returns them, Pillow image, or an array (H, W), (H, W, 3) RGB or
            (H, W, 4) RGBA: uint8, uint16, or floats from 0 to 1.
        min_side: decode a JPEG at the smallest scale at which both sides have this many pixels, to save time.
            libjpeg-turbo can decode at multiples of 1/8 of the size. 0 decodes at full size.
        value_range: values of an array that mean black and white, such as ``(0, 4095)``; needed for other types.
        any_age: read a DICOM file of a patient of any age. Otherwise one that says that the patient is no child of
            one to five years is refused.

    Returns:
        The radiograph, at full size unless ``min_side`` allows less.

    Raises:
        UnreadableImage: not a JPEG, PNG or DICOM file, or damaged; or values outside the range.
        ImageTooLarge: over :data:`MAX_BYTES` or :data:`MAX_PIXELS`.
        RefusedImage: blank, tiny, a strip, in colour, or not a frontal chest radiograph according to its header.
        UsageError: not one of these types, or a range for something else than an array.

    >>> import numpy as np
    >>> read_radiograph(np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)).pixels.max()
    np.uint8(255)
    """
    if value_range is not None and not isinstance(source, np.ndarray):
        raise UsageError(f"expected an array with value_range, received {_describe(source)}: leave value_range out")
    if isinstance(source, Radiograph):
        return source
    if isinstance(source, np.ndarray):
        return _check_radiograph(_to_gray(scale_values(source, value_range)), array_name(value_range))
    if is_pillow_image(source):
        pixels, orientation = pillow_pixels(source, MAX_PIXELS)
        return _check_radiograph(_to_gray(_EXIF_ORIENTATIONS[orientation](scale_values(pixels, None))), "<image>")
    if is_file_object(source):
        source = read_file_object(source, MAX_BYTES + 1)
    if isinstance(source, (bytes, bytearray, memoryview)):
        return _read_encoded(bytes(source), min_side, any_age, "<bytes>")
    if not isinstance(source, (str, os.PathLike)):
        raise UsageError(
            "expected a path, encoded bytes, a file object, a Pillow image or an array of pixels, "
            f"received {_describe(source)}"
        )
    return _read_encoded(read_file(source), min_side, any_age, str(source))


def array_name(value_range: tuple[float, float] | None) -> str:
    """What stands for an array in place of a path; it says which range of values was stated."""
    if value_range is None:
        return "<array>"
    low, high = check_range(value_range)
    return f"<array, {low:g} to {high:g}>"


def _read_encoded(data: bytes, min_side: int, any_age: bool, source: str) -> Radiograph:
    """The bytes of a file -> a radiograph."""
    if len(data) > MAX_BYTES:
        raise ImageTooLarge(f"expected a file of at most {MAX_BYTES // 10**6} MB, received more: save it smaller")
    if is_dicom(data):
        image = read_dicom(data, MAX_PIXELS, MAX_BYTES, any_age)
        return replace(_check_radiograph(image.pixels, source), notes=image.notes, reference=image.reference)
    return _check_radiograph(_decode(data, min_side), source)


def _decode(data: bytes, min_side: int) -> np.ndarray:
    """Bytes of a JPEG or PNG -> (H, W) uint8."""
    width, height = image_size(data)
    check_size(width, height, MAX_PIXELS)
    check_complete(data)
    if is_jpeg(data) and (upright := _decode_jpeg_strictly(data, min_side)) is not None:
        return _to_gray(upright)
    return _to_gray(_decode_with_opencv(data))


def _decode_jpeg_strictly(data: bytes, min_side: int) -> np.ndarray | None:
    """JPEG bytes -> (H, W) or (H, W, 3) uint8, upright; None where OpenCV has to decode: CMYK, or unclear EXIF.

    OpenCV fills what it cannot decode with gray. This decoder raises an error instead.
    """
    import simplejpeg

    try:
        colour_space = simplejpeg.decode_jpeg_header(data)[2]
        output = {"Gray": "GRAY", "CMYK": "CMYK", "YCCK": "CMYK"}.get(colour_space, "RGB")
        pixels: np.ndarray = simplejpeg.decode_jpeg(
            data, output, min_height=min_side, min_width=min_side, strict=True
        )  # (H, W, 1), (H, W, 3) or (H, W, 4) uint8
    except ValueError:
        raise UnreadableImage(
            "expected a whole JPEG image, received a damaged one: export it again", code="damaged"
        ) from None
    make_upright = _EXIF_ORIENTATIONS.get(exif_orientation(data))
    if output == "CMYK" or make_upright is None:
        return None
    return make_upright(pixels[:, :, 0] if output == "GRAY" else pixels)


def _decode_with_opencv(data: bytes) -> np.ndarray:
    """PNG, TIFF, BMP, WebP or JPEG bytes -> (H, W) uint8 or uint16, or (H, W, 3) RGB or (H, W, 4) RGBA uint8."""
    import cv2

    # A PNG keeps its alpha channel, which _to_gray needs. A JPEG has none; this flag applies its EXIF orientation.
    flags = cv2.IMREAD_ANYCOLOR | cv2.IMREAD_ANYDEPTH if is_jpeg(data) else cv2.IMREAD_UNCHANGED
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        image = None
    if image is None:
        raise UnreadableImage(
            "expected a whole JPEG, PNG, TIFF, BMP or WebP image, received a damaged one: export it again",
            code="damaged",
        )
    if image.ndim == 3 and is_bmp(data):
        image = image[:, :, :3]  # the fourth channel of a BMP is not used
    if not is_jpeg(data) and not is_tiff(data):  # OpenCV turns these two upright
        image = np.ascontiguousarray(_EXIF_ORIENTATIONS.get(orientation(data), _EXIF_ORIENTATIONS[1])(image))
    if image.dtype == np.uint16 and image.ndim == 2 and is_tiff(data) and is_white_zero(data):
        image = np.invert(image)  # OpenCV does this for 8 bits only
    if image.ndim == 3:
        image = _to_uint8(image)
        image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB if image.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)
    return image


def _to_gray(image: np.ndarray) -> np.ndarray:
    """(H, W), (H, W, 1), (H, W, 3) RGB or (H, W, 4) RGBA, uint8 or uint16 -> (H, W) uint8."""
    if image.dtype.kind != "u" or image.dtype.itemsize > 2:
        raise UnreadableImage(
            f"expected uint8 or uint16 pixels, or floats from 0 to 1, received {_describe(image)}: "
            + ("state the values for black and white as value_range" if image.dtype.kind in "ui" else "convert them"),
            code="pixel_values",
        )
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[:, :, 0]
    if image.size == 0 or image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (3, 4)):
        raise UnreadableImage(
            f"expected an array (H, W), (H, W, 3) or (H, W, 4), received shape {image.shape}: "
            "pass one image, or several to predict_many",
            code="pixel_values",
        )
    image = _to_uint8(image)
    if image.ndim == 2:
        return np.ascontiguousarray(image)
    import cv2

    colour = np.ascontiguousarray(image[:, :, :3])
    _refuse_colour(colour)
    gray = cv2.cvtColor(colour, cv2.COLOR_RGB2GRAY)
    if image.shape[2] == 4:  # blend with black, the background of a radiograph
        gray = cv2.multiply(gray, np.ascontiguousarray(image[:, :, 3]), scale=1 / 255)
    return gray


def _to_uint8(image: np.ndarray) -> np.ndarray:
    """Scale uint16 values by the bits in use; the shape stays."""
    if image.dtype == np.uint8:
        return image
    image = image.astype(np.uint16, copy=False)  # the array may be big-endian
    values = image[..., :3] if image.ndim == 3 else image  # alpha has 16 bits even beside 12-bit values
    bits = max(8, int(values.max()).bit_length())  # 12 for 12-bit data in a 16-bit file
    scaled = np.empty(image.shape, np.uint8)
    for row in range(0, len(image), _ROWS_PER_STEP):  # shifting all rows at once would need a second copy in memory
        part = image[row : row + _ROWS_PER_STEP]
        scaled[row : row + _ROWS_PER_STEP] = part >> (bits - 8)
        if image.ndim == 3 and image.shape[2] == 4:
            scaled[row : row + _ROWS_PER_STEP, :, 3] = part[..., 3] >> 8
    return scaled


def _refuse_colour(colour: np.ndarray) -> None:
    """Refuse (H, W, 3) uint8 pixels with more colour than a tinted scan or a small marker has."""
    import cv2

    red, green, blue = cv2.split(colour)
    spread = cv2.subtract(cv2.max(cv2.max(red, green), blue), cv2.min(cv2.min(red, green), blue))
    coloured = float((spread > COLOUR_SPREAD).mean())
    if coloured > MAX_COLOURED:
        raise RefusedImage(
            f"expected a gray radiograph, {coloured:.0%} of this image is in colour: "
            "send the radiograph itself, not a photograph or a screenshot of it",
            code="colour",
        )


def _check_radiograph(pixels: np.ndarray, source: str) -> Radiograph:
    """Refuse an image that is tiny, a strip or blank: no model can judge it."""
    import cv2

    height, width = pixels.shape
    if min(height, width) < MIN_SIDE:
        raise RefusedImage(
            f"expected at least {MIN_SIDE} pixels a side, received {width}x{height}: send the full-size radiograph",
            code="too_small",
        )
    if max(height, width) > MAX_ASPECT * min(height, width):
        raise RefusedImage(
            f"expected a radiograph at most {MAX_ASPECT:.0f} times as long as wide, received {width}x{height}: "
            "send the whole radiograph, not a strip of it",
            code="strip",
        )
    contrast = float(cv2.meanStdDev(pixels)[1][0, 0])  # np.std copies to float64 and takes as long as decoding
    if contrast < MIN_CONTRAST:
        raise RefusedImage(
            f"expected a radiograph, received a blank image (contrast {contrast:.1f} gray levels, "
            f"at least {MIN_CONTRAST:.0f} needed): check the export",
            code="blank",
        )
    return Radiograph(pixels, source)


def _describe(source: object) -> str:
    """Type and shape of a source for a message, never its content."""
    if isinstance(source, np.ndarray):
        return f"{source.dtype} of shape {source.shape}"
    return type(source).__name__
