"""Seeded changes of a training radiograph: its geometry, its exposure, what is written on it. Training only.

Each image of each epoch has a random generator of its own, so that a resumed run draws what an uninterrupted
one draws. The radiograph is cropped, brought to the model's size and moved, then exposed
and spoilt; without any change drawn, what remains is the prediction's own path.

The aspect ratio is what matters most on these data: width over height alone separates the Kermany training images
(AUC 0.86), and squashing writes it into the picture. A crop that keeps a random share of one side makes the ratio
random, yet around each class's own mean; ``equalize_aspect`` brings every image to one ratio before that.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from pneumoscope.data.style import StylePartners, random_style
from pneumoscope.errors import UsageError
from pneumoscope.inference.preprocess import InputSpec, resize
from pneumoscope.radiographs.images import Radiograph


@dataclass(frozen=True)
class Augmentation:
    """How far a training radiograph may be changed; every default changes nothing.

    Attributes:
        equalize_aspect: share of its own aspect ratio that each image loses (1: all images show one ratio before the crop), see
            :func:`aspect_corrections`.
        crop_side: smallest share kept of one side, width or height at random: the aspect ratio becomes random.
        crop_both: smallest share kept of both sides.
        rotation: degrees, either way.
        scale: largest enlargement or reduction, as a factor (1.2: from 1/1.2 to 1.2).
        shift: share of the side, either way.
        flip: probability of a left-right mirror image.
        gamma: largest exponent of the exposure, as a factor (1.4: from 1/1.4 to 1.4).
        contrast: largest factor around the mean gray, as a factor.
        brightness: share of the gray range, either way.
        tone: strength of a random rising tone curve, 0 to 1: the look of another scanner, not only its exposure.
        blur: largest share of resolution lost by shrinking and enlarging (0.5: down to half the pixels a side).
        sharpen: largest strength of an unsharp mask, the look of a radiograph shrunk with another filter.
        jpeg: probability of a JPEG compression of quality 30 to 95.
        noise: largest standard deviation of added noise, as a share of the gray range.
        markers: probability of each of: letters burnt in near a corner, a corner blanked (DeGrave, Janizek and Lee,
            "AI for radiographic COVID-19 detection selects shortcuts over signal", 2021).
        border: probability of a black frame of up to a tenth of a side.
        erase: probability of a gray rectangle of up to a third of each side (Zhong et al., "Random erasing data
            augmentation", 2020).
        style: probability of moving the style of the image (band energies and histogram) by random shares towards that
            of a random other training image, see :mod:`pneumoscope.data.style`.
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


def augment(
    pixels: np.ndarray, spec: InputSpec, how: Augmentation, rng: np.random.Generator, aspect_correction: float = 1.0,
    partners: StylePartners | None = None,
) -> np.ndarray:
    """Draw one changed radiograph at the model's size.

    Args:
        pixels: (H, W) uint8, larger than or as large as the model's input.
        spec: gives the size.
        how: the ranges to draw from.
        rng: the image's own generator.
        aspect_correction: of the image, from :func:`aspect_corrections`.
        partners: images that lend their style, at the size of ``spec``; needed by ``style`` and ``style_corners``.

    Returns:
        (height, width) uint8.
    """
    image = _moved(pixels, spec, how, rng, aspect_correction)
    if partners is not None and (how.style or how.style_corners):
        image = random_style(image, partners, how.style, how.style_corners, rng)
    if how.border and rng.random() < how.border:
        image = _framed(image, rng)
    if how.markers:
        image = _marked(image, how.markers, rng)
    image = _exposed(image, how, rng)
    image = _degraded(image, how, rng)
    if how.erase and rng.random() < how.erase:
        image = _erased(image, rng)
    return image


def aspect_corrections(ratios: Sequence[float], labels: Sequence[str], share: float) -> np.ndarray:
    """How much wider each squashed image has to be drawn for all to show one aspect ratio.

    A chest squashed from a radiograph of ratio r looks narrower by r. Drawn wider by r over a common ratio (half of
    it by widening, half by shortening) it looks as if every radiograph had the common one, see :func:`common_ratio`.

    Args:
        ratios: (N,) width over height of the full-size radiographs; 0 where not known, which counts as the label's
            median.
        labels: (N,) of each.
        share: 0 to 1, :attr:`Augmentation.equalize_aspect`.

    Returns:
        (N,) float64 factors; all 1 where no ratio is known.

    >>> aspect_corrections([1.2, 1.8, 0], ["NORMAL", "PNEUMONIA", "PNEUMONIA"], 1).round(3).tolist()
    [0.816, 1.225, 1.225]
    """
    ratio, label = np.asarray(ratios, dtype=np.float64), np.asarray(labels)
    medians = median_ratios(ratio, label)
    if not medians:
        return np.ones(len(ratio))
    common = common_ratio(medians)
    ratio = np.where(ratio > 0, ratio, [medians.get(name, common) for name in label.tolist()])
    return (ratio / common) ** share


def median_ratios(ratios: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Median of the known (above 0) ratios of each label that has any; both arrays (N,)."""
    known = ratios > 0
    return {name: float(np.median(ratios[known & (labels == name)])) for name in sorted(set(labels[known].tolist()))}


def common_ratio(medians: dict[str, float]) -> float:
    """The ratio between the labels: the geometric mean of their medians."""
    return float(np.exp(np.mean(np.log(list(medians.values())))))


def _moved(
    pixels: np.ndarray, spec: InputSpec, how: Augmentation, rng: np.random.Generator, aspect_correction: float
) -> np.ndarray:
    """Crop, squash, mirror, turn, enlarge and shift in one interpolation; what comes in from outside is black.

    A second interpolation would leave training images softer than those of prediction, and teach the network that
    sharpness means something.
    """
    import cv2

    rows, columns = _window(pixels.shape, how, rng)
    flip, angle = rng.random() < how.flip, rng.uniform(-how.rotation, how.rotation)
    factor, shift = how.scale ** rng.uniform(-1, 1), rng.uniform(-how.shift, how.shift, 2)
    if angle == 0 and factor == 1 and aspect_correction == 1 and not shift.any():
        image = resize(Radiograph(np.ascontiguousarray(pixels[rows, columns])), spec)
        return np.ascontiguousarray(image[:, ::-1]) if flip else image
    height, width = spec.height, spec.width
    across, down = width / (columns.stop - columns.start), height / (rows.stop - rows.start)
    turn = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle, factor)
    turn[:, 2] += shift * (width, height)

    def warped(source: np.ndarray, aspect_correction: float) -> np.ndarray:
        # Pixel centres lie at half a pixel, as in resizing.
        squash = np.array(
            [[across, 0, (0.5 - columns.start) * across - 0.5], [0, down, (0.5 - rows.start) * down - 0.5]]
        )
        if flip:
            squash[0] = [-across, 0, width - 1 - squash[0, 2]]
        stretches = ((width - 1) / 2, aspect_correction**0.5), ((height - 1) / 2, aspect_correction**-0.5)
        for axis, (middle, stretch) in enumerate(stretches):
            squash[axis] *= stretch
            squash[axis, 2] += middle * (1 - stretch)
        matrix = turn @ np.vstack([squash, [0, 0, 1]])
        return cv2.warpAffine(source, matrix, (width, height), flags=cv2.INTER_LINEAR, borderValue=0)

    image = warped(pixels, aspect_correction)
    if aspect_correction == 1:
        return image
    # The opposite stretch brings in its black on the other two sides: both on every image, else they tell the labels.
    return cv2.multiply(image, warped(np.full_like(pixels, 255), 1 / aspect_correction), scale=1 / 255)


def _window(shape: tuple[int, int], how: Augmentation, rng: np.random.Generator) -> tuple[slice, slice]:
    """Rows and columns that keep a share of both sides, and of one of them a smaller one."""
    shares = np.full(2, rng.uniform(how.crop_both, 1.0))
    shares[rng.integers(2)] *= rng.uniform(how.crop_side, 1.0)
    sizes = np.maximum(1, np.round(shares * shape)).astype(int)
    starts = [int(rng.integers(0, whole - kept + 1)) for whole, kept in zip(shape, sizes, strict=True)]
    return tuple(slice(start, start + int(kept)) for start, kept in zip(starts, sizes, strict=True))


def _framed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    top, bottom, left, right = (np.round(rng.uniform(0, 0.1, 4) * np.repeat(image.shape, 2))).astype(int)
    framed = np.zeros_like(image)
    inner = (slice(top, image.shape[0] - bottom), slice(left, image.shape[1] - right))
    framed[inner] = image[inner]
    return framed


def _marked(image: np.ndarray, probability: float, rng: np.random.Generator) -> np.ndarray:
    """Side markers and burnt-in text near the corners, or a corner blanked."""
    import cv2

    height, width = image.shape
    image = image.copy()
    if rng.random() < probability:
        text = "".join(rng.choice(list("LRAPFEX0123456789"), rng.integers(1, 5)))
        at = (int(width * rng.choice([0.03, 0.75]) + rng.integers(0, 8)), int(height * rng.choice([0.10, 0.95])))
        size = height / 160 * rng.uniform(0.3, 0.7)
        cv2.putText(image, text, at, cv2.FONT_HERSHEY_SIMPLEX, size, int(rng.integers(150, 256)), 1, cv2.LINE_AA)
    if rng.random() < probability:
        rows, columns = int(height * rng.uniform(0.05, 0.2)), int(width * rng.uniform(0.05, 0.25))
        top, left = (height - rows) * int(rng.integers(2)), (width - columns) * int(rng.integers(2))
        image[top : top + rows, left : left + columns] = int(rng.choice([0, image.mean()]))
    return image


def _exposed(image: np.ndarray, how: Augmentation, rng: np.random.Generator) -> np.ndarray:
    """Gamma, tone curve, contrast and brightness as one table of 256 gray levels."""
    curve = np.linspace(0, 1, 256) ** (how.gamma ** rng.uniform(-1, 1))
    if how.tone:
        steps = np.cumsum(rng.uniform(1 - how.tone, 1 + how.tone, 5))
        knots = np.concatenate(([0.0], steps / max(steps[-1], 1e-9)))  # (6,) rising from 0 to 1
        curve = np.interp(curve, np.linspace(0, 1, len(knots)), knots)
    mean = float(curve[image].mean())
    curve = (curve - mean) * how.contrast ** rng.uniform(-1, 1) + mean + rng.uniform(-1, 1) * how.brightness
    return np.clip(np.round(curve * 255), 0, 255).astype(np.uint8)[image]


def _degraded(image: np.ndarray, how: Augmentation, rng: np.random.Generator) -> np.ndarray:
    import cv2

    if how.blur:
        share = rng.uniform(1 - how.blur, 1.0)
        small = (max(8, round(image.shape[1] * share)), max(8, round(image.shape[0] * share)))
        image = cv2.resize(cv2.resize(image, small, interpolation=cv2.INTER_AREA), image.shape[::-1])
    if how.sharpen:
        smooth = cv2.GaussianBlur(image, (0, 0), 1.0)
        amount = rng.uniform(0, how.sharpen)
        image = cv2.addWeighted(image, 1 + amount, smooth, -amount, 0)
    if how.jpeg and rng.random() < how.jpeg:
        coded = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(30, 96))])[1]
        image = cv2.imdecode(coded, cv2.IMREAD_GRAYSCALE)
    if how.noise:
        sigma = rng.uniform(0, how.noise) * 255
        image = np.clip(image + rng.normal(0, sigma, image.shape), 0, 255).astype(np.uint8)
    return image


def _erased(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    image = image.copy()
    rows, columns = (np.round(rng.uniform(0.08, 0.33, 2) * image.shape)).astype(int)
    top, left = int(rng.integers(0, image.shape[0] - rows)), int(rng.integers(0, image.shape[1] - columns))
    image[top : top + rows, left : left + columns] = int(rng.integers(0, 256))
    return image
