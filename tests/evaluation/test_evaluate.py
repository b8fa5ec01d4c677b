"""Evaluation of a model on labelled radiographs: what is counted, and what is written."""

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from builders.given_models import GivenBundle, given, probabilities

from pneumoscope import RESEARCH_USE_ONLY, __version__
from pneumoscope.data import Manifest, Record, read_dataset
from pneumoscope.errors import DatasetError
from pneumoscope.evaluation import evaluate_metrics, evaluate_model, metrics, read_report, subtype_auc
from pneumoscope.inference import Predictor, load, shipped_models
from pneumoscope.labels import BACTERIAL, LABELS, NORMAL, PNEUMONIA, label_index

pytestmark = pytest.mark.usefixtures("batches_in_order")


def with_a_bad_file(manifest: Manifest, folder: Path) -> tuple[Manifest, list[Record]]:
    """The samples, with a text file in the middle."""
    (folder / "text.jpeg").write_text("not an image")
    records = [replace(record, path=str(manifest.path(record))) for record in manifest.records]
    records.insert(5, Record("text.jpeg", PNEUMONIA, patient="text", group="text"))
    return Manifest(folder, tuple(records)), records


def test_the_report_contains_the_metrics(small_samples):
    probability = probabilities(small_samples.records)
    report = evaluate_model(given(probability), small_samples, small_samples.records, "all", seed=3, resamples=50)
    labels = np.array([label_index(record.label) for record in small_samples.records])
    exact = probability.astype(np.float32).astype(float)  # the digits of a model's output
    groups = [record.group for record in small_samples.records]
    assert report["metrics"] == evaluate_metrics(labels, exact, 0.5, groups, seed=3, resamples=50)
    assert report["confusion_matrix"] == metrics.confusion_matrix(labels, exact, 0.5).tolist()
    assert report["curves"]["calibration"] == metrics.calibration_curve(labels, exact)
    assert report["failed"] == []


def test_the_report_describes_model_and_data(small_samples):
    predictor = given(probabilities(small_samples.records), threshold=0.7)
    report = evaluate_model(
        predictor, small_samples, small_samples.records, "validation", fingerprint="f" * 64, resamples=20
    )
    assert report["version"] == __version__
    assert report["notice"] == RESEARCH_USE_ONLY
    model = {"name": "given", "sha256": "ab" * 32, "threshold": 0.7, "prevalence": None}  # those that were used
    assert report["model"] == model
    data = report["data"]
    assert (data["root"], data["split"], data["split_fingerprint"]) == (str(small_samples.root), "validation", "f" * 64)
    assert data["labels"] == {NORMAL: 8, PNEUMONIA: 16}
    assert report["images"] == data["images"] == report["judged"]["images"] == 24
    # two of the samples are of one patient
    assert (
        data["patients"]
        == report["judged"]["patients"]
        == len({record.patient for record in small_samples.records})
        == 23
    )


def test_the_report_contains_the_assumed_prevalence(small_samples, tmp_path):
    """From one in two to one in five the odds are divided by four."""
    reports = []
    for prevalence, expected in ((None, 0.5), (0.2, 0.2)):
        bundle = GivenBundle(probabilities(small_samples.records))
        bundle.prevalence = 0.5
        predictor = Predictor(bundle, prevalence=prevalence)
        out = tmp_path / str(prevalence)
        report = evaluate_model(predictor, small_samples, small_samples.records, "all", out=out, resamples=20)
        assert report["model"]["prevalence"] == expected
        assert read_report(out)[0] == report
        reports.append(report)
    assert reports[1]["model"]["threshold"] == pytest.approx(0.2)
    assert reports[0]["confusion_matrix"] == reports[1]["confusion_matrix"]


def test_patients_who_share_a_picture_count_as_one(small_samples, tmp_path):
    records = [
        replace(record, group="one" if index < 3 else record.group)
        for index, record in enumerate(small_samples.records)
    ]
    report = evaluate_model(given(probabilities(records)), small_samples, records, "all", out=tmp_path, resamples=20)
    assert report["data"]["patients"] == 21
    assert [row["patient"] for row in read_report(tmp_path)[1]][:3] == ["one"] * 3


def test_files_that_fail_are_listed_and_not_counted(small_samples, tmp_path):
    with_bad_file, records = with_a_bad_file(small_samples, tmp_path)
    good = probabilities(small_samples.records)
    report = evaluate_model(given(good), with_bad_file, records, "all", out=tmp_path / "out", resamples=20)
    (failed,) = report["failed"]
    assert (failed["path"], failed["status"]) == ("text.jpeg", "error")
    assert failed["reason"]
    assert report["images"] == 25
    assert report["judged"] == {"images": 24, "patients": 23}
    assert report["metrics"]["accuracy"]["n"] == 24
    assert (
        report["metrics"]
        == evaluate_model(given(good), small_samples, small_samples.records, "all", resamples=20)["metrics"]
    )
    row = read_report(tmp_path / "out")[1][5]
    assert (row["path"], row["probability"], row["verdict"], row["status"]) == ("text.jpeg", None, None, "error")


def test_with_no_readable_file_everything_is_undefined(small_samples, tmp_path):
    (tmp_path / "text.jpeg").write_text("not an image")
    unreadable = Manifest(tmp_path, (Record("text.jpeg", PNEUMONIA),))
    report = evaluate_model(given([]), unreadable, unreadable.records, "all", out=tmp_path / "out", resamples=20)
    assert report["metrics"]["accuracy"]["value"] is None
    assert report["curves"] == {"roc": None, "pr": None, "calibration": []}
    assert read_report(tmp_path / "out")[0] == report


def test_uncertain_radiographs_are_counted_with_their_verdict(small_samples):
    probability = np.full(24, 0.9)
    probability[:3] = 0.52
    report = evaluate_model(given(probability), small_samples, small_samples.records, "all", resamples=20)
    assert report["uncertain"] == 3
    assert report["confusion_matrix"] == [[0, 8], [0, 16]]


def test_nothing_to_evaluate_is_an_error(small_samples):
    with pytest.raises(DatasetError, match="expected radiographs to evaluate under"):
        evaluate_model(given([]), small_samples, [], "test")


def test_a_repeated_radiograph_is_an_error(small_samples):
    with pytest.raises(
        DatasetError, match=r"expected each radiograph once, NORMAL/IM-0350-0001\.jpeg is in the list 2 times"
    ):
        evaluate_model(given([]), small_samples, [*small_samples.records, small_samples.records[0]], "test")


def test_progress_wraps_the_judging(small_samples):
    seen = []

    def progress(items, total, what):
        seen.append((total, what))
        yield from items

    evaluate_model(
        given(probabilities(small_samples.records)),
        small_samples,
        small_samples.records,
        "all",
        progress=progress,
        resamples=9,
    )
    assert seen == [(24, "judging radiographs")]


def test_two_evaluations_write_equal_bytes(small_samples, tmp_path):
    for name in "ab":
        predictor = given(probabilities(small_samples.records))
        evaluate_model(
            predictor, small_samples, small_samples.records, "all", out=tmp_path / name / "deep", resamples=50
        )
    for name in ("report.json", "predictions.csv"):
        assert (tmp_path / "a/deep" / name).read_bytes() == (tmp_path / "b/deep" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a/deep").iterdir()) == ["predictions.csv", "report.json"]


def test_what_is_written_is_read_again(small_samples, evaluated):
    report, predictions = read_report(evaluated)
    assert read_report(evaluated / "report.json") == (report, predictions)
    predictor = given(probabilities(small_samples.records))
    assert evaluate_model(predictor, small_samples, small_samples.records, "all", resamples=50) == report
    assert [row["path"] for row in predictions] == [record.path for record in small_samples.records]
    for row, record, probability in zip(
        predictions, small_samples.records, probabilities(small_samples.records), strict=True
    ):
        assert row["probability"] == float(np.float32(probability))  # with all digits, which a comparison needs
        assert row["verdict"] == LABELS[int(row["probability"] >= 0.5)]
        assert (row["label"], row["patient"]) == (record.label, record.group)
        assert (row["sublabel"], row["bacterial"]) == (record.sublabel, None)
    with (evaluated / "predictions.csv").open(newline="") as file:
        assert next(csv.reader(file)) == [
            "path", "sha256", "label", "sublabel", "patient", "probability", "verdict", "status", "bacterial",
        ]  # fmt: skip


def test_curves_have_fewer_points_and_keep_their_ends(small_samples):
    records = [replace(small_samples.records[index % 24], path=f"{index}.jpeg") for index in range(1000)]
    many = Manifest(small_samples.root, tuple(records))

    class Given:  # without decoding a thousand radiographs, which would test nothing more
        bundle, threshold, prevalence = GivenBundle([]), 0.5, None

        def predict_many(self, sources):
            prediction = given([0.5]).predict(small_samples.path(small_samples.records[0]))
            for probability in np.random.default_rng(0).random(len(sources)):
                yield replace(prediction, probability=float(probability))

    report = evaluate_model(Given(), many, records, "all", resamples=20)
    roc, pr = report["curves"]["roc"], report["curves"]["pr"]
    for curve in (roc, pr):
        assert {len(column) for column in curve.values()} <= set(range(100, 201))
    assert (roc["false_positive_rate"][0], roc["sensitivity"][0], roc["threshold"][0]) == (0, 0, None)
    assert (roc["false_positive_rate"][-1], roc["sensitivity"][-1], pr["recall"][-1]) == (1, 1, 1)
    area = np.trapezoid(roc["sensitivity"], roc["false_positive_rate"])
    assert area == pytest.approx(report["metrics"]["roc_auc"]["value"], abs=0.005)


def test_a_curve_with_few_corners_keeps_all_points(small_samples):
    report = evaluate_model(
        given(probabilities(small_samples.records)), small_samples, small_samples.records, "all", resamples=20
    )
    roc = report["curves"]["roc"]
    area = np.trapezoid(roc["sensitivity"], roc["false_positive_rate"])
    assert area == pytest.approx(report["metrics"]["roc_auc"]["value"], abs=1e-5)
    perfect = np.array([label_index(record.label) for record in small_samples.records])
    report = evaluate_model(given(perfect * 0.5 + 0.2), small_samples, small_samples.records, "all", resamples=20)
    roc = report["curves"]["roc"]
    assert list(zip(roc["false_positive_rate"], roc["sensitivity"], strict=True)) == [(0, 0), (0, 1), (1, 1)]


# Bacterial and viral


def test_subtypes_are_measured_on_pneumonias_alone(small_samples, tmp_path):
    shares = np.array([0.9 if record.sublabel == BACTERIAL else 0.2 for record in small_samples.records])
    predictor = Predictor(GivenBundle(probabilities(small_samples.records), shares))
    report = evaluate_model(predictor, small_samples, small_samples.records, "all", out=tmp_path, resamples=20)
    assert report["subtypes"]["value"] == 1
    assert report["subtypes"]["n"] == 16  # the normals have no kind
    rows = read_report(tmp_path)[1]
    assert [row["bacterial"] for row in rows] == shares.astype(np.float32).astype(float).tolist()
    assert [row["sublabel"] for row in rows] == [record.sublabel for record in small_samples.records]
    assert subtype_auc(rows, 0, 20) == report["subtypes"]  # the evaluation's own resamples
    assert "20 resamples" in report["subtypes"]["method"]
    assert subtype_auc(rows)["value"] == 1
    plain = evaluate_model(
        given(probabilities(small_samples.records)), small_samples, small_samples.records, "all", resamples=20
    )
    assert plain["metrics"] == report["metrics"]
    assert plain["subtypes"] is None


# A model that ships


@pytest.mark.skipif(not shipped_models(), reason="no model file in the zoo yet")
def test_a_shipped_model_on_the_bundled_radiographs(samples_folder, tmp_path):
    predictor, manifest = load(), read_dataset(samples_folder)
    report = evaluate_model(predictor, manifest, manifest.records, "all", out=tmp_path, resamples=50)
    assert report["model"]["sha256"] == predictor.bundle.sha256
    assert report["judged"]["images"] == 24
    for row, record in zip(read_report(tmp_path)[1], manifest.records, strict=True):
        prediction = predictor.predict(manifest.path(record))
        assert row["verdict"] == prediction.label
        assert row["probability"] == pytest.approx(prediction.probability, abs=1e-5)  # alone or in a batch
