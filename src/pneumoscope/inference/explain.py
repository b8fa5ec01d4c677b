"""Where a model looked: Grad-CAM from the exported maps, occlusion for models without any; overlays.

A heatmap shows what raised this model's score on this image. It is not a segmentation and does not prove
that the score is right.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pneumoscope.errors import UsageError
from pneumoscope.inference.bundle import PROBABILITIES
from pneumoscope.inference.calibration import log_odds
from pneumoscope.inference.predict import Prediction, Predictor
from pneumoscope.inference.preprocess import InputSpec, resize, to_input
from pneumoscope.labels import LABELS, label_index
from pneumoscope.radiographs.images import Radiograph, read_radiograph

GRAD_CAM = "Grad-CAM"
OCCLUSION = "occlusion sensitivity"

#: Occlusion: a square of this side is blanked, every this many pixels of the model's input.
PATCH, STRIDE = 30, 15


@dataclass(frozen=True, eq=False)
class Explanation:
    """One image, its prediction, and where the evidence lies.

    Attributes:
        radiograph: at full size.
        prediction: of the model.
        label: the class whose evidence is shown.
        heatmap: (H, W) float32 in [0, 1] at the radiograph's size, relative to its own maximum; all zero
            where nothing speaks for the class.
        method: ``"Grad-CAM"`` or ``"occlusion sensitivity"``.
    """

    radiograph: Radiograph
    prediction: Prediction
    label: str
    heatmap: np.ndarray
    method: str


def explain(predictor: Predictor, source: object, label: str | None = None) -> Explanation:
    """Predict one radiograph and locate the evidence for a class.

    Args:
        predictor: the model.
        source: path, bytes or array.
        label: ``"NORMAL"`` or ``"PNEUMONIA"``; the predicted one by default.

    Raises:
        ImageError: the image cannot be judged.
        UsageError: an unknown label.
    """
    if label is not None and label not in LABELS:
        raise UsageError(f"expected the class {' or '.join(LABELS)}, received {label!r}")
    radiograph = read_radiograph(source)
    prediction = predictor.predict(radiograph)
    name = str(source) if isinstance(source, (str, Path)) else prediction.path
    return explain_prediction(predictor, radiograph, replace(prediction, path=name), label)


def explain_prediction(
    predictor: Predictor, radiograph: Radiograph, prediction: Prediction, label: str | None = None
) -> Explanation:
    """Locate the evidence behind a prediction that was made already; Grad-CAM costs no second pass."""
    label = label or prediction.label
    if prediction.gradcam is not None:
        small, method = prediction.gradcam[label_index(label)], GRAD_CAM
    else:
        small, method = occlusion_map(predictor, radiograph, label), OCCLUSION
    return Explanation(radiograph, prediction, label, upsample_map(small, radiograph), method)


def occlusion_map(predictor: Predictor, radiograph: Radiograph, label: str) -> np.ndarray:
    """How much the log-odds of a class fall when a square of the image is blanked with its mean gray.

    Log-odds, because a probability near 1 hardly moves whatever is hidden.

    Reference: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014, section 4.2.

    Returns:
        (rows, columns) float32, zero or above: the fall, averaged over the squares that cover each cell of
        ``STRIDE`` pixels.
    """
    spec = predictor.bundle.spec
    pixels = resize(radiograph, spec)
    corners = [(y, x) for y in _corners(spec.height) for x in _corners(spec.width)]
    covered = np.repeat(pixels[None], len(corners) + 1, axis=0)  # the last one stays whole
    for image, (y, x) in zip(covered, corners, strict=False):
        image[y : y + PATCH, x : x + PATCH] = round(float(pixels.mean()))
    log_odds = _log_odds(predictor, covered, spec, label)
    return _mean_fall(log_odds[-1] - log_odds[:-1], corners, spec)


def upsample_map(small: np.ndarray, radiograph: Radiograph) -> np.ndarray:
    """A map at the model's resolution, relative to its maximum, at the radiograph's size.

    >>> enlarge(np.zeros((2, 2), np.float32), Radiograph(np.zeros((4, 6), np.uint8))).shape
    (4, 6)

    Returns:
        (H, W) float32 in [0, 1].
    """
    import cv2

    peak = float(small.max())
    relative = (small / peak if peak > 0 else np.zeros_like(small)).astype(np.float32)
    size = (radiograph.width, radiograph.height)
    return np.clip(cv2.resize(relative, size, interpolation=cv2.INTER_CUBIC), 0, 1)


def _corners(length: int) -> list[int]:
    """Where the squares begin, so that every pixel is covered: the last one ends at the edge."""
    last = max(0, length - PATCH)
    return sorted({*range(0, last + 1, STRIDE), last})


def _log_odds(predictor: Predictor, pixels: np.ndarray, spec: InputSpec, label: str) -> np.ndarray:
    """(N, H, W) uint8 -> (N,) log-odds of a class."""
    parts = [
        predictor.bundle.run(to_input(pixels[start : start + 16], spec))[PROBABILITIES]
        for start in range(0, len(pixels), 16)
    ]
    return log_odds(np.concatenate(parts)[:, label_index(label)], margin=1e-7)  # float32 softmax rounds to 0 and 1


def _mean_fall(falls: np.ndarray, corners: list[tuple[int, int]], spec: InputSpec) -> np.ndarray:
    total = np.zeros((spec.height, spec.width))
    count = np.zeros_like(total)
    for fall, (y, x) in zip(falls, corners, strict=True):
        total[y : y + PATCH, x : x + PATCH] += fall
        count[y : y + PATCH, x : x + PATCH] += 1
    mean = np.maximum(total / np.maximum(count, 1), 0)
    return mean[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].astype(np.float32)
