"""Options and help that several commands share: the model, its operating point, the data, the result files."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import typer

from pneumoscope.labels import SCOPE
from pneumoscope.output import formats

if TYPE_CHECKING:
    from pneumoscope.inference.predict import Predictor

_Parameters = ParamSpec("_Parameters")
_Returned = TypeVar("_Returned")

MODEL = typer.Option(
    "mobilenet", "--model", "-m", metavar="NAME|FILE", help="A shipped model, a model file, or a run folder."
)
THRESHOLD = typer.Option(
    None,
    metavar="P|NAME",
    help="Operating point to use instead of the model's default: a probability, or the name of one of its points.",
)
DATA = typer.Option(..., "--data", help="Folder [split/]LABEL/image, or a manifest CSV.", metavar="DIR|CSV")
PREVALENCE = typer.Option(
    None,
    metavar="SHARE",
    help="Share of your patients who have pneumonia. The probabilities are adjusted to it; verdicts stay the same.",
)
ANY_AGE = typer.Option(
    False,
    "--any-age",
    help="Judge DICOM files of patients of any age, also those that the models were not trained for.",
)
ACCESSION_NUMBER = typer.Option(
    False,
    "--accession-number",
    help="Put the AccessionNumber of DICOM files into the results. It may lead to the patient.",
)
RUNS = typer.Option(Path("runs"), help="Folder that contains the run folders.", metavar="DIR")
WEIGHTS = typer.Option(None, help="Local file of ImageNet weights, instead of a download.", metavar="FILE")
MASKS = typer.Option(
    None,
    help="Folder of lung masks with the sub-folders and names of the images, for a recipe that learns the lungs.",
    metavar="DIR",
)
PATH_COLUMN = typer.Option(
    None, metavar="NAME", help="Column of a table that names the images, if its name is not one of the usual ones."
)
ROOT = typer.Option(None, metavar="DIR", help="Folder that the names in a table begin at; the table's by default.")
EPOCHS = typer.Option(None, help="Number of epochs, instead of the recipe's.")


def open_predictor(
    model: str,
    threshold: str | None,
    prevalence: float | None,
    threads: int = 0,
    any_age: bool = False,
    accession_numbers: bool = False,
) -> "Predictor":
    """Load a model; the threshold is text, as the user typed it."""
    from pneumoscope.inference.predict import load, parse_threshold

    point = parse_threshold(threshold)
    return load(model, point, prevalence, threads=threads, any_age=any_age, accession_numbers=accession_numbers)


def with_scope(command: Callable[_Parameters, _Returned]) -> Callable[_Parameters, _Returned]:
    """Add to the help of a command, after its first sentence, which patients the models know."""
    summary, _, details = inspect.cleandoc(command.__doc__ or "").partition("\n\n")
    command.__doc__ = "\n\n".join(filter(None, [summary, SCOPE, details]))
    return command


def with_file_options(before: str) -> Callable[[Callable[..., _Returned]], Callable[..., _Returned]]:
    """Give a command one option for each format of results. The command receives them as ``**files``.

    The formats are those of :data:`pneumoscope.output.formats.FORMATS`. Typer reads the options of a command from the
    signature of its function, so this changes the signature.

    Args:
        before: name of the parameter that follows the new ones on the help page.
    """

    def add_options(command: Callable[..., _Returned]) -> Callable[..., _Returned]:
        signature = inspect.signature(command)
        parameters = []
        for parameter in signature.parameters.values():
            if parameter.name == before:
                parameters += [_file_option(each) for each in formats.FORMATS]
            if parameter.kind is not parameter.VAR_KEYWORD:
                parameters.append(parameter.replace(kind=parameter.KEYWORD_ONLY))
        signature = signature.replace(parameters=parameters)
        command.__signature__ = signature  # type: ignore[attr-defined]  # read by inspect.signature, unknown to mypy
        return command

    return add_options


def requested_files(files: dict[str, Path | None]) -> list[tuple[formats.Format, Path]]:
    """The formats that the user asked for, each with its path.

    Args:
        files: what a command with :func:`with_file_options` received.
    """
    paths = [(each, files[_parameter_name(each)]) for each in formats.FORMATS]
    return [(each, path) for each, path in paths if path is not None]


def _file_option(each: formats.Format) -> inspect.Parameter:
    """An option of the command line, as the parameter of a function."""
    option = typer.Option(None, f"--{each.option}", metavar=each.metavar, help=each.help)
    return inspect.Parameter(
        _parameter_name(each), inspect.Parameter.KEYWORD_ONLY, default=option, annotation=Path | None
    )


def _parameter_name(each: formats.Format) -> str:
    return each.option.replace("-", "_")
