"""Commands that make labelled data ready: data fetch, data split."""

from collections import Counter
from pathlib import Path

import typer

from pneumoscope.cli import app
from pneumoscope.cli.options import DATA
from pneumoscope.cli.output import echo_stderr, print_table, progress_bar
from pneumoscope.errors import DatasetError

data_app = typer.Typer(help="Fetch, check and split labelled radiographs.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(data_app, name="data")


@data_app.command()
def fetch(
    out: Path = typer.Option(..., help="Where the manifest (and the images of an archive) go.", metavar="DIR"),
    source: Path = typer.Option(None, "--from", help="A local zip or folder instead of Kaggle.", metavar="ZIP|DIR"),
    allow_partial: bool = typer.Option(False, help="Exit with 0 also when images are missing or were refused."),
) -> None:
    """Get the Kaggle images, check them, write a manifest.

    "Chest X-Ray Images (Pneumonia)" from Kaggle, or a local copy: every file is decoded and counted.
    """
    from pneumoscope.data.fetch import fetch as fetch_data

    with progress_bar() as show:
        result = fetch_data(out, source, progress=lambda items: show(items, None, "reading images"))
    for refused in result.refused:
        echo_stderr(f"refused {refused.path}: {refused.reason}")
    for sentence in result.count_errors:
        echo_stderr(sentence)
    _print_counts(f"{len(result.manifest)} images in {result.manifest_path}", result.manifest.records)
    raise typer.Exit(1 if (result.refused or result.count_errors) and not allow_partial else 0)


@data_app.command()
def split(
    data: Path = DATA,
    out: Path = typer.Option(None, help="Split file; beside the manifest by default.", metavar="FILE"),
    as_published: bool = typer.Option(False, help="Image by image within train, as the published results were made."),
    seed: int = typer.Option(0, help="Of the shuffling."),
    fraction: float = typer.Option(0.1, help="Share of the images to validate on."),
) -> None:
    """Split off validation images, whole patients."""
    from pneumoscope.data.manifest import read_dataset
    from pneumoscope.data.splits import (
        AS_PUBLISHED,
        CLASS_WEIGHTS,
        PATIENT_WISE,
        class_weights,
        make_split,
        write_split,
    )

    with progress_bar() as show:
        manifest = read_dataset(data, progress=lambda items: show(items, None, "reading images"))
    scheme = AS_PUBLISHED if as_published else PATIENT_WISE
    made = make_split(manifest, scheme, seed=seed, fraction=fraction)
    path = out or manifest.root / f"split-{scheme}-seed{seed}.json"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_split(made, path)
    except OSError as error:
        raise DatasetError(f"expected to write the split to {path}: {error.strerror}: name a file with --out") from None
    for side in ("train", "val"):
        _print_counts(side, made.records(manifest, side))
    labels = [record.label for record in made.records(manifest, "train")]
    rules = {rule: class_weights(labels, rule) for rule in CLASS_WEIGHTS}
    print_table("class weights", [(r, *(f"{k} {v:.3f}" for k, v in w.items())) for r, w in rules.items()])
    print(f"fingerprint {made.fingerprint}\nwritten to {path}")


def _print_counts(title: str, records) -> None:
    count = Counter((record.split, record.label, record.sublabel or "-") for record in records)
    patients = len({record.patient for record in records})
    print_table(
        f"{title}: {sum(count.values())} images, {patients} patients", [(*key, n) for key, n in sorted(count.items())]
    )
