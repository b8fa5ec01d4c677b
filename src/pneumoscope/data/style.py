"""The style of a radiograph (what its console makes of it), and how it is moved towards that of another one.

Style is measured as the standard deviations of five frequency bands, the histogram of gray levels, and the corners,
where consoles burn in their marks. These alone tell the classes of the Kermany images apart (AUC 0.93 to 0.96), so a
network learns them unless they are made random. Each training image is moved towards the style of another one, of
either class with equal chance: the anatomy stays, the style no longer says anything about the label.

Reference: bands as in Philipsen et al., "Localized energy-based normalization of medical images: application to chest
radiography", 2015; moving the style of training images as in Geirhos et al., "ImageNet-trained CNNs are biased towards
texture; increasing shape bias improves accuracy and robustness", 2019.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pneumoscope.inference.preprocess import InputSpec, resize
from pneumoscope.radiographs.images import Radiograph

#: Standard deviations of the Gaussians that part the bands, in pixels of the model's input.
BAND_SIGMAS = (1.0, 2.0, 4.0, 8.0, 16.0)
#: Largest and smallest factor of a band: a nearly empty band must not be blown up to noise.
MAX_BAND_FACTOR = 4.0
#: Sides of a copied corner, as shares of the image.
CORNER_SIDES = (0.08, 0.25)


class Style(NamedTuple):
    """Style of one radiograph at the model's size.

    Attributes:
        bands: (5,) float32, standard deviation of each band in gray levels, fine to coarse.
        cumulative: (256,) float32, share of the pixels at or below each gray level.
    """

    bands: np.ndarray
    cumulative: np.ndarray


def measure_style(pixels: np.ndarray) -> Style:
    """Style of a radiograph.

    Args:
        pixels: (H, W) uint8.

    >>> measure_style(np.zeros((32, 32), np.uint8)).bands.max()
    np.float32(0.0)
    """
    bands, _ = _split_bands(pixels)
    return Style(np.array([band.std() for band in bands], np.float32), _cumulative(pixels))


def move_style(pixels: np.ndarray, towards: Style, band_shares: np.ndarray, histogram_share: float) -> np.ndarray:
    """Move a radiograph towards a style: first the bands, then the histogram.

    Args:
        pixels: (H, W) uint8.
        towards: the style of another radiograph of the same size.
        band_shares: (5,) float in [0, 1], share of the way for the standard deviation of each band.
        histogram_share: in [0, 1], share of the way for the gray levels.

    Returns:
        (H, W) uint8; the radiograph itself where all shares are 0.
    """
    bands, rest = _split_bands(pixels)
    moved = rest
    for band, target, share in zip(bands, towards.bands, band_shares, strict=True):
        own = max(float(band.std()), 1e-3)
        wanted = own + share * (float(target) - own)
        moved = moved + band * np.float32(np.clip(wanted / own, 1 / MAX_BAND_FACTOR, MAX_BAND_FACTOR))
    image = np.clip(np.rint(moved), 0, 255).astype(np.uint8)
    if not histogram_share:
        return image
    levels = np.arange(256, dtype=np.float32)
    matched = np.interp(_cumulative(image), towards.cumulative, levels)
    table = levels + histogram_share * (matched - levels)
    return np.clip(np.rint(table), 0, 255).astype(np.uint8)[image]


def copy_corners(image: np.ndarray, other: np.ndarray, which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Copy corner rectangles from another radiograph.

    Args:
        image, other: (H, W) uint8.
        which: (4,) bool: top left, top right, bottom left, bottom right.
        rng: draws the sides of each rectangle.
    """
    height, width = image.shape
    image = image.copy()
    for corner, chosen in enumerate(which.tolist()):
        rows, columns = (np.round(rng.uniform(*CORNER_SIDES, 2) * image.shape)).astype(int)
        if chosen:
            top, left = (height - rows) * (corner // 2), (width - columns) * (corner % 2)
            image[top : top + rows, left : left + columns] = other[top : top + rows, left : left + columns]
    return image


@dataclass(frozen=True, eq=False)
class StylePartners:
    """Radiographs that lend their style, with the class of each.

    Attributes:
        images: (N, H, W) uint8 at the model's size.
        styles: of each.
        classes: rows of the images of each class.
    """

    images: np.ndarray
    styles: list[Style]
    classes: tuple[np.ndarray, ...]

    @classmethod
    def measure(cls, pixels: np.ndarray, labels: np.ndarray, spec: InputSpec) -> "StylePartners":
        """Bring radiographs to the model's size and measure them once.

        Args:
            pixels: (N, H, W) uint8.
            labels: (N,) int.
            spec: gives the size.
        """
        images = np.stack([resize(Radiograph(np.ascontiguousarray(one)), spec) for one in pixels])
        rows = tuple(np.flatnonzero(labels == label) for label in sorted(set(labels.tolist())))
        return cls(images, [measure_style(image) for image in images], rows)

    def draw(self, rng: np.random.Generator, label: int | None = None) -> int:
        """Row of a partner: of a class, or of a random one, each class with equal chance."""
        rows = self.classes[int(rng.integers(len(self.classes))) if label is None else label]
        return int(rows[rng.integers(len(rows))])


def random_style(
    image: np.ndarray, partners: StylePartners, probability: float, corners: float, rng: np.random.Generator
) -> np.ndarray:
    """Move an image towards the style of a random partner by random shares, and copy some corners from it.

    Args:
        image: (H, W) uint8 at the size of the partners.
        partners: training images.
        probability: of moving the style.
        corners: probability of copying corners, each of the four with probability one half.
        rng: of the image.
    """
    row = partners.draw(rng)
    if rng.random() < probability:
        image = move_style(image, partners.styles[row], rng.random(len(BAND_SIGMAS)), rng.random())
    if rng.random() < corners:
        image = copy_corners(image, partners.images[row], rng.random(4) < 0.5, rng)
    return image


def _split_bands(pixels: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """(H, W) uint8 -> five bands, fine to coarse, and what is left, (H, W) float32 each; they add up to the image."""
    import cv2

    last = pixels.astype(np.float32)
    bands = []
    for sigma in BAND_SIGMAS:
        smooth = cv2.GaussianBlur(last, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
        bands.append(last - smooth)
        last = smooth
    return bands, last


def _cumulative(pixels: np.ndarray) -> np.ndarray:
    return (np.cumsum(np.bincount(pixels.ravel(), minlength=256)) / pixels.size).astype(np.float32)
