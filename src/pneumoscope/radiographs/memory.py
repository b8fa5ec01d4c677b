"""Images that a Python program holds: file objects, Pillow images, arrays of floats or of stated ranges.

Each becomes what the reader takes: encoded bytes, or an array of uint8 or uint16.
"""

import sys
from typing import TYPE_CHECKING, Any, Protocol, TypeGuard

import numpy as np

from pneumoscope.errors import UnreadableImage, UsageError
from pneumoscope.radiographs.codestream import check_size

if TYPE_CHECKING:
    from PIL.Image import Image

_EXIF_ORIENTATION = 0x0112

# Mode of a Pillow image -> the mode whose pixels are taken; a mode that is not here is taken as it is, or refused.
_PILLOW_MODES = {
    "1": "L", "P": "RGB", "CMYK": "RGB", "YCbCr": "RGB", "RGBX": "RGB", "LA": "RGBA", "La": "RGBA", "PA": "RGBA",
    "RGBa": "RGBA",
}  # fmt: skip
_TAKEN_MODES = ("L", "RGB", "RGBA", "I", "I;16", "I;16L", "I;16B", "I;16N", "F")


class BinaryFile(Protocol):
    """A file object that is open for reading bytes, such as ``io.BytesIO`` or what ``open(path, "rb")`` returns."""

    def read(self, size: int = ..., /) -> bytes:
        """At most ``size`` bytes; none at the end."""


def is_file_object(source: object) -> TypeGuard[BinaryFile]:
    """Whether a source has to be read like a file."""
    return callable(getattr(source, "read", None))


def is_pillow_image(source: object) -> "TypeGuard[Image]":
    """Whether a source is an image of Pillow, which need not be installed."""
    pillow = sys.modules.get("PIL.Image")
    return pillow is not None and isinstance(source, pillow.Image)


def file_object_name(file: BinaryFile) -> str:
    """The name of an open file; its type in angle brackets for one in memory."""
    name = getattr(file, "name", None)
    return name if isinstance(name, str) else f"<{type(file).__name__}>"


def read_file_object(file: BinaryFile, limit: int) -> bytes:
    """Read from the current position to the end, but at most ``limit`` bytes.

    Raises:
        UnreadableImage: the file cannot be read.
        UsageError: it returns text, or is asynchronous.
    """
    parts: list[bytes] = []
    size = 0
    try:
        while size < limit and (part := file.read(limit - size)):  # a pipe or a socket may return less than asked for
            if not isinstance(part, bytes):
                raise UsageError(
                    f"expected a file object that returns bytes, received {type(part).__name__}: open it with mode 'rb'"
                )
            parts.append(part)
            size += len(part)
    except (OSError, ValueError) as error:  # ValueError: the file is closed
        closed = "it is closed" if getattr(file, "closed", False) else type(error).__name__
        reason = getattr(error, "strerror", None) or closed
        raise UnreadableImage(f"expected a readable file object, received an error ({reason}): open it again") from None
    return b"".join(parts)


def pillow_pixels(image: "Image", max_pixels: int) -> tuple[np.ndarray, int]:
    """The pixels of a Pillow image, and its EXIF orientation, which Pillow does not apply on its own.

    Returns:
        (H, W), (H, W, 3) RGB or (H, W, 4) RGBA, and a number from 1 to 8.

    Raises:
        ImageTooLarge: more than ``max_pixels``; its file is not decoded then.
        UnreadableImage: Pillow cannot decode its file, or a mode that is no picture.
    """
    check_size(*image.size, max_pixels, where="Pillow image")
    mode = "RGBA" if image.mode == "P" and "transparency" in image.info else _PILLOW_MODES.get(image.mode, image.mode)
    if mode not in _TAKEN_MODES:
        raise UnreadableImage(
            f"expected a gray or RGB image, received Pillow mode {image.mode}: convert it with  image.convert('L')",
            code="pixel_values",
        )
    try:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        pixels = np.asarray(image if mode == image.mode else image.convert(mode))
    except (OSError, SyntaxError, ValueError, IndexError, EOFError):  # what Pillow raises for damaged files
        raise UnreadableImage(
            "expected a whole image, Pillow cannot decode this one: export it again", code="damaged"
        ) from None
    if mode == "I" and pixels.min(initial=0) >= 0 and pixels.max(initial=0) <= 0xFFFF:
        pixels = pixels.astype(np.uint16)  # a 16-bit PNG in older versions of Pillow
    return pixels, orientation if orientation in range(1, 9) else 1


def scale_values(pixels: np.ndarray, value_range: tuple[float, float] | None) -> np.ndarray:
    """Bring an array to uint8 if its range of values is stated, or if it holds floats, whose range is 0 to 1.

    Whole numbers are divided among 256 steps of equal width, so that a range of ``(0, 2**n - 1)`` keeps the upper
    eight bits of n. Floats are rounded, so that ``pixels / 255`` gives ``pixels`` again.

    Args:
        pixels: numbers of any type.
        value_range: the values that mean black and white.

    Returns:
        uint8; or the array as it is, if it holds whole numbers without a stated range.

    Raises:
        UnreadableImage: values outside the range, or not numbers.
        UsageError: no range.
    """
    if pixels.dtype.kind not in "uif" or pixels.size == 0 or (value_range is None and pixels.dtype.kind != "f"):
        return pixels
    low, high = check_range(value_range or (0, 1))
    least, most = float(pixels.min()), float(pixels.max())
    if not np.isfinite([least, most]).all():
        raise UnreadableImage("expected finite pixels, received NaN or infinity: replace them", code="pixel_values")
    if least < low or most > high:
        stated = "within the value_range" if value_range else "as floats"
        raise UnreadableImage(
            f"expected pixels {stated} from {low:g} to {high:g}, received {least:g} to {most:g}: "
            f"{'state the range of the file' if value_range else 'divide them, or state their value_range'}",
            code="pixel_values",
        )
    if pixels.dtype.kind == "f" or not (float(low).is_integer() and float(high).is_integer()):
        unit = (pixels.astype(np.float64) - low) / (high - low)
        return np.rint(unit * 255).astype(np.uint8)
    steps = (pixels.astype(np.int64) - int(low)) * 256 // (int(high) - int(low) + 1)
    return steps.astype(np.uint8)


def check_range(value_range: Any) -> tuple[float, float]:
    """The two ends of a range that a caller states.

    Raises:
        UsageError: not two rising finite numbers.
    """
    try:
        low, high = value_range
        if low < high and np.isfinite(high - low):
            return low, high
    except (TypeError, ValueError):
        pass
    raise UsageError(f"expected value_range as two rising numbers, such as (0, 4095), received {value_range!r}")
