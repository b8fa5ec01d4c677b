"""The command ``crossval``."""

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pneumoscope.cli.datasets import read_training_data
from pneumoscope.cli.options import DATA, EPOCHS, MASKS, RUNS, WEIGHTS
from pneumoscope.cli.progress import TrainingProgress, progress_bar
from pneumoscope.cli.reports import echo_fold, print_pooled
from pneumoscope.cli.table_options import with_table_options
from pneumoscope.errors import UsageError

if TYPE_CHECKING:
    from pneumoscope.data.manifest import TableOptions


@with_table_options
def crossval(
    recipe: str = typer.Option(..., help="A recipe file, or the name of a shipped recipe.", metavar="FILE|NAME"),
    data: Path = DATA,
    splits: str = typer.Option(
        "fold0of5,fold1of5,fold2of5,fold3of5,fold4of5",
        help="Splits to run. Harder ones are hold-early, hold-IM and hold-NORMAL2.",
        metavar="NAME,NAME...",
    ),
    seeds: str = typer.Option(
        "0", help="Each split is trained once with each seed; the folds of the first seed are pooled.", metavar="N,N..."
    ),
    runs: Path = RUNS,
    epochs: int | None = EPOCHS,
    weights: str | None = WEIGHTS,
    masks: Path | None = MASKS,
    *,
    table: "TableOptions",
) -> None:
    """Train and measure a recipe on patient-wise folds.

    Each fold is an ordinary run. It is measured on its held-out patients: with their images unchanged, under simulated
    shifts, and with the style of other images, which shows whether the model reads the console. Stop it at any time:
    the same command continues it.
    """
    from pneumoscope.training.recipe import read_recipe

    resolved = read_recipe(recipe, epochs=epochs, weights=weights)
    from pneumoscope.data.splits import check_scheme

    split_names, seed_numbers = [name.strip() for name in splits.split(",")], _whole_numbers("--seeds", seeds)
    for name in split_names:
        check_scheme(name)
    from pneumoscope.training.crossval import cross_validate

    with progress_bar() as show_progress, TrainingProgress(resolved.epochs) as on_batch:
        result = cross_validate(
            resolved,
            read_training_data(data, resolved, show_progress, table),
            splits=split_names,
            seeds=seed_numbers,
            runs=runs,
            progress=show_progress,
            on_finished_run=echo_fold,
            on_batch=on_batch,
            masks=masks,
        )
    if "pooled" in result:
        print_pooled(resolved.name, result["pooled"])
        suspects = len(result["pooled"]["suspects"])
        print(f"{suspects} labels look wrong, see {runs / (resolved.name + '-suspects.csv')}")
    print(f"written to {runs / (resolved.name + '-folds.json')}")


def _whole_numbers(option: str, text: str) -> list[int]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() for part in parts) or len(set(parts)) < len(parts):
        raise UsageError(f"expected {option} as different whole numbers like 0,1,2, received {text!r}")
    return [int(part) for part in parts]
