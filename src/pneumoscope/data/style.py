"""The style of a radiograph (what its console makes of it), and how it is moved towards the style of another one.

The style is measured as the standard deviations of five frequency bands, the histogram of the gray levels, and the
corners, where consoles burn in their marks. These alone tell the labels of the Kermany images apart (AUC 0.93 to 0.96).
A network therefore learns them, unless training makes them random. Each training image is moved towards the style of
another one, of either label with equal chance. The anatomy stays, and the style no longer depends on the label.

Reference: bands as in Philipsen et al., "Localized energy-based normalization of medical images: application to chest
radiography", 2015; moving the style of training images as in Geirhos et al., "ImageNet-trained CNNs are biased towards
texture; increasing shape bias improves accuracy and robustness", 2019.
"""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from pneumoscope.inference import InputSpec, resize
from pneumoscope.radiographs import Radiograph

#: Standard deviations of the Gaussians between the bands, in pixels of the model's input.
BAND_SIGMAS = (1.0, 2.0, 4.0, 8.0, 16.0)
#: A band is multiplied by at most this, and divided by at most this. A nearly empty band must not become noise.
MAX_BAND_FACTOR = 4.0
#: Smallest and largest side of a copied corner, as a share of the image.
CORNER_SIDES = (0.08, 0.25)

_MIN_BAND = 1e-3  # gray levels; the deviation of an empty band, so that nothing is divided by zero


class Style(NamedTuple):
    """Style of one radiograph at the model's size.

    Attributes:
        bands: (5,) float32, standard deviation of each band in gray levels, fine to coarse.
        cumulative: (256,) float32, share of the pixels at or below each gray level.
    """

    bands: np.ndarray
    cumulative: np.ndarray


def measure_style(pixels: np.ndarray) -> Style:
    """Measure the style of a radiograph.

    Args:
        pixels: (H, W) uint8.

    Returns:
        Its style, without the corners: these are copied, not measured.

    >>> measure_style(np.zeros((32, 32), np.uint8)).bands.max()
    np.float32(0.0)
    """
    bands, _ = _split_bands(pixels)
    return Style(np.array([band.std() for band in bands], np.float32), _cumulative(pixels))


def move_style(pixels: np.ndarray, towards: Style, band_shares: np.ndarray, histogram_share: float) -> np.ndarray:
    """Move a radiograph towards a style: first the bands, then the histogram.

    Each band is multiplied by ``(own + share * (target - own)) / own`` of its standard deviation. The gray levels then
    go the share of the way to the level that has the same cumulative share in the target (histogram matching).

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
        own = max(float(band.std()), _MIN_BAND)
        wanted = own + share * (float(target) - own)
        moved = moved + band * np.float32(np.clip(wanted / own, 1 / MAX_BAND_FACTOR, MAX_BAND_FACTOR))
    image: np.ndarray = np.clip(np.rint(moved), 0, 255).astype(np.uint8)
    if not histogram_share:
        return image
    levels = np.arange(256, dtype=np.float32)
    matched = np.interp(_cumulative(image), towards.cumulative, levels)
    table = levels + histogram_share * (matched - levels)
    matched_image: np.ndarray = np.clip(np.rint(table), 0, 255).astype(np.uint8)[image]
    return matched_image


def copy_corners(image: np.ndarray, other: np.ndarray, which: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Copy corner rectangles from another radiograph.

    Args:
        image, other: (H, W) uint8.
        which: (4,) bool: top left, top right, bottom left, bottom right.
        rng: draws the sides of each rectangle.

    Returns:
        (H, W) uint8; the images that were given stay as they are.
    """
    height, width = image.shape
    image = image.copy()
    for corner, chosen in enumerate(which.tolist()):
        # Drawn for every corner, so that the size of one does not depend on which others are copied.
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
        styles: of each image.
        classes: for each class, the rows of its images, (n,) int.
    """

    images: np.ndarray
    styles: list[Style]
    classes: tuple[np.ndarray, ...]

    @classmethod
    def measure(cls, pixels: np.ndarray, labels: np.ndarray, spec: InputSpec) -> "StylePartners":
        """Resize radiographs to the model's size and measure them once.

        Args:
            pixels: (N, H, W) uint8.
            labels: (N,) int.
            spec: gives the size.

        Raises:
            ValueError: no radiograph, or not one label for each.
        """
        if not len(pixels) or len(pixels) != len(labels):
            raise ValueError(f"expected radiographs and a label for each, received {len(pixels)} and {len(labels)}")
        images = np.stack([resize(Radiograph(np.ascontiguousarray(one)), spec) for one in pixels])
        rows = tuple(np.flatnonzero(labels == label) for label in sorted(set(labels.tolist())))
        return cls(images, [measure_style(image) for image in images], rows)

    def draw(self, rng: np.random.Generator, label: int | None = None) -> int:
        """Draw the row of a partner.

        Args:
            rng: draws it.
            label: its class; without it, the class is drawn first, each with equal chance.
        """
        rows = self.classes[int(rng.integers(len(self.classes))) if label is None else label]
        return int(rows[rng.integers(len(rows))])


def random_style(
    image: np.ndarray,
    partners: StylePartners,
    probability: float,
    least: float,
    corners: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Move an image towards the style of a random partner by random shares, and copy some corners from it.

    Args:
        image: (H, W) uint8 at the size of the partners.
        partners: training images.
        probability: of moving the style.
        least: smallest share of the way, 0 to 1.
        corners: probability of copying corners, each of the four with probability one half.
        rng: the generator of the image.

    Returns:
        (H, W) uint8.
    """
    row = partners.draw(rng)
    if rng.random() < probability:
        shares = least + (1 - least) * rng.random(len(BAND_SIGMAS) + 1)
        image = move_style(image, partners.styles[row], shares[:-1], float(shares[-1]))
    if rng.random() < corners:
        image = copy_corners(image, partners.images[row], rng.random(4) < 0.5, rng)
    return image


def _split_bands(pixels: np.ndarray) -> tuple[list[np.ndarray], np.ndarray]:
    """(H, W) uint8 -> five bands, fine to coarse, and what is left, (H, W) float32 each; they add up to the image."""
    import cv2

    last: np.ndarray = pixels.astype(np.float32)
    bands = []
    for sigma in BAND_SIGMAS:
        smooth = cv2.GaussianBlur(last, (0, 0), sigma, borderType=cv2.BORDER_REFLECT)
        bands.append(last - smooth)
        last = smooth
    return bands, last


def _cumulative(pixels: np.ndarray) -> np.ndarray:
    return (np.cumsum(np.bincount(pixels.ravel(), minlength=256)) / pixels.size).astype(np.float32)
