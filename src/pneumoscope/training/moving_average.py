"""An exponential moving average of the weights: what is validated, kept and exported; the optimizer goes on without it.

``average = momentum * average + (1 - momentum) * weight`` after each step, by the optimizer of Keras. Running
statistics of batch normalisation are averages already and stay as they are.

Reference: Polyak and Juditsky, "Acceleration of stochastic approximation by averaging", 1992; Izmailov et al.,
"Averaging weights leads to wider optima and better generalization", 2018.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from pneumoscope.training.keras_backend import Model, keras


@contextmanager
def averaged_weights(model: Model) -> Iterator[None]:
    """Give a compiled model its averaged weights for a while; without an average nothing changes."""
    raw = _swap_in(model)
    try:
        yield
    finally:
        _restore(model, raw)


class AveragedValidation(keras.callbacks.Callback):  # type: ignore[misc]  # Keras ships no annotations
    """Validates the averaged weights. The callback of Keras adds and subtracts, which changes last digits."""

    def on_test_begin(self, logs: dict[str, Any] | None = None) -> None:
        """Put the averages in."""
        self.raw = _swap_in(self.model)

    def on_test_end(self, logs: dict[str, Any] | None = None) -> None:
        """Put the weights of the training back."""
        _restore(self.model, self.raw)


def _swap_in(model: Model) -> list[np.ndarray] | None:
    """Assign the averages, and return the weights that were there."""
    if not model.optimizer.use_ema:
        return None
    raw = [variable.numpy().copy() for variable in model.trainable_variables]
    # Keras has no public name for the averages of its own optimizers.
    averages = model.optimizer._model_variables_moving_average
    for variable, average in zip(model.trainable_variables, averages, strict=True):
        variable.assign(average)
    return raw


def _restore(model: Model, raw: list[np.ndarray] | None) -> None:
    for variable, value in zip(model.trainable_variables, raw or [], strict=False):
        variable.assign(value)
