"""The commands for labelled data: ``data fetch``, ``data split`` and ``data audit``."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pneumoscope.cli.console import echo_stderr, print_table
from pneumoscope.cli.datasets import print_counts, read_data, unused_sentences
from pneumoscope.cli.options import DATA, open_predictor
from pneumoscope.cli.paths import check_replaceable, make_folder
from pneumoscope.cli.progress import progress_bar
from pneumoscope.cli.table_options import with_table_options
from pneumoscope.errors import DatasetError
from pneumoscope.io.names import printable

if TYPE_CHECKING:
    from pneumoscope.data.manifest import TableOptions

data_app = typer.Typer(help="Fetch, check and split labelled radiographs.", no_args_is_help=True, rich_markup_mode=None)


@data_app.command()
def fetch(
    out: Path = typer.Option(
        ..., help="Folder for the manifest, and for the images if they come from an archive.", metavar="DIR"
    ),
    source: Path | None = typer.Option(
        None, "--from", help="A local zip file or folder, instead of Kaggle.", metavar="ZIP|DIR"
    ),
    allow_partial: bool = typer.Option(False, help="Exit with 0 even if images are missing or were refused."),
    positive: list[str] | None = typer.Option(None, metavar="NAME", help="What folders of pneumonia are called."),
    negative: list[str] | None = typer.Option(None, metavar="NAME", help="What folders of normal images are called."),
) -> None:
    """Get the Kaggle images, check them, write a manifest.

    The images are "Chest X-Ray Images (Pneumonia)" from Kaggle, or a local copy. Every file is decoded and counted.
    """
    from pneumoscope.data.class_names import ClassNames
    from pneumoscope.data.fetch import fetch as fetch_data
    from pneumoscope.data.overlaps import find_overlaps

    with progress_bar() as show_progress:
        result = fetch_data(
            out,
            source,
            progress=lambda items: show_progress(items, None, "reading images"),
            names=ClassNames(tuple(positive or ()), tuple(negative or ())),
        )
    for refused in result.refused:
        echo_stderr(f"refused {refused.path}: {refused.reason}")
    for sentence in [*result.count_errors, *unused_sentences(result.folder, result.manifest)]:
        echo_stderr(sentence)
    for sentence in find_overlaps(result.manifest, result.manifest.records).sentences():
        echo_stderr(f"warning: {sentence}")
    print_counts(f"{len(result.manifest)} images in {result.manifest_path}", result.manifest.records)
    raise typer.Exit(1 if (result.refused or result.count_errors) and not allow_partial else 0)


@data_app.command()
@with_table_options
def split(
    data: Path = DATA,
    out: Path | None = typer.Option(None, help="Split file; in the manifest's folder by default.", metavar="FILE"),
    as_published: bool = typer.Option(
        False, help="Split image by image within train, as the published results were made."
    ),
    seed: int = typer.Option(0, help="Random seed of the split."),
    fraction: float = typer.Option(0.1, help="Share of the images to validate on."),
    *,
    table: "TableOptions",
) -> None:
    """Split off validation images, whole patients."""
    from pneumoscope.data.splits import AS_PUBLISHED, PATIENT_WISE, make_split, write_split

    with progress_bar() as show_progress:
        manifest = read_data(data, show_progress, table)
    scheme = AS_PUBLISHED if as_published else PATIENT_WISE
    made = make_split(manifest, scheme, seed=seed, fraction=fraction)
    path = out or manifest.root / f"split-{scheme}-seed{seed}.json"
    check_replaceable(path, "split")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_split(made, path)
    except OSError as error:
        raise DatasetError(f"expected to write the split to {path}: {error.strerror}: name a file with --out") from None
    for side in ("train", "val"):
        print_counts(side, made.records(manifest, side))
    _print_class_weights([record.label for record in made.records(manifest, "train")])
    print(f"fingerprint {made.fingerprint}\nwritten to {path}")


@data_app.command()
@with_table_options
def audit(
    data: Path = typer.Argument(..., help="Folder of labelled radiographs, or a CSV that lists them.", metavar="DATA"),
    out: Path = typer.Option(Path("audit"), help="Folder for audit.json and audit.html.", metavar="DIR"),
    model: str | None = typer.Option(
        None, help="A model that was not trained on these images: list labels that look wrong to it.", metavar="MODEL"
    ),
    strict: bool = typer.Option(False, help="Exit with 1 if there is a fault or a strong shortcut."),
    *,
    table: "TableOptions",
) -> None:
    """Find what makes figures wrong: bad files, copies, patients in two splits, shortcuts.

    A shortcut tells the labels apart without the lungs: the shape of the image, its file, its tones, its corners. A
    network that is trained on such images can learn it instead. The page has some of the images in it.
    """
    from pneumoscope.data.scan import list_dataset
    from pneumoscope.evaluation.audit import audit_data, audit_html, render_audit
    from pneumoscope.evaluation.audit.audit import AUDIT_NAME, PAGE_NAME

    check_replaceable(out / AUDIT_NAME, "report")
    check_replaceable(out / PAGE_NAME, "html")
    make_folder(out)
    predictor = open_predictor(model, None, None, any_age=True) if model else None
    manifest = list_dataset(data, table)
    for sentence in [*manifest.mapping, *unused_sentences(data, manifest)]:
        echo_stderr(sentence)
    with progress_bar() as show_progress:
        report = audit_data(manifest, out, predictor, show_progress)
    page = audit_html(report, manifest, out / PAGE_NAME)
    print_counts(f"{data}", manifest.records)
    for finding in report["findings"]:
        print(f"{finding['severity']}: {printable(finding['sentence'])}")
    print_table("What tells the labels apart without the lungs (ROC AUC)", render_audit(report))
    print(f"audit {page}")
    faults = sum(finding["severity"] == "fault" for finding in report["findings"])
    strong = sum(shortcut["level"] == "strong" for shortcut in report["shortcuts"])
    raise typer.Exit(1 if strict and (faults or strong) else 0)


def _print_class_weights(labels: list[str]) -> None:
    from pneumoscope.data.splits import CLASS_WEIGHTS, class_weights

    weights = {rule: class_weights(labels, rule) for rule in CLASS_WEIGHTS}
    rows = [(rule, *(f"{label} {weight:.3f}" for label, weight in each.items())) for rule, each in weights.items()]
    print_table("class weights", rows)
