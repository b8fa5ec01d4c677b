"""runs/<id>/: what a training writes to disk, so that it can be resumed, exported and repeated.

A run folder holds ``config.json`` (resolved recipe, data, split fingerprint, versions), ``split.json``,
``history.csv``, ``checkpoint.npz`` (the state after the last complete epoch; until the training ends,
``checkpoint-earlier.npz`` is the state before it), ``best.npz`` (the weights that are kept: of the best validation
accuracy, or of the last epoch), ``timing.json``, the model file and its evaluation. Where the
model file is int8, the folder also holds ``float32.onnx`` and the answers of that file, ``float32.json``.
"""

import csv
import io
import json
import platform
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pneumoscope.data.manifest import Manifest
from pneumoscope.data.splits import Split, read_split, write_split
from pneumoscope.errors import RunError, UsageError
from pneumoscope.inference.preprocess import InputSpec
from pneumoscope.io.atomic import write_atomic
from pneumoscope.io.locks import lock_file
from pneumoscope.training.recipe import Recipe

#: The state after the last complete epoch, the one before it, and the weights that are kept.
CHECKPOINT_NAME, EARLIER_NAME, BEST_NAME = "checkpoint.npz", "checkpoint-earlier.npz", "best.npz"
#: The figure that decides which epoch is the best; the first of equal epochs wins.
MONITOR = "val_accuracy"
#: In a run whose model file is int8: the float32 file, and its probabilities for the held-out images, by path.
FLOAT32_NAME, FLOAT32_ANSWERS = "float32.onnx", "float32.json"

#: Shows how far an iteration is: ``progress(items, total, what)`` gives the same items back; None is an unknown total.
Progress = Callable[[Iterable[Any], int | None, str], Iterable[Any]]
#: Called after each batch with the steps done, the steps in all, and the figures so far.
BatchCallback = Callable[[int, int, dict[str, float]], None]


def no_progress(items: Iterable[Any], total: int | None, what: str) -> Iterable[Any]:
    """A :data:`Progress` that shows nothing."""
    return items


@dataclass(frozen=True)
class Run:
    """A training run on disk.

    Attributes:
        folder: ``runs/<id>``.
        recipe: with every value resolved.
        split: which images train, and which are held out.
    """

    folder: Path
    recipe: Recipe
    split: Split

    @property
    def history(self) -> list[dict[str, float]]:
        """One row an epoch, from ``history.csv``."""
        return read_history(self.folder) or []

    @property
    def spec(self) -> InputSpec:
        """Input contract of the model trained."""
        return self.recipe.spec

    @property
    def kept(self) -> dict[str, float]:
        """The epoch whose weights are kept."""
        return self.history[-1] if self.recipe.keep == "last" else max(self.history, key=lambda row: row[MONITOR])


def run_id(recipe: Recipe) -> str:
    """Folder name of a recipe's run: equal recipes share it, so that ``--resume`` finds its run.

    >>> from pneumoscope.training.recipe import read_recipe
    >>> run_id(read_recipe("reference-lstm", seed=1))
    'reference-lstm-patient-seed1'
    """
    return f"{recipe.name}-{recipe.split}-seed{recipe.seed}"


def open_finished_run(folder: str | Path) -> Run:
    """Read a run folder whose training reached its last epoch.

    Raises:
        RunError: not a run folder, or an unfinished one.
    """
    folder = Path(folder)
    try:
        recipe = Recipe(**json.loads((folder / "config.json").read_text(encoding="utf-8"))["recipe"])
    except (OSError, ValueError, KeyError, TypeError, UsageError) as error:
        raise RunError(f"expected a run folder with config.json at {folder}: {error}") from None
    run = Run(folder, recipe, read_split(folder / "split.json"))
    done = len(run.history)
    if done < recipe.epochs:
        raise RunError(
            f"expected a finished run at {folder}, it stands after epoch {done} of {recipe.epochs}: "
            "run the same training with  --resume"
        )
    return run


def has_state(folder: Path) -> bool:
    """Whether a training in this folder has completed an epoch."""
    return any((folder / name).is_file() for name in (CHECKPOINT_NAME, EARLIER_NAME))


@contextmanager
def run_lock(folder: Path) -> Iterator[None]:
    """Lock a run folder, so that a second training of the same run cannot overwrite the state of the first.

    The lock ends with the process, also when the process is killed.

    Raises:
        RunError: another process has the lock.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        try:
            lock_file(file, folder)
        except BlockingIOError:
            raise RunError(
                f"expected to train alone in {folder}, another process trains there: wait until it ends"
            ) from None
        yield


def open_run(run: Run, manifest: Manifest, resume: bool, hashes: dict[str, str]) -> None:
    """Create the run folder, or check that it is the one to resume.

    Args:
        run: the run.
        manifest: of the data.
        resume: whether the run should exist already.
        hashes: of the inputs that the recipe only names: images and starting weights.

    Raises:
        RunError: the run exists and should not, or should exist and does not, or began with other inputs.
    """
    config = run.folder / "config.json"
    begun = has_state(run.folder)
    wanted = {"recipe": run.recipe.to_dict(), "split_fingerprint": run.split.fingerprint, **hashes}
    if config.is_file() and (begun or resume):  # before the end of the first epoch there is nothing to lose
        existing = _read_config(config)
        if resume and _extends(existing, wanted):
            write_atomic(config, json.dumps(existing | wanted, indent=1).encode())
            return
        _check_same_run(run.folder, existing, wanted, resume)
        return
    if resume:
        raise RunError(f"expected a run to resume at {run.folder}, found none: leave out --resume to begin it")
    run.folder.mkdir(parents=True, exist_ok=True)
    if not config.is_file():
        _check_empty(run.folder)
    write_split(run.split, run.folder / "split.json")
    packages = ("pneumoscope", "tensorflow", "keras", "numpy", "opencv-python-headless", "onnxruntime")
    content = {
        **wanted,
        "input": run.spec.to_dict(),
        "data": str(manifest.root),
        "images": {"train": len(run.split.train), "val": len(run.split.val)},
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in packages},
    }
    write_atomic(config, json.dumps(content, indent=1).encode())


def _check_empty(folder: Path) -> None:
    """Refuse to write a run into a folder with files of somebody else."""
    others = sorted(path.name for path in folder.iterdir() if path.name != "lock")
    if others:
        raise RunError(
            f"expected no folder {folder}, or a run in it, found other files there (first: {others[0]!r}): give "
            "another --runs folder"
        )


def _read_config(path: Path) -> dict[str, Any]:
    """``config.json``; a recipe of an earlier version gets the defaults of the keys that came later."""
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        config = dict(config)
    except (OSError, ValueError, TypeError) as error:
        raise RunError(
            f"expected the options of a run in {path}, they cannot be read ({error}): bring back a copy, or give "
            "another --runs folder"
        ) from None
    with suppress(KeyError, TypeError, UsageError):
        config["recipe"] = Recipe(**config["recipe"]).to_dict()
    return config


def _extends(existing: dict[str, Any], wanted: dict[str, Any]) -> bool:
    """Whether the same run is wanted with more epochs, and its first epochs do not depend on how many there are."""
    begun, longer = (content.get("recipe") for content in (existing, wanted))
    return (
        isinstance(begun, dict)
        and isinstance(longer, dict)
        and longer["schedule"] == "constant"
        and begun.get("epochs", 0) < longer["epochs"]
        and {**begun, "epochs": longer["epochs"]} == longer
        and all(existing.get(name) == wanted[name] for name in wanted if name != "recipe")
    )


def _check_same_run(folder: Path, existing: dict[str, Any], wanted: dict[str, Any], resume: bool) -> None:
    if not resume and existing.get("recipe") == wanted["recipe"]:
        raise RunError(f"expected a new run, {folder} exists: add  --resume  to go on, or another --seed")
    if not resume:
        raise RunError(
            f"expected a new run, {folder} exists with other options "
            f"({_difference(existing.get('recipe'), wanted['recipe'])}): give another --runs folder"
        )
    for name in wanted:
        if existing.get(name) != wanted[name]:
            raise RunError(
                f"expected to resume {folder} with the {name} it began with, "
                f"{_difference(existing.get(name), wanted[name])}: "
                f"{_why_not_longer(existing, wanted)}give the same options and data, or another --runs folder"
            )


def _why_not_longer(existing: dict[str, Any], wanted: dict[str, Any]) -> str:
    """Where the number of epochs alone differs, and the run cannot be extended: why."""
    schedule = wanted["recipe"]["schedule"]
    if schedule == "constant" or _difference_names(existing.get("recipe"), wanted["recipe"]) != ["epochs"]:
        return ""
    return f"the learning rate of the {schedule} schedule depends on the epochs; "


def _difference_names(existing: object, wanted: object) -> list[str]:
    """The keys of two tables that differ; none where one is no table."""
    if not isinstance(existing, dict) or not isinstance(wanted, dict):
        return []
    return [name for name in wanted if existing.get(name) != wanted[name]]


def _difference(existing: object, wanted: object) -> str:
    if isinstance(existing, dict) and isinstance(wanted, dict):
        names = _difference_names(existing, wanted)
        return ", ".join(f"{name} was {existing.get(name)!r} and is {wanted[name]!r}" for name in names)
    return f"it was {str(existing)[:12]} and is {str(wanted)[:12]}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def read_history(folder: Path) -> list[dict[str, float]] | None:
    """``history.csv`` of a run folder; None where there is none."""
    path = folder / "history.csv"
    if not path.is_file():
        return None
    rows = csv.DictReader(path.read_text(encoding="utf-8").splitlines())
    try:
        return [{name: float(value) for name, value in row.items()} for row in rows]
    except (ValueError, TypeError):  # a line that was cut
        raise RunError(
            f"expected figures of epochs in {path}, one line cannot be read: run the same training with  --resume  to "
            "make the file again"
        ) from None


def write_history(run: Run, history: list[dict[str, float]]) -> None:
    """Write ``history.csv``, one row an epoch."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_atomic(run.folder / "history.csv", text.getvalue().encode())


def add_timing(run: Run, session: dict[str, float]) -> None:
    """Append the seconds of one training session to ``timing.json``."""
    path = run.folder / "timing.json"
    sessions = json.loads(path.read_text()) if path.is_file() else []
    write_atomic(path, json.dumps([*sessions, session], indent=1).encode())
