"""Labelled data of a command, read with a progress bar."""

from pathlib import Path
from typing import TYPE_CHECKING

from pneumoscope.cli.console import echo_stderr
from pneumoscope.cli.progress import ShowProgress

if TYPE_CHECKING:
    from pneumoscope.data.manifest import Manifest, TableOptions
    from pneumoscope.training.recipe import Recipe


def read_data(data: Path, show_progress: ShowProgress, options: "TableOptions | None" = None) -> "Manifest":
    """Read a data folder or a table; print how a table was understood, and what was found and not used."""
    from pneumoscope.data import read_dataset

    manifest = read_dataset(data, lambda items: show_progress(items, None, "reading images"), options)
    for sentence in [*manifest.mapping, *unused_sentences(data, manifest)]:
        echo_stderr(sentence)
    return manifest


def unused_sentences(data: Path, manifest: "Manifest") -> list[str]:
    """What was found in the data and is not used: one sentence, or none."""
    counts = ", ".join(f"{count:,} {reason}" for reason, count in manifest.unused.items())
    return [f"{data}: found and not used: {counts}"] if counts else []


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
