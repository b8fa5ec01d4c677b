"""Weights of the classes in the training loss."""

from collections import defaultdict

import pytest

from pneumoscope.data import class_weights
from pneumoscope.errors import DatasetError, UsageError
from pneumoscope.labels import BACTERIAL, FINDINGS, NORMAL, PNEUMONIA, VIRAL


def test_class_weights_by_rule():
    labels = [NORMAL] * 20 + [PNEUMONIA] * 60
    assert class_weights(labels, "inverse-ratio") == {NORMAL: 3.0, PNEUMONIA: pytest.approx(1 / 3)}
    assert class_weights(labels, "balanced") == {NORMAL: 2.0, PNEUMONIA: pytest.approx(2 / 3)}
    assert class_weights(labels, "none") == {NORMAL: 1.0, PNEUMONIA: 1.0}


def test_class_weights_of_three_classes_by_rule():
    labels = [NORMAL] * 20 + [BACTERIAL] * 60 + [VIRAL] * 40
    assert class_weights(labels, "balanced", FINDINGS) == {
        NORMAL: 2.0,
        BACTERIAL: pytest.approx(2 / 3),
        VIRAL: pytest.approx(1),
    }
    assert class_weights(labels, "inverse-ratio", FINDINGS) == {
        NORMAL: 5.0,
        BACTERIAL: 1.0,
        VIRAL: 2.0,
    }
    assert list(class_weights(labels, "none", FINDINGS)) == list(FINDINGS)
    with pytest.raises(DatasetError, match=r"expected images of .*NORMAL.*bacterial.*viral, received"):
        class_weights(labels[:80], "balanced", FINDINGS)


def test_weights_make_the_classes_equal_or_the_rare_class_stronger():
    labels = [NORMAL] * 1207 + [PNEUMONIA] * 3488
    totals = defaultdict(dict)
    for rule in ("balanced", "inverse-ratio"):
        for label, weight in class_weights(labels, rule).items():
            totals[rule][label] = weight * labels.count(label)
    assert totals["balanced"][NORMAL] == pytest.approx(totals["balanced"][PNEUMONIA])
    assert sum(totals["balanced"].values()) == pytest.approx(len(labels))
    assert totals["inverse-ratio"][NORMAL] > totals["inverse-ratio"][PNEUMONIA]


def test_class_weights_need_both_classes_and_a_known_rule():
    for labels in ([NORMAL], [PNEUMONIA] * 3, []):
        with pytest.raises(DatasetError, match="expected images of both NORMAL and PNEUMONIA, received"):
            class_weights(labels, "none")
    with pytest.raises(UsageError, match="expected class weights inverse-ratio, balanced, none, received 'sqrt'"):
        class_weights([NORMAL, PNEUMONIA], "sqrt")
