"""report.json -> rows of a table, and one HTML page that needs no other file. Every number comes from the report."""

import base64
import html
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pneumoscope import RESEARCH_USE_ONLY
from pneumoscope.evaluation.bootstrap import Estimate
from pneumoscope.evaluation.metric_registry import titled_estimates
from pneumoscope.inference.bundle import scope_of
from pneumoscope.io.atomic import write_atomic
from pneumoscope.radiographs.folders import join_counts

#: File names of the figures and what they show, in the order of the page.
FIGURES = {
    "confusion_matrix.png": "Confusion matrix at the operating point",
    "roc.png": "Receiver operating characteristic (ROC)",
    "precision_recall.png": "Precision and recall of PNEUMONIA",
    "calibration.png": "Calibration of the probability of pneumonia",
    "accuracy.png": "Accuracy by training epoch",
    "loss.png": "Loss by training epoch",
}


def render_table(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows of name, value and 95 % interval, for people. An estimate without a value is "undefined"."""
    return [(title, _number(estimate["value"]), _ends(estimate)) for title, estimate in _estimates(report)]


def render_comparison(comparison: dict[str, Any]) -> list[tuple[str, list[tuple[str, ...]]]]:
    """Titled tables for people: all models side by side, then a table for each pair.

    Args:
        comparison: from :func:`pneumoscope.evaluation.compare.compare_reports`.

    Returns:
        (title, rows) of each table; the rows of one table have the same number of cells.
    """
    models = _with_unique_names(comparison["models"])
    columns = [{title: _short(estimate) for title, estimate in _estimates(model)} for model in models]
    titles = dict.fromkeys(title for column in columns for title in column)  # of all models, in order
    rows: list[tuple[str, ...]] = [
        ("", *(f"{model['name']}@{model['threshold']:.3g}" for model in models)),
        ("Split", *(model["split"] for model in models)),
        ("Radiographs", *(f"{model['images']:,}" for model in models)),
        *((title, *(column.get(title, "not recorded") for column in columns)) for title in titles),
    ]
    tables = [("Value and 95 % interval of each model at its operating point", rows)]
    for pair in comparison["pairs"]:
        a, b = models[pair["a"]]["name"], models[pair["b"]]["name"]
        title = f"a = {a}, b = {b}: {pair['images']:,} radiographs that both judged"
        tables.append((title + (f", {pair['left_out']:,} left out" if pair["left_out"] else ""), _pair_rows(pair)))
    return tables


def _with_unique_names(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add the beginning of the file's hash to the names of models with equal names."""
    names = [model["name"] for model in models]
    return [
        {**model, "name": f"{model['name']} {model['sha256'][:8]}"} if names.count(model["name"]) > 1 else model
        for model in models
    ]


def report_html(report: dict[str, Any], figures: Sequence[str | Path], path: str | Path) -> Path:
    """Write an evaluation as one HTML page that needs no other file.

    Args:
        report: from :func:`pneumoscope.evaluation.report_files.read_report`.
        figures: PNG files, embedded in this order.
        path: of the page; its folder is created if missing.

    Returns:
        ``path``.
    """
    path = Path(path)
    title = _text(f"{report['model']['name']}: evaluation on {report['data']['split']}")
    body = [
        f"<h1>{title}</h1>",
        f'<p class="notice">{RESEARCH_USE_ONLY} {_text(scope_of(report["model"]["name"]))}</p>',
        "<h2>Estimates</h2>",
        *_metrics_section(report),
        "<h2>Model and radiographs</h2>",
        _table([], _facts(report)),
        *(
            ["<h2>Figures</h2>", '<div class="figures">', *map(_embedded, map(Path, figures)), "</div>"]
            if figures
            else []
        ),
        *_failed_section(report),
        f"<footer>Written by pneumoscope {_text(report['version'])}. {RESEARCH_USE_ONLY}</footer>",
    ]
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (head + "\n".join(body) + "\n</body>\n</html>\n").encode())
    return path


def _short(estimate: Estimate) -> str:
    ends = _ends(estimate)
    return _number(estimate["value"]) + (f" ({ends})" if ends else "")


def operating_point(report: dict[str, Any]) -> str:
    """The threshold with three digits."""
    return f"{report['model']['threshold']:.3g}"


def with_interval(name: str, estimate: Estimate) -> str:
    """Name, value and interval as one phrase for a legend."""
    ends = _ends(estimate)
    return f"{name} {_number(estimate['value'])}" + (f" (95 % CI {ends})" if ends else "")


def _number(value: float | None) -> str:
    return "undefined" if value is None else f"{value:.3f}"


def _ends(estimate: Estimate) -> str:
    return "" if estimate["low"] is None else f"{estimate['low']:.3f} to {estimate['high']:.3f}"


def _estimates(report: dict[str, Any]) -> Iterator[tuple[str, Estimate]]:
    """Each estimate with its title."""
    for metric, estimate in titled_estimates(report["metrics"]):
        yield metric.title, estimate
        # Only some models tell bacterial from viral pneumonia. Readers compare this AUC with the one before it.
        if metric.key == "roc_auc" and report.get("subtypes"):
            yield "ROC AUC of bacterial against viral", report["subtypes"]


def _pair_rows(pair: dict[str, Any]) -> list[tuple[str, ...]]:
    if not pair["images"]:
        return [("No radiograph in common", "not comparable")]
    p = pair["mcnemar_p"]
    return [
        ("Verdicts that differ", f"{pair['disagreements']:,}"),
        ("Right in a alone", f"{pair['only_a_correct']:,}"),
        ("Right in b alone", f"{pair['only_b_correct']:,}"),
        ("p of equal accuracy (McNemar, exact)", "< 0.001" if p < 0.001 else f"{p:.3f}"),
        ("ROC AUC, a minus b", _short(pair["auc_difference"])),
    ]


def _metrics_section(report: dict[str, Any]) -> list[str]:
    estimates = list(_estimates(report))
    rows = [(title, *_cells(estimate)) for title, estimate in estimates]
    methods = sorted({estimate["method"] for _, estimate in estimates})
    note = f"At the operating point {operating_point(report)}. Intervals are 95 % intervals: {'; '.join(methods)}."
    head = ["Estimate", "Value", "95 % interval", "Radiographs", "Interval by"]
    table = f'<div class="numbers">{_table(head, rows)}</div>'
    return [table, f'<p class="note">{_text(note)}</p>']


def _cells(estimate: Estimate) -> tuple[str, str, str, str]:
    method = estimate["method"].split(",")[0]
    return _number(estimate["value"]), _ends(estimate) or "–", f"{estimate['n']:,}", method


def _facts(report: dict[str, Any]) -> list[tuple[str, str]]:
    model, data = report["model"], report["data"]
    matrix = report["confusion_matrix"]
    return [
        ("Model", model["name"]),
        ("Model file, SHA-256", model["sha256"]),
        ("Operating point", f"PNEUMONIA from probability {operating_point(report)}"),
        ("Data folder", data["root"]),
        ("Size of the images, median", data["median_size"] or "not recorded"),
        ("Split", data["split"]),
        ("Split, fingerprint", data["split_fingerprint"] or "not recorded"),
        ("Radiographs", f"{data['images']:,} ({', '.join(f'{n:,} {label}' for label, n in data['labels'].items())})"),
        ("Patients", _patients(data)),
        *([("Found and not used", join_counts(data["unused"]))] if data.get("unused") else []),
        *(("Warning", sentence) for sentence in data.get("warnings", ())),
        ("Confusion matrix", f"TN {matrix[0][0]:,}, FP {matrix[0][1]:,}, FN {matrix[1][0]:,}, TP {matrix[1][1]:,}"),
        ("Marked uncertain", f"{report.get('uncertain', 0):,} (counted with their verdict)"),
        ("Not judged", f"{len(report['failed']):,} (in no estimate)"),
    ]


def _patients(data: dict[str, Any]) -> str:
    both = data.get("patients_with_both_labels")
    source = f" ({data['patients_from']})" if "patients_from" in data else ""
    return f"{data['patients']:,}{source}" + (f", {both:,} of them with images of both labels" if both else "")


def _failed_section(report: dict[str, Any]) -> list[str]:
    rows = [(failed["path"], failed["status"], failed["reason"]) for failed in report["failed"]]
    return ["<h2>Radiographs not judged</h2>", _table(["Path", "Status", "Reason"], rows)] if rows else []


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table whose first column names the row."""
    top = "<thead><tr>" + "".join(f'<th scope="col">{_text(cell)}</th>' for cell in head) + "</tr></thead>"
    lines = (
        f'<tr><th scope="row">{_text(name)}</th>' + "".join(f"<td>{_text(cell)}</td>" for cell in cells) + "</tr>"
        for name, *cells in rows
    )
    return "<table>\n" + (top + "\n" if head else "") + "<tbody>\n" + "\n".join(lines) + "\n</tbody>\n</table>"


def _embedded(path: Path) -> str:
    name = _text(FIGURES.get(path.name, path.stem))
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<figure><img src="data:image/png;base64,{data}" alt="{name}"><figcaption>{name}</figcaption></figure>'


def _text(value: object) -> str:
    return html.escape(str(value))


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #111827; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .5rem; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
.notice { background: #fef3c7; border-left: 4px solid #d97706; padding: .5rem .75rem; margin: 0; }
.note, footer, figcaption { color: #4b5563; font-size: .875rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid #e5e7eb; vertical-align: top; }
td { overflow-wrap: anywhere; }
.numbers { overflow-x: auto; } .numbers td { white-space: nowrap; overflow-wrap: normal; }
thead th { border-bottom: 2px solid #9ca3af; font-size: .875rem; }
tbody th { font-weight: 500; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem; }
figure { margin: 0; break-inside: avoid; }
img { width: 100%; height: auto; border: 1px solid #e5e7eb; border-radius: 6px; }
footer { margin-top: 2rem; border-top: 1px solid #e5e7eb; padding-top: .75rem; }
"""
