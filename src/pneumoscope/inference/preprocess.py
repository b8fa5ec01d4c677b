"""Radiograph -> model input. Training, evaluation, prediction and export all use these functions.

There are two steps, so that training can keep the small 8-bit images in memory::

    resize      Radiograph               -> (height, width) uint8
    to_input    (N, height, width) uint8 -> model input, float32 in [0, 1]
"""

from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from pneumoscope.errors import BundleError
from pneumoscope.radiographs.containers import is_jpeg
from pneumoscope.radiographs.images import ImageSource, Radiograph, read_radiograph

IMAGE = "image"
ROWS = "rows"
VIA_224, SCALED_224 = "area-224", "scaled-224"
RESIZES = ("area", VIA_224, SCALED_224)
#: With ``"scaled-224"``, a JPEG is decoded at the smallest scale that leaves at least this many pixels on each side.
MIN_DECODED_SIDE = 320
#: Limit of height, width and channels. A model file is untrusted input, and a huge size would use up the memory.
#: Networks for radiographs take 1024 pixels at most.
MAX_SIDE = 4096


@dataclass(frozen=True)
class InputSpec:
    """What a model takes as input. It is stored in the model file.

    Attributes:
        height, width: size after resizing, in pixels.
        channels: copies of the gray channel (ImageNet backbones expect three).
        layout: ``"image"`` (N, height, width, channels), or ``"rows"`` (N, height, width * channels): each
            image row is one step of a sequence, its pixels interleaved by channel.
        aspect: ``"squash"``: each side is resized independently, as in the published work.
        resize: how.

            - ``"area"``: pixel-area averaging to shrink a side, linear interpolation to enlarge it.
            - ``"area-224"``: the same in two steps. Sides above 224 pixels are first reduced to 224. A full-size
              radiograph then looks as sharp as one that was stored at 224 pixels.
            - ``"scaled-224"``: as ``"area-224"``, but a JPEG is decoded at a smaller scale, see
              :data:`MIN_DECODED_SIDE`. This is faster and gives nearly the same pixels.
        scale: ``"unit"``: 0-255 becomes 0-1.
    """

    height: int = 150
    width: int = 150
    channels: int = 3
    layout: str = IMAGE
    aspect: str = "squash"
    resize: str = "area"
    scale: str = "unit"

    def __post_init__(self) -> None:
        known = {"layout": (IMAGE, ROWS), "aspect": ("squash",), "resize": RESIZES, "scale": ("unit",)}
        for name, values in known.items():
            if getattr(self, name) not in values:
                raise BundleError(
                    f"expected input {name} to be one of {', '.join(values)}, received {getattr(self, name)!r}: "
                    "use a newer pneumoscope"
                )
        for name in ("height", "width", "channels"):
            value = getattr(self, name)
            if type(value) is not int or not 1 <= value <= MAX_SIDE:  # True is an int for isinstance
                raise BundleError(
                    f"expected input {name} to be a whole number from 1 to {MAX_SIDE}, received {value!r}"
                )

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input, without the batch axis."""
        if self.layout == ROWS:
            return (self.height, self.width * self.channels)
        return (self.height, self.width, self.channels)

    def read(
        self, source: ImageSource, value_range: tuple[float, float] | None = None, any_age: bool = False
    ) -> Radiograph:
        """Read a radiograph at the size that this input needs.

        See :func:`pneumoscope.radiographs.images.read_radiograph`.
        """
        min_side = MIN_DECODED_SIDE if self.resize == SCALED_224 else 0
        return read_radiograph(source, min_side, value_range=value_range, any_age=any_age)

    def reads_smaller(self, source: ImageSource) -> bool:
        """Whether :meth:`read` may decode these bytes at a smaller scale, because they are a JPEG."""
        return self.resize == SCALED_224 and isinstance(source, bytes) and is_jpeg(source)

    def to_dict(self) -> dict[str, Any]:
        """The values that go into the model file."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: object) -> "InputSpec":
        """Read what :meth:`to_dict` wrote; unknown or missing keys are errors.

        Args:
            values: from a model file, not yet checked.

        Raises:
            BundleError: the keys or values are not those of this version.
        """
        names = {field.name for field in fields(cls)}
        if not isinstance(values, dict) or set(values) != names:
            received = ", ".join(sorted(map(str, values))) if isinstance(values, dict) else type(values).__name__
            raise BundleError(
                f"expected the input keys {', '.join(sorted(names))}, received {received}: "
                "export the model with this version"
            )
        return cls(**values)


#: Default input of each architecture; a recipe may change the size.
INPUT_SPECS = {
    "mobilenet": InputSpec(layout=IMAGE),
    "mobilenet-lungs": InputSpec(height=192, width=192, layout=IMAGE),
    "lstm": InputSpec(layout=ROWS),
    "bilstm": InputSpec(height=112, width=112, channels=1, layout=ROWS),
}


def preprocess(source: ImageSource, spec: InputSpec) -> np.ndarray:
    """Read one radiograph and convert it to model input.

    Args:
        source: anything :func:`pneumoscope.radiographs.images.read_radiograph` takes.
        spec: what the model takes.

    Returns:
        ``(1, *spec.shape)`` float32 in [0, 1].

    Raises:
        ImageError: the image cannot be judged.

    >>> from pneumoscope import sample_paths
    >>> preprocess(sample_paths()[0], InputSpec()).shape
    (1, 150, 150, 3)
    """
    return to_input(resize(spec.read(source), spec)[None], spec)


def resize(radiograph: Radiograph, spec: InputSpec) -> np.ndarray:
    """Resize a radiograph to the model's size; the aspect ratio is not kept.

    Returns:
        (height, width) uint8.
    """
    pixels = radiograph.pixels  # (H, W) uint8
    if spec.resize != "area":
        pixels = _squash(pixels, min(224, radiograph.width), min(224, radiograph.height))
    return _squash(pixels, spec.width, spec.height)


def _squash(pixels: np.ndarray, width: int, height: int) -> np.ndarray:
    """(H, W) uint8 -> (height, width) uint8, each side independently.

    First the sides that shrink, by area averaging, then those that grow, linearly: to enlarge, INTER_AREA would only
    repeat pixels.
    """
    import cv2

    rows, columns = pixels.shape
    smaller = (min(width, columns), min(height, rows))
    if smaller != (columns, rows):
        pixels = cv2.resize(pixels, smaller, interpolation=cv2.INTER_AREA)
    if smaller != (width, height):
        pixels = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
    return pixels


def to_input(pixels: np.ndarray, spec: InputSpec) -> np.ndarray:
    """Scale to 0-1, copy the gray channel, and arrange the pixels as the model expects them.

    Args:
        pixels: (N, height, width) uint8.
        spec: what the model takes.

    Returns:
        ``(N, *spec.shape)`` float32 in [0, 1].

    >>> to_input(np.full((1, 2, 2), 255, np.uint8), InputSpec(2, 2, layout="rows")).shape
    (1, 2, 6)
    """
    unit = pixels.astype(np.float32) / np.float32(255)
    channels = np.repeat(unit[..., None], spec.channels, axis=-1)  # (N, height, width, channels)
    return channels.reshape(len(pixels), *spec.shape)
