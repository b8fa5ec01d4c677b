"""Numbers that describe a picture without its lungs, and how well they tell the labels apart.

A network that is trained on images whose labels such numbers tell apart can learn them instead of the lungs.
"""

from typing import Any

import numpy as np

from pneumoscope.data import measure_style
from pneumoscope.inference import InputSpec
from pneumoscope.labels import LABELS, POSITIVE

#: The size at which pictures are described.
SIZE = InputSpec(height=224, width=224, channels=1)

_FOLDS = 5
_PENALTY = 0.01  # inverse strength of the regression's L2 penalty: hundreds of features that depend on each other
_CORNER, _THUMBNAIL = 56, 8  # pixels of a corner at that size, and of its thumbnail
_BORDER, _STRIP = 8, 28  # width of a border in pixels, and pixels of its thumbnail


def describe_picture(image: np.ndarray) -> dict[str, np.ndarray]:
    """Features of a picture in which its lungs have little part.

    Args:
        image: (224, 224) uint8.

    Returns:
        ``bands``: (5,) float, log energies of five frequency bands; ``histogram``: (64,) float, roots of the shares of
        the pixels in bins of gray levels; ``corners``: (256,) float, a thumbnail of 8x8 pixels of each corner;
        ``borders``: (112,) float, a thumbnail of the outermost 8 pixels at each side.
    """
    style = measure_style(image)
    near, far = slice(None, _CORNER), slice(-_CORNER, None)
    corners = [image[rows, columns] for rows in (near, far) for columns in (near, far)]
    borders = [image[:_BORDER], image[-_BORDER:], image[:, :_BORDER].T, image[:, -_BORDER:].T]
    histogram = np.diff(style.cumulative[3::4], prepend=0)
    return {
        "bands": np.log(style.bands + 1e-3),
        # Rounding can make a difference of cumulative shares slightly negative.
        "histogram": np.sqrt(histogram.clip(0)),
        "corners": np.concatenate([_shrink(corner, _THUMBNAIL, _THUMBNAIL) for corner in corners]),
        "borders": np.concatenate([_shrink(np.ascontiguousarray(border), _STRIP, 1) for border in borders]),
    }


def style_features(picture: dict[str, np.ndarray]) -> np.ndarray:
    """(325,) float: bands, histogram and corners of a described picture."""
    return np.concatenate([picture[name] for name in ("bands", "histogram", "corners")])


def cross_validated_scores(features: np.ndarray, labels: np.ndarray, groups: np.ndarray) -> np.ndarray | None:
    """How much each row looks like PNEUMONIA, by a logistic regression that has not seen its patient.

    Args:
        features: (N, F) float.
        labels: (N,) int.
        groups: (N,) str, patients.

    Returns:
        (N,) float64 in [0, 1]; None with fewer than two patients of a label, where nothing can be cross-validated.
    """
    from sklearn.model_selection import StratifiedGroupKFold

    folds = min(_FOLDS, *(len(set(groups[labels == label].tolist())) for label in range(len(LABELS))))
    if folds < 2:
        return None
    scores = np.full(len(labels), np.nan)
    for train, test in StratifiedGroupKFold(folds, shuffle=True, random_state=0).split(features, labels, groups):
        if len(set(labels[train].tolist())) < len(LABELS):
            return None  # few patients, one of them with nearly all images of a label
        scores[test] = _fit_regression(features[train], labels[train]).predict_proba(features[test])[:, POSITIVE]
    return scores


def _fit_regression(features: np.ndarray, labels: np.ndarray) -> Any:
    """A ``sklearn`` pipeline fitted on (N, F) float and (N,) int; both labels count the same."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    regression = LogisticRegression(C=_PENALTY, max_iter=2000, class_weight="balanced")
    return make_pipeline(StandardScaler(), regression).fit(features, labels)


def _shrink(part: np.ndarray, width: int, height: int) -> np.ndarray:
    """(width * height,) float in [0, 1]."""
    import cv2

    return np.asarray(cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA).ravel() / 255)
