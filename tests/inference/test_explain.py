"""Heatmaps lie on the evidence, cover the whole radiograph, and name their method."""

import numpy as np
import pytest

from pneumoscope import load
from pneumoscope.errors import UnreadableImage, UsageError
from pneumoscope.inference.explain import (
    GRAD_CAM,
    OCCLUSION,
    STRIDE,
    explain,
    occlusion_map,
    upsample_map,
)
from pneumoscope.inference.preprocess import InputSpec
from pneumoscope.radiographs.images import Radiograph, read_radiograph


@pytest.fixture(scope="module", params=["reference-mobilenet", "reference-lstm"])
def predictor(request):
    return load(request.param)


def test_an_explanation_covers_the_full_size_radiograph(predictor, samples):
    explanation = explain(predictor, samples[9])
    assert explanation.heatmap.shape == read_radiograph(samples[9]).pixels.shape
    assert explanation.heatmap.dtype == np.float32
    assert explanation.heatmap.min() >= 0
    assert explanation.heatmap.max() <= 1
    assert explanation.label == explanation.prediction.label
    assert explanation.prediction.path == str(samples[9])
    assert explanation.method == (GRAD_CAM if predictor.bundle.has_gradcam else OCCLUSION)


def test_each_class_has_its_own_map(predictor, samples):
    normal, pneumonia = (explain(predictor, samples[9], label) for label in ("NORMAL", "PNEUMONIA"))
    assert normal.prediction == pneumonia.prediction
    assert not np.array_equal(normal.heatmap, pneumonia.heatmap)


def test_gradcam_comes_from_the_same_forward_pass(samples):
    predictor = load("reference-mobilenet")
    prediction = predictor.predict(samples[9])
    expected = upsample_map(prediction.gradcam[1], read_radiograph(samples[9]))
    np.testing.assert_array_equal(explain(predictor, samples[9], "PNEUMONIA").heatmap, expected)


def test_wrong_calls_raise_errors_in_sentences(predictor, samples, tmp_path):
    with pytest.raises(UsageError, match="expected the class NORMAL or PNEUMONIA, received 'COVID'"):
        explain(predictor, samples[0], "COVID")
    with pytest.raises(UnreadableImage, match="found nothing under this name"):
        explain(predictor, tmp_path / "missing.png")


class _OnePatchModel:
    """A network whose log odds of pneumonia are 8 m - 4, where m is the mean of one known square, 0 to 1."""

    class bundle:  # in place of Predictor.bundle
        spec = InputSpec()

        @staticmethod
        def run(inputs):
            odds = np.exp(8 * inputs[:, 60:90, 90:120, 0].mean(axis=(1, 2)).astype(np.float64) - 4)
            pneumonia = odds / (1 + odds)
            return {"probabilities": np.stack([1 - pneumonia, pneumonia], axis=1)}


def test_occlusion_finds_the_square_that_decides():
    pixels = np.full((150, 150), 100, np.uint8)
    pixels[60:90, 90:120] = 250
    radiograph = Radiograph(pixels)
    heatmap = occlusion_map(_OnePatchModel, radiograph, "PNEUMONIA")
    assert heatmap.shape == (150 // STRIDE, 150 // STRIDE)
    inside = heatmap[60 // STRIDE : 90 // STRIDE, 90 // STRIDE : 120 // STRIDE]
    assert inside.min() > 0
    assert heatmap.argmax() in [row * 10 + column for row in (4, 5) for column in (6, 7)]
    assert heatmap[:2].max() == 0
    assert occlusion_map(_OnePatchModel, radiograph, "NORMAL").max() == 0


def test_a_map_of_zeros_stays_zero():
    radiograph = Radiograph(np.full((80, 90), 50, np.uint8))
    assert not upsample_map(np.zeros((4, 4), np.float32), radiograph).any()


def test_a_peak_stays_where_it_was():
    small = np.zeros((4, 4), np.float32)
    small[1, 2] = 3.0
    large = upsample_map(small, Radiograph(np.zeros((400, 800), np.uint8)))
    row, column = np.unravel_index(large.argmax(), large.shape)
    assert abs(row - 150) < 10
    assert abs(column - 500) < 20
    assert large.max() == pytest.approx(1, abs=1e-3)
