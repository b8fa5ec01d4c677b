"""The state after each epoch, written to the run folder and read back: a resumed training continues from there.

The state before the last one is kept until the training ends, in case the last file is damaged.
"""

import json
import logging
import math
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np

from pneumoscope.errors import RunError
from pneumoscope.inference import PROBABILITIES
from pneumoscope.io.atomic import read_npz, write_npz
from pneumoscope.training.batches import Batches
from pneumoscope.training.keras_backend import Model, Tensor, keras
from pneumoscope.training.moving_average import averaged_weights
from pneumoscope.training.runs import (
    BEST_NAME,
    CHECKPOINT_NAME,
    EARLIER_NAME,
    MONITOR,
    BatchCallback,
    Run,
    write_history,
)

_log = logging.getLogger(__name__)
_DAMAGE = (OSError, ValueError, KeyError)  # a missing or damaged file, and one of another network


class CheckpointCallback(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no annotations
    """Writes the state after each epoch, keeps the best weights, and reports each batch.

    The first figure that is not finite ends the training with a :class:`~pneumoscope.errors.RunError`, before anything
    of its epoch is written.

    Args:
        run: whose folder is written.
        whole: the model whose weights are kept; the model that is fitted may be its head.
        training: batches, which draw a new order for each epoch.
        history: one row for each epoch before this session; rows are appended.
        on_batch: see :data:`pneumoscope.training.runs.BatchCallback`.
    """

    def __init__(
        self,
        run: Run,
        whole: Model,
        training: Batches,
        history: list[dict[str, float]],
        on_batch: BatchCallback | None,
    ) -> None:
        super().__init__()
        self.run, self.whole, self.training, self.history, self.on_batch = run, whole, training, history, on_batch

    def on_epoch_begin(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Draw the order of the epoch."""
        self.epoch, self.began = epoch, time.perf_counter()
        self.training.start_epoch(epoch)

    def on_train_batch_end(self, batch: int, logs: dict[str, float] | None = None) -> None:
        """Report the batch; the last one of the epoch is reported with the validation figures."""
        steps = len(self.training)
        self._check_finite(logs, f"batch {batch + 1} of {steps}")
        if self.on_batch and batch + 1 < steps:
            self.on_batch(self.epoch * steps + batch + 1, self.run.recipe.epochs * steps, _plain_names(logs))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write the state."""
        self._check_finite(logs, "at its end")
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in _plain_names(logs).items()}}
        row["seconds"] = time.perf_counter() - self.began
        keeps_last = self.run.recipe.keep == "last"
        if keeps_last or all(row[MONITOR] > earlier[MONITOR] for earlier in self.history):
            self._check_finite(
                {"weights": sum(float(weight.sum()) for weight in self.whole.get_weights())}, "at its end"
            )
            _write_kept_weights(self.run, self.model, self.whole)
        self.history.append(row)
        _write_checkpoint(self.run, self.model, self.history)
        if self.on_batch:
            steps = len(self.training)
            self.on_batch((epoch + 1) * steps, self.run.recipe.epochs * steps, _plain_names(logs))

    def _check_finite(self, figures: Mapping[str, float] | None, place: str) -> None:
        wrong = [(name, value) for name, value in (figures or {}).items() if not math.isfinite(value)]
        if not wrong:
            return
        name, value = wrong[0]
        kept = f"the state after epoch {self.epoch} is kept" if self.epoch else "nothing is kept"
        raise RunError(
            f"expected finite figures in training, received {name} {value} in epoch {self.epoch + 1} ({place}) of "
            f"{self.run.folder}; {kept}: lower learning_rate in the recipe, and give another --runs folder"
        )


def _write_kept_weights(run: Run, fitted: Model, whole: Model) -> None:
    with averaged_weights(fitted):
        best = {f"weight{i}": weight for i, weight in enumerate(whole.get_weights())}
    write_npz(run.folder / BEST_NAME, best)


def _plain_names(logs: dict[str, float] | None) -> dict[str, float]:
    """Figures of the verdict have the same name in every network; Keras prefixes them if there are several outputs."""
    return {name.replace(f"{PROBABILITIES}_accuracy", "accuracy"): value for name, value in (logs or {}).items()}


def restore_checkpoint(run: Run, fitted: Model, whole: Model) -> list[dict[str, float]]:
    """Load the newest whole state of a run into a compiled model.

    Args:
        run: whose folder is read.
        fitted: compiled; gets weights, optimizer and seeds.
        whole: the model whose weights are kept, see :class:`CheckpointCallback`.

    Returns:
        The history up to that state; empty if the run has none yet.

    Raises:
        RunError: there are states, and all are damaged; or the kept weights are damaged and cannot be made again.
    """
    damaged: list[str] = []
    for name in (CHECKPOINT_NAME, EARLIER_NAME):
        path = run.folder / name
        if not path.is_file():
            continue
        try:
            history = _load_state(path, fitted)
        except _DAMAGE as error:
            damaged.append(f"{path} cannot be read ({error})")
            continue
        if damaged:
            _log.warning("note: %s, so the training goes on after epoch %d", damaged[0], len(history))
        write_history(run, history)  # if the process was killed between the two files, the table lacks the last row
        _mend_kept_weights(run, fitted, whole, history)
        return history
    if damaged:
        raise RunError(
            f"expected the state of a training, {damaged[0]}, and there is no earlier one: bring back a copy, or give "
            "another --runs folder"
        )
    return []


def restore_best(run: Run, model: Model) -> None:
    """Load the weights of the kept epoch into a model of the run's architecture.

    Raises:
        RunError: the file is missing or damaged.
    """
    try:
        model.set_weights(_read_kept_weights(run))
    except _DAMAGE as error:
        raise RunError(
            f"expected the kept weights of {run.folder} in {BEST_NAME}, they cannot be read ({error}): run "
            "the same training with  --resume  to make them again"
        ) from None


def remove_earlier_state(run: Run) -> None:
    """Delete the state before the last one: the training has ended."""
    (run.folder / EARLIER_NAME).unlink(missing_ok=True)


def _load_state(path: Path, model: Model) -> list[dict[str, float]]:
    """Read a whole state, then assign it; returns its history."""
    variables = _state(model)
    saved = read_npz(path)
    history: list[dict[str, float]] = json.loads(str(saved["history"]))
    values = {name: saved[name] for name in variables}
    for name, variable in variables.items():
        variable.assign(values[name])
    return history


def _read_kept_weights(run: Run) -> list[np.ndarray]:
    best = read_npz(run.folder / BEST_NAME)
    return [best[f"weight{i}"] for i in range(len(best))]


def _mend_kept_weights(run: Run, fitted: Model, whole: Model, history: list[dict[str, float]]) -> None:
    """Make damaged kept weights again if they are those of the state; later epochs may write them anyway."""
    try:
        _read_kept_weights(run)
    except _DAMAGE as error:
        epochs = [row.get(MONITOR, 0.0) for row in history]
        if run.recipe.keep == "best" and epochs.index(max(epochs)) + 1 < len(epochs):
            raise RunError(
                f"expected the weights of the best epoch of {run.folder} in {BEST_NAME}, they cannot be read "
                f"({error}) and a later epoch has begun: bring back a copy, or give another --runs folder"
            ) from None
        _write_kept_weights(run, fitted, whole)


def _write_checkpoint(run: Run, model: Model, history: list[dict[str, float]]) -> None:
    arrays: dict[str, Any] = {name: np.asarray(variable) for name, variable in _state(model).items()}
    with suppress(FileNotFoundError):  # the first epoch
        os.replace(run.folder / CHECKPOINT_NAME, run.folder / EARLIER_NAME)
    write_npz(run.folder / CHECKPOINT_NAME, {**arrays, "history": np.array(json.dumps(history))})
    write_history(run, history)


def _state(model: Model) -> dict[str, Tensor]:
    """Every variable that the next step depends on: weights, dropout seeds, optimizer."""
    variables = [*model.variables, *model.optimizer.variables]
    return {f"variable{i}": variable for i, variable in enumerate(variables)}
