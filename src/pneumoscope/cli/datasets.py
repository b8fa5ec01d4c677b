"""Labelled data of a command, read with a progress bar."""

from pathlib import Path
from typing import TYPE_CHECKING

from pneumoscope.cli.console import echo_stderr
from pneumoscope.cli.progress import ShowProgress

if TYPE_CHECKING:
    from pneumoscope.data.manifest import Manifest
    from pneumoscope.training.recipe import Recipe


def read_data(data: Path, show_progress: ShowProgress) -> "Manifest":
    """Read a data folder or a manifest."""
    from pneumoscope.data import read_dataset

    return read_dataset(data, progress=lambda items: show_progress(items, None, "reading images"))


def read_training_data(data: Path, recipe: "Recipe", show_progress: ShowProgress) -> "Manifest":
    """Read the data to train on; print a note if it lacks the aspect ratios that the recipe equalizes."""
    from pneumoscope.training.train import squashed_note

    manifest = read_data(data, show_progress)
    if note := squashed_note(recipe, manifest):
        echo_stderr(note)
    return manifest
