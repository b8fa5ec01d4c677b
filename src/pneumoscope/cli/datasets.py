"""Labelled data of a command, read with a progress bar."""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pneumoscope.cli.console import echo_stderr, print_table
from pneumoscope.cli.progress import ShowProgress
from pneumoscope.io.names import printable

if TYPE_CHECKING:
    from pneumoscope.data.manifest import Manifest, Record, TableOptions
    from pneumoscope.training.recipe import Recipe


def read_data(data: Path, show_progress: ShowProgress, options: "TableOptions | None" = None) -> "Manifest":
    """Read a data folder or a table; print how a table was understood, and what was found and not used."""
    from pneumoscope.data import read_dataset

    manifest = read_dataset(data, lambda items: show_progress(items, None, "reading images"), options)
    for sentence in [*manifest.mapping, *unused_sentences(data, manifest)]:
        echo_stderr(sentence)
    return manifest


def show_data(data: Path, options: "TableOptions") -> None:
    """Print what a command would read: how a table was understood, images by split and label, patients, missing files.

    No image is decoded.
    """
    from pneumoscope.data.scan import list_dataset

    manifest = list_dataset(data, options)
    for sentence in [*manifest.mapping, *unused_sentences(data, manifest)]:
        print(sentence)
    print_counts(str(data), manifest.records)
    missing = [record.path for record in manifest.records if not os.path.exists(manifest.path(record))]
    if missing:
        print(f"{len(missing):,} files are missing (first: {printable(missing[0])})")


def print_counts(title: str, records: "Sequence[Record]") -> None:
    """Print the number of images by split, label and sublabel, and of patients, with where these come from."""
    from pneumoscope.data.patients import describe_sources

    counts = Counter((record.split, record.label, record.sublabel or "-") for record in records)
    patients = len({record.patient for record in records})
    rows = [(*names, count) for names, count in sorted(counts.items())]
    sources = describe_sources(record.patient_from for record in records)
    print_table(f"{title}: {len(records)} images, {patients} patients ({sources})", rows)


def say_masks(recipe: "Recipe", masks: Path | None, manifest: "Manifest") -> None:
    """Print how many of the training images have a lung mask; refuse masks that the recipe does not use."""
    from pneumoscope.data import ALL, make_split
    from pneumoscope.training.train import check_masks

    if found := check_masks(recipe, masks):
        echo_stderr(found.count_sentence(make_split(manifest, ALL).records(manifest, "train")))


def unused_sentences(data: Path, manifest: "Manifest") -> list[str]:
    """What was found in the data and is not used: one sentence, or none."""
    from pneumoscope.radiographs.folders import join_counts

    return [f"{data}: found and not used: {join_counts(manifest.unused)}"] if manifest.unused else []


def read_training_data(
    data: Path, recipe: "Recipe", show_progress: ShowProgress, options: "TableOptions | None" = None
) -> "Manifest":
    """Read the data to train on; print a note if pictures are there under both labels, or aspect ratios are missing."""
    from pneumoscope.data.overlaps import find_overlaps
    from pneumoscope.training.train import squashed_note

    manifest = read_data(data, show_progress, options)
    for sentence in find_overlaps(manifest, manifest.records).sentences():
        echo_stderr(f"warning: {sentence}")
    if note := squashed_note(recipe, manifest):
        echo_stderr(note)
    return manifest
