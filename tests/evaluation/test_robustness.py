"""Shifted radiographs: the same for every model, and each shift makes another picture."""

from dataclasses import replace

import numpy as np
import pytest

from pneumoscope.data import Manifest, read_dataset
from pneumoscope.evaluation import evaluate_metrics, metrics
from pneumoscope.evaluation.robustness import SHIFTS, measure_shifts, summarise, with_intervals
from pneumoscope.inference.predict import Predictor, load
from pneumoscope.inference.preprocess import InputSpec, resize
from pneumoscope.labels import LABELS, NORMAL, PNEUMONIA, label_index
from pneumoscope.radiographs.images import Radiograph, read_radiograph

RANDOM = {"tilted", "other scanner", "noise", "marks"}


def shifted(name, pixels, label=NORMAL, seed=0):
    return SHIFTS[name](pixels, label, np.random.default_rng(seed))


@pytest.mark.parametrize("name", SHIFTS)
@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize("shape", [(80, 100), (301, 64), (997, 1391)])
def test_a_shifted_radiograph_is_a_radiograph(name, label, shape):
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    before = pixels.copy()
    picture = shifted(name, pixels, label)
    assert (picture.ndim, picture.dtype) == (2, np.uint8)
    assert min(picture.shape) >= 48
    np.testing.assert_array_equal(pixels, before)  # the next shift uses it again


@pytest.mark.parametrize("name", SHIFTS)
def test_the_generator_determines_a_shift(name, samples):
    pixels = read_radiograph(samples[3]).pixels
    np.testing.assert_array_equal(shifted(name, pixels, seed=5), shifted(name, pixels, seed=5))
    if name in RANDOM:
        assert not np.array_equal(shifted(name, pixels, seed=5), shifted(name, pixels, seed=6))
    else:
        np.testing.assert_array_equal(shifted(name, pixels, seed=5), shifted(name, pixels, seed=6))


@pytest.mark.parametrize("name", sorted(set(SHIFTS) - {"none"}))
def test_every_shift_but_none_makes_another_picture(name, samples):
    pixels = read_radiograph(samples[3]).pixels
    picture = shifted(name, pixels)
    assert picture.shape != pixels.shape or not np.array_equal(picture, pixels)
    np.testing.assert_array_equal(shifted("none", pixels), pixels)


@pytest.mark.parametrize("name", SHIFTS)
def test_only_the_reversed_ratio_uses_the_label(name, samples):
    pixels = read_radiograph(samples[3]).pixels
    normal, pneumonia = (shifted(name, pixels, label) for label in LABELS)
    assert (normal.shape != pneumonia.shape) == (name == "ratio turned round")
    if name != "ratio turned round":
        np.testing.assert_array_equal(normal, pneumonia)


@pytest.mark.parametrize("name", ["tilted", "other scanner", "noise", "marks"])
def test_random_shifts_are_applied_to_a_small_picture(name, samples):
    """At one size a random change means the same for every radiograph, and it is faster."""
    pixels = read_radiograph(samples[3]).pixels
    small = resize(Radiograph(pixels), InputSpec(height=224, width=224, channels=1))
    assert min(pixels.shape) > 224
    assert shifted(name, pixels, seed=5).shape == (224, 224)
    np.testing.assert_array_equal(shifted(name, pixels, seed=5), shifted(name, small, seed=5))


def test_the_ratio_is_reversed():
    """In the Kermany data normals are narrower than pneumonias. Here they become wider."""
    pixels = np.random.default_rng(0).integers(0, 256, (400, 400), dtype=np.uint8)
    assert shifted("ratio turned round", pixels, NORMAL).shape == (300, 400)
    assert shifted("ratio turned round", pixels, PNEUMONIA).shape == (400, 300)
    np.testing.assert_array_equal(shifted("all wider", pixels), pixels[50:350])
    np.testing.assert_array_equal(shifted("all narrower", pixels), pixels[:, 50:350])
    np.testing.assert_array_equal(shifted("closer crop", pixels), pixels[40:360, 40:360])


def test_a_frame_surrounds_the_whole_picture():
    pixels = np.full((100, 200), 77, np.uint8)
    framed = shifted("black frame", pixels)
    assert framed.shape == (120, 240)
    np.testing.assert_array_equal(framed[10:110, 20:220], pixels)
    assert framed.sum() == pixels.sum()


def test_exposures_by_hand():
    pixels = np.array([[0, 51, 102, 153, 204, 255]], np.uint8).repeat(6, axis=0)  # 0, 0.2 ... 1
    assert shifted("flat contrast", pixels)[0].tolist() == [64, 89, 115, 140, 166, 191]  # 0.25 + 0.5 x
    assert shifted("hard contrast", pixels)[0].tolist() == [0, 5, 87, 168, 250, 255]  # 1.6 x - 0.3
    assert shifted("darker", pixels)[0].tolist() == [round(255 * (i / 5) ** 1.7) for i in range(6)]
    assert shifted("brighter", pixels)[0].tolist() == [round(255 * (i / 5) ** 0.6) for i in range(6)]


# Measuring


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return load("reference-mobilenet")


@pytest.fixture(scope="module")
def manifest(samples_folder) -> Manifest:
    return read_dataset(samples_folder)


@pytest.fixture(scope="module")
def records(manifest):
    """Seven radiographs of both classes."""
    return manifest.records[4:11]


@pytest.fixture(scope="module")
def measured(predictor, manifest, records):
    return measure_shifts(predictor, manifest, records)


def test_no_shift_is_the_prediction(measured, predictor, manifest, records):
    expected = [
        prediction.probability for prediction in predictor.predict_many([manifest.path(record) for record in records])
    ]
    np.testing.assert_allclose(measured["none"]["probability"], expected, atol=2e-6)  # six digits
    assert list(measured) == list(SHIFTS)


def test_every_shift_moves_the_probabilities(measured):
    """A shift without effect on all of these radiographs would measure nothing."""
    plain = np.array(measured["none"]["probability"])
    for name, found in measured.items():
        assert len(found["probability"]) == len(plain)
        if name != "none":
            assert np.abs(np.array(found["probability"]) - plain).max() > 1e-4, name


def test_the_estimates_are_those_of_the_probabilities(measured, predictor, records):
    labels = np.array([label_index(record.label) for record in records])
    for found in measured.values():
        assert found == summarise(labels, np.array(found["probability"]), predictor.threshold)
        assert found["roc_auc"] == metrics.roc_auc(labels, np.array(found["probability"]))


def test_neither_order_nor_batch_matters(measured, predictor, manifest, records, monkeypatch):
    monkeypatch.setattr("pneumoscope.evaluation.robustness._BATCH", 2)
    again = measure_shifts(predictor, manifest, records[::-1])
    for name, found in again.items():
        np.testing.assert_allclose(found["probability"][::-1], measured[name]["probability"], atol=2e-6, err_msg=name)


def test_the_random_changes_depend_on_the_name_not_on_the_folder(measured, predictor, manifest, records):
    moved = tuple(replace(record, path=str(manifest.path(record))) for record in records[:2])
    assert [record.key for record in moved] == [record.key for record in records[:2]]
    again = measure_shifts(predictor, Manifest(manifest.root / "elsewhere", moved), moved)
    for name, found in again.items():
        np.testing.assert_allclose(found["probability"], measured[name]["probability"][:2], atol=2e-6, err_msg=name)
    renamed = tuple(replace(record, path=record.path, split="train") for record in records[:2])
    other = measure_shifts(predictor, manifest, renamed)
    for name in SHIFTS:
        same = np.allclose(other[name]["probability"], measured[name]["probability"][:2], atol=2e-6)
        assert same == (name not in RANDOM), name


def test_progress_wraps_the_batches(predictor, manifest, records):
    seen = []

    def progress(items, total, what):
        seen.append(what)
        yield from items

    measure_shifts(predictor, manifest, records[:1], progress)
    assert seen == ["shifted radiographs"]


def test_a_summary_by_hand():
    labels = np.array([0, 0, 1, 1, 1])
    found = summarise(labels, np.array([0.1, 0.6, 0.5, 0.9, 0.2]), 0.5)
    assert found["accuracy"] == pytest.approx(3 / 5)
    assert found["sensitivity"] == pytest.approx(2 / 3)
    assert found["specificity"] == pytest.approx(1 / 2)
    assert found["balanced_accuracy"] == pytest.approx(7 / 12)
    assert found["roc_auc"] == pytest.approx(4 / 6)
    assert found["probability"] == [0.1, 0.6, 0.5, 0.9, 0.2]


def test_one_class_alone_has_no_balanced_accuracy():
    found = summarise(np.array([1, 1]), np.array([0.4, 1 + 1e-9]), 0.5)
    assert (found["sensitivity"], found["specificity"], found["balanced_accuracy"]) == (0.5, None, None)
    assert found["roc_auc"] is None
    assert found["probability"] == [0.4, 1.0]


def test_intervals_are_those_of_an_evaluation_and_contain_their_estimates():
    rng = np.random.default_rng(0)
    labels = np.arange(200) % 2
    probability = np.clip(0.3 * labels + rng.random(200) * 0.7, 0, 1)
    patients = np.array([f"{label} {n // 2}" for n, label in enumerate(labels)])
    found = {"none": summarise(labels, probability, 0.5), "noise": summarise(labels, probability[::-1], 0.5)}
    table = with_intervals(found, labels, patients)
    assert list(table) == ["none", "noise"]
    for name, shift in table.items():
        assert shift["roc_auc_low"] < shift["roc_auc"] < shift["roc_auc_high"]
        assert shift["roc_auc"] == found[name]["roc_auc"]
        assert "probability" not in shift
    whole = evaluate_metrics(labels, probability, 0.5, patients)["roc_auc"]
    assert table["none"]["roc_auc_low"] == pytest.approx(whole["low"], abs=1e-6)
