"""Figures, page and tables of an evaluation: complete, self-contained, and possible with undefined metrics."""

import base64
import html.parser
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pneumoscope import RESEARCH_USE_ONLY
from pneumoscope.data.manifest import Manifest, Record
from pneumoscope.errors import MissingExtra, UsageError
from pneumoscope.evaluation import compare_reports, evaluate_model, read_report, report
from pneumoscope.evaluation import figures as drawing
from pneumoscope.inference.prediction import Prediction
from pneumoscope.labels import LABELS, SCOPE

EVALUATION = ["confusion_matrix.png", "roc.png", "precision_recall.png", "decision_curve.png", "calibration.png"]
TRAINING = ["accuracy.png", "loss.png"]
HISTORY = [
    {"epoch": epoch, "accuracy": 0.80 + 0.02 * epoch, "loss": 0.5 / epoch, "val_accuracy": accuracy, "val_loss": 0.4}
    for epoch, accuracy in enumerate([0.90, 0.95, 0.95, 0.93], 1)
]


@dataclass(frozen=True)
class GivenBundle:
    name: str = "given <model> & co"
    sha256: str = "ab" * 32


class Given:
    """Stands for a predictor: prepared probabilities in order, and None for a file that cannot be read."""

    threshold, prevalence = 0.5, None

    def __init__(self, probability, name=GivenBundle.name):
        self.probability, self.bundle = probability, GivenBundle(name)

    def predict_many(self, sources):
        for path, value in zip(sources, self.probability, strict=True):
            if value is None:
                yield Prediction(str(path), None, None, 0.5, self.bundle.name, "error", "received <script> & 'text'")
            else:
                yield Prediction(str(path), LABELS[int(value >= 0.5)], float(value), 0.5, self.bundle.name, "ok")


def evaluated(folder: Path, labels, probability, name=GivenBundle.name) -> tuple[dict, list[dict]]:
    records = [Record(f"{index}.png", LABELS[label], patient=f"p{index // 2}") for index, label in enumerate(labels)]
    manifest = Manifest(Path("/data"), tuple(records))
    evaluate_model(Given(probability, name), manifest, records, "test", out=folder, resamples=50)
    return read_report(folder)


@pytest.fixture(scope="module")
def usual(tmp_path_factory) -> tuple[dict, list[dict]]:
    """120 radiographs of 60 patients, one of them unreadable."""
    random = np.random.default_rng(0)
    labels = np.repeat(random.random(60) < 0.6, 2).astype(int)
    probability = [*np.clip(random.normal(0.3 + 0.4 * labels, 0.2), 0, 1)]
    probability[7] = None
    return evaluated(tmp_path_factory.mktemp("usual"), labels, probability)


@pytest.fixture(scope="module")
def figures(usual, tmp_path_factory) -> list[Path]:
    return drawing.draw_figures(*usual, tmp_path_factory.mktemp("figures") / "deep", history=HISTORY)


def texts(figure) -> str:
    """All text of a figure."""
    import matplotlib.text

    return "\n".join(text.get_text() for text in figure.findobj(matplotlib.text.Text))


# Figures


def test_all_figures_are_drawn(figures):
    assert [path.name for path in figures] == EVALUATION + TRAINING == list(report.FIGURES)
    assert sorted(path.name for path in figures[0].parent.iterdir()) == sorted(report.FIGURES)  # and nothing else
    for path in figures:
        data = path.read_bytes()
        assert data[:8] == b"\x89PNG\r\n\x1a\n"
        width, height = (int.from_bytes(data[offset : offset + 4]) for offset in (16, 20))
        assert (width, height) == (792, 696)  # 6.6 x 5.8 inches at 120 dots


def test_without_a_history_there_are_no_training_curves(usual, tmp_path):
    assert [path.name for path in drawing.draw_figures(*usual, tmp_path)] == EVALUATION


def test_drawing_twice_gives_equal_bytes(usual, figures, tmp_path):
    for first, second in zip(figures, drawing.draw_figures(*usual, tmp_path, history=HISTORY), strict=True):
        assert first.read_bytes() == second.read_bytes()


def test_drawing_leaves_matplotlib_as_it_was(usual, tmp_path):
    import matplotlib
    from matplotlib import pyplot

    before = dict(matplotlib.rcParams)
    drawing.draw_figures(*usual, tmp_path, history=HISTORY)
    assert dict(matplotlib.rcParams) == before
    assert pyplot.get_fignums() == []


@pytest.mark.parametrize("draw", ["_confusion_matrix", "_roc", "_precision_recall"])
def test_figures_have_a_description(usual, draw):
    words = texts(getattr(drawing, draw)(usual[0]))
    assert "given <model> & co on test: n = 119 radiographs of 60 patients" in words
    assert RESEARCH_USE_ONLY in words
    assert "operating point 0.5" in words


def test_legends_contain_the_estimate_and_its_interval(usual):
    found = usual[0]["metrics"]
    auc, ap, ece = found["roc_auc"], found["pr_auc"], found["ece"]
    assert f"AUC {auc['value']:.3f} (95 % CI {auc['low']:.3f} to {auc['high']:.3f})" in texts(drawing._roc(usual[0]))
    words = texts(drawing._precision_recall(usual[0]))
    assert f"(PR AUC) {ap['value']:.3f} (95 % CI {ap['low']:.3f} to {ap['high']:.3f})" in words
    assert f"calibration error {ece['value']:.3f} (95 % CI" in texts(drawing._calibration(*usual))


def test_the_confusion_matrix_shows_every_count(usual):
    words = texts(drawing._confusion_matrix(usual[0]))
    (tn, fp), (fn, tp) = usual[0]["confusion_matrix"]
    for count, name in (
        (tn, "true negatives"),
        (fp, "false positives"),
        (fn, "false negatives"),
        (tp, "true positives"),
    ):
        assert re.search(rf"^{count}\n[\d.]+ %\n{name}$", words, re.MULTILINE)
    assert "Label of the radiograph" in words
    assert "Verdict of the model" in words


def test_the_best_epoch_is_the_first_with_the_highest_validation_accuracy(monkeypatch, tmp_path):
    seen = []
    draw = drawing._epochs
    monkeypatch.setattr(drawing, "_epochs", lambda columns, name, best: seen.append(best) or draw(columns, name, best))
    drawing.draw_curves(HISTORY, tmp_path)
    drawing.draw_curves([{name: str(value) for name, value in row.items()} for row in HISTORY], tmp_path, best_epoch=4)
    assert seen == [2, 2, 4, 4]


def test_one_epoch_is_a_curve(tmp_path):
    assert [path.name for path in drawing.draw_curves(HISTORY[:1], tmp_path)] == TRAINING


@pytest.mark.parametrize("history", [[], [{"epoch": 1, "accuracy": 0.5, "loss": 0.5}]])
def test_a_history_without_validation_is_refused(history, tmp_path):
    with pytest.raises(UsageError, match="expected one row or more with epoch, accuracy, loss, val_accuracy, val_loss"):
        drawing.draw_curves(history, tmp_path)


def test_a_best_epoch_must_be_one_of_them(tmp_path):
    with pytest.raises(UsageError, match=r"expected a best epoch of \[1, 2, 3, 4\], received 9"):
        drawing.draw_curves(HISTORY, tmp_path, best_epoch=9)


@pytest.mark.parametrize(
    ("labels", "probability", "names"),
    [
        ([1, 1, 1, 1], [0.2, 0.6, 0.7, 0.9], ["confusion_matrix.png", "precision_recall.png", "calibration.png"]),
        ([0, 0, 0, 0], [0.2, 0.6, 0.7, 0.9], ["confusion_matrix.png", "calibration.png"]),
        ([0, 1, 0, 1], [0.0, 0.0, 0.0, 0.0], EVALUATION),  # without the verdict PNEUMONIA
        ([0, 1, 0, 1], [0.0, 1.0, 0.0, 1.0], EVALUATION),
        ([0, 1], [None, None], []),
    ],
)
def test_what_is_undefined_is_left_out(labels, probability, names, tmp_path):
    found, predictions = evaluated(tmp_path, labels, probability)
    paths = drawing.draw_figures(found, predictions, tmp_path)
    assert [path.name for path in paths] == names
    assert report.report_html(found, paths, tmp_path / "report.html").is_file()
    assert len(report.render_table(found)) == 11


def test_a_long_model_name_stays_inside_the_figure(tmp_path):
    found, _ = evaluated(tmp_path, [0, 1, 0, 1], [0.1, 0.9, 0.6, 0.7], name="a-long-name-" * 8)
    figure = drawing._roc(found)
    figure.canvas.draw()
    for text in figure.texts:
        assert text.get_window_extent().x1 <= figure.bbox.x1


@pytest.mark.parametrize("package", ["matplotlib", "seaborn"])
def test_a_missing_package_is_named_with_its_installation(package, usual, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    message = rf"drawing figures needs the package '{package}', .*pip install 'pneumoscope\[report\]'"
    with pytest.raises(MissingExtra, match=message):
        drawing.draw_figures(*usual, tmp_path / "figures")
    with pytest.raises(MissingExtra, match=message):
        drawing.draw_curves(HISTORY, tmp_path / "figures")
    assert not (tmp_path / "figures").exists()
    assert report.report_html(usual[0], [], tmp_path / "report.html").is_file()  # the page needs neither


def test_importing_the_report_imports_nothing_heavy():
    heavy = "{'matplotlib', 'seaborn', 'pandas', 'tensorflow', 'keras', 'onnxruntime'}"
    modules = "pneumoscope.evaluation.report, pneumoscope.evaluation.evaluate"
    code = f"import sys, {modules}; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# The page


class Page(html.parser.HTMLParser):
    """A page whose tags open and close in order: its tags, its text, and the addresses in it."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.text, self.sources = [], [], [], []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag not in ("meta", "img"):
            self.open.append(tag)
        self.sources += [value for name, value in attributes if name in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_complete_and_needs_no_other_file(usual, figures, tmp_path):
    path = report.report_html(usual[0], figures, tmp_path / "deep" / "report.html")
    assert path == tmp_path / "deep" / "report.html"
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    assert page.tags.count("img") == len(figures)
    prefix = "data:image/png;base64,"
    assert [base64.b64decode(source.removeprefix(prefix), validate=True) for source in page.sources] == (
        [figure.read_bytes() for figure in figures]
    )
    assert "script" not in page.tags
    assert "http" not in re.sub(r"base64,[^\"]*", "", text)
    assert [name.name for name in path.parent.iterdir()] == ["report.html"]


def test_the_page_contains_every_estimate(usual, tmp_path):
    text = "\n".join(Page(report.report_html(usual[0], [], tmp_path / "report.html").read_text("utf-8")).text)
    for row in report.render_table(usual[0]):
        assert "\n".join(row) in re.sub("\n+", "\n", text)
    for expected in (
        RESEARCH_USE_ONLY, "Wilson score", "percentile bootstrap over patients, 50 resamples, seed 0", "ab" * 32,
        "PNEUMONIA from probability 0.5", "/data", "not recorded", "given <model> & co: evaluation on test",
        "7.png", "received <script> & 'text'",
    ):  # fmt: skip
        assert expected in text


def test_the_page_says_whom_a_shipped_model_knows_and_nothing_of_another_one(usual, tmp_path):
    found = {}
    for name in ("mobilenet", usual[0]["model"]["name"]):
        shown = {**usual[0], "model": {**usual[0]["model"], "name": name}}
        found[name] = SCOPE in report.report_html(shown, [], tmp_path / "report.html").read_text("utf-8")
    assert list(found.values()) == [True, False]


def test_the_page_is_the_same_each_time(usual, figures, tmp_path):
    first, second = (report.report_html(usual[0], figures, tmp_path / name).read_bytes() for name in ("a", "b"))
    assert first == second


# Tables


def test_the_table_has_every_estimate_with_its_interval(usual):
    rows = report.render_table(usual[0])
    found = usual[0]["metrics"]
    accuracy, classes = found["accuracy"], found["classes"]
    assert rows[0] == ("Accuracy", f"{accuracy['value']:.3f}", f"{accuracy['low']:.3f} to {accuracy['high']:.3f}")
    assert {name: value for name, value, _ in rows} == {
        "Accuracy": f"{accuracy['value']:.3f}",
        "Sensitivity (recall of PNEUMONIA)": f"{found['sensitivity']['value']:.3f}",
        "Specificity (recall of NORMAL)": f"{found['specificity']['value']:.3f}",
        "Precision of PNEUMONIA (positive predictive value)": f"{classes['PNEUMONIA']['precision']['value']:.3f}",
        "Precision of NORMAL (negative predictive value)": f"{classes['NORMAL']['precision']['value']:.3f}",
        "F1 of PNEUMONIA": f"{classes['PNEUMONIA']['f1']['value']:.3f}",
        "F1 of NORMAL": f"{classes['NORMAL']['f1']['value']:.3f}",
        "ROC AUC": f"{found['roc_auc']['value']:.3f}",
        "PR AUC (average precision)": f"{found['pr_auc']['value']:.3f}",
        "Brier score (0 is best)": f"{found['brier']['value']:.3f}",
        "Calibration error (0 is best, 15 bins)": f"{found['ece']['value']:.3f}",
    }


def test_a_model_with_subtypes_has_a_row_for_them(usual, tmp_path):
    area = {"value": 0.8125, "low": 0.7, "high": 0.9, "n": 16, "method": "percentile bootstrap over patients, by hand"}
    found = {**usual[0], "subtypes": area}
    rows = report.render_table(found)
    assert rows[8] == ("ROC AUC of bacterial against viral", "0.812", "0.700 to 0.900")
    assert [row for row in rows if row[0] != rows[8][0]] == report.render_table(usual[0])
    assert usual[0]["subtypes"] is None  # and the table of this model has no such row
    page = report.report_html(found, [], tmp_path / "report.html").read_text("utf-8")
    assert "ROC AUC of bacterial against viral" in page
    assert "over patients, by hand" in page


def test_undefined_estimates_are_marked(tmp_path):
    found, _ = evaluated(tmp_path, [1, 1, 1, 1], [0.2, 0.6, 0.7, 0.9])
    rows = {name: (value, ends) for name, value, ends in report.render_table(found)}
    assert rows["ROC AUC"] == rows["Specificity (recall of NORMAL)"] == ("undefined", "")
    assert rows["Sensitivity (recall of PNEUMONIA)"][0] == "0.750"


def test_a_comparison_has_a_table_of_models_and_a_table_for_each_pair(tmp_path):
    labels = [0, 1] * 10
    right = [0.1, 0.9] * 10
    a = evaluated(tmp_path / "a", labels, right, name="a")
    b = evaluated(tmp_path / "b", labels, [0.8, 0.9] * 5 + right[10:], name="b")
    (title, rows), (pair_title, pair_rows) = report.render_comparison(compare_reports([a[0], b[0]], [a[1], b[1]]))
    assert "95 % interval" in title
    assert rows[0] == ("", "a@0.5", "b@0.5")
    assert {len(row) for row in rows} == {3}
    assert rows[3][0] == "Accuracy"
    assert rows[3][1].startswith("1.000 (")
    assert rows[3][2].startswith("0.750 (")
    assert pair_title == "a = a, b = b: 20 radiographs that both judged"
    assert dict(pair_rows)["Right in a alone"] == dict(pair_rows)["Verdicts that differ"] == "5"
    assert dict(pair_rows)["p of equal accuracy (McNemar, exact)"] == "0.062"
    assert dict(pair_rows)["ROC AUC, a minus b"].startswith("0.000 (")


def test_a_comparison_without_common_radiographs_is_marked(tmp_path):
    a = evaluated(tmp_path / "a", [0, 1], [0.1, 0.9])
    elsewhere = [{**row, "path": f"elsewhere/{row['path']}"} for row in a[1]]
    pair_title, pair_rows = report.render_comparison(compare_reports([a[0], a[0]], [a[1], elsewhere]))[1]
    assert pair_title.endswith("0 radiographs that both judged, 4 left out")
    assert pair_rows == [("No radiograph in common", "not comparable")]
