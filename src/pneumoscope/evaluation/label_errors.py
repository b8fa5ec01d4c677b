"""Predictions of images that were held out -> labels that look wrong, by confident learning.

An image is suspected where the probability of another class is as high as that class's own images have it on average,
and highest among such classes. What the network has not learnt looks the same, so this is a list to look through, not
one of errors.

Reference: Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels", 2021; the
confident joint of section 3.1, its order by normalised margin.
"""

import numpy as np


def find_label_errors(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Which labels look wrong, the most suspicious first.

    Args:
        labels: (N,) int in [0, K), as given.
        probabilities: (N, K) float in [0, 1], by a model that has not seen the image.

    Returns:
        (M,) int, which images, and (M,) int, the class that each looks like. A class without images is never suggested.
    """
    classes = range(probabilities.shape[1])
    # (K,) what the images of a class are given on average; out of reach where there are none
    usual = np.array([probabilities[labels == k, k].mean() if (labels == k).any() else np.inf for k in classes])
    confident = probabilities >= usual  # (N, K)
    like = np.where(confident, probabilities, -1.0).argmax(axis=1)
    found = np.flatnonzero(confident.any(axis=1) & (like != labels))
    margin = probabilities[found, labels[found]] - probabilities[found, like[found]]
    order = found[np.argsort(margin, kind="stable")]
    return order, like[order]
