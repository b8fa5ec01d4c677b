"""Prediction -> heatmap: where in the radiograph the evidence for a class lies.

The evidence map or Grad-CAM where the model file provides it, occlusion sensitivity for the other models.

A heatmap shows what raised the score of this model on this image. It is not a segmentation, and it does not prove that
the score is right.
"""

from dataclasses import dataclass

import numpy as np

from pneumoscope.errors import ImageError, UsageError
from pneumoscope.inference.bundle import PROBABILITIES
from pneumoscope.inference.calibration import log_odds
from pneumoscope.inference.predict import Predictor, content_sha256
from pneumoscope.inference.prediction import Prediction
from pneumoscope.inference.preprocess import InputSpec, resize, to_input
from pneumoscope.labels import LABELS, PNEUMONIA, label_index
from pneumoscope.radiographs.contents import read_content, source_name
from pneumoscope.radiographs.images import ImageSource, Radiograph, read_radiograph

GRAD_CAM = "Grad-CAM"
OCCLUSION = "occlusion sensitivity"
EVIDENCE_MAP = "evidence in the lungs"

#: Occlusion blanks a square with sides of PATCH pixels of the model's input; neighbouring squares are STRIDE apart.
PATCH, STRIDE = 30, 15
_OCCLUSION_BATCH = 16  # images in one forward pass


@dataclass(frozen=True, eq=False)
class Explanation:
    """One image, its prediction, and where the evidence lies.

    Attributes:
        radiograph: at full size.
        prediction: of the model.
        label: the class whose evidence is shown.
        probability: of that class, 0 to 1.
        heatmap: (H, W) float32 in [0, 1] at the radiograph's size, relative to its own maximum; all zero if nothing
            in the image is evidence for the class.
        method: ``"evidence in the lungs"``, ``"Grad-CAM"`` or ``"occlusion sensitivity"``.
        lungs: (H, W) float32 in [0, 1] at the radiograph's size, the lung field that the model sees; None for models
            that learn none.
    """

    radiograph: Radiograph
    prediction: Prediction
    label: str
    probability: float
    heatmap: np.ndarray
    method: str
    lungs: np.ndarray | None = None


def explain(
    predictor: Predictor,
    source: ImageSource,
    label: str | None = None,
    *,
    value_range: tuple[float, float] | None = None,
) -> Explanation:
    """Predict one radiograph and locate the evidence for a class.

    The prediction is the one of :meth:`~pneumoscope.inference.predict.Predictor.predict`, digit by digit.

    Args:
        predictor: the model.
        source, value_range: see :meth:`pneumoscope.inference.predict.Predictor.predict`.
        label: ``"NORMAL"`` or ``"PNEUMONIA"``; the predicted one by default.

    Raises:
        ImageError: the image cannot be judged.
        UsageError: an unknown label.

    >>> from pneumoscope import load, sample_paths
    >>> explain(load(), sample_paths()[9]).method
    'Grad-CAM'
    """
    if label is not None and label not in LABELS:
        raise UsageError(f"expected the class {' or '.join(LABELS)}, received {label!r}")
    content = read_content(source)
    radiograph = read_radiograph(content, value_range=value_range, any_age=predictor.any_age)
    # The model judges the pixels of its own scale, the heatmap is drawn on those of full size.
    judged = content if predictor.bundle.spec.reads_smaller(content) else radiograph
    prepared = predictor.prepare(judged)
    if isinstance(prepared.pixels, ImageError):
        raise prepared.pixels
    named = prepared._replace(path=source_name(source, value_range), sha256=content_sha256(content))
    (prediction,) = predictor.predict_prepared([named])
    return explain_prediction(predictor, radiograph, prediction, label)


def explain_prediction(
    predictor: Predictor, radiograph: Radiograph, prediction: Prediction, label: str | None = None
) -> Explanation:
    """Locate the evidence behind an existing prediction; with maps in the prediction the model does not run again.

    Raises:
        UsageError: the image of the prediction could not be judged.
    """
    if prediction.label is None or prediction.probability is None:
        raise UsageError(f"expected a prediction with a label, received one with status {prediction.status!r}")
    label = label or prediction.label
    probability = prediction.probability if label == PNEUMONIA else 1 - prediction.probability
    small, method = class_map(prediction, label) or (occlusion_map(predictor, radiograph, label), OCCLUSION)
    heatmap = upsample_map(small, radiograph)
    lungs = None if prediction.lungs is None else _enlarge(prediction.lungs, radiograph)
    return Explanation(radiograph, prediction, label, probability, heatmap, method, lungs)


def class_map(prediction: Prediction, label: str) -> tuple[np.ndarray, str] | None:
    """The map of a class in a prediction, (h, w) float32, zero or above, and its method; None if there is none.

    The evidence map has positive values for PNEUMONIA and negative ones for NORMAL; each class shows its own part.
    """
    if prediction.evidence is not None:
        return np.maximum(prediction.evidence if label == PNEUMONIA else -prediction.evidence, 0), EVIDENCE_MAP
    if prediction.gradcam is not None:
        return prediction.gradcam[label_index(label)], GRAD_CAM
    return None


def occlusion_map(predictor: Predictor, radiograph: Radiograph, label: str) -> np.ndarray:
    """How much the log odds of a class fall when a square of the image is replaced by the mean gray of the image.

    Log odds, because a probability near 1 hardly changes, whatever is hidden.

    Reference: Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", 2014, section 4.2.

    Returns:
        (rows, columns) float32, zero or above, one value for each cell of ``STRIDE`` pixels: the mean fall over the
        squares that cover the cell.
    """
    spec = predictor.bundle.spec
    pixels = resize(radiograph, spec)
    corners = [(y, x) for y in _square_starts(spec.height) for x in _square_starts(spec.width)]
    images = np.repeat(pixels[None], len(corners) + 1, axis=0)  # (N + 1, H, W): the last image stays whole
    for image, (y, x) in zip(images, corners, strict=False):
        image[y : y + PATCH, x : x + PATCH] = round(float(pixels.mean()))
    scores = _class_log_odds(predictor, images, label)
    return _mean_fall(scores[-1] - scores[:-1], corners, spec)


def upsample_map(small: np.ndarray, radiograph: Radiograph) -> np.ndarray:
    """Enlarge a map from the model's resolution to the radiograph's size, and divide it by its maximum.

    Args:
        small: (h, w), zero or above.
        radiograph: gives the size.

    Returns:
        (H, W) float32 in [0, 1].

    >>> upsample_map(np.zeros((2, 2), np.float32), Radiograph(np.zeros((4, 6), np.uint8))).shape
    (4, 6)
    """
    peak = float(small.max())
    return _enlarge(small / peak if peak > 0 else np.zeros_like(small), radiograph)


def _enlarge(small: np.ndarray, radiograph: Radiograph) -> np.ndarray:
    """(h, w) in [0, 1] -> (H, W) float32 in [0, 1] at the radiograph's size."""
    import cv2

    size = (radiograph.width, radiograph.height)
    return np.clip(cv2.resize(small.astype(np.float32), size, interpolation=cv2.INTER_CUBIC), 0, 1)


def _square_starts(length: int) -> list[int]:
    """Where the squares begin along one side. The last one ends at the edge, so that every pixel is covered."""
    last = max(0, length - PATCH)
    return sorted({*range(0, last + 1, STRIDE), last})


def _class_log_odds(predictor: Predictor, images: np.ndarray, label: str) -> np.ndarray:
    """(N, H, W) uint8 -> (N,) log odds of a class."""
    bundle = predictor.bundle
    probabilities = [
        bundle.run(to_input(images[start : start + _OCCLUSION_BATCH], bundle.spec))[PROBABILITIES]
        for start in range(0, len(images), _OCCLUSION_BATCH)
    ]
    # The softmax is computed in float32 and can round to exactly 0 or 1; the margin keeps the log odds finite.
    return log_odds(np.concatenate(probabilities)[:, label_index(label)], margin=1e-7)


def _mean_fall(falls: np.ndarray, corners: list[tuple[int, int]], spec: InputSpec) -> np.ndarray:
    """One fall per square, (N,) -> the mean over the squares that cover each cell, (rows, columns) float32."""
    total = np.zeros((spec.height, spec.width))
    count = np.zeros_like(total)
    for fall, (y, x) in zip(falls, corners, strict=True):
        total[y : y + PATCH, x : x + PATCH] += fall
        count[y : y + PATCH, x : x + PATCH] += 1
    mean = np.maximum(total / np.maximum(count, 1), 0)
    return mean[STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE].astype(np.float32)
