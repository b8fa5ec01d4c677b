"""The state after each epoch, written to the run folder and read back: a resumed training continues from there."""

import json
import time
from typing import Any

import numpy as np

from pneumoscope.inference import PROBABILITIES
from pneumoscope.io.atomic import write_npz
from pneumoscope.training.batches import Batches
from pneumoscope.training.keras_backend import Model, Tensor, keras
from pneumoscope.training.moving_average import averaged_weights
from pneumoscope.training.runs import MONITOR, BatchCallback, Run, write_history


class CheckpointCallback(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no annotations
    """Writes the state after each epoch, keeps the best weights, and reports each batch.

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
        if self.on_batch and batch + 1 < steps:
            self.on_batch(self.epoch * steps + batch + 1, self.run.recipe.epochs * steps, _plain_names(logs))

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Write the state."""
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in _plain_names(logs).items()}}
        row["seconds"] = time.perf_counter() - self.began
        keeps_last = self.run.recipe.keep == "last"
        if keeps_last or all(row[MONITOR] > earlier[MONITOR] for earlier in self.history):
            with averaged_weights(self.model):
                best = {f"weight{i}": weight for i, weight in enumerate(self.whole.get_weights())}
            write_npz(self.run.folder / "best.npz", best)
        self.history.append(row)
        _write_checkpoint(self.run, self.model, self.history)
        if self.on_batch:
            steps = len(self.training)
            self.on_batch((epoch + 1) * steps, self.run.recipe.epochs * steps, _plain_names(logs))


def _plain_names(logs: dict[str, float] | None) -> dict[str, float]:
    """Figures of the verdict have the same name in every network; Keras prefixes them if there are several outputs."""
    return {name.replace(f"{PROBABILITIES}_accuracy", "accuracy"): value for name, value in (logs or {}).items()}


def restore_checkpoint(run: Run, model: Model) -> list[dict[str, float]]:
    """Load the last state of a run into a compiled model; returns the history up to it."""
    path = run.folder / "checkpoint.npz"
    if not path.is_file():
        return []
    with np.load(path, allow_pickle=False) as saved:
        for name, variable in _state(model).items():
            variable.assign(saved[name])
        history: list[dict[str, float]] = json.loads(str(saved["history"]))
    write_history(run, history)  # if the process was killed between the two files, the table lacks the last row
    return history


def restore_best(run: Run, model: Model) -> None:
    """Load the weights of the kept epoch into a model of the run's architecture."""
    with np.load(run.folder / "best.npz", allow_pickle=False) as best:
        model.set_weights([best[f"weight{i}"] for i in range(len(best.files))])


def _write_checkpoint(run: Run, model: Model, history: list[dict[str, float]]) -> None:
    arrays: dict[str, Any] = {name: np.asarray(variable) for name, variable in _state(model).items()}
    write_npz(run.folder / "checkpoint.npz", {**arrays, "history": np.array(json.dumps(history))})
    write_history(run, history)


def _state(model: Model) -> dict[str, Tensor]:
    """Every variable that the next step depends on: weights, dropout seeds, optimizer."""
    variables = [*model.variables, *model.optimizer.variables]
    return {f"variable{i}": variable for i, variable in enumerate(variables)}
