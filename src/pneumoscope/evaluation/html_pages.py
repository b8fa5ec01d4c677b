"""Pages of one HTML file each, without scripts: the report of an evaluation and the audit of a collection."""

import base64
import html
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pneumoscope import RESEARCH_USE_ONLY, __version__
from pneumoscope.io.atomic import write_atomic


def write_page(path: str | Path, title: str, body: Sequence[str]) -> Path:
    """Write a page.

    Args:
        path: its folder is created if missing.
        title: escaped.
        body: HTML of its parts. A footer with version and notice is added.

    Returns:
        ``path``.
    """
    path = Path(path)
    head = (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
    )
    footer = f"<footer>Written by pneumoscope {escape(__version__)}. {RESEARCH_USE_ONLY}</footer>"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, (head + "\n".join([*body, footer]) + "\n</body>\n</html>\n").encode("utf-8", "replace"))
    return path


def make_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """An HTML table whose first column names the row."""
    top = "<thead><tr>" + "".join(f'<th scope="col">{escape(cell)}</th>' for cell in head) + "</tr></thead>"
    lines = (
        f'<tr><th scope="row">{escape(name)}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>"
        for name, *cells in rows
    )
    return "<table>\n" + (top + "\n" if head else "") + "<tbody>\n" + "\n".join(lines) + "\n</tbody>\n</table>"


def make_wide_table(head: Sequence[str], rows: Sequence[Sequence[str]], small: bool = False) -> str:
    """A table of numbers, whose cells do not break; it scrolls where the page is narrow."""
    return f'<div class="numbers{" small" if small else ""}">{make_table(head, rows)}</div>'


def embed_image(data: bytes, media_type: str, caption: str) -> str:
    """A figure with the bytes of an image file inside; its caption is also its alternative text."""
    name, content = escape(caption), base64.b64encode(data).decode()
    image = f'<img src="data:{media_type};base64,{content}" alt="{name}">'
    return f"<figure>{image}<figcaption>{name}</figcaption></figure>"


def number_text(value: float | None) -> str:
    """Three digits; an undefined value is "undefined"."""
    return "undefined" if value is None else f"{value:.3f}"


def ends_text(estimate: Mapping[str, Any]) -> str:
    """The interval from ``low`` to ``high``; empty if there is none."""
    return "" if estimate["low"] is None else f"{estimate['low']:.3f} to {estimate['high']:.3f}"


def escape(value: object) -> str:
    """Text for HTML."""
    return html.escape(str(value))


_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; color: #111827; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.6rem; margin-bottom: .5rem; }
h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 .25rem; } h3 + p { margin: 0 0 .5rem; }
.notice { background: #fef3c7; border-left: 4px solid #d97706; padding: .5rem .75rem; margin: 0; }
.note, footer, figcaption { color: #4b5563; font-size: .875rem; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid #e5e7eb; vertical-align: top; }
td { overflow-wrap: anywhere; }
.numbers { overflow-x: auto; } .numbers td { white-space: nowrap; overflow-wrap: normal; }
.small { font-size: .8rem; } .small td { white-space: normal; min-width: 4.5rem; }
thead th { border-bottom: 2px solid #9ca3af; font-size: .875rem; }
tbody th { font-weight: 500; }
.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); gap: 1rem; }
.names { overflow-wrap: anywhere; margin-top: -.75rem; }
.examples { display: flex; flex-wrap: wrap; gap: .5rem; } .examples figure { width: 12.5rem; }
figure { margin: 0; break-inside: avoid; overflow-wrap: anywhere; }
img { width: 100%; height: auto; border: 1px solid #e5e7eb; border-radius: 6px; }
footer { margin-top: 2rem; border-top: 1px solid #e5e7eb; padding-top: .75rem; }
"""
