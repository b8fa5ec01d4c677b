"""audit.json -> rows for the terminal, and one HTML page with example images. Every number comes from the audit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pneumoscope.data.manifest import Manifest
from pneumoscope.errors import ImageError
from pneumoscope.evaluation.html_pages import (
    embed_image,
    ends_text,
    escape,
    make_table,
    make_wide_table,
    number_text,
    write_page,
)
from pneumoscope.io.names import printable
from pneumoscope.radiographs import read_radiograph
from pneumoscope.radiographs.folders import join_counts

_STATISTICS = {
    "width": "width in pixels", "height": "height in pixels", "ratio": "width over height", "bytes": "bytes",
    "mean": "mean gray level", "deviation": "standard deviation of the gray levels",
    "black": "share of black pixels", "white": "share of white pixels",
}  # fmt: skip
_MAX_GROUPS, _MAX_NAMES = 20, 4  # of one finding on the page; audit.json has all
_EXAMPLE_SIDE = 200  # pixels


def render_audit(report: dict[str, Any]) -> list[tuple[str, str, str, str]]:
    """Rows of signal, ROC AUC, 95 % interval and level of each shortcut, for people."""
    return [
        (shortcut["title"], number_text(auc["value"]), ends_text(auc) or "–", shortcut["level"])
        for shortcut in report["shortcuts"]
        for auc in (shortcut["roc_auc"],)
    ]


def audit_html(report: dict[str, Any], manifest: Manifest, path: str | Path) -> Path:
    """Write an audit as one HTML page that needs no other file.

    The page contains some of the radiographs, small. Keep it as you keep them.

    Args:
        report: from :func:`pneumoscope.evaluation.audit.audit.audit_data`.
        manifest: that was audited; the examples are read again.
        path: of the page; its folder is created if missing.

    Returns:
        ``path``.
    """
    data = report["data"]
    labels = ", ".join(f"{count:,} {label}" for label, count in data["labels"].items())
    body = [
        "<h1>Audit of labelled radiographs</h1>",
        f'<p class="notice">{escape(report["notice"])} This page contains radiographs: keep it as you keep them.</p>',
        make_table([], _facts(data, labels)),
        "<h2>Findings</h2>",
        *_findings_section(report["findings"]),
        "<h2>What tells the labels apart without the lungs</h2>",
        *_shortcuts_section(report, manifest),
        "<h2>Statistics by label</h2>",
        '<p class="note">Lower quartile, median, upper quartile.</p>',
        *_statistics_section(report["statistics"]),
    ]
    return write_page(path, "pneumoscope: audit", body)


def _facts(data: dict[str, Any], labels: str) -> list[tuple[str, str]]:
    return [
        ("Data", data["root"]),
        ("Radiographs", f"{data['images']:,} ({labels}), {data['usable']:,} of them usable"),
        ("Patients", f"{data['patients']:,} ({data['patients_from']})"),
        ("Splits", ", ".join(f"{count:,} {split}" for split, count in data["splits"].items())),
        *([("Found and not used", join_counts(data["unused"]))] if data["unused"] else []),
        *(("How the table was read", sentence) for sentence in data["mapping"]),
        ("Fingerprint, SHA-256", data["sha256"]),
    ]


def _findings_section(findings: Sequence[dict[str, Any]]) -> list[str]:
    if not findings:
        return ["<p>Nothing was found.</p>"]
    parts = []
    for finding in findings:
        parts.append(f"<p><strong>{escape(finding['severity'])}</strong>: {escape(finding['sentence'])}</p>")
        if names := _names(finding["items"]):
            parts.append(f'<p class="note names">{escape(names)}</p>')
    return parts


def _names(items: Sequence[Sequence[str]]) -> str:
    """The first files, for people."""
    groups = [
        " = ".join([*group[:_MAX_NAMES], *([f"{len(group) - _MAX_NAMES} more"] if len(group) > _MAX_NAMES else [])])
        for group in items[:_MAX_GROUPS]
        if group
    ]
    more = [f"and {len(items) - _MAX_GROUPS:,} more, all in audit.json"] if len(items) > _MAX_GROUPS else []
    return "; ".join([*groups, *more])


def _shortcuts_section(report: dict[str, Any], manifest: Manifest) -> list[str]:
    shortcuts, rows = report["shortcuts"], render_audit(report)
    parts = [make_wide_table(["Signal", "ROC AUC", "95 % interval", "Shortcut"], rows)]
    if shortcuts:
        auc = shortcuts[0]["roc_auc"]
        note = (
            "Logistic regressions, cross-validated by patient; 0.5 is chance. Intervals: "
            f"{auc['method']}; {auc['n']:,} radiographs."
        )
        parts.append(f'<p class="note">{escape(note)}</p>')
    for shortcut in shortcuts:
        if shortcut["examples"]:
            parts += [f"<h3>{escape(shortcut['title'].capitalize())}</h3>", f"<p>{escape(shortcut['sentence'])}</p>"]
            parts += [_examples(label, paths, manifest) for label, paths in shortcut["examples"].items()]
    return parts


def _examples(label: str, paths: Sequence[str], manifest: Manifest) -> str:
    figures = [_example(manifest.root / path) for path in paths]
    title = f'<p class="note">Most typical of {escape(label)} by this signal alone, and labelled so:</p>'
    return f'{title}<div class="examples">{"".join(figures)}</div>'


def _example(path: Path) -> str:
    import cv2

    try:
        pixels = read_radiograph(path, any_age=True).pixels
    except ImageError as error:  # it was readable a moment ago
        return f"<p>{escape(error)}</p>"
    scale = _EXAMPLE_SIDE / max(pixels.shape)
    small = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return embed_image(cv2.imencode(".jpg", small)[1].tobytes(), "image/jpeg", printable(path.name))


def _statistics_section(statistics: dict[str, dict[str, list[float]]]) -> list[str]:
    if not statistics:
        return ["<p>No usable radiograph.</p>"]
    labels = list(next(iter(statistics.values())))
    rows = [
        (_STATISTICS[name], *(", ".join(f"{value:,.4g}" for value in by_label.get(label, ())) for label in labels))
        for name, by_label in statistics.items()
    ]
    return [make_table(["", *labels], rows)]
