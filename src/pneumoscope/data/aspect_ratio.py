"""Aspect ratios of radiographs by label: their medians, a common ratio, and factors that equalize them.

On the Kermany data the aspect ratio alone separates the labels of the training images (AUC 0.86), and squashing a
radiograph to the model's square input makes the ratio visible in the picture. Training removes the difference with
:func:`aspect_corrections`; evaluation tests a model on the radiographs whose ratio is typical of the other label.
"""

from collections.abc import Sequence

import numpy as np


def aspect_corrections(ratios: Sequence[float], labels: Sequence[str], share: float) -> np.ndarray:
    """How much wider to draw each squashed image so that all images show one aspect ratio.

    Squashing a radiograph of ratio r to a square makes the chest look narrower by r. The factor is r over the common
    ratio of :func:`common_ratio`. Half of it is applied by widening the image and half by shortening it.

    Args:
        ratios: (N,) width over height of the full-size radiographs; 0 where unknown, which counts as the median of
            the label.
        labels: (N,) label of each radiograph.
        share: 0 to 1, see :attr:`pneumoscope.data.augment.Augmentation.equalize_aspect`.

    Returns:
        (N,) float64 factors; all 1 if no ratio is known.

    >>> aspect_corrections([1.2, 1.8, 0], ["NORMAL", "PNEUMONIA", "PNEUMONIA"], 1).round(3).tolist()
    [0.816, 1.225, 1.225]
    """
    ratio, label = np.asarray(ratios, dtype=np.float64), np.asarray(labels)
    medians = median_ratios(ratio, label)
    if not medians:
        return np.ones(len(ratio))
    common = common_ratio(medians)
    ratio = np.where(ratio > 0, ratio, [medians.get(name, common) for name in label.tolist()])
    factors: np.ndarray = (ratio / common) ** share
    return factors


def median_ratios(ratios: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Median of the known ratios (above 0) of each label that has one; both arrays are (N,)."""
    known = ratios > 0
    return {name: float(np.median(ratios[known & (labels == name)])) for name in sorted(set(labels[known].tolist()))}


def common_ratio(medians: dict[str, float]) -> float:
    """The ratio in the middle of the labels: the geometric mean of their medians."""
    return float(np.exp(np.mean(np.log(list(medians.values())))))
