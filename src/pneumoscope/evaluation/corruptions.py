"""Corruptions at five levels, as in the benchmark MedMNIST-C for chest radiographs of children (PneumoniaMNIST).

Kinds and levels are those of the benchmark. They are applied to the radiograph at 224 pixels a side, the size that the
benchmark has. Random ones come from the generator of the image, so every model sees the same pictures.

Reference: Di Salvo, Doerrich and Ledig, "MedMNIST-C: Comprehensive benchmark and improved classifier robustness by
simulating realistic image corruptions", 2024.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from pneumoscope.data import compress_jpeg
from pneumoscope.inference import InputSpec, resize
from pneumoscope.radiographs import Radiograph

LEVELS = (1, 2, 3, 4, 5)

_SIZE = InputSpec(height=224, width=224, channels=1)


def _pixelate(pixels: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    """Shrink by areas, enlarge by the nearest pixel (the benchmark mixes pixels at factors other than one half)."""
    import cv2

    height, width = pixels.shape
    small = cv2.resize(pixels, (int(width * factor), int(height * factor)), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST_EXACT))


def _compress(pixels: np.ndarray, quality: float, rng: np.random.Generator) -> np.ndarray:
    return compress_jpeg(pixels, int(quality))


def _add_gaussian_noise(pixels: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    return _to_gray(pixels / 255 + rng.normal(0, deviation, pixels.shape))


def _add_speckle_noise(pixels: np.ndarray, deviation: float, rng: np.random.Generator) -> np.ndarray:
    return _to_gray(pixels / 255 * (1 + rng.normal(0, deviation, pixels.shape)))


def _add_impulse_noise(pixels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Salt and pepper, half of each."""
    changed = pixels.copy()
    hit = rng.random(pixels.shape) < share
    changed[hit] = np.where(rng.random(int(hit.sum())) < 0.5, 0, 255)
    return changed


def _add_shot_noise(pixels: np.ndarray, photons: float, rng: np.random.Generator) -> np.ndarray:
    return _to_gray(rng.poisson(pixels / 255 * photons) / photons)


def _blur(pixels: np.ndarray, kernel: float, rng: np.random.Generator) -> np.ndarray:
    """Gaussian; the deviation follows from the size of the kernel, as in OpenCV and torchvision."""
    import cv2

    return np.asarray(cv2.GaussianBlur(pixels, (int(kernel), int(kernel)), 0.3 * ((kernel - 1) * 0.5 - 1) + 0.8))


def _change_brightness(pixels: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    return _to_gray(pixels / 255 * factor)


def _change_contrast(pixels: np.ndarray, factor: float, rng: np.random.Generator) -> np.ndarray:
    mean = pixels.mean() / 255
    return _to_gray(mean + factor * (pixels / 255 - mean))


def _change_gamma(pixels: np.ndarray, gamma: float, rng: np.random.Generator) -> np.ndarray:
    return _to_gray((pixels / 255) ** gamma)


def _to_gray(values: np.ndarray) -> np.ndarray:
    """Values that are 0 to 1 inside the range -> uint8."""
    gray: np.ndarray = np.rint(values.clip(0, 1) * 255).astype(np.uint8)
    return gray


_Corruption = Callable[[np.ndarray, float, np.random.Generator], np.ndarray]

#: Kind -> function, and its parameter at each level.
KINDS: dict[str, tuple[_Corruption, tuple[float, ...]]] = {
    "pixelate": (_pixelate, (0.8, 0.7, 0.6, 0.5, 0.4)),
    "JPEG compression": (_compress, (50, 30, 15, 10, 7)),
    "Gaussian noise": (_add_gaussian_noise, (0.04, 0.05, 0.06, 0.07, 0.08)),
    "speckle noise": (_add_speckle_noise, (0.05, 0.07, 0.10, 0.15, 0.20)),
    "impulse noise": (_add_impulse_noise, (0.005, 0.01, 0.013, 0.017, 0.02)),
    "shot noise": (_add_shot_noise, (300, 200, 150, 100, 80)),
    "Gaussian blur": (_blur, (3, 5, 7, 9, 11)),
    "brightness up": (_change_brightness, (1.1, 1.2, 1.3, 1.4, 1.5)),
    "brightness down": (_change_brightness, (0.9, 0.8, 0.7, 0.6, 0.5)),
    "contrast up": (_change_contrast, (1.1, 1.2, 1.3, 1.4, 1.6)),
    "contrast down": (_change_contrast, (0.9, 0.8, 0.7, 0.6, 0.4)),
    "gamma up": (_change_gamma, (1.1, 1.2, 1.3, 1.4, 1.6)),
    "gamma down": (_change_gamma, (0.9, 0.8, 0.7, 0.6, 0.4)),
}


def _corrupt(
    corruption: _Corruption, parameter: float, pixels: np.ndarray, label: str, rng: np.random.Generator
) -> np.ndarray:
    return corruption(resize(Radiograph(pixels), _SIZE), parameter, rng)


def name_of(kind: str, level: int) -> str:
    """The name of a corruption at a level, 1 to 5.

    >>> name_of("shot noise", 3)
    'shot noise 3'
    """
    return f"{kind} {level}"


#: Every corruption at every level, in the form of :data:`pneumoscope.evaluation.robustness.SHIFTS`.
CORRUPTIONS: dict[str, Callable[[np.ndarray, str, np.random.Generator], np.ndarray]] = {
    name_of(kind, level): partial(_corrupt, corruption, parameters[level - 1])
    for kind, (corruption, parameters) in KINDS.items()
    for level in LEVELS
}
