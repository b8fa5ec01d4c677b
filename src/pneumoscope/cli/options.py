"""Options that several commands share: the model, its operating point, the prevalence, labelled data."""

import typer

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


def open_predictor(model: str, threshold: str | None, prevalence: float | None):
    """Load a model with the operating point as it was typed."""
    from pneumoscope.predict import load

    try:
        point = None if threshold is None else float(threshold)
    except ValueError:
        point = threshold
    return load(model, point, prevalence)
