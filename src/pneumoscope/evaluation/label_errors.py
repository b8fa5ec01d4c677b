"""Predictions of held-out images -> labels that look wrong, by confident learning.

A label is suspicious if the probability of another class is at least as high as its average over that class's own
images. Among several such classes, the one with the highest probability counts. Images that the network has not learnt
look the same. The result is therefore a list for review, not a list of errors.

Reference: Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels", 2021; the
confident joint of section 3.1, ordered by normalised margin.
"""

import numpy as np


def find_label_errors(labels: np.ndarray, probabilities: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find labels that look wrong, the most suspicious first.

    Args:
        labels: (N,) int in [0, K), from the data.
        probabilities: (N, K) float in [0, 1], from models that were not trained on the image.

    Returns:
        (M,) int, indices of the images, and (M,) int, the class that each looks like. A class without images is never
        suggested.
    """
    classes = range(probabilities.shape[1])
    # (K,) average probability of a class over its own images; infinite, and so never reached, without images
    usual = np.array([probabilities[labels == k, k].mean() if (labels == k).any() else np.inf for k in classes])
    confident = probabilities >= usual  # (N, K)
    likely = np.where(confident, probabilities, -1.0).argmax(axis=1)
    suspects = np.flatnonzero(confident.any(axis=1) & (likely != labels))
    margin = probabilities[suspects, labels[suspects]] - probabilities[suspects, likely[suspects]]
    order = suspects[np.argsort(margin, kind="stable")]
    return order, likely[order]
