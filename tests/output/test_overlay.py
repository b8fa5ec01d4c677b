"""Overlays: the radiograph stays visible, any size can be drawn, and a file tells which prediction it belongs to."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
from builders.given_models import GivenMaps

from pneumoscope import load
from pneumoscope.errors import UsageError
from pneumoscope.inference import Predictor
from pneumoscope.inference.explain import explain
from pneumoscope.output.overlay import draw_overlay, write_overlay
from pneumoscope.radiographs.images import read_radiograph


def test_another_file_ending_is_refused(samples, tmp_path):
    with pytest.raises(UsageError, match=r"ending in \.png, \.jpg or \.jpeg"):
        write_overlay(explain(load("reference-lstm"), samples[0]), tmp_path / "overlay.tiff")


def test_an_overlay_does_not_change_the_radiograph_where_there_is_no_evidence(samples):
    explanation = explain(load(), samples[9], "PNEUMONIA")
    picture = draw_overlay(explanation)
    height, width = explanation.heatmap.shape
    assert picture.dtype == np.uint8
    assert picture.shape[0] > height
    assert picture.shape[1] > width
    no_evidence = explanation.heatmap == 0
    assert no_evidence.any()
    gray = explanation.radiograph.pixels[no_evidence]
    np.testing.assert_array_equal(picture[:height, :width][no_evidence], np.repeat(gray[:, None], 3, axis=1))
    strongest = np.unravel_index(explanation.heatmap.argmax(), explanation.heatmap.shape)
    red, _, blue = map(int, picture[strongest])
    assert red > blue, "strong evidence has warm colours"


@pytest.mark.parametrize("size", [(64, 64), (64, 250), (1500, 700)])
def test_any_size_can_be_drawn(size, samples, tmp_path):
    pixels = cv2.resize(read_radiograph(samples[0]).pixels, size[::-1], interpolation=cv2.INTER_AREA)
    path = write_overlay(explain(load(), pixels), tmp_path / "sub" / "overlay.png")
    drawn = cv2.imread(str(path))
    assert drawn.shape[0] > size[0]
    assert drawn.shape[1] > size[1]


def test_the_lung_field_is_outlined_and_named_in_the_caption(samples):
    explanation = explain(Predictor(GivenMaps()), samples[0])  # the left half of the radiograph is lung
    height, width = explanation.heatmap.shape
    with_lungs, without = draw_overlay(explanation), draw_overlay(replace(explanation, lungs=None))
    changed = (with_lungs[:height, :width] != without[:height, :width]).any(axis=2)
    rows, columns = np.nonzero(changed)
    middle = columns[(rows > height // 4) & (rows < 3 * height // 4) & (columns > 3)]
    assert abs(np.median(middle) - width / 2) < 0.02 * width
    assert not changed[height // 2, width // 2 + width // 10 : width].any()
    assert not changed[height // 2, width // 10 : width // 2 - width // 10].any()
    assert with_lungs.shape[0] < without.shape[0], "the caption is longer, so its letters are smaller"
