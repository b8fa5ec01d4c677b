"""report.json -> PNG figures, drawn with the object interface of matplotlib: no global state, no display."""

import io
import textwrap
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pneumoscope import RESEARCH_USE_ONLY
from pneumoscope.errors import MissingExtra, UsageError
from pneumoscope.evaluation.bootstrap import BINS
from pneumoscope.evaluation.report import operating_point, with_interval
from pneumoscope.io.atomic import write_atomic
from pneumoscope.labels import LABELS, PNEUMONIA, POSITIVE

if TYPE_CHECKING:  # matplotlib is an extra, and slow to import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DPI = 120
_SIZE = (6.6, 5.8)  # inches
_LINE = 92  # characters of a subtitle that fit this width
# Colour-blind readers can tell blue and vermilion apart (Okabe and Ito, 2008).
_BLUE, _RED, _GREY, _INK = "#0072B2", "#D55E00", "#6B7280", "#111827"
_MIN_AUC_TO_ENLARGE = 0.95  # from here on most of the curve is in the corner
_HISTORY = ("epoch", "accuracy", "loss", "val_accuracy", "val_loss")


def draw_figures(
    report: dict[str, Any],
    predictions: Sequence[dict[str, Any]],
    folder: str | Path,
    history: Sequence[dict[str, Any]] | None = None,
) -> list[Path]:
    """Draw an evaluation as PNG files.

    Args:
        report, predictions: from :func:`pneumoscope.evaluation.report_files.read_report`.
        folder: for the files; created if missing.
        history: of the training, to add the figures of :func:`draw_curves`.

    Returns:
        The files, in the order of :data:`pneumoscope.evaluation.report.FIGURES`. A figure that is undefined (no
        radiograph of a class) is left out.

    Raises:
        MissingExtra: matplotlib or seaborn is not installed.
        UsageError: a history that :func:`draw_curves` refuses.
    """
    folder = _prepare_folder(folder)
    curves = report["curves"]
    drawn: dict[str, Figure] = {}
    if np.sum(report["confusion_matrix"]):
        drawn["confusion_matrix.png"] = _confusion_matrix(report)
    if curves["roc"]:
        drawn["roc.png"] = _roc(report)
    if curves["pr"]:
        drawn["precision_recall.png"] = _precision_recall(report)
    if report.get("decision_curve"):
        drawn["decision_curve.png"] = _decision_curve(report)
    if curves["calibration"]:
        drawn["calibration.png"] = _calibration(report, predictions)
    paths = [_save(figure, folder / name) for name, figure in drawn.items()]
    return paths + (draw_curves(history, folder) if history else [])


def draw_curves(history: Sequence[dict[str, Any]], folder: str | Path, best_epoch: int | None = None) -> list[Path]:
    """Draw ``accuracy.png`` and ``loss.png``: training and validation by epoch.

    Args:
        history: one dict for each epoch: ``epoch``, ``accuracy``, ``loss``, ``val_accuracy``, ``val_loss``.
        folder: for the files; created if missing.
        best_epoch: the epoch whose weights were kept; default the first with the highest validation accuracy, which is
            the rule of training.

    Raises:
        MissingExtra: matplotlib or seaborn is not installed.
        UsageError: no epoch, a missing column, or a best epoch that is not among them.
    """
    if not history or any(name not in row for row in history for name in _HISTORY):
        raise UsageError(f"expected one row or more with {', '.join(_HISTORY)}, received {list(history)[:1]}")
    columns = {name: np.array([float(row[name]) for row in history]) for name in _HISTORY}
    if best_epoch is None:
        best_epoch = int(columns["epoch"][columns["val_accuracy"].argmax()])
    if best_epoch not in columns["epoch"]:
        raise UsageError(f"expected a best epoch of {columns['epoch'].astype(int).tolist()}, received {best_epoch}")
    folder = _prepare_folder(folder)
    return [_save(_epochs(columns, name, best_epoch), folder / f"{name}.png") for name in ("accuracy", "loss")]


def _prepare_folder(folder: str | Path) -> Path:
    """Create the folder, but only if the packages that draw are installed."""
    for name in ("matplotlib", "seaborn"):
        try:
            import_module(name)
        except ImportError as error:
            raise MissingExtra("drawing figures", "report", error.name or name) from None
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _confusion_matrix(report: dict[str, Any]) -> "Figure":
    import seaborn

    figure, (axes,) = _page("Confusion matrix", f"{_subject(report)}\noperating point {operating_point(report)}")
    matrix = np.array(report["confusion_matrix"])  # (2, 2) int: labels x verdicts
    totals = matrix.sum(axis=1, keepdims=True)
    shares = matrix / np.maximum(totals, 1)
    names = np.array([["true negatives", "false positives"], ["false negatives", "true positives"]])
    cells = [[f"{n:,}\n{100 * share:.1f} %\n{name}" for n, share, name in zip(*row, strict=True)]
             for row in zip(matrix, shares, names, strict=True)]  # fmt: skip
    seaborn.heatmap(
        shares, ax=axes, annot=np.array(cells), fmt="", cmap="Blues", vmin=0, vmax=1, square=True, linewidths=2,
        annot_kws={"size": 13, "linespacing": 1.5},
        cbar_kws={"label": "share of the radiographs with this label", "shrink": 0.85},
        xticklabels=[f"{label}\nn = {n:,}" for label, n in zip(LABELS, matrix.sum(axis=0), strict=True)],
        yticklabels=[f"{label}\nn = {n:,}" for label, n in zip(LABELS, totals[:, 0], strict=True)],
    )  # fmt: skip
    axes.set(xlabel="Verdict of the model", ylabel="Label of the radiograph")
    axes.tick_params(length=0)
    axes.tick_params(axis="y", rotation=0)
    return figure


def _roc(report: dict[str, Any]) -> "Figure":
    figure, (axes,) = _page("Receiver operating characteristic", _subject(report))
    _draw_roc(axes, report)
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1, label="chance: AUC 0.500")
    axes.set(xlabel="1 − specificity (false positive rate)", ylabel="Sensitivity (true positive rate)", aspect="equal")
    _unit(axes)
    axes.legend(loc="lower right", fontsize=8.5, framealpha=0.95)
    if report["metrics"]["roc_auc"]["value"] >= _MIN_AUC_TO_ENLARGE:
        _enlarge_corner(axes, report)
    return figure


def _enlarge_corner(axes: "Axes", report: dict[str, Any]) -> None:
    """Repeat the upper left corner, enlarged, in the empty middle."""
    from matplotlib.patches import Rectangle

    side = 0.25
    axes.add_patch(Rectangle((0, 1 - side), side, side, fill=False, edgecolor=_GREY, linewidth=0.8, linestyle=":"))
    axes.add_patch(Rectangle((0.33, 0.29), 0.64, 0.55, facecolor="white", edgecolor="#E5E7EB", zorder=2))
    inset = axes.inset_axes((0.42, 0.35, 0.52, 0.42))
    _draw_roc(inset, report)
    inset.set(xlim=(-0.004, side), ylim=(1 - side, 1.004))
    inset.set_title("upper left corner, enlarged", fontsize=8.5, color=_GREY, loc="left")
    _plain(inset)


def _draw_roc(axes: "Axes", report: dict[str, Any]) -> None:
    """Draw the curve and the operating point with its intervals."""
    curve, metrics = report["curves"]["roc"], report["metrics"]
    sensitivity, specificity = metrics["sensitivity"], metrics["specificity"]
    _draw_band(axes, report, "roc", "false_positive_rate")
    axes.plot(
        curve["false_positive_rate"], curve["sensitivity"], color=_BLUE, linewidth=2,
        label=with_interval("AUC", metrics["roc_auc"]),
    )  # fmt: skip
    axes.errorbar(
        1 - specificity["value"],
        sensitivity["value"],
        xerr=[[specificity["high"] - specificity["value"]], [specificity["value"] - specificity["low"]]],
        yerr=[[sensitivity["value"] - sensitivity["low"]], [sensitivity["high"] - sensitivity["value"]]],
        color=_RED,
        fmt="o",
        markersize=6,
        capsize=3,
        linewidth=1.2,
        zorder=3,
        label=f"operating point {operating_point(report)}:\n"
        f"{with_interval('sensitivity', sensitivity)}\n{with_interval('specificity', specificity)}",
    )


def _precision_recall(report: dict[str, Any]) -> "Figure":
    figure, (axes,) = _page("Precision and recall of PNEUMONIA", _subject(report))
    curve, metrics = report["curves"]["pr"], report["metrics"]
    _draw_band(axes, report, "pr", "recall")
    # steps-pre: each precision reaches back to the previous recall; average precision is the area under these steps
    axes.plot(
        [0, *curve["recall"]], [curve["precision"][0], *curve["precision"]], color=_BLUE, linewidth=2,
        drawstyle="steps-pre", label=with_interval("average precision (PR AUC)", metrics["pr_auc"]),
    )  # fmt: skip
    precision, recall = (metrics["classes"][PNEUMONIA][name] for name in ("precision", "recall"))
    if precision["value"] is not None:
        axes.plot(
            recall["value"], precision["value"], "o", color=_RED, markersize=7, zorder=3, clip_on=False,
            label=f"operating point {operating_point(report)}:\n"
            f"{with_interval('precision', precision)}\n{with_interval('recall', recall)}",
        )  # fmt: skip
    matrix = np.array(report["confusion_matrix"])
    share = matrix[POSITIVE].sum() / matrix.sum()
    axes.axhline(share, color=_GREY, linestyle="--", linewidth=1, label=f"chance: share of PNEUMONIA {share:.3f}")
    axes.set(xlabel="Recall (sensitivity)", ylabel="Precision (positive predictive value)", aspect="equal")
    _unit(axes)
    axes.legend(loc="lower left", fontsize=8.5, framealpha=0.95)
    return figure


def _draw_band(axes: "Axes", report: dict[str, Any], name: str, x: str) -> None:
    """Shade the pointwise 95 % band of a curve, if the report has one."""
    if not (bands := report.get("bands")):
        return
    grid, low, high = (np.array(bands[name][key], float) for key in (x, "low", "high"))  # None becomes NaN: a gap
    axes.fill_between(grid, low, high, color=_BLUE, alpha=0.18, linewidth=0, label="95 % band, point by point")


def _decision_curve(report: dict[str, Any]) -> "Figure":
    figure, (axes,) = _page("Decision curve", _subject(report))
    curve = report["decision_curve"]
    threshold, model, low, high, everybody = (
        np.array(curve[key], float) for key in ("threshold", "model", "low", "high", "all")
    )
    axes.fill_between(threshold, low, high, color=_BLUE, alpha=0.18, linewidth=0, label="95 % band, point by point")
    axes.plot(threshold, model, color=_BLUE, linewidth=2, label="treat where the model says PNEUMONIA")
    axes.plot(threshold, everybody, color=_RED, linewidth=1.5, linestyle="--", label="treat all")
    axes.axhline(0, color=_GREY, linewidth=1.5, linestyle=":", label="treat none")
    top = float(np.nanmax(np.append(high, model)))
    axes.set(
        xlabel="Probability from which one would treat",
        ylabel="Net benefit (true positives, less weighted false ones)",
        xlim=(-0.01, 1.01),
        ylim=(-0.15 * top - 0.01, 1.05 * top + 0.01),
    )
    _legend_above(axes, columns=2)
    return figure


def _calibration(report: dict[str, Any], predictions: Sequence[dict[str, Any]]) -> "Figure":
    bins, metrics = report["curves"]["calibration"], report["metrics"]
    errors = f"{with_interval('calibration error', metrics['ece'])}, {with_interval('Brier score', metrics['brier'])}"
    subtitle = f"{_subject(report)}\n{errors}"
    figure, (axes, below) = _page("Calibration", subtitle, height_ratios=(3.4, 1))
    observed = np.array([row["observed"] for row in bins])
    ends = np.array([[row["low"], row["high"]] for row in bins]).T  # (2, bins)
    axes.plot([0, 1], [0, 1], color=_GREY, linestyle="--", linewidth=1, label="perfect calibration")
    axes.errorbar(
        [row["probability"] for row in bins], observed, yerr=np.abs(ends - observed), color=_BLUE, fmt="o-",
        markersize=5, capsize=3, linewidth=1.2, label=f"{BINS} equal-width bins, with 95 % intervals",
    )  # fmt: skip
    axes.set(ylabel="Observed share of PNEUMONIA")
    _unit(axes)
    _legend_above(axes, columns=2)
    edges = (np.arange(BINS + 1) / BINS).tolist()
    for label, colour in zip(LABELS, (_BLUE, _RED), strict=True):
        values = [row["probability"] for row in predictions if row["label"] == label and row["probability"] is not None]
        below.hist(values, edges, histtype="stepfilled", alpha=0.35, color=colour, edgecolor=colour, label=label)
    # Most radiographs are at the two ends. On a linear axis the few between them would be invisible.
    below.set(xlabel="Probability of pneumonia", ylabel="Radiographs\n(log scale)", xlim=(-0.01, 1.01), yscale="log")
    below.set_ylim(bottom=0.7)
    below.legend(loc="upper center", fontsize=8.5, ncols=2, framealpha=0.95)
    return figure


def _epochs(columns: dict[str, np.ndarray], name: str, best_epoch: int) -> "Figure":
    from matplotlib.ticker import MaxNLocator

    count = len(columns["epoch"])
    figure, (axes,) = _page(f"{name.capitalize()} by epoch", f"{count} training epoch{'s' if count > 1 else ''}")
    axes.plot(columns["epoch"], columns[name], "o-", color=_BLUE, linewidth=2, markersize=5, label="training")
    validation = columns[f"val_{name}"]
    axes.plot(columns["epoch"], validation, "s-", color=_RED, linewidth=2, markersize=5, label="validation")
    kept = validation[columns["epoch"] == best_epoch][0]
    label = f"weights kept: epoch {best_epoch}, validation {name} {kept:.3f}"
    axes.axvline(best_epoch, color=_GREY, linestyle=":", linewidth=1.5, label=label)
    axes.set(xlabel="Epoch", ylabel={"accuracy": "Accuracy", "loss": "Loss (cross-entropy)"}[name])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if name == "loss":
        axes.set_ylim(bottom=0)
    _legend_above(axes, columns=3)
    return figure


def _page(title: str, subtitle: str, height_ratios: tuple[float, ...] = (1,)) -> "tuple[Figure, list[Axes]]":
    """A figure with heading and caption, and its axes. It does without pyplot, whose state threads would share."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    subtitle = "\n".join(part for line in subtitle.split("\n") for part in textwrap.wrap(line, _LINE))
    layout = ConstrainedLayoutEngine(rect=(0.01, 0.045, 0.98, 0.845 - 0.03 * subtitle.count("\n")))
    figure = Figure(figsize=_SIZE, dpi=_DPI, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    figure.text(0.02, 0.975, title, fontsize=14, fontweight="bold", color=_INK, va="top")
    figure.text(0.02, 0.925, subtitle, fontsize=9, color=_GREY, va="top", linespacing=1.4)
    figure.text(0.02, 0.015, RESEARCH_USE_ONLY, fontsize=8, color=_GREY, style="italic")
    subplots = figure.subplots(len(height_ratios), 1, sharex=True, squeeze=False, height_ratios=height_ratios)
    axes: list[Axes] = list(subplots[:, 0])
    for subplot in axes:
        _plain(subplot)
    return figure, axes


def _plain(axes: "Axes") -> None:
    """Remove the frame on two sides and add a light grid."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="#E5E7EB", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(labelsize=9, colors=_INK)


def _legend_above(axes: "Axes", columns: int) -> None:
    """Put the legend between heading and axes, where it covers nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(-0.01, 1.0), ncols=columns, fontsize=8.5, frameon=False)


def _unit(axes: "Axes") -> None:
    """Both axes from 0 to 1, with room for points on the edge."""
    axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))


def _save(figure: "Figure", path: Path) -> Path:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=_DPI)
    write_atomic(path, content.getvalue())
    return path


def _subject(report: dict[str, Any]) -> str:
    judged = report["judged"]
    what = f"n = {judged['images']:,} radiographs of {judged['patients']:,} patients"
    return f"{report['model']['name']} on {report['data']['split']}: {what}"
