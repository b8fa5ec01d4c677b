"""report.json -> rows of a table, and one HTML page that needs no other file. Every number comes from the report."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pneumoscope import RESEARCH_USE_ONLY
from pneumoscope.evaluation.bootstrap import Estimate
from pneumoscope.evaluation.corruptions import KINDS, LEVELS, name_of
from pneumoscope.evaluation.html_pages import (
    embed_image,
    ends_text,
    escape,
    make_table,
    make_wide_table,
    number_text,
    write_page,
)
from pneumoscope.evaluation.metric_registry import titled_estimates
from pneumoscope.inference.bundle import scope_of
from pneumoscope.radiographs.folders import join_counts

#: File names of the figures and what they show, in the order of the page.
FIGURES = {
    "confusion_matrix.png": "Confusion matrix at the operating point",
    "roc.png": "Receiver operating characteristic (ROC)",
    "precision_recall.png": "Precision and recall of PNEUMONIA",
    "decision_curve.png": "Decision curve: net benefit by the probability from which one would treat",
    "calibration.png": "Calibration of the probability of pneumonia",
    "accuracy.png": "Accuracy by training epoch",
    "loss.png": "Loss by training epoch",
}


def render_table(report: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows of name, value and 95 % interval, for people. An estimate without a value is "undefined"."""
    return [(title, number_text(estimate["value"]), ends_text(estimate)) for title, estimate in _estimates(report)]


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


def report_html(
    report: dict[str, Any], figures: Sequence[str | Path], path: str | Path, errors: Sequence[tuple[str, bytes]] = ()
) -> Path:
    """Write an evaluation as one HTML page that needs no other file.

    Args:
        report: from :func:`pneumoscope.evaluation.report_files.read_report`.
        figures: PNG files, embedded in this order.
        errors: wrong verdicts to look at: caption and JPEG bytes of each. With them the page contains radiographs.
        path: of the page; its folder is created if missing.

    Returns:
        ``path``.
    """
    title = escape(f"{report['model']['name']}: evaluation on {report['data']['split']}")
    body = [
        f"<h1>{title}</h1>",
        f'<p class="notice">{RESEARCH_USE_ONLY} {escape(scope_of(report["model"]["name"]))}</p>',
        *(['<p class="notice">This page contains radiographs: keep it as you keep them.</p>'] if errors else []),
        "<h2>Estimates</h2>",
        *_metrics_section(report),
        "<h2>Model and radiographs</h2>",
        make_table([], _facts(report)),
        *(
            ["<h2>Figures</h2>", '<div class="figures">', *map(_figure, map(Path, figures)), "</div>"]
            if figures
            else []
        ),
        *_thresholds_section(report),
        *_subgroups_section(report),
        *_robustness_section(report),
        *_errors_section(errors),
        *_failed_section(report),
    ]
    return write_page(path, title, body)


def _short(estimate: Mapping[str, Any]) -> str:
    ends = ends_text(estimate)
    return number_text(estimate["value"]) + (f" ({ends})" if ends else "")


def operating_point(report: dict[str, Any]) -> str:
    """The threshold with three digits."""
    return f"{report['model']['threshold']:.3g}"


def with_interval(name: str, estimate: Estimate) -> str:
    """Name, value and interval as one phrase for a legend."""
    ends = ends_text(estimate)
    return f"{name} {number_text(estimate['value'])}" + (f" (95 % CI {ends})" if ends else "")


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
    table = make_wide_table(head, rows)
    return [table, f'<p class="note">{escape(note)}</p>']


def _cells(estimate: Estimate) -> tuple[str, str, str, str]:
    method = estimate["method"].split(",")[0]
    return number_text(estimate["value"]), ends_text(estimate) or "–", f"{estimate['n']:,}", method


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


def _thresholds_section(report: dict[str, Any]) -> list[str]:
    rows = report.get("thresholds")
    if not rows:
        return []
    prevalences = [estimate["prevalence"] for estimate in rows[0]["ppv"]]
    head = ["Threshold", "Sensitivity", "Specificity"]
    head += [f"{value} at {share:.0%}" for share in prevalences for value in ("PPV", "NPV")]
    table = [
        (
            f"{row['threshold']:.3g}" + (" (operating point)" if row["operating_point"] else ""),
            _short(row["sensitivity"]),
            _short(row["specificity"]),
            *(_short(row[value][place]) for place in range(len(prevalences)) for value in ("ppv", "npv")),
        )
        for row in rows
    ]
    note = (
        "PPV and NPV: positive and negative predictive value where this share of the patients has pneumonia, if "
        "sensitivity and specificity are the same there. In brackets the 95 % interval by bootstrap over patients."
    )
    return [
        "<h2>Other thresholds</h2>",
        make_wide_table(head, table, small=True),
        f'<p class="note">{note}</p>',
    ]


def _subgroups_section(report: dict[str, Any]) -> list[str]:
    subgroups = report.get("subgroups")
    if not subgroups:
        return []
    head = ["Subgroup", "Radiographs", "Patients", "Sensitivity", "Specificity", "ROC AUC"]
    rows = [
        (
            f"{group['attribute']}: {group['value']}",
            f"{group['images']:,}",
            f"{group['patients']:,}",
            *(_short(group[name]) for name in ("sensitivity", "specificity", "roc_auc")),
        )
        for group in subgroups
    ]
    note = "At the operating point. Many groups are compared: some differ by chance."
    return [
        "<h2>Subgroups</h2>",
        make_wide_table(head, rows),
        f'<p class="note">{note}</p>',
    ]


def _robustness_section(report: dict[str, Any]) -> list[str]:
    robustness = report.get("robustness")
    if not robustness:
        return []
    changes = [(name, figures) for part in ("shifts", "style") for name, figures in robustness[part].items()]
    rows = [(name, _short(_area(figures)), number_text(figures["balanced_accuracy"])) for name, figures in changes]
    corrupted = [
        (kind, *(number_text(robustness["corruptions"][name_of(kind, level)]["roc_auc"]) for level in LEVELS))
        for kind in KINDS
    ]
    levels = ["ROC AUC after a corruption", *(f"level {level}" for level in LEVELS)]
    note = (
        "The same radiographs, changed. Shifts and styles: pneumoscope.evaluation.robustness and style_proxies; "
        "corruptions at the levels of MedMNIST-C, at 224 pixels."
    )
    return [
        "<h2>Robustness</h2>",
        f'<p class="note">{note}</p>',
        make_wide_table(["Change", "ROC AUC", "Balanced accuracy"], rows),
        make_wide_table(levels, corrupted),
    ]


def _area(figures: dict[str, Any]) -> dict[str, float | None]:
    """The AUC under a change and its interval, by the keys of an estimate."""
    return {"value": figures["roc_auc"], "low": figures["roc_auc_low"], "high": figures["roc_auc_high"]}


def _errors_section(errors: Sequence[tuple[str, bytes]]) -> list[str]:
    if not errors:
        return []
    figures = "\n".join(embed_image(data, "image/jpeg", caption) for caption, data in errors)
    note = "The wrong verdicts that the model is surest of, with the evidence for them."
    return ["<h2>Worst errors</h2>", f'<p class="note">{note}</p>', f'<div class="figures">{figures}</div>']


def _failed_section(report: dict[str, Any]) -> list[str]:
    rows = [(failed["path"], failed["status"], failed["reason"]) for failed in report["failed"]]
    return ["<h2>Radiographs not judged</h2>", make_table(["Path", "Status", "Reason"], rows)] if rows else []


def _figure(path: Path) -> str:
    return embed_image(path.read_bytes(), "image/png", FIGURES.get(path.name, path.stem))
