"""report.json -> figures, one self-contained HTML page, and the rows of a table; every number comes from it."""

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pneumoscope import RESEARCH_USE_ONLY
from pneumoscope.errors import MissingExtra, UsageError
from pneumoscope.evaluate import write_whole
from pneumoscope.labels import LABELS, NORMAL, PNEUMONIA
from pneumoscope.metrics import BINS

#: File names of the figures, with what they show; the order is that of the page.
FIGURES = {
    "confusion_matrix.png": "Confusion matrix at the operating point",
    "roc.png": "Receiver operating characteristic (ROC)",
    "precision_recall.png": "Precision and recall of PNEUMONIA",
    "calibration.png": "Calibration of the probability of pneumonia",
    "accuracy.png": "Accuracy by training epoch",
    "loss.png": "Loss by training epoch",
}

_DPI = 120
_SIZE = (6.4, 5.4)  # inches
# Blue and vermilion stay apart for colour-blind readers (Okabe and Ito, 2008).
_BLUE, _RED, _GREY = "#0072B2", "#D55E00", "#6B7280"
_DASH = "–"
_COLOURS = {NORMAL: _BLUE, PNEUMONIA: _RED}


def draw_figures(
    report: dict, predictions: Sequence[dict], folder: str | Path, history: Sequence[dict] | None = None
) -> list[Path]:
    """Draw an evaluation as PNG files.

    Args:
        report, predictions: from :func:`pneumoscope.evaluate.read_report`.
        folder: where the files go; created where missing.
        history: of the training, to add what :func:`draw_curves` draws.

    Returns:
        The files, in the order of :data:`FIGURES`; a curve that is undefined (a class without radiographs)
        has none.

    Raises:
        MissingExtra: matplotlib or seaborn is not installed.
    """
    folder = _ready(folder)
    curves = report["curves"]
    drawn = [("confusion_matrix.png", _confusion_matrix(report))] if sum(map(sum, report["confusion_matrix"])) else []
    if curves["roc"]:
        drawn.append(("roc.png", _roc(report)))
    if curves["pr"]:
        drawn.append(("precision_recall.png", _precision_recall(report)))
    if curves["calibration"]:
        drawn.append(("calibration.png", _calibration(report, predictions)))
    paths = [_save(figure, folder / name) for name, figure in drawn]
    return paths + (draw_curves(history, folder) if history else [])


def draw_curves(history: Sequence[dict], folder: str | Path, best_epoch: int | None = None) -> list[Path]:
    """Draw ``accuracy.png`` and ``loss.png``, training and validation by epoch.

    Args:
        history: one dict an epoch: ``epoch``, ``accuracy``, ``loss``, ``val_accuracy``, ``val_loss``.
        folder: where the files go; created where missing.
        best_epoch: whose weights were kept; default the first with the highest validation accuracy, which is
            the rule of training.

    Raises:
        MissingExtra: matplotlib or seaborn is not installed.
        UsageError: no epoch, or a missing column.
    """
    names = ("epoch", "accuracy", "loss", "val_accuracy", "val_loss")
    if not history or any(name not in row for row in history for name in names):
        raise UsageError(f"expected one row or more with {', '.join(names)}, received {list(history)[:1]}")
    folder = _ready(folder)
    if best_epoch is None:
        best_epoch = int(max(history, key=lambda row: float(row["val_accuracy"]))["epoch"])
    return [
        _save(_epochs(history, name, best_epoch), folder / f"{name}.png") for name in ("accuracy", "loss")
    ]  # fmt: skip


def render_table(report: dict) -> list[tuple[str, str, str]]:
    """Rows of name, value and 95 % interval, for people.

    >>> estimate = {"value": 0.5, "low": 0.25, "high": None, "n": 4, "method": ""}
    >>> _value(estimate), _value({**estimate, "value": None})
    ('0.500', 'undefined')
    """
    return [(name, _value(estimate), _ends(estimate)) for name, estimate in _estimates(report)]


def report_html(report: dict, figures: Sequence[str | Path], path: str | Path) -> Path:
    """Write one HTML page that needs no other file.

    Args:
        report: from :func:`pneumoscope.evaluate.read_report`.
        figures: PNG files, embedded in this order.
        path: of the page.

    Returns:
        ``path``.
    """
    path = Path(path)
    title = f"{report['model']['name']}: evaluation on {report['data']['split']}"
    sections = [
        f"<h1>{_text(title)}</h1>\n<p class='notice'>{_text(RESEARCH_USE_ONLY)}</p>",
        "<section><h2>Estimates</h2>" + _metrics_table(report) + "</section>",
        "<section><h2>Model and radiographs</h2>" + _facts_table(report) + "</section>",
        "<section><h2>Figures</h2><div class='figures'>" + "".join(map(_embedded, map(Path, figures))) + "</div></section>",
        _failed_table(report),
        f"<footer>pneumoscope {_text(report['version'])}. {_text(RESEARCH_USE_ONLY)}</footer>",
    ]
    page = (
        "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
        f"<title>{_text(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(section for section in sections if section)
        + "\n</body>\n</html>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, page.encode())
    return path


def _ready(folder: str | Path) -> Path:
    """The folder, made; with the drawing packages there."""
    try:
        import matplotlib
        import seaborn  # noqa: F401 only to say now that it is missing
    except ImportError as error:
        raise MissingExtra("drawing figures", "report", error.name or "matplotlib") from None
    del matplotlib
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder
