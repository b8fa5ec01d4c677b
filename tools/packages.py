"""The list of packages and files in docs/ARCHITECTURE.md, from the docstrings."""

import ast
import re
from pathlib import Path

from page_parts import paragraph, table

SOURCE = Path(__file__).parents[1] / "src" / "pneumoscope"
#: Packages in the order of the imports, from the images up; the files beside them come last.
PACKAGES = (
    "radiographs", "radiographs/dicom", "inference", "output", "data", "evaluation", "evaluation/audit", "training",
    "training/export", "service", "cluster", "pacs", "cli", "io", "samples",
)  # fmt: skip


def packages() -> list[str]:
    """For each package its purpose, then a table of its files; last the files of the root."""
    lines = []
    for name in PACKAGES:
        lines += [
            f"### {name}",
            "",
            *paragraph(plain(read_docstring(SOURCE / name / "__init__.py"))),
            *_files(SOURCE / name),
        ]
    return [*lines, "### Files beside the packages", "", *_files(SOURCE)][:-1]


def _files(folder: Path) -> list[str]:
    rows = [
        [f"`{path.name}`", _first_sentence(read_docstring(path))]
        for path in sorted(folder.glob("*.py"))
        if path.name != "__init__.py" or folder == SOURCE
    ]
    return table(["file", "what it does"], rows) if rows else []


def read_docstring(path: Path) -> str:
    """The docstring of a Python file, without importing it."""
    return ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""


def _first_sentence(text: str) -> str:
    summary = plain(text.split("\n\n")[0])
    return re.split(r"(?<=[.:])\s+(?=[A-Z])", summary)[0].rstrip(".:").replace("|", "or")


def plain(text: str) -> str:
    """A docstring's Sphinx roles and double backquotes as Markdown code, in one line.

    >>> plain("Reads a :class:`~pneumoscope.data.Manifest`, see ``manifest.py``.")
    'Reads a `Manifest`, see `manifest.py`.'
    """
    text = re.sub(r":[a-z]+:`~?(?:[\w.]*\.)?([\w.]+)`", r"`\1`", text)
    parts = " ".join(text.replace("``", "`").split()).split("`")
    parts[::2] = [part.replace("<", "&lt;") for part in parts[::2]]  # outside of code, Markdown takes < for HTML
    return "`".join(parts)
