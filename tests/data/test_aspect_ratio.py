"""Aspect corrections, calculated by hand."""

import numpy as np
import pytest

from pneumoscope.data.aspect_ratio import aspect_corrections, common_ratio, median_ratios


def test_aspect_corrections_by_hand():
    labels = ["NORMAL"] * 3 + ["PNEUMONIA"] * 2
    factors = aspect_corrections([1.0, 1.2, 0, 2.7, 0], labels, 1.0)  # medians 1.1 and 2.7
    np.testing.assert_allclose(factors, np.array([1.0, 1.2, 1.1, 2.7, 2.7]) / np.sqrt(1.1 * 2.7))
    np.testing.assert_allclose(aspect_corrections([1.0, 1.2, 0, 2.7, 0], labels, 0.5), np.sqrt(factors))
    np.testing.assert_array_equal(aspect_corrections([1.0, 1.2, 0, 2.7, 0], labels, 0.0), 1)
    np.testing.assert_array_equal(aspect_corrections([0, 0, 0, 0, 0], labels, 1.0), 1)
    no_pneumonia = [1.5, 1.5, 0, 0, 0]  # no ratio of the other label is known
    np.testing.assert_allclose(aspect_corrections(no_pneumonia, labels, 1.0), 1)
    np.testing.assert_allclose(aspect_corrections([1.0] * 5, labels, 1.0), 1)  # squashed copies, without information


def test_medians_ignore_unknown_ratios():
    ratios, labels = np.array([1.0, 1.2, 0, 2.7, 0]), np.array(["NORMAL"] * 3 + ["PNEUMONIA", "OTHER"])
    medians = median_ratios(ratios, labels)
    assert medians == {"NORMAL": pytest.approx(1.1), "PNEUMONIA": 2.7}
    assert common_ratio(medians) == pytest.approx((1.1 * 2.7) ** 0.5)
    assert median_ratios(np.zeros(2), np.array(["NORMAL"] * 2)) == {}
