"""Predictions and their overlays -> one HTML page to look through, without scripts or network access."""

import html
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

from pneumoscope import RESEARCH_USE_ONLY
from pneumoscope.inference.bundle import scope_of
from pneumoscope.inference.prediction import UNCERTAIN, Prediction
from pneumoscope.io.atomic import write_atomic

_STYLE = """
:root { color-scheme: light dark; --bg: #f6f7f9; --card: #fff; --ink: #1a1d21; --soft: #5a626c; --line: #d9dde3;
  --PNEUMONIA: #b3261e; --NORMAL: #1b6e3c; --none: #7a4d00; }
@media (prefers-color-scheme: dark) { :root { --bg: #14171a; --card: #1e2226; --ink: #eceff2; --soft: #a3acb6;
  --line: #343a41; --PNEUMONIA: #ff8a80; --NORMAL: #7fd6a0; --none: #ffcc80; } }
body { margin: 0; padding: 1.5rem; background: var(--bg); color: var(--ink); font: 16px/1.45 system-ui, sans-serif; }
header { max-width: 70rem; margin: 0 auto 1.5rem; } h1 { margin: 0 0 .3rem; font-size: 1.5rem; }
p { margin: .3rem 0; } .soft { color: var(--soft); }
main { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(19rem, 1fr)); max-width: 90rem;
  margin: auto; }
article { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; overflow: hidden; }
article img { display: block; width: 100%; aspect-ratio: 4 / 3; object-fit: contain; background: #181818; }
article > div { padding: .7rem .9rem; } h2 { margin: 0; font-size: 1.05rem; overflow-wrap: anywhere; }
.bar { position: relative; height: .5rem; margin: .5rem 0; background: var(--line); border-radius: .25rem; }
.bar span { position: absolute; inset: 0 auto 0 0; border-radius: .25rem; background: currentColor; }
.bar i { position: absolute; top: -.2rem; bottom: -.2rem; width: 2px; background: var(--ink); }
.PNEUMONIA { color: var(--PNEUMONIA); } .NORMAL { color: var(--NORMAL); } .none { color: var(--none); }
.name { font-size: .85rem; color: var(--soft); overflow-wrap: anywhere; }
"""


def write_contact_sheet(results: Sequence[tuple[Prediction, Path | None]], path: str | Path) -> Path:
    """Write the page.

    Args:
        results: predictions, each with the path of its overlay, or None.
        path: of the page; links to the overlays are relative to it.
    """
    path = Path(path)
    counts = Counter(prediction.label or prediction.status for prediction, _ in results)
    uncertain = sum(prediction.status == UNCERTAIN for prediction, _ in results)
    summary = ", ".join(f"{count} {html.escape(name)}" for name, count in sorted(counts.items()))
    summary += f" ({uncertain} uncertain)" if uncertain else ""
    model = html.escape(results[0][0].model) if results else "-"
    scope = scope_of(results[0][0].model) if results else ""
    cards = "\n".join(_card(prediction, overlay, path.parent) for prediction, overlay in results)
    page = f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>pneumoscope: {len(results)} radiographs</title><style>{_STYLE}</style></head>
<body><header><h1>{len(results)} radiographs: {summary or "none"}</h1>
<p>Model <b>{model}</b>. The bar is the probability of pneumonia, its mark the operating point; the colours show
where the evidence for the verdict lies, relative to its maximum in that image.</p>
<p class="soft">{RESEARCH_USE_ONLY} {scope}</p>
<p class="soft">A heatmap is not a segmentation and does not prove the verdict.</p></header>
<main>
{cards}
</main></body></html>
"""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, page.encode("utf-8", "replace"))
    return path


def _card(prediction: Prediction, overlay: Path | None, folder: Path) -> str:
    full_name = _escape_name(prediction.path)
    file_name = _escape_name(Path(prediction.path).name)
    css_class = prediction.label or "none"
    title = prediction.label or prediction.status
    if prediction.status == UNCERTAIN:
        title += " (uncertain)"
    picture = ""
    if overlay:
        link = html.escape(quote(os.fsencode(Path(os.path.relpath(overlay, folder)).as_posix())))
        picture = f'<a href="{link}"><img loading="lazy" src="{link}" alt="Heatmap of {file_name}: {title}"></a>'
    bar = ""
    if prediction.probability is not None:
        probability, threshold = prediction.probability, prediction.threshold
        title += f", {probability:.3f}"
        bar = (
            f'<div class="bar {css_class}" role="img" aria-label="probability of pneumonia {probability:.3f}, '
            f'operating point {threshold:.3f}"><span style="width:{probability:.1%}"></span>'
            f'<i style="left:{threshold:.1%}"></i></div>'
        )
    remarks = f"<p>{html.escape(prediction.remarks)}</p>" if prediction.remarks else ""
    return (
        f'<article>{picture}<div><h2 class="{css_class}">{html.escape(title)}</h2>{bar}{remarks}'
        f'<p class="name" title="{full_name}">{file_name}</p></div></article>'
    )


def _escape_name(name: str) -> str:
    """A file name for HTML. Bytes that are not UTF-8 become question marks."""
    return html.escape(name.encode("utf-8", "replace").decode())
