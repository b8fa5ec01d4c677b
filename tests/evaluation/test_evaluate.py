"""Evaluation of a model on labelled radiographs: what is counted, what is written, and how models are compared."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from pneumoscope import RESEARCH_USE_ONLY, __version__
from pneumoscope.data.manifest import Manifest, Record, read_dataset
from pneumoscope.errors import DatasetError
from pneumoscope.evaluation import metrics
from pneumoscope.evaluation.evaluate import against_ratio, compare, evaluate_model, read_report, subtype_auc
from pneumoscope.inference.bundle import PROBABILITIES, SUBTYPES, shipped_models
from pneumoscope.inference.predict import Predictor, load
from pneumoscope.inference.preprocess import InputSpec
from pneumoscope.labels import BACTERIAL, LABELS, NORMAL, PNEUMONIA, VIRAL, label_index
from pneumoscope.radiographs.images import read_radiograph


class GivenBundle:
    """Stands for a model file: probabilities given in the order of the radiographs, everything else is real."""

    name, sha256, threshold, uncertain = "given", "ab" * 32, 0.5, (0.45, 0.55)
    operating_points, prevalence = {"default": 0.5}, None
    spec = InputSpec(height=16, width=16)

    def __init__(self, probability, bacterial=None):
        self.rest = [float(one) for one in probability]
        self.shares = bacterial  # of bacterial pneumonia, for a model that tells

    def run(self, inputs):
        now, self.rest = self.rest[: len(inputs)], self.rest[len(inputs) :]
        outputs = {PROBABILITIES: np.array([(1 - one, one) for one in now], dtype=np.float32)}
        if self.shares is not None:
            shares, self.shares = self.shares[: len(inputs)], self.shares[len(inputs) :]
            outputs[SUBTYPES] = np.array([(one, 1 - one) for one in shares], dtype=np.float32)
        return outputs


@pytest.fixture(autouse=True)
def in_order(monkeypatch):
    """Batches one after the other, as :class:`GivenBundle` gives its answers."""
    monkeypatch.setattr("os.cpu_count", lambda: 1)


def given(probability, threshold=None) -> Predictor:
    return Predictor(GivenBundle(probability), threshold)


def probabilities(records, seed=0, spread=0.25) -> np.ndarray:
    random = np.random.default_rng(seed)
    labels = np.array([label_index(record.label) for record in records])
    return np.clip(random.normal(0.3 + 0.4 * labels, spread), 0, 1).round(2)


@pytest.fixture(scope="module")
def manifest(samples_folder, tmp_path_factory) -> Manifest:
    """The bundled radiographs, small: they are read some fifty times."""
    full, root = read_dataset(samples_folder), tmp_path_factory.mktemp("samples")
    for record in full.records:
        (root / record.path).parent.mkdir(exist_ok=True)
        small = cv2.resize(read_radiograph(full.path(record)).pixels, (100, 80), interpolation=cv2.INTER_AREA)
        assert cv2.imwrite(str(root / record.path), small)
    return Manifest(root, full.records)


@pytest.fixture
def evaluated(manifest, tmp_path) -> Path:
    predictor = given(probabilities(manifest.records))
    evaluate_model(predictor, manifest, manifest.records, "all", out=tmp_path / "out", resamples=50)
    return tmp_path / "out"


def with_a_bad_file(manifest: Manifest, folder: Path) -> tuple[Manifest, list[Record]]:
    """The samples and one text file, in the middle."""
    (folder / "text.jpeg").write_text("not an image")
    records = [replace(record, path=str(manifest.path(record))) for record in manifest.records]
    records.insert(5, Record("text.jpeg", PNEUMONIA, patient="text", group="text"))
    return Manifest(folder, tuple(records)), records


def test_the_report_is_that_of_the_metrics(manifest):
    probability = probabilities(manifest.records)
    report = evaluate_model(given(probability), manifest, manifest.records, "all", seed=3, resamples=50)
    labels = np.array([label_index(record.label) for record in manifest.records])
    exact = probability.astype(np.float32).astype(float)  # what a model gives
    groups = [record.group for record in manifest.records]
    assert report["metrics"] == metrics.evaluate(labels, exact, 0.5, groups, seed=3, resamples=50)
    assert report["confusion_matrix"] == metrics.confusion_matrix(labels, exact, 0.5).tolist()
    assert report["curves"]["calibration"] == metrics.calibration_curve(labels, exact)
    assert report["failed"] == []


def test_the_report_says_what_was_measured_with_what(manifest):
    predictor = given(probabilities(manifest.records), threshold=0.7)
    report = evaluate_model(predictor, manifest, manifest.records, "validation", fingerprint="f" * 64, resamples=20)
    assert report["version"] == __version__
    assert report["notice"] == RESEARCH_USE_ONLY
    model = {"name": "given", "sha256": "ab" * 32, "threshold": 0.7, "prevalence": None}  # what was used
    assert report["model"] == model
    data = report["data"]
    assert (data["root"], data["split"], data["split_fingerprint"]) == (str(manifest.root), "validation", "f" * 64)
    assert data["labels"] == {NORMAL: 8, PNEUMONIA: 16}
    assert report["images"] == data["images"] == report["judged"]["images"] == 24
    # two of the samples are of one patient
    assert (
        data["patients"] == report["judged"]["patients"] == len({record.patient for record in manifest.records}) == 23
    )


def test_the_report_says_what_prevalence_its_probabilities_assume(manifest, tmp_path):
    """From one in two to one in five the odds are divided by four."""
    reports = []
    for prevalence, expected in ((None, 0.5), (0.2, 0.2)):
        bundle = GivenBundle(probabilities(manifest.records))
        bundle.prevalence = 0.5
        predictor = Predictor(bundle, prevalence=prevalence)
        out = tmp_path / str(prevalence)
        report = evaluate_model(predictor, manifest, manifest.records, "all", out=out, resamples=20)
        assert report["model"]["prevalence"] == expected
        assert read_report(out)[0] == report
        reports.append(report)
    assert reports[1]["model"]["threshold"] == pytest.approx(0.2)
    assert reports[0]["confusion_matrix"] == reports[1]["confusion_matrix"]


def test_patients_who_share_a_picture_count_as_one(manifest, tmp_path):
    records = [
        replace(record, group="one" if index < 3 else record.group) for index, record in enumerate(manifest.records)
    ]
    report = evaluate_model(given(probabilities(records)), manifest, records, "all", out=tmp_path, resamples=20)
    assert report["data"]["patients"] == 21
    assert [row["patient"] for row in read_report(tmp_path)[1]][:3] == ["one"] * 3


def test_files_that_fail_are_listed_and_not_counted(manifest, tmp_path):
    held, records = with_a_bad_file(manifest, tmp_path)
    good = probabilities(manifest.records)
    report = evaluate_model(given(good), held, records, "all", out=tmp_path / "out", resamples=20)
    (failed,) = report["failed"]
    assert (failed["path"], failed["status"]) == ("text.jpeg", "error")
    assert failed["reason"]
    assert report["images"] == 25
    assert report["judged"] == {"images": 24, "patients": 23}
    assert report["metrics"]["accuracy"]["n"] == 24
    assert report["metrics"] == evaluate_model(given(good), manifest, manifest.records, "all", resamples=20)["metrics"]
    row = read_report(tmp_path / "out")[1][5]
    assert (row["path"], row["probability"], row["verdict"], row["status"]) == ("text.jpeg", None, None, "error")


def test_with_no_readable_file_everything_is_undefined(manifest, tmp_path):
    (tmp_path / "text.jpeg").write_text("not an image")
    held = Manifest(tmp_path, (Record("text.jpeg", PNEUMONIA),))
    report = evaluate_model(given([]), held, held.records, "all", out=tmp_path / "out", resamples=20)
    assert report["metrics"]["accuracy"]["value"] is None
    assert report["curves"] == {"roc": None, "pr": None, "calibration": []}
    assert read_report(tmp_path / "out")[0] == report


def test_uncertain_radiographs_are_counted_with_their_verdict(manifest):
    probability = np.full(24, 0.9)
    probability[:3] = 0.52
    report = evaluate_model(given(probability), manifest, manifest.records, "all", resamples=20)
    assert report["uncertain"] == 3
    assert report["confusion_matrix"] == [[0, 8], [0, 16]]


def test_nothing_to_evaluate_is_an_error(manifest):
    with pytest.raises(DatasetError, match="expected radiographs to evaluate under"):
        evaluate_model(given([]), manifest, [], "test")


def test_a_radiograph_counts_once(manifest):
    with pytest.raises(DatasetError, match=r"expected each radiograph once, NORMAL/IM-0350-0001\.jpeg comes 2 times"):
        evaluate_model(given([]), manifest, [*manifest.records, manifest.records[0]], "test")


def test_progress_wraps_the_judging(manifest):
    seen = []

    def show(items, total, what):
        seen.append((total, what))
        yield from items

    evaluate_model(
        given(probabilities(manifest.records)), manifest, manifest.records, "all", progress=show, resamples=9
    )
    assert seen == [(24, "judging radiographs")]


def test_two_evaluations_write_equal_bytes(manifest, tmp_path):
    for name in "ab":
        predictor = given(probabilities(manifest.records))
        evaluate_model(predictor, manifest, manifest.records, "all", out=tmp_path / name / "deep", resamples=50)
    for name in ("report.json", "predictions.csv"):
        assert (tmp_path / "a/deep" / name).read_bytes() == (tmp_path / "b/deep" / name).read_bytes()
    assert sorted(path.name for path in (tmp_path / "a/deep").iterdir()) == ["predictions.csv", "report.json"]


def test_what_is_written_is_read_again(manifest, evaluated):
    report, predictions = read_report(evaluated)
    assert read_report(evaluated / "report.json") == (report, predictions)
    predictor = given(probabilities(manifest.records))
    assert evaluate_model(predictor, manifest, manifest.records, "all", resamples=50) == report
    assert [row["path"] for row in predictions] == [record.path for record in manifest.records]
    for row, record, probability in zip(predictions, manifest.records, probabilities(manifest.records), strict=True):
        assert row["probability"] == float(np.float32(probability))  # all digits: a comparison uses them
        assert row["verdict"] == LABELS[int(row["probability"] >= 0.5)]
        assert (row["label"], row["patient"]) == (record.label, record.group)
        assert (row["sublabel"], row["bacterial"]) == (record.sublabel, None)
    with (evaluated / "predictions.csv").open(newline="") as file:
        assert next(csv.reader(file)) == [
            "path", "sha256", "label", "sublabel", "patient", "probability", "verdict", "status", "bacterial",
        ]  # fmt: skip


def test_the_curves_are_thinned_and_keep_their_ends(manifest):
    records = [replace(manifest.records[index % 24], path=f"{index}.jpeg") for index in range(1000)]
    held = Manifest(manifest.root, tuple(records))

    class Given:  # decoding a thousand radiographs would test nothing more
        bundle, threshold, prevalence = GivenBundle([]), 0.5, None

        def predict_many(self, sources):
            one = given([0.5]).predict(manifest.path(manifest.records[0]))
            for probability in np.random.default_rng(0).random(len(sources)):
                yield replace(one, probability=float(probability))

    report = evaluate_model(Given(), held, records, "all", resamples=20)
    roc, pr = report["curves"]["roc"], report["curves"]["pr"]
    for curve in (roc, pr):
        assert {len(column) for column in curve.values()} <= set(range(100, 201))
    assert (roc["false_positive_rate"][0], roc["sensitivity"][0], roc["threshold"][0]) == (0, 0, None)
    assert (roc["false_positive_rate"][-1], roc["sensitivity"][-1], pr["recall"][-1]) == (1, 1, 1)
    area = np.trapezoid(roc["sensitivity"], roc["false_positive_rate"])
    assert area == pytest.approx(report["metrics"]["roc_auc"]["value"], abs=0.005)


def test_a_curve_of_few_corners_is_kept_whole(manifest):
    report = evaluate_model(given(probabilities(manifest.records)), manifest, manifest.records, "all", resamples=20)
    roc = report["curves"]["roc"]
    area = np.trapezoid(roc["sensitivity"], roc["false_positive_rate"])
    assert area == pytest.approx(report["metrics"]["roc_auc"]["value"], abs=1e-5)
    perfect = np.array([label_index(record.label) for record in manifest.records])
    report = evaluate_model(given(perfect * 0.5 + 0.2), manifest, manifest.records, "all", resamples=20)
    roc = report["curves"]["roc"]
    assert list(zip(roc["false_positive_rate"], roc["sensitivity"], strict=True)) == [(0, 0), (0, 1), (1, 1)]


# Bacterial and viral


def test_subtypes_are_measured_on_pneumonias_alone(manifest, tmp_path):
    shares = np.array([0.9 if record.sublabel == BACTERIAL else 0.2 for record in manifest.records])
    predictor = Predictor(GivenBundle(probabilities(manifest.records), shares))
    report = evaluate_model(predictor, manifest, manifest.records, "all", out=tmp_path, resamples=20)
    assert report["subtypes"]["value"] == 1
    assert report["subtypes"]["n"] == 16  # the normals have no kind
    rows = read_report(tmp_path)[1]
    assert [row["bacterial"] for row in rows] == shares.astype(np.float32).astype(float).tolist()
    assert [row["sublabel"] for row in rows] == [record.sublabel for record in manifest.records]
    assert subtype_auc(rows, 0, 20) == report["subtypes"]  # the evaluation's own resamples
    assert "20 resamples" in report["subtypes"]["method"]
    assert subtype_auc(rows)["value"] == 1
    plain = evaluate_model(given(probabilities(manifest.records)), manifest, manifest.records, "all", resamples=20)
    assert plain["metrics"] == report["metrics"]
    assert plain["subtypes"] is None


def kind(sublabel, bacterial, patient="p", label=PNEUMONIA):
    return {"label": label, "sublabel": sublabel, "patient": patient, "bacterial": bacterial}


def test_the_area_of_bacterial_against_viral_by_hand():
    """Of 2 x 3 pairs, bacterial is the higher one in four and equal in one."""
    shares = [(BACTERIAL, 0.9), (BACTERIAL, 0.4), (VIRAL, 0.1), (VIRAL, 0.4), (VIRAL, 0.6)]
    rows = [kind(*each, patient=f"{each} {copy}") for each in shares for copy in range(10)]  # enough for an interval
    found = subtype_auc(rows)
    assert found["value"] == pytest.approx(4.5 / 6)
    assert 0 <= found["low"] <= found["value"] <= found["high"] <= 1
    unknown = [kind("", 0.99, "u"), kind(BACTERIAL, None, "failed"), kind("", 0.5, "n", NORMAL)]
    assert subtype_auc([*unknown, *rows]) == found
    other = subtype_auc(rows, seed=1, resamples=50)
    assert other["value"] == found["value"]
    assert (other["low"], other["high"]) != (found["low"], found["high"])
    assert "50 resamples, seed 1" in other["method"]


def test_without_both_kinds_there_is_no_area():
    assert subtype_auc([]) is None
    assert subtype_auc([kind(BACTERIAL, 0.9), kind(BACTERIAL, 0.2)]) is None
    assert subtype_auc([kind(BACTERIAL, None), kind(VIRAL, None)]) is None
    assert subtype_auc([kind("", 0.9), kind("", 0.2)]) is None


def test_predictions_without_the_share_of_bacterial_are_of_another_version(evaluated):
    path = evaluated / "predictions.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join(line.rsplit(",", 1)[0] for line in lines))
    with pytest.raises(DatasetError, match=r"expected the columns path, .*, bacterial in .*: evaluate again"):
        read_report(evaluated)


# Reading what is not a report


def spoil(folder: Path, **changes) -> None:
    report = json.loads((folder / "report.json").read_text())
    (folder / "report.json").write_text(json.dumps({**report, **changes}))


def test_no_report_is_an_error(tmp_path):
    with pytest.raises(
        DatasetError, match=r"expected an evaluation report at .*report\.json, cannot read it .*No such"
    ):
        read_report(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "3", "null", '{"metrics": {}}', "\x80"])
def test_another_file_is_no_report(tmp_path, content):
    (tmp_path / "report.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(DatasetError, match=r"expected an evaluation report .*pneumoscope evaluate"):
        read_report(tmp_path)


def test_a_report_of_another_version_is_refused(evaluated):
    spoil(evaluated, schema=2)
    with pytest.raises(DatasetError, match=r"of version 1 at .*, received version 2"):
        read_report(evaluated)


def test_a_report_without_its_metrics_is_refused(evaluated):
    spoil(evaluated, metrics=None)
    with pytest.raises(DatasetError, match="its metrics is missing or of another kind"):
        read_report(evaluated)


def test_a_report_without_its_predictions_is_refused(evaluated):
    (evaluated / "predictions.csv").unlink()
    with pytest.raises(DatasetError, match="expected the predictions of the report at"):
        read_report(evaluated)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("probability,verdict", "p,verdict", "expected the columns path, sha256, label, sublabel, patient"),
        (",NORMAL,", ",HEALTHY,", r"predictions\.csv line 2, received"),
        ("ok,\n", "ok,,more\n", r"predictions\.csv line \d+, received"),
        (",ok,\n", ",ok\n", r"predictions\.csv line \d+, received"),
        (",ok,\n", ",\n", r"predictions\.csv line \d+, received"),
        (",ok,\n", "\n", r"predictions\.csv line \d+, received"),
        (",ok,\n", ",ok,1.01\n", r"predictions\.csv line \d+, received"),
        (",ok,\n", ",ok,nan\n", r"predictions\.csv line \d+, received"),
        (",ok,\n", ",ok,yes\n", r"predictions\.csv line \d+, received"),
        (",0.", ",zero.", r"predictions\.csv line \d+, received"),
        (",0.", ",7.", r"predictions\.csv line \d+, received"),
        (",0.", ",nan", r"predictions\.csv line \d+, received"),
    ],
)
def test_spoilt_predictions_are_refused(evaluated, old, new, message):
    path = evaluated / "predictions.csv"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(DatasetError, match=message):
        read_report(evaluated)


def test_predictions_of_another_evaluation_are_refused(evaluated):
    path = evaluated / "predictions.csv"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(DatasetError, match=r"expected the 24 radiographs of .* received 23"):
        read_report(evaluated)


# Comparing


def two(manifest, folder, first, second, records_b=None):
    for name, probability, records in (("a", first, manifest.records), ("b", second, records_b or manifest.records)):
        evaluate_model(given(probability), manifest, records, "all", out=folder / name, resamples=30)
    reports, predictions = zip(read_report(folder / "a"), read_report(folder / "b"), strict=True)
    return list(reports), list(predictions)


def test_a_model_beside_itself(manifest, tmp_path):
    probability = probabilities(manifest.records)
    comparison = compare(*two(manifest, tmp_path, probability, probability))
    (pair,) = comparison["pairs"]
    assert (pair["a"], pair["b"], pair["images"], pair["left_out"]) == (0, 1, 24, 0)
    assert (pair["disagreements"], pair["only_a_correct"], pair["only_b_correct"], pair["mcnemar_p"]) == (0, 0, 0, 1)
    difference = pair["auc_difference"]
    assert (difference["value"], difference["low"], difference["high"]) == (0, 0, 0)
    assert json.loads(json.dumps(comparison, allow_nan=False)) == comparison


def test_two_models_on_the_same_radiographs(manifest, tmp_path):
    """b errs on nine radiographs where a is right, a on one where b is right: 2 * (1 + 10) / 2^10."""
    labels = np.array([label_index(record.label) for record in manifest.records])
    right = np.where(labels == 1, 0.9, 0.1)
    a, b = right.copy(), right.copy()
    a[20] = 0.2
    b[:9] = 1 - b[:9]
    reports, predictions = two(manifest, tmp_path, a, b)
    comparison = compare(reports, predictions)
    assert [model["metrics"]["accuracy"]["value"] for model in comparison["models"]] == [23 / 24, 15 / 24]
    assert [model["name"] for model in comparison["models"]] == ["given", "given"]
    (pair,) = comparison["pairs"]
    assert (pair["disagreements"], pair["only_a_correct"], pair["only_b_correct"]) == (10, 9, 1)
    assert pair["mcnemar_p"] == 22 / 1024
    aucs = [report["metrics"]["roc_auc"]["value"] for report in reports]
    assert pair["auc_difference"]["value"] == pytest.approx(aucs[0] - aucs[1])
    assert pair["auc_difference"]["low"] > 0


def test_only_radiographs_that_both_judged_are_compared(manifest, tmp_path):
    probability = probabilities(manifest.records)
    reports, predictions = two(manifest, tmp_path, probability, probability[4:], manifest.records[4:])
    (pair,) = compare(reports, predictions)["pairs"]
    assert (pair["images"], pair["left_out"], pair["disagreements"]) == (20, 4, 0)


def test_without_a_common_radiograph_nothing_is_compared(manifest, tmp_path):
    probability = probabilities(manifest.records)
    reports, predictions = two(manifest, tmp_path, probability, probability, None)
    predictions[1] = [{**row, "sha256": row["sha256"][::-1]} for row in predictions[1]]  # names alone do not pair
    (pair,) = compare(reports, predictions)["pairs"]
    assert (pair["images"], pair["left_out"], pair["mcnemar_p"], pair["auc_difference"]) == (0, 48, None, None)


def test_the_same_radiographs_elsewhere_are_paired(manifest, tmp_path):
    probability = probabilities(manifest.records)
    reports, predictions = two(manifest, tmp_path, probability, probability, None)
    predictions[1] = [{**row, "path": f"/elsewhere/{row['path']}"} for row in predictions[1]]
    (pair,) = compare(reports, predictions)["pairs"]
    assert (pair["images"], pair["left_out"]) == (24, 0)


def test_every_pair_of_three_is_compared(manifest, tmp_path):
    reports, predictions = two(manifest, tmp_path, *(probabilities(manifest.records, seed) for seed in (0, 1)))
    pairs = compare([*reports, reports[0]], [*predictions, predictions[0]])["pairs"]
    assert [(pair["a"], pair["b"]) for pair in pairs] == [(0, 1), (0, 2), (1, 2)]
    assert pairs[0]["auc_difference"]["value"] == -pairs[2]["auc_difference"]["value"]


def test_a_radiograph_under_two_labels_cannot_be_compared(manifest, tmp_path):
    probability = probabilities(manifest.records)
    reports, predictions = two(manifest, tmp_path, probability, probability)
    predictions[1][0]["label"] = PNEUMONIA
    with pytest.raises(DatasetError, match="is NORMAL in one and PNEUMONIA in the other"):
        compare(reports, predictions)


def test_one_report_is_no_comparison(evaluated):
    report, predictions = read_report(evaluated)
    with pytest.raises(DatasetError, match="expected two or more reports"):
        compare([report], [predictions])


# A model that ships


@pytest.mark.skipif(not shipped_models(), reason="no model file in the zoo yet")
def test_a_shipped_model_on_the_bundled_radiographs(samples_folder, tmp_path):
    predictor, manifest = load(), read_dataset(samples_folder)
    report = evaluate_model(predictor, manifest, manifest.records, "all", out=tmp_path, resamples=50)
    assert report["model"]["sha256"] == predictor.bundle.sha256
    assert report["judged"]["images"] == 24
    for row, record in zip(read_report(tmp_path)[1], manifest.records, strict=True):
        one = predictor.predict(manifest.path(record))
        assert row["verdict"] == one.label
        assert row["probability"] == pytest.approx(one.probability, abs=1e-5)  # alone or in a batch


def _row(path, label, probability):
    return {"path": path, "label": label, "patient": path, "probability": probability}


def test_figures_against_the_ratio_are_those_of_wide_normals_and_narrow_pneumonias():
    """Medians 1.0 and 2.0, so the common ratio is 1.414: half of each label lies on the other label's side."""
    rows, ratios = [], {}
    for label, median in ((NORMAL, 1.0), (PNEUMONIA, 2.0)):
        for number in range(41):
            path = f"{label}{number}"
            ratios[path] = median * 1.05 ** (number - 20)
            against = (ratios[path] > 2**0.5) == (label == NORMAL)
            rows.append(_row(path, label, float(against if label == NORMAL else not against)))  # always wrong there
    found = against_ratio(rows, ratios)
    assert found["common"] == pytest.approx(2**0.5)
    assert found["normal"] == found["pneumonia"] == sum(1.05**n > 2**0.5 for n in range(-20, 21)) == 13
    assert found["roc_auc"]["value"] == 0
    assert found["roc_auc"]["n"] == 2 * found["normal"]


def test_figures_against_the_ratio_need_known_ratios_of_both_labels():
    rows = [_row(f"{label}{n}", label, 0.5) for label in LABELS for n in range(30)]
    assert against_ratio(rows, {}) is None
    assert against_ratio(rows, {row["path"]: 1.2 for row in rows if row["label"] == NORMAL}) is None
    assert against_ratio(rows, {row["path"]: 1.2 for row in rows}) is None  # nothing speaks against a label
    assert against_ratio([{**row, "probability": None} for row in rows], {row["path"]: 1.2 for row in rows}) is None
