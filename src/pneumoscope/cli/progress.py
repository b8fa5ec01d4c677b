"""Progress on standard error: a bar over items, and a bar over the epochs of a training."""

import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

from pneumoscope.cli.console import echo_stderr, make_console

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, TaskID

Item = TypeVar("Item")


class ShowProgress(Protocol):
    """Passes items through and shows how many are done."""

    def __call__(self, items: Iterable[Item], total: int | None = None, description: str = "", /) -> Iterator[Item]:
        """Iterate over the items; ``total`` is their number if they have no length."""
        ...


@contextmanager
def progress_bar(console: "Console | None" = None) -> Iterator[ShowProgress]:
    """Show bars on a terminal, standard error by default; show nothing where the console is not a terminal."""
    console = console or make_console(stderr=True)
    if not console.is_terminal:
        yield _pass_through
        return
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )  # fmt: skip

    def show_progress(items: Iterable[Item], total: int | None = None, description: str = "") -> Iterator[Item]:
        if total is None and isinstance(items, Sized):
            total = len(items)
        # One bar at a time. It disappears when its work is done, so that the next one can be drawn.
        # Standard output is not redirected: it may be a file of JSON while the bar is on the terminal.
        with Progress(*columns, console=console, transient=True, redirect_stdout=False) as progress:
            yield from progress.track(items, total=total, description=description)

    yield show_progress


def _pass_through(items: Iterable[Item], total: int | None = None, description: str = "") -> Iterator[Item]:
    return iter(items)


class TrainingProgress:
    """Shows the epochs of one or more trainings: a bar with the time left, or one line an epoch without a terminal.

    Use it as a context and call it after each batch.

    Args:
        epochs: of each training.
    """

    def __init__(self, epochs: int) -> None:
        self._console, self._epochs = make_console(stderr=True), epochs
        self._bar: tuple[Progress, TaskID] | None = None
        self._last_step = 0
        # The clock of the current training starts at the end of its first step, which is slow; 0 is no training yet.
        self._first_step, self._start = 0, 0.0

    def __enter__(self) -> "TrainingProgress":
        return self

    def __exit__(self, *error: object) -> None:
        if self._bar:
            self._bar[0].stop()

    def __call__(self, step: int, steps: int, metrics: Mapping[str, float]) -> None:
        """Show that one more batch is done.

        Args:
            step: number of the batch over all epochs, from 1; a smaller one than before begins a new training.
            steps: batches of all epochs.
            metrics: loss and accuracy so far; at the end of an epoch also those of the validation images.
        """
        if step <= self._last_step or not self._first_step:
            self._begin_training(step, steps)
        self._last_step = step
        epoch = -(-step * self._epochs // steps)
        text = f"epoch {epoch}/{self._epochs}  loss {metrics.get('loss', 0):.4f}  "
        text += f"accuracy {metrics.get('accuracy', 0):.4f}"
        if "val_loss" in metrics:
            text += f"  validation loss {metrics['val_loss']:.4f}  accuracy {metrics.get('val_accuracy', 0):.4f}"
        if self._bar:
            progress, task = self._bar
            progress.update(task, completed=step, description=text)
        elif step * self._epochs % steps == 0:
            seconds_a_step = (time.monotonic() - self._start) / (step - self._first_step + 1)
            echo_stderr(f"{text}  about {seconds_a_step * (steps - step):.0f} s left")

    def _begin_training(self, step: int, steps: int) -> None:
        self.__exit__()
        self._first_step, self._start = step, time.monotonic()
        if not self._console.is_terminal:
            return
        from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

        columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        progress = Progress(*columns, console=self._console)
        self._bar = progress, progress.add_task("", total=steps)
        progress.start()
