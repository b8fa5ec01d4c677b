"""The command ``train``."""

import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from pneumoscope.cli.console import echo_stderr
from pneumoscope.cli.datasets import read_training_data, say_masks
from pneumoscope.cli.options import DATA, EPOCHS, MASKS, RUNS, WEIGHTS
from pneumoscope.cli.progress import TrainingProgress, progress_bar
from pneumoscope.cli.releases import release_and_print
from pneumoscope.cli.reports import echo_fold
from pneumoscope.cli.table_options import with_table_options
from pneumoscope.errors import DatasetError, Interrupted, UsageError
from pneumoscope.io.names import printable

if TYPE_CHECKING:
    from pneumoscope.data.manifest import Manifest, TableOptions
    from pneumoscope.training.recipe import Recipe


@with_table_options
def train(
    data: Path = DATA,
    model: str | None = typer.Option(
        None, help="Train the reference recipe of mobilenet or lstm.", metavar="mobilenet|lstm"
    ),
    recipe: str | None = typer.Option(
        None, help="A recipe file, or the name of a shipped recipe.", metavar="FILE|NAME"
    ),
    runs: Path = RUNS,
    resume: bool = typer.Option(False, help="Continue the interrupted run that has the same options."),
    split: str | None = typer.Option(
        None,
        help="What to hold out, or a split file; see the reference.",
        metavar="patient|published|fold0of5|all|FILE",
    ),
    seed: int | None = typer.Option(None, help="Random seed of weights, image order and dropout."),
    epochs: int | None = EPOCHS,
    batch_size: int | None = typer.Option(None, help="Images a batch, instead of the recipe's."),
    class_weights: str | None = typer.Option(
        None, help="How the classes are weighted, instead of the recipe's.", metavar="inverse-ratio|balanced|none"
    ),
    weights: str | None = WEIGHTS,
    masks: Path | None = MASKS,
    tensorboard: bool = typer.Option(False, help="Also write TensorBoard logs."),
    cache: bool = typer.Option(True, help="Compute the features of a frozen backbone only once."),
    *,
    table: "TableOptions",
) -> None:
    """Train, export and measure a model.

    The exported file is measured on the held-out images. Press Ctrl-C at any time: with --resume the training
    continues, and ends with the same figures.
    """
    from pneumoscope.training.recipe import read_recipe

    resolved = read_recipe(
        _recipe_name(model, recipe),
        **_split_options(split),
        seed=seed,
        epochs=epochs,
        batch_size=batch_size,
        class_weights=class_weights,
        weights=weights,
    )
    from pneumoscope.training.fold_average import train_average
    from pneumoscope.training.runs import run_id
    from pneumoscope.training.train import train as train_run

    with _say_how_to_go_on(), progress_bar() as show_progress, TrainingProgress(resolved.epochs) as on_batch:
        manifest = read_training_data(data, resolved, show_progress, table)
        _check_split_file(split, manifest)
        say_masks(resolved, masks, manifest)
        if _averages_folds(resolved):
            echo_stderr(f"training {resolved.average} folds under {runs}, then averaging their weights")
            run = train_average(
                resolved,
                manifest,
                runs=runs,
                progress=show_progress,
                on_finished_run=echo_fold,
                on_batch=on_batch,
                masks=masks,
            )
        else:
            echo_stderr(f"{'resuming' if resume else 'training'} {runs / run_id(resolved)}")
            run = train_run(
                resolved,
                manifest,
                runs=runs,
                resume=resume,
                cache=cache,
                tensorboard=tensorboard,
                progress=show_progress,
                on_batch=on_batch,
                masks=masks,
            )
    release_and_print(run, manifest)


@contextmanager
def _say_how_to_go_on() -> Iterator[None]:
    """Turn an interruption into a sentence with the command that continues the training."""
    try:
        yield
    except KeyboardInterrupt:
        arguments = [argument for argument in sys.argv[1:] if argument != "--resume"]
        raise Interrupted(
            "interrupted; the state after the last complete epoch is kept: go on with  "
            f"pneumoscope {printable(shlex.join([*arguments, '--resume']))}"
        ) from None


def _recipe_name(model: str | None, recipe: str | None) -> str:
    """The recipe that --model or --recipe names."""
    if model is not None and recipe is not None:
        raise UsageError("expected either --model or --recipe, received both")
    if model is not None and model not in ("mobilenet", "lstm"):
        raise UsageError(
            f"expected --model mobilenet or lstm, received {model!r}: give other recipes with --recipe FILE"
        )
    name = recipe if model is None else f"reference-{model}"
    if name is None:
        raise UsageError("expected either --model or --recipe, received neither")
    return name


def _split_options(split: str | None) -> dict[str, Any]:
    """The values of a recipe that --split sets: a scheme, or the scheme, seed and fraction of a split file."""
    from pneumoscope.data.splits import read_split

    if split is None or not split.endswith(".json"):
        return {"split": split}
    saved = read_split(split)
    return {"split": saved.scheme, "split_seed": saved.seed, "validation_fraction": saved.fraction}


def _averages_folds(recipe: "Recipe") -> bool:
    from pneumoscope.data.splits import ALL

    return recipe.average > 0 and recipe.split == ALL


def _check_split_file(split: str | None, manifest: "Manifest") -> None:
    """Check that this data gives the split in the file."""
    from pneumoscope.data.splits import make_split, read_split

    if split is None or not split.endswith(".json"):
        return
    saved = read_split(split)
    made = make_split(manifest, saved.scheme, seed=saved.seed, fraction=saved.fraction)
    if made.fingerprint != saved.fingerprint:
        raise DatasetError(
            f"expected the data that {split} was made of (split {saved.fingerprint[:12]}), the images under "
            f"{manifest.root} give split {made.fingerprint[:12]}: point --data at the same data"
        )
