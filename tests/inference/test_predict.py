"""Predictions come in order, do not depend on the other images, and are never stopped by a bad file."""

import hashlib
import itertools
import json
import os
import subprocess
import sys

import cv2
import numpy as np
import pytest

from pneumoscope import LABELS, load
from pneumoscope.errors import BundleError, UsageError
from pneumoscope.inference.bundle import DEFAULT_MODEL, PROBABILITIES, SUBTYPES, ZOO
from pneumoscope.inference.predict import Predictor
from pneumoscope.inference.prediction import FIELDS
from pneumoscope.inference.preprocess import InputSpec, preprocess
from pneumoscope.radiographs.images import read_radiograph
from pneumoscope.samples import sample_paths


@pytest.fixture(scope="module")
def predictor():
    return load()


def test_a_prediction_has_all_fields(predictor, samples):
    prediction = predictor.predict(samples[0])
    assert prediction.path == str(samples[0])
    assert prediction.label in LABELS
    assert 0 <= prediction.probability <= 1
    assert prediction.model == DEFAULT_MODEL == "mobilenet"
    assert prediction.gradcam.shape[0] == 2
    assert (prediction.gradcam >= 0).all()
    assert 0 <= prediction.bacterial <= 1
    assert 0 < prediction.prevalence < 1
    assert prediction.image_sha256 == hashlib.sha256(samples[0].read_bytes()).hexdigest()
    assert prediction.model_sha256 == hashlib.sha256((ZOO / "mobilenet.onnx").read_bytes()).hexdigest()
    assert tuple(prediction.to_dict()) == FIELDS


def test_bytes_have_a_hash_and_pixels_have_none(predictor, samples):
    data = samples[0].read_bytes()
    assert predictor.predict(data).image_sha256 == hashlib.sha256(data).hexdigest()
    assert predictor.predict(read_radiograph(data).pixels).image_sha256 == ""
    assert predictor.predict("missing.png").image_sha256 == ""
    assert predictor.predict(b"no image").image_sha256 == hashlib.sha256(b"no image").hexdigest()


@pytest.mark.parametrize("model", ["mobilenet", "lstm", "reference-mobilenet", "reference-lstm"])
def test_most_bundled_radiographs_get_their_label(model, samples):
    """Finds a swapped class order or a wrong scale. Not a measurement: the models were trained on most of them."""
    predictions = list(load(model).predict_many(samples))
    correct = sum(p.label == path.parent.name for p, path in zip(predictions, samples, strict=True))
    assert correct >= 0.75 * len(samples)


@pytest.mark.parametrize(("name", "tolerance"), [("mobilenet", 0.01), ("reference-mobilenet", 0)])
def test_path_bytes_and_array_agree(name, tolerance, samples, tmp_path):
    """The default model decodes a JPEG at a smaller scale, but not an array or a PNG: hence the tolerance."""
    predictor = load(name)
    by_path = predictor.predict(samples[3])
    assert predictor.predict(samples[3].read_bytes()).probability == by_path.probability
    pixels = read_radiograph(samples[3]).pixels
    assert predictor.predict(pixels).probability == pytest.approx(by_path.probability, abs=tolerance)
    cv2.imwrite(str(tmp_path / "whole.png"), pixels)
    assert predictor.predict(tmp_path / "whole.png").probability == predictor.predict(pixels).probability
    assert predictor.predict(np.dstack([pixels] * 3)).probability == pytest.approx(by_path.probability, abs=0.01)


def test_name_order_and_other_images_do_not_matter(predictor, samples, tmp_path):
    alone = [predictor.predict(path).probability for path in samples]
    together = [p.probability for p in predictor.predict_many(reversed(samples))]
    assert together[::-1] == alone
    renamed = tmp_path / "person1_bacteria_1.jpeg"
    renamed.write_bytes(samples[0].read_bytes())
    assert predictor.predict(renamed).probability == alone[0]


def test_a_bad_file_has_an_error_in_its_place(predictor, samples, tmp_path):
    text = tmp_path / "text.jpeg"
    text.write_text("not an image")
    sources = [samples[0], text, np.zeros((100, 100), np.uint8), samples[1]]
    predictions = list(predictor.predict_many(sources))
    assert [p.judged for p in predictions] == [True, False, False, True]
    assert [p.status for p in predictions[1:3]] == ["error", "rejected"]
    assert predictions[1].path == str(text)
    assert predictions[1].label is None
    assert predictions[1].probability is None
    assert "expected a JPEG, PNG, TIFF, BMP, WebP or DICOM" in predictions[1].reason
    assert "blank" in predictions[2].reason


def test_an_endless_source_is_read_only_as_far_as_needed(predictor, samples):
    images_read = itertools.count()
    sources = (samples[next(images_read) % len(samples)] for _ in itertools.count())
    predictions = predictor.predict_many(sources)
    for _ in range(20):
        next(predictions)
    predictions.close()
    assert next(images_read) < 120


def test_the_threshold_changes_the_verdict_not_the_probability(samples):
    low, high = load(threshold=0.0).predict(samples[0]), load(threshold=1.0).predict(samples[0])
    assert low.probability == high.probability
    assert (low.label, high.label) == ("PNEUMONIA", "NORMAL")
    unnamed = r"from 0 to 1 \(reference-mobilenet has no named ones\), received"
    with pytest.raises(UsageError, match=rf"{unnamed} 1\.5"):
        load("reference-mobilenet", threshold=1.5)
    for name in ("0.5", "screening"):
        with pytest.raises(UsageError, match=rf"{unnamed} '{name}'"):
            load("reference-mobilenet", threshold=name)
    with pytest.raises(UsageError, match="from 0 to 1, or default or screening, received 'none'"):
        load(threshold="none")


def test_predict_many_refuses_a_single_path(predictor, samples):
    for source in (str(samples[0]), samples[0], b"bytes"):
        with pytest.raises(UsageError, match="expected several images"):
            predictor.predict_many(source)


def test_the_band_around_the_threshold_is_uncertain(predictor, samples, monkeypatch):
    probability = predictor.predict(samples[0]).probability
    monkeypatch.setattr(predictor, "uncertain", (probability - 1e-6, probability + 1e-6))
    prediction = predictor.predict(samples[0])
    assert prediction.status == "uncertain"
    assert prediction.label is not None
    assert "too close to the operating point" in prediction.reason


def test_the_band_moves_with_the_threshold(predictor):
    """Both shift by the same step of the log odds: the band stays within 0 to 1 and is narrow at a low threshold."""
    ends = np.array(predictor.bundle.uncertain)
    own = predictor.bundle.threshold
    odds = ends / (1 - ends) * (0.4 / 0.6) / (own / (1 - own))
    assert load(threshold=0.4).uncertain == pytest.approx(tuple(odds / (1 + odds)))
    assert load(threshold=own).uncertain == predictor.bundle.uncertain
    low, high = load(threshold=0.01).uncertain
    assert 0 < low < 0.01 < high < 0.05
    assert load(threshold=0.0).uncertain == pytest.approx((0, 0))
    assert load(threshold=1.0).uncertain == pytest.approx((1, 1))


def test_the_error_for_an_unknown_model_names_the_known_models():
    with pytest.raises(
        BundleError, match=r"one of lstm, mobilenet, reference-lstm, reference-mobilenet, found no 'resnet'"
    ):
        load("resnet")


class GivenBundle:
    """Replaces a model file with sub-types: the outputs are given, in the order of the bundled radiographs."""

    name, sha256, threshold, uncertain, spec = "given", "", 0.5, (0.5, 0.5), InputSpec(height=16, width=16)
    operating_points, prevalence = {"default": 0.5}, None

    def __init__(self, probability, bacterial):
        self.given = list(zip(probability, bacterial, strict=True))
        inputs = (preprocess(path, self.spec) for path in sample_paths()[: len(self.given)])
        self.number = {array.tobytes(): number for number, array in enumerate(inputs)}

    def run(self, inputs):  # called from several threads, with batches in any order
        given = [self.given[self.number[array.tobytes()]] for array in inputs]
        outputs = {PROBABILITIES: [(1 - p, p) for p, _ in given], SUBTYPES: [(b, 1 - b) for _, b in given]}
        return {name: np.array(value, np.float32) for name, value in outputs.items()}


def test_each_radiograph_gets_its_own_probability_of_bacterial(samples, tmp_path):
    """Across batches and after an unreadable file; for normal images too, since it is a conditional probability."""
    (tmp_path / "text.jpeg").write_text("not an image")
    shares = [number / 32 for number in range(20)]
    sources = [*samples[:3], tmp_path / "text.jpeg", *samples[3:20]]
    predictions = list(Predictor(GivenBundle([0.2, 0.9] * 10, shares)).predict_many(sources))
    assert predictions[3].bacterial is None
    assert [p.bacterial for p in predictions if p.judged] == shares
    assert [p.label for p in predictions if p.judged] == ["NORMAL", "PNEUMONIA"] * 10
    assert all(p.gradcam is None for p in predictions)
    assert predictions[0].to_dict()["bacterial"] == 0.0
    assert json.loads(json.dumps(predictions[5].to_dict()))["bacterial"] == shares[4]


class CalibratedBundle(GivenBundle):
    operating_points, prevalence, uncertain = {"balanced": 0.5, "screening": 0.1}, 0.5, (0.4, 0.6)


def calibrated(probability, *options):
    return Predictor(CalibratedBundle(probability, probability), *options)


def test_a_prevalence_changes_probabilities_by_bayes_rule_and_no_verdict(samples):
    """If the prevalence falls from 1/2 to 1/10, all odds are divided by nine."""
    probabilities = [0.05, 0.3, 0.5, 0.59, 0.9, 0.999]
    plain, rare = (list(calibrated(probabilities, None, p).predict_many(samples[:6])) for p in (None, 0.1))
    for before, after in zip(plain, rare, strict=True):
        odds = before.probability / (1 - before.probability) / 9
        assert after.probability == pytest.approx(odds / (1 + odds), abs=1e-6)
        assert (after.label, after.status) == (before.label, before.status)
    assert rare[0].threshold == pytest.approx(0.1)
    assert [p.label for p in plain] == ["NORMAL"] * 2 + ["PNEUMONIA"] * 4
    same = list(calibrated(probabilities, None, 0.5).predict_many(samples[:6]))
    assert [p.probability for p in same] == [p.probability for p in plain]


def test_a_predictor_has_the_prevalence_that_it_assumes(predictor):
    assert calibrated([]).prevalence == 0.5
    assert calibrated([], None, 0.1).prevalence == 0.1
    assert load("reference-mobilenet").prevalence is None  # a model that was not calibrated
    assert 0 < predictor.prevalence < 1


def test_an_operating_point_can_be_given_by_name(samples):
    assert calibrated([], "screening").threshold == 0.1
    assert calibrated([], "screening").uncertain == pytest.approx((2 / 29, 1 / 7))  # odds of 2/3 and 3/2 over 9
    assert calibrated([], "screening", 0.1).threshold == pytest.approx(1 / 82)  # odds of 1/9 become 1/81
    assert calibrated([], 0.3, 0.1).threshold == 0.3  # a number does not shift
    with pytest.raises(UsageError, match="from 0 to 1, or balanced or screening, received 'balance'"):
        calibrated([], "balance")


@pytest.mark.parametrize("prevalence", [0, 1, -0.1, 1.1, float("nan"), "0.1"])
def test_a_prevalence_out_of_range_is_refused(prevalence):
    with pytest.raises(UsageError, match="expected a prevalence between 0 and 1, received"):
        calibrated([], None, prevalence)


def test_an_uncalibrated_model_takes_no_prevalence(predictor):
    with pytest.raises(UsageError, match="expected a calibrated model with a prevalence, reference-mob"):
        load("reference-mobilenet", prevalence=0.1)


def test_judging_an_image_writes_no_file_and_opens_no_connection(samples, tmp_path):
    """ONNX Runtime would write and send an identifier, unless this is disabled before its import."""
    for name in ("home", "tmp", "cache"):
        (tmp_path / name).mkdir()
    kept = {name: value for name, value in os.environ.items() if name not in ("CI", "ORT_DISABLE_TELEMETRY")}
    folders = {"HOME": tmp_path / "home", "TMPDIR": tmp_path / "tmp", "XDG_CACHE_HOME": tmp_path / "cache"}
    code = (
        "import sys, os; from pneumoscope import load; print(load().predict(sys.argv[1]).label)\n"
        "links = [os.readlink(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd') if int(fd) > 3]\n"
        "print([link for link in links if link.startswith('socket:')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, samples[0]],
        env={**kept, **{name: str(folder) for name, folder in folders.items()}},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == ["NORMAL", "[]"]
    assert [path for path in tmp_path.rglob("*") if not path.is_dir()] == []
