"""The band of probabilities around the threshold whose radiographs are called uncertain, and a sentence about it."""

import numpy as np

#: Share of the held-out images that are called uncertain: those nearest to the threshold.
UNCERTAIN_SHARE = 0.05


def uncertain_band(probability: np.ndarray, threshold: float, share: float = UNCERTAIN_SHARE) -> tuple[float, float]:
    """Lower and upper end of the band around the threshold that contains ``share`` of the images.

    Args:
        probability: (N,) float in [0, 1].
        threshold: the operating point.
        share: 0 to 1.

    >>> uncertain_band(np.array([0.01] * 19 + [0.4]), 0.5)
    (0.4, 0.6)
    """
    distance = np.sort(np.abs(probability - threshold))
    count = max(1, round(share * len(distance)))
    width = float(distance[count - 1])
    return round(max(0.0, threshold - width), 6), round(min(1.0, threshold + width), 6)


def uncertain_rule(probability: np.ndarray, wrong: np.ndarray, low: float, high: float) -> str:
    """A sentence about the images inside and outside of the band of :func:`uncertain_band`.

    Args:
        probability: (N,) float in [0, 1].
        wrong: (N,) bool, whether the verdict is wrong.
        low, high: ends of the band.
    """
    inside = (probability >= low) & (probability <= high)
    return (
        f"the {UNCERTAIN_SHARE:.0%} of the {len(probability)} held-out images nearest to the threshold; "
        f"{int(wrong[inside].sum())} of {int(inside.sum())} verdicts inside are wrong, "
        f"{int(wrong[~inside].sum())} of {int((~inside).sum())} outside"
    )
