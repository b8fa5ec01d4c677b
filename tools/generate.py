"""Write the generated pages, and the generated blocks in pages that are written by hand.

    python tools/generate.py                   # every page and block; also: make docs
    python tools/generate.py models speed      # only these
    python tools/generate.py --pictures        # the pictures, from the shipped models and the page (minutes)

A generated page names its command in the first lines. A generated block lies between two comments, which name it too.
``tests/project/test_docs.py`` fails if a page or a block is not current, or if a picture is stale.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # the modules beside this one, also when a test loads it
import command_help
import conformance
import dicom_damage
import experiment_log
import folder_tables
import model_cards
import packages
import scaling
import service_load
import shortcuts

from pneumoscope.errors import CODES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
BLOCK = re.compile(r"(<!-- generated (\S+): python tools/generate\.py -->\n).*?(<!-- end generated -->)", re.DOTALL)


def main() -> None:
    """Write what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", metavar="PAGE", help=f"{', '.join(PAGES)}; all of them by default")
    parser.add_argument("--pictures", action="store_true", help="make the pictures, nothing else")
    arguments = parser.parse_args()
    if arguments.pictures and arguments.pages:
        parser.error("expected PAGE or --pictures, received both: leave one of them out")
    if unknown := sorted(set(arguments.pages) - set(PAGES)):
        parser.error(f"expected pages among {', '.join(PAGES)}, received {', '.join(unknown)}")
    if arguments.pictures:
        import pictures  # needs Chromium

        pictures.write_all()
        return
    for path, text in pages(arguments.pages or PAGES).items():
        path.write_text(text, encoding="utf-8")
        print(path.relative_to(ROOT))


def pages(names: Iterable[str] = ()) -> dict[Path, str]:
    """Generated files with their content; all of them without names."""
    written = {}
    for name in names or PAGES:
        file, make = PAGES[name]
        written[ROOT / file] = make()
    return written


def _measured(name: str) -> dict | list:
    path = ROOT / "experiments" / "log.json" if name == "log" else ROOT / "benchmarks" / "results" / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8"))


def _from_results(make: Callable[..., str], *names: str) -> Callable[[], str]:
    return lambda: make(*(_measured(name) for name in names))


def _with_blocks(file: str) -> Callable[[], str]:
    """A page written by hand, with its generated blocks made again."""

    def make() -> str:
        text = (ROOT / file).read_text(encoding="utf-8")
        return BLOCK.sub(lambda match: "\n".join([match[1], *BLOCKS[match[2]](), "", match[3]]), text)

    return make


def _readme_tables() -> list[str]:
    return experiment_log.readme_tables(_measured("reference_runs"), _measured("log"))


def _script() -> list[str]:
    text = (DOCS / "examples" / "onnx_alone.py").read_text(encoding="utf-8")
    return ["```python", text.rstrip("\n"), "```"]


def _codes() -> list[str]:
    return ["| code | when |", "|---|---|", *(f"| `{code}` | {when} |" for code, when in CODES.items())]


#: Blocks by the name in their first comment.
BLOCKS: dict[str, Callable[[], list[str]]] = {
    "headline": model_cards.headline,
    "packages": packages.packages,
    "results": _readme_tables,
    "codes": _codes,
    "onnx_alone.py": _script,
    "damaged-frames": lambda: dicom_damage.damage_table(_measured("damaged_frames")),
    "dicom-services": conformance.services,
    "dicom-statuses": conformance.statuses,
    "dicom-concepts": conformance.concepts,
    "dicom-series": conformance.series,
    "shortcuts": shortcuts.signals,
    "hostile-headers": lambda: dicom_damage.hostile_table(_measured("hostile_headers")),
}

#: Pages by the name that the command line takes: file and function.
PAGES: dict[str, tuple[str, Callable[[], str]]] = {
    "readme": ("README.md", _with_blocks("README.md")),
    "architecture": ("docs/ARCHITECTURE.md", _with_blocks("docs/ARCHITECTURE.md")),
    "help": ("docs/help.md", command_help.help_page),
    "models": ("docs/models.md", _from_results(model_cards.models_page, "elsewhere", "full_size")),
    "speed": (
        "docs/speed.md",
        _from_results(
            folder_tables.speed_page,
            "folder_speed",
            "profile_folder",
            "runtimes",
            "training_speed",
            "reference_training",
        ),
    ),
    "scaling": ("docs/scaling.md", _from_results(scaling.scaling_page, "scaling")),
    "service-load": (
        "docs/service-load.md",
        _from_results(service_load.service_load_page, "load_service", "fuzz_service"),
    ),
    "experiments": ("docs/EXPERIMENTS.md", _from_results(experiment_log.experiments_page, "reference_runs", "log")),
    "how-to": ("docs/how-to.md", _with_blocks("docs/how-to.md")),
    "pacs": ("docs/pacs.md", _with_blocks("docs/pacs.md")),
    "reference": ("docs/reference.md", _with_blocks("docs/reference.md")),
    "onnx-file": ("docs/onnx-file.md", _with_blocks("docs/onnx-file.md")),
}


if __name__ == "__main__":
    main()
