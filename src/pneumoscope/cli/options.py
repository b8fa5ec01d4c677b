"""Options that several commands share: the model, its operating point, the prevalence, labelled data."""

from pathlib import Path

import typer

from pneumoscope.cli.output import echo_stderr

MODEL = typer.Option(
    "mobilenet", "--model", "-m", metavar="NAME|FILE", help="A shipped model, a file, or a run folder."
)
THRESHOLD = typer.Option(
    None, metavar="P|NAME", help="Operating point instead of the model's own: a probability, or one of its names."
)
DATA = typer.Option(..., "--data", help="Folder [split/]LABEL/image, or a manifest CSV.", metavar="DIR|CSV")
PREVALENCE = typer.Option(
    None, metavar="SHARE", help="Share of pneumonia among the patients; the probabilities follow, verdicts stay."
)


def open_predictor(model: str, threshold: str | None, prevalence: float | None, threads: int = 0):
    """Load a model with the operating point as it was typed."""
    from pneumoscope.inference.predict import load, parse_threshold

    return load(model, parse_threshold(threshold), prevalence, threads=threads)


def read_training_data(data: Path, recipe, show):
    """The manifest to train on, and a note where it does not tell what the recipe takes out."""
    from pneumoscope.data.manifest import read_dataset
    from pneumoscope.training.train import squashed_note

    manifest = read_dataset(data, progress=lambda items: show(items, None, "reading images"))
    if note := squashed_note(recipe, manifest):
        echo_stderr(note)
    return manifest
