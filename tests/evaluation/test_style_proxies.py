"""Proxies of the style: a model that reads the console falls with the style turned round, and not with its control."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from pneumoscope.data import Manifest, Record, read_dataset
from pneumoscope.data.style import StylePartners
from pneumoscope.evaluation import (
    against_style,
    measure_style_shifts,
    metrics,
    shortcut_scores,
    style_proxies,
    style_scores,
)
from pneumoscope.evaluation.shortcut_scores import SIZE, describe_picture, style_features
from pneumoscope.evaluation.style_proxies import OWN, TURNED, move_towards, style_difference
from pneumoscope.inference import PROBABILITIES, InputSpec, Predictor
from pneumoscope.labels import LABELS, NORMAL, PNEUMONIA, label_index

NORMALS, PNEUMONIAS = 15, 25


class ConsoleReader:
    """Stands for a model file that looks at nothing but the contrast of the whole picture."""

    name, sha256, threshold, uncertain = "console", "ab" * 32, 0.5, (0.5, 0.5)
    operating_points, prevalence = {"default": 0.5}, None
    spec = InputSpec(height=64, width=64)

    def run(self, inputs):
        contrast = inputs.std(axis=(1, 2, 3))
        pneumonia = 1 / (1 + np.exp(200 * (contrast - 0.09)))
        return {PROBABILITIES: np.stack([1 - pneumonia, pneumonia], axis=1).astype(np.float32)}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Manifest:
    """Normals from a console with hard contrast, pneumonias from one with soft contrast; the same shapes."""
    root, rng, records = tmp_path_factory.mktemp("consoles"), np.random.default_rng(0), []
    for number in range(NORMALS + PNEUMONIAS):
        label = NORMAL if number < NORMALS else PNEUMONIA
        contrast = rng.uniform(0.8, 1.0) if label == NORMAL else rng.uniform(0.2, 0.4)
        coarse = np.kron(rng.random((10, 10)), np.ones((24, 24)))[:224, :224]
        pixels = (128 + 110 * contrast * (coarse - 0.5) + rng.normal(0, 6 * contrast, (224, 224))).clip(0, 255)
        Image.fromarray(pixels.astype(np.uint8)).save(root / f"{number}.png")
        records.append(Record(f"{number}.png", label, "", f"patient{number}", f"patient{number}"))
    return Manifest(root, tuple(records))


@pytest.fixture(scope="module")
def scores(manifest) -> np.ndarray:
    found = style_scores(manifest, manifest.records)
    assert found is not None
    return found


def test_a_console_reader_falls_with_the_style_turned_round_and_not_with_its_control(manifest):
    shifts = measure_style_shifts(Predictor(ConsoleReader()), manifest, manifest.records)
    assert shifts[OWN]["roc_auc"] > 0.95
    assert shifts[TURNED]["roc_auc"] < 0.3
    assert shifts[TURNED]["log_loss"] > shifts[OWN]["log_loss"]
    labels = np.array([label_index(record.label) for record in manifest.records])
    for shift in shifts.values():
        assert shift["roc_auc"] == metrics.roc_auc(labels, np.array(shift["probability"]))


def test_every_model_gets_the_same_pictures(manifest):
    seen = []
    for _ in range(2):
        reader = ConsoleReader()
        reader.run = lambda inputs, run=reader.run: (seen.append(inputs.tobytes()), run(inputs))[1]
        measure_style_shifts(Predictor(reader), manifest, manifest.records)
    half = len(seen) // 2
    assert seen[:half] == seen[half:]


def test_turned_round_the_partner_is_of_the_other_label_and_in_the_control_of_its_own():
    """Flat images, one gray for each label: the corners show whose they are."""
    labels = np.repeat([0, 1], 6)
    images = np.where(labels[:, None, None] == 0, 40, 200).astype(np.uint8) * np.ones((1, 224, 224), np.uint8)
    partners = StylePartners.measure(images, labels, SIZE)
    for row in range(len(labels)):
        for turned in (True, False):
            picture = move_towards(partners, row, labels, turned, seed=row)
            wanted = 40 if labels[row] == int(turned) else 200
            assert [int(picture[tip]) for tip in ((0, 0), (0, -1), (-1, 0), (-1, -1))] == [wanted] * 4


def test_one_label_alone_lends_no_style(manifest):
    assert measure_style_shifts(Predictor(ConsoleReader()), manifest, manifest.records[:3]) == {}


def test_the_score_separates_consoles(manifest, scores):
    labels = np.array([label_index(record.label) for record in manifest.records])
    assert metrics.roc_auc(labels, scores) > 0.95
    assert ((scores >= 0) & (scores <= 1)).all()


def test_the_score_of_a_patient_comes_from_a_regression_that_has_not_seen_the_patient(manifest, monkeypatch):
    """Two images of each patient; every fit and every prediction is watched."""
    doubled = tuple(replace(record, group=f"p{number // 2}") for number, record in enumerate(manifest.records[1:]))
    groups = np.array([record.group for record in doubled])
    features = {style_features(describe_picture(image)).tobytes(): group for image, group in zip(
        style_proxies._read_small(manifest, doubled), groups, strict=True)}  # fmt: skip
    fit, judged = shortcut_scores._fit_regression, []

    def watched(known, labels):
        regression, trained = fit(known, labels), {features[row.tobytes()] for row in known}

        class Watched:
            def predict_proba(self, unseen):
                found = [features[row.tobytes()] for row in unseen]
                assert not trained & set(found)
                judged.extend(found)
                return regression.predict_proba(unseen)

        return Watched()

    monkeypatch.setattr(shortcut_scores, "_fit_regression", watched)
    assert style_scores(manifest, doubled) is not None
    assert sorted(judged) == sorted(groups.tolist())


def test_too_few_patients_have_no_score(manifest):
    one = tuple(replace(record, group="one") for record in manifest.records[:NORMALS])
    assert style_scores(manifest, [*one, *manifest.records[NORMALS:]]) is None
    assert style_scores(manifest, manifest.records[:NORMALS]) is None


def test_the_difference_of_the_styles_is_that_of_the_balanced_accuracies():
    labels = np.repeat([0, 1], [40, 160])
    rng = np.random.default_rng(0)
    turned, own = rng.random(200), np.where(rng.random(200) < 0.9, labels, 1 - labels).astype(float)
    found = style_difference(labels, turned, own, np.arange(200) // 2, resamples=300)
    right = [(probability >= 0.5) == labels for probability in (own, turned)]
    balanced = [(one[labels == 0].mean() + one[labels == 1].mean()) / 2 for one in right]
    assert found["value"] == pytest.approx(balanced[0] - balanced[1])
    assert found["low"] < found["value"] < found["high"]
    assert style_difference(labels, own, own, np.arange(200), resamples=20)["value"] == 0


def style_row(path, label, probability):
    return {"path": path, "label": label, "patient": path, "probability": probability}


def test_figures_against_the_style_are_those_of_images_with_the_style_of_the_other_label():
    rows, known = [], {}
    for label in LABELS:
        for number in range(30):
            path = f"{label}{number}"
            against = number < 12
            known[path] = 0.9 if (label == PNEUMONIA) != against else 0.1
            rows.append(style_row(path, label, known[path]))  # the model is the style
    found = against_style(rows, known)
    assert (found["normal"], found["pneumonia"], found["roc_auc"]["value"]) == (12, 12, 0.0)
    assert found["log_loss"] == pytest.approx(-np.log(0.1))
    assert against_style(rows, {}) is None
    assert against_style([{**row, "probability": None} for row in rows], known) is None


def test_the_bundled_radiographs_can_be_measured(samples_folder):
    manifest = read_dataset(samples_folder)
    shifts = measure_style_shifts(Predictor(ConsoleReader()), manifest, manifest.records)
    assert set(shifts) == {TURNED, OWN}
    assert len(shifts[TURNED]["probability"]) == 24
