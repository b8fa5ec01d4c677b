"""Random changes of a radiograph: geometry, exposure, image quality, and marks on the picture. All are seeded.

Each image of each epoch has its own random generator. A resumed training run therefore draws the same pictures as an
uninterrupted one. The order is: crop, resize to the model's input and warp, then move the style, then change the
exposure, then degrade the picture. If nothing is drawn, the result is exactly what the prediction path makes of the
image.

The aspect ratio matters most on these data, see :mod:`pneumoscope.data.aspect_ratio`. A crop that keeps a random share
of one side makes the ratio random, but each class still has its own mean. ``equalize_aspect`` brings every image to one
ratio first.

The module is in ``data`` because two packages above it use it: training draws these changes, and evaluation
(``robustness.py``) turns them round. It applies them to held-out radiographs, to measure how much a model depends on
what training made random.
"""

from dataclasses import dataclass, fields

import numpy as np

from pneumoscope.data.style import StylePartners, random_style
from pneumoscope.errors import UsageError
from pneumoscope.inference import InputSpec, resize
from pneumoscope.radiographs import Radiograph


@dataclass(frozen=True)
class Augmentation:
    """How far a radiograph may be changed. With the defaults nothing changes.

    Attributes:
        equalize_aspect: share of the difference in aspect ratio that is removed (1: all images show one ratio before
            the crop), see :func:`pneumoscope.data.aspect_ratio.aspect_corrections`.
        crop_side: smallest share kept of one side, width or height at random. This makes the aspect ratio random.
        crop_both: smallest share kept of both sides.
        rotation: largest angle in degrees, in both directions.
        scale: largest enlargement or reduction, as a factor (1.2: from 1/1.2 to 1.2).
        shift: largest shift as a share of the side, in both directions.
        flip: probability of a left-right mirror image.
        gamma: largest exponent of the gray levels, as a factor (1.4: from 1/1.4 to 1.4).
        contrast: largest change of contrast around the mean gray, as a factor.
        brightness: largest change of brightness as a share of the gray range, in both directions.
        tone: strength of a random rising tone curve, 0 to 1. It imitates another scanner, not only another exposure.
        blur: largest share of resolution lost by shrinking and enlarging (0.5: down to half the pixels of each side).
        sharpen: largest strength of an unsharp mask. It imitates a radiograph that was shrunk with another filter.
        jpeg: probability of JPEG compression with a quality of 30 to 95.
        noise: largest standard deviation of added noise, as a share of the gray range.
        markers: probability of letters near a corner, and probability of a blanked corner (DeGrave, Janizek and Lee,
            "AI for radiographic COVID-19 detection selects shortcuts over signal", 2021).
        border: probability of a black frame of up to a tenth of a side.
        erase: probability of a gray rectangle of up to a third of each side (Zhong et al., "Random erasing data
            augmentation", 2020).
        style: probability of moving the style of the image (frequency bands and histogram) by random shares towards the
            style of a random other training image, see :mod:`pneumoscope.data.style`.
        style_least: smallest of these shares; the largest is 1.
        style_corners: probability of copying corners of that other image, each of the four with probability one half.
    """

    equalize_aspect: float = 0.0
    crop_side: float = 1.0
    crop_both: float = 1.0
    rotation: float = 0.0
    scale: float = 1.0
    shift: float = 0.0
    flip: float = 0.0
    gamma: float = 1.0
    contrast: float = 1.0
    brightness: float = 0.0
    tone: float = 0.0
    blur: float = 0.0
    sharpen: float = 0.0
    jpeg: float = 0.0
    noise: float = 0.0
    markers: float = 0.0
    border: float = 0.0
    erase: float = 0.0
    style: float = 0.0
    style_least: float = 0.0
    style_corners: float = 0.0

    def __post_init__(self) -> None:
        ranges = dict.fromkeys((field.name for field in fields(self)), (0.0, 1.0))
        ranges |= {"crop_side": (0.2, 1.0), "crop_both": (0.2, 1.0), "rotation": (0.0, 180.0)}
        ranges |= dict.fromkeys(("scale", "gamma", "contrast"), (1.0, 4.0)) | {"sharpen": (0.0, 4.0)}
        for name, (low, high) in ranges.items():
            value = getattr(self, name)
            if type(value) not in (int, float) or not low <= value <= high:
                raise UsageError(f"expected augment.{name} from {low:g} to {high:g}, received {value!r}")
            object.__setattr__(self, name, float(value))

    @property
    def needs_partners(self) -> bool:
        """Whether other radiographs must lend their style."""
        return self.style > 0 or self.style_corners > 0


def augment(
    pixels: np.ndarray,
    spec: InputSpec,
    augmentation: Augmentation,
    rng: np.random.Generator,
    aspect_correction: float = 1.0,
    partners: StylePartners | None = None,
) -> np.ndarray:
    """Draw one changed radiograph at the size of the model's input.

    Args:
        pixels: (H, W) uint8, at least as large as the model's input.
        spec: gives the size.
        augmentation: the ranges to draw from.
        rng: the generator of this image.
        aspect_correction: of this image, from :func:`pneumoscope.data.aspect_ratio.aspect_corrections`.
        partners: radiographs that lend their style, at the size of ``spec``; for ``style`` and ``style_corners``.

    Returns:
        (height, width) uint8.

    Raises:
        UsageError: ``style`` or ``style_corners`` without partners.
    """
    return augment_with_mask(pixels, None, spec, augmentation, rng, aspect_correction, partners)[0]


def augment_with_mask(
    pixels: np.ndarray,
    mask: np.ndarray | None,
    spec: InputSpec,
    augmentation: Augmentation,
    rng: np.random.Generator,
    aspect_correction: float = 1.0,
    partners: StylePartners | None = None,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Draw one changed radiograph, and move a mask in the same way.

    What leaves the picture in the warp leaves the mask. What is laid over the picture later (style, frame, letters,
    rectangle) leaves the mask as it is. The mask changes no random draw.

    Args:
        pixels, spec, augmentation, rng, aspect_correction, partners: as for :func:`augment`.
        mask: (H, W) uint8 of the size of ``pixels``, 255 inside; or None.

    Returns:
        (height, width) uint8 both; None instead of no mask.
    """
    image, moved_mask = _warp(pixels, mask, spec, augmentation, rng, aspect_correction)
    if augmentation.needs_partners:
        if partners is None:
            raise UsageError("expected partners with augment.style or augment.style_corners, received none: give some")
        image = random_style(
            image, partners, augmentation.style, augmentation.style_least, augmentation.style_corners, rng
        )
    if augmentation.border and rng.random() < augmentation.border:
        image = _add_border(image, rng)
    if augmentation.markers:
        image = _add_markers(image, augmentation.markers, rng)
    image = _change_exposure(image, augmentation, rng)
    image = _degrade(image, augmentation, rng)
    if augmentation.erase and rng.random() < augmentation.erase:
        image = _erase_rectangle(image, rng)
    return image, moved_mask


def compress_jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    """The picture (H, W) uint8 after JPEG compression of a quality from 0 to 100."""
    import cv2

    encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    # By its annotation imdecode may return None; it does so only for bytes that are no image.
    return np.asarray(cv2.imdecode(encoded, cv2.IMREAD_GRAYSCALE), dtype=np.uint8)


def _warp(
    pixels: np.ndarray,
    mask: np.ndarray | None,
    spec: InputSpec,
    augmentation: Augmentation,
    rng: np.random.Generator,
    aspect_correction: float,
) -> tuple[np.ndarray, np.ndarray | None]:
    """Crop, squash, mirror, rotate, scale and shift in one interpolation; outside the radiograph all is black.

    A second interpolation would make training images softer than the images of prediction. The network would then
    learn that sharpness means something.
    """
    import cv2

    rows, columns = _draw_crop(pixels.shape, augmentation, rng)
    flip = bool(rng.random() < augmentation.flip)
    angle = rng.uniform(-augmentation.rotation, augmentation.rotation)
    factor, shift = augmentation.scale ** rng.uniform(-1, 1), rng.uniform(-augmentation.shift, augmentation.shift, 2)
    if angle == 0 and factor == 1 and aspect_correction == 1 and not shift.any():
        parts = [_resize_part(part[rows, columns], spec, flip) for part in (pixels, mask) if part is not None]
        return parts[0], parts[1] if mask is not None else None
    height, width = spec.height, spec.width
    center = ((width - 1) / 2, (height - 1) / 2)
    rotation = np.asarray(cv2.getRotationMatrix2D(center, angle, factor), dtype=np.float64)  # (2, 3)
    rotation[:, 2] += shift * (width, height)

    def warp_with(source: np.ndarray, aspect_correction: float) -> np.ndarray:
        squash = _squash_matrix(rows, columns, spec, flip, aspect_correction)
        matrix = rotation @ np.vstack([squash, [0, 0, 1]])
        return cv2.warpAffine(source, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=0)

    image = warp_with(pixels, aspect_correction)
    moved = None if mask is None else warp_with(mask, aspect_correction)
    if aspect_correction == 1:
        return image, moved
    # The opposite correction adds its black on the other two sides. Every image gets both, because black on two sides
    # only would tell the labels apart.
    field = warp_with(np.full_like(pixels, 255), 1 / aspect_correction)
    shown = [cv2.multiply(part, field, scale=1 / 255) for part in (image, moved) if part is not None]
    return shown[0], shown[1] if moved is not None else None


def _resize_part(part: np.ndarray, spec: InputSpec, flip: bool) -> np.ndarray:
    """A crop at the model's size, mirrored if asked."""
    image = resize(Radiograph(np.ascontiguousarray(part)), spec)
    return np.ascontiguousarray(image[:, ::-1]) if flip else image


def _draw_crop(shape: tuple[int, ...], augmentation: Augmentation, rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns to keep: a random share of both sides, and of one side a smaller share."""
    shares = np.full(2, rng.uniform(augmentation.crop_both, 1.0))
    shares[rng.integers(2)] *= rng.uniform(augmentation.crop_side, 1.0)
    sizes = np.maximum(1, np.round(shares * shape)).astype(int)
    starts = [int(rng.integers(0, side - size + 1)) for side, size in zip(shape, sizes, strict=True)]
    rows, columns = (slice(start, start + int(size)) for start, size in zip(starts, sizes, strict=True))
    return rows, columns


def _squash_matrix(rows: slice, columns: slice, spec: InputSpec, flip: bool, aspect_correction: float) -> np.ndarray:
    """(2, 3) affine matrix from the crop to the model's input, mirrored and stretched around the middle."""
    height, width = spec.height, spec.width
    across, down = width / (columns.stop - columns.start), height / (rows.stop - rows.start)
    # The centre of a pixel is at half a pixel, as in resizing.
    squash = np.array([[across, 0, (0.5 - columns.start) * across - 0.5], [0, down, (0.5 - rows.start) * down - 0.5]])
    if flip:
        squash[0] = [-across, 0, width - 1 - squash[0, 2]]
    stretches = ((width - 1) / 2, aspect_correction**0.5), ((height - 1) / 2, aspect_correction**-0.5)
    for axis, (middle, stretch) in enumerate(stretches):
        squash[axis] *= stretch
        squash[axis, 2] += middle * (1 - stretch)
    return squash


def _add_border(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Black out up to a tenth of each side."""
    top, bottom, left, right = (np.round(rng.uniform(0, 0.1, 4) * np.repeat(image.shape, 2))).astype(int)
    framed = np.zeros_like(image)
    inner = (slice(top, image.shape[0] - bottom), slice(left, image.shape[1] - right))
    framed[inner] = image[inner]
    return framed


def _add_markers(image: np.ndarray, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Write a side marker or other letters near a corner, and blank a corner; each with the given probability."""
    import cv2

    height, width = image.shape
    image = image.copy()
    if rng.random() < probability:
        text = "".join(rng.choice(list("LRAPFEX0123456789"), rng.integers(1, 5)))
        position = (int(width * rng.choice([0.03, 0.75]) + rng.integers(0, 8)), int(height * rng.choice([0.10, 0.95])))
        size = height / 160 * rng.uniform(0.3, 0.7)
        cv2.putText(image, text, position, cv2.FONT_HERSHEY_SIMPLEX, size, int(rng.integers(150, 256)), 1, cv2.LINE_AA)
    if rng.random() < probability:
        rows, columns = int(height * rng.uniform(0.05, 0.2)), int(width * rng.uniform(0.05, 0.25))
        top, left = (height - rows) * int(rng.integers(2)), (width - columns) * int(rng.integers(2))
        image[top : top + rows, left : left + columns] = int(rng.choice([0, image.mean()]))
    return image


def _change_exposure(image: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Gamma, tone curve, contrast and brightness as one table of 256 gray levels."""
    curve = np.linspace(0, 1, 256) ** (augmentation.gamma ** rng.uniform(-1, 1))
    if augmentation.tone:
        steps = np.cumsum(rng.uniform(1 - augmentation.tone, 1 + augmentation.tone, 5))
        knots = np.concatenate(([0.0], steps / max(steps[-1], 1e-9)))  # (6,) rising from 0 to 1
        curve = np.interp(curve, np.linspace(0, 1, len(knots)), knots)
    mean = float(curve[image].mean())
    contrast, brightness = augmentation.contrast ** rng.uniform(-1, 1), rng.uniform(-1, 1) * augmentation.brightness
    curve = (curve - mean) * contrast + mean + brightness
    changed: np.ndarray = np.clip(np.round(curve * 255), 0, 255).astype(np.uint8)[image]
    return changed


def _degrade(image: np.ndarray, augmentation: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Blur, sharpen, compress and add noise."""
    import cv2

    if augmentation.blur:
        share = rng.uniform(1 - augmentation.blur, 1.0)
        small = (max(8, round(image.shape[1] * share)), max(8, round(image.shape[0] * share)))
        image = cv2.resize(cv2.resize(image, small, interpolation=cv2.INTER_AREA), image.shape[::-1])
    if augmentation.sharpen:
        smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
        amount = rng.uniform(0, augmentation.sharpen)
        image = cv2.addWeighted(image, 1 + amount, smooth, -amount, 0)
    if augmentation.jpeg and rng.random() < augmentation.jpeg:
        image = compress_jpeg(image, int(rng.integers(30, 96)))
    if augmentation.noise:
        sigma = rng.uniform(0, augmentation.noise) * 255
        image = np.clip(image + rng.normal(0, sigma, image.shape), 0, 255).astype(np.uint8)
    return image


def _erase_rectangle(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Fill one rectangle with one gray level."""
    image = image.copy()
    rows, columns = (np.round(rng.uniform(0.08, 0.33, 2) * image.shape)).astype(int)
    top, left = int(rng.integers(0, image.shape[0] - rows)), int(rng.integers(0, image.shape[1] - columns))
    image[top : top + rows, left : left + columns] = int(rng.integers(0, 256))
    return image
