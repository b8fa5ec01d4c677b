"""Corruptions against Pillow and by hand, and a model measured on all of them."""

import numpy as np
import pytest
from builders.given_models import GivenMaps
from PIL import Image, ImageEnhance

from pneumoscope.evaluation.corruptions import CORRUPTIONS, KINDS, LEVELS, name_of
from pneumoscope.evaluation.robustness import SHIFTS
from pneumoscope.evaluation.robustness_table import measure_robustness
from pneumoscope.inference import InputSpec, Predictor, resize
from pneumoscope.radiographs import read_radiograph

SIZE = InputSpec(height=224, width=224, channels=1)


@pytest.fixture(scope="module")
def picture(samples):
    return resize(read_radiograph(samples[9]), SIZE)


def corrupted(picture, kind, level, seed=0):
    return CORRUPTIONS[name_of(kind, level)](picture, "NORMAL", np.random.default_rng(seed))


@pytest.mark.parametrize("kind", KINDS)
def test_each_level_changes_the_picture_more_than_the_one_before(picture, kind):
    changes = [np.abs(corrupted(picture, kind, level).astype(int) - picture).mean() for level in LEVELS]
    assert changes[0] > 0
    assert changes == sorted(changes)


def test_brightness_contrast_and_pixels_are_those_of_pillow(picture):
    image = Image.fromarray(picture)
    for kind, enhancer in (("brightness", ImageEnhance.Brightness), ("contrast", ImageEnhance.Contrast)):
        for way in ("up", "down"):
            name = f"{kind} {way}"
            wanted = np.asarray(enhancer(image).enhance(KINDS[name][1][2])).astype(int)
            assert np.abs(corrupted(picture, name, 3) - wanted).max() <= 1
    small = image.resize((112, 112), Image.Resampling.BOX).resize((224, 224), Image.Resampling.BOX)
    assert np.abs(corrupted(picture, "pixelate", 4).astype(int) - np.asarray(small)).max() <= 1


def test_noise_has_the_deviation_and_the_share_of_its_level():
    gray = np.full((224, 224), 128, np.uint8)
    rng = np.random.default_rng(0)
    for kind, deviation in (
        ("Gaussian noise", 0.06 * 255), ("speckle noise", 0.10 * 128), ("shot noise", np.sqrt(128 / 255 / 150) * 255),
    ):  # fmt: skip
        function, parameters = KINDS[kind]
        assert function(gray, parameters[2], rng).std() == pytest.approx(deviation, rel=0.05)
    function, parameters = KINDS["impulse noise"]
    assert (function(gray, parameters[4], rng) != 128).mean() == pytest.approx(0.02, rel=0.1)


def test_every_model_sees_the_same_picture(picture):
    assert np.array_equal(corrupted(picture, "shot noise", 5), corrupted(picture, "shot noise", 5))
    assert not np.array_equal(corrupted(picture, "shot noise", 5), corrupted(picture, "shot noise", 5, seed=1))


class BrightImages(GivenMaps):
    """Calls bright images PNEUMONIA."""

    def run(self, inputs):
        pneumonia = inputs.mean(axis=(1, 2, 3)).clip(0, 1)
        return {"probabilities": np.stack([1 - pneumonia, pneumonia], axis=1).astype(np.float32)}


def test_a_model_is_measured_on_every_change(small_samples):
    found = measure_robustness(Predictor(BrightImages()), small_samples, small_samples.records)
    assert set(found["shifts"]) == set(SHIFTS)
    assert set(found["corruptions"]) == set(CORRUPTIONS)
    assert set(found["style"]) == {"style turned round", "style of its own class"}
    sensitivity = [found["corruptions"][name_of("brightness up", level)]["sensitivity"] for level in LEVELS]
    assert sensitivity == sorted(sensitivity)
    assert sensitivity[-1] > found["shifts"]["none"]["sensitivity"]
