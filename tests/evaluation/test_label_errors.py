"""Labels that look wrong: planted errors are found, the most suspicious first."""

import numpy as np
import pytest

from pneumoscope.evaluation.label_errors import find_label_errors


def test_an_example_worked_out_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 1])
    pneumonia = np.array([0.1, 0.3, 0.9, 0.8, 0.7, 0.0])
    # averages: NORMAL (0.9 + 0.7 + 0.1) / 3 = 0.567, PNEUMONIA (0.8 + 0.7 + 0.0) / 3 = 0.5
    suspects, likely = find_label_errors(labels, np.stack([1 - pneumonia, pneumonia], axis=1))
    assert suspects.tolist() == [5, 2]
    assert likely.tolist() == [0, 1]


@pytest.mark.parametrize("classes", [2, 3, 5])
def test_planted_errors_are_found_the_clearest_first(classes):
    rng = np.random.default_rng(classes)
    true = rng.integers(0, classes, 300)
    own = rng.uniform(0.7, 0.95, 300)
    probabilities = np.repeat(((1 - own) / (classes - 1))[:, None], classes, axis=1)
    probabilities[np.arange(300), true] = own
    labels, planted = true.copy(), rng.permutation(300)[:6]
    labels[planted] = (true[planted] + 1) % classes
    probabilities[planted] = 0.2 / (classes - 1)
    probabilities[planted, true[planted]] = 0.96
    probabilities[planted[3], labels[planted[3]]] = 0.0
    suspects, likely = find_label_errors(labels, probabilities)
    assert set(suspects) == set(planted)
    assert suspects[0] == planted[3]
    assert (likely == true[suspects]).all()


def test_an_image_unlike_every_class_is_not_suspicious():
    labels = np.array([0] * 10 + [1] * 10)
    pneumonia = np.array([0.05] * 9 + [0.5] + [0.95] * 9 + [0.5])
    assert find_label_errors(labels, np.stack([1 - pneumonia, pneumonia], axis=1))[0].size == 0


def test_a_class_without_images_is_never_suggested():
    probabilities = np.array([[0.1, 0.2, 0.7], [0.2, 0.1, 0.7], [0.3, 0.6, 0.1]])
    suspects, likely = find_label_errors(np.array([0, 0, 1]), probabilities)
    assert not (likely == 2).any()
    assert suspects.tolist() == []
