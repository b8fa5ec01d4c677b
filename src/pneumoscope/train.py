"""Recipe + labelled radiographs -> runs/<id>/: seeded, recorded, resumable to the same result.

A run folder holds ``config.json`` (resolved recipe, data, split fingerprint, versions), ``split.json``,
``history.csv``, ``checkpoint.npz`` (the state after the last whole epoch), ``best.npz`` (the weights with the
best validation accuracy), ``timing.json`` and the curves.
"""

import csv
import json
import os
import platform
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from pneumoscope import models
from pneumoscope.cache import cache_key, cached_rows
from pneumoscope.datasets import Manifest, Record, read_dataset
from pneumoscope.errors import RunError
from pneumoscope.images import read_radiograph
from pneumoscope.labels import LABELS, label_index
from pneumoscope.preprocess import InputSpec, resize, to_input
from pneumoscope.recipe import Recipe
from pneumoscope.splits import Split, class_weights, make_split, read_split, write_split

keras = models.keras

#: What is watched to keep the best epoch; the first of equal epochs wins.
MONITOR = "val_accuracy"
_FEATURE_BLOCK = 64  # images a forward pass of the frozen part, and between two saves of the cache


@dataclass(frozen=True)
class Run:
    """A training run on disk.

    Attributes:
        folder: ``runs/<id>``.
        recipe: resolved.
        split: who trained and who validated.
    """

    folder: Path
    recipe: Recipe
    split: Split

    @property
    def history(self) -> list[dict[str, float]]:
        """One row an epoch, from ``history.csv``."""
        with (self.folder / "history.csv").open(newline="") as file:
            return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]

    @property
    def spec(self) -> InputSpec:
        """Input contract of the model trained."""
        return models.INPUT_SPECS[self.recipe.model]


def run_id(recipe: Recipe) -> str:
    """Folder name of a recipe's run: equal recipes share it, so that ``--resume`` finds its run.

    >>> from pneumoscope.recipe import read_recipe
    >>> run_id(read_recipe("reference-lstm", seed=1))
    'reference-lstm-patient-seed1'
    """
    return f"{recipe.name}-{recipe.split}-seed{recipe.seed}"


def train(
    recipe: Recipe,
    data: str | Path,
    *,
    runs: str | Path = "runs",
    resume: bool = False,
    cache: bool = True,
    tensorboard: bool = False,
    progress: Callable | None = None,
    on_batch: Callable[[int, int, dict], None] | None = None,
) -> Run:
    """Train a model, or go on with a run that was interrupted.

    Interrupted anywhere (also by ``kill -9``), a resumed run ends with the weights and metrics of an
    uninterrupted one: the state after each epoch holds weights, optimizer, random seeds and history, and the
    order of the images follows from seed and epoch alone.

    Args:
        recipe: what to train.
        data: folder or manifest, see :func:`pneumoscope.datasets.read_dataset`.
        runs: parent of the run folder.
        resume: go on with the run of this recipe instead of refusing to overwrite it.
        cache: compute the features of a frozen backbone once; off only to show that it changes nothing.
        tensorboard: also write TensorBoard logs.
        progress: wraps iterations over images, ``progress(iterator, total, what)``.
        on_batch: called after each batch with steps done, steps in all, and the metrics so far.

    Raises:
        RunError: the run exists already, or differs from the one to resume.
        DatasetError: the data cannot be split as asked.
    """
    started = time.perf_counter()
    show = progress or (lambda items, total, what: items)
    manifest = read_dataset(data, progress=lambda items: show(items, None, "reading images"))
    split = make_split(manifest, recipe.split, seed=recipe.split_seed, fraction=recipe.validation_fraction)
    run = Run(Path(runs) / run_id(recipe), recipe, split)
    _open_run(run, manifest, resume)
    keras.utils.set_random_seed(recipe.seed)
    models.keras.config.set_floatx("float32")
    _deterministic()

    spec = run.spec
    model = models.build(recipe.model, spec, weights=recipe.weights)
    records = [*split.records(manifest, "train"), *split.records(manifest, "val")]
    cache_folder = Path(runs) / "cache"
    pixels = load_pixels(manifest, records, spec, cache_folder, show)  # (N, H, W) uint8
    targets = np.eye(len(LABELS), dtype=np.float32)[[label_index(record.label) for record in records]]

    trained, inputs, transform = model, pixels, lambda batch: to_input(batch, spec)
    parts = models.split_at_features(model) if cache else None
    prepared = time.perf_counter()
    if parts:
        frozen, trained = parts
        inputs = frozen_features(frozen, pixels, records, spec, cache_folder, show)  # (N, F) float32
        transform = np.asarray
    featured = time.perf_counter()

    trained.compile(
        optimizer=keras.optimizers.Adam(recipe.learning_rate), loss="categorical_crossentropy", metrics=["accuracy"]
    )
    count = len(split.train)
    epochs = _fit(
        run,
        model,
        trained,
        Batches(inputs[:count], targets[:count], transform, recipe.batch_size, recipe.seed),
        Batches(inputs[count:], targets[count:], transform, recipe.batch_size, None),
        class_weights([record.label for record in records[:count]], recipe.class_weights),
        tensorboard,
        on_batch,
    )
    finished = time.perf_counter()
    _add_timing(
        run,
        {
            "epochs": epochs,
            "read_and_decode_seconds": prepared - started,
            "frozen_features_seconds": featured - prepared,
            "fit_seconds": finished - featured,
        },
    )
    return run


def open_finished(folder: str | Path) -> Run:
    """Read a run folder whose training reached its last epoch.

    Raises:
        RunError: not a run folder, or an unfinished one.
    """
    folder = Path(folder)
    try:
        recipe = Recipe(**json.loads((folder / "config.json").read_text(encoding="utf-8"))["recipe"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"expected a run folder with config.json at {folder}: {error}") from None
    run = Run(folder, recipe, read_split(folder / "split.json"))
    done = len(run.history) if (folder / "history.csv").is_file() else 0
    if done < recipe.epochs:
        raise RunError(
            f"expected a finished run at {folder}, it stands after epoch {done} of {recipe.epochs}: "
            "run the same training with  --resume"
        )
    return run


def restore_best(run: Run, model: keras.Model) -> None:
    """Load the weights of the best epoch into a model of the run's architecture."""
    with np.load(run.folder / "best.npz", allow_pickle=False) as best:
        model.set_weights([best[f"weight{i}"] for i in range(len(best.files))])


def load_pixels(
    manifest: Manifest, records: list[Record], spec: InputSpec, cache_folder: Path, show: Callable
) -> np.ndarray:
    """Decode and resize every image once; the small 8-bit images are kept on disk.

    Returns:
        (N, height, width) uint8.
    """
    from concurrent.futures import ThreadPoolExecutor

    def blocks(start: int) -> Iterator[np.ndarray]:
        def one(record: Record) -> np.ndarray:
            return resize(read_radiograph(manifest.path(record)), spec)

        with ThreadPoolExecutor() as pool:
            for first in show(range(start, len(records), 256), None, "decoding images"):
                yield np.stack(list(pool.map(one, records[first : first + 256])))

    # One cache serves every layout: rows and images differ after the resizing.
    key = cache_key(spec.height, spec.width, spec.aspect, spec.resize, *(r.sha256 or r.path for r in records))
    shape = (len(records), spec.height, spec.width)
    return cached_rows(cache_folder / f"pixels-{key}.npy", shape, np.uint8, blocks)


def frozen_features(
    frozen: keras.Model, pixels: np.ndarray, records: list[Record], spec: InputSpec, cache_folder: Path, show: Callable
) -> np.ndarray:
    """One pass of the frozen part over all images; its output stands for the images from then on.

    Returns:
        (N, F) float32.
    """

    def blocks(start: int) -> Iterator[np.ndarray]:
        for first in show(range(start, len(pixels), _FEATURE_BLOCK), None, "frozen features"):
            yield frozen.predict_on_batch(to_input(pixels[first : first + _FEATURE_BLOCK], spec))

    weights = cache_key(*(weight.numpy().tobytes() for weight in frozen.weights))
    key = cache_key(weights, spec, *(record.sha256 or record.path for record in records))
    shape = (len(pixels), frozen.output.shape[-1])
    return np.asarray(cached_rows(cache_folder / f"features-{key}.npy", shape, np.float32, blocks))


class Batches(keras.utils.PyDataset):
    """Batches in an order that follows from seed and epoch alone, so that a resumed run repeats it.

    Args:
        inputs: (N, ...) as cached.
        targets: (N, classes) float32, one-hot.
        transform: cached batch -> model input.
        batch_size: images a batch; the last one may be smaller.
        seed: of the order; None keeps the given order.
    """

    def __init__(self, inputs: np.ndarray, targets: np.ndarray, transform: Callable, batch_size: int, seed: int | None):
        super().__init__()
        self.inputs, self.targets, self.transform = inputs, targets, transform
        self.batch_size, self.seed = batch_size, seed
        self.start_epoch(0)

    def __len__(self) -> int:
        return -(-len(self.inputs) // self.batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        rows = np.sort(self.order[index * self.batch_size : (index + 1) * self.batch_size])
        return self.transform(self.inputs[rows]), self.targets[rows]

    def start_epoch(self, epoch: int) -> None:
        """Draw the order of one epoch."""
        count = len(self.inputs)
        self.order = (
            np.arange(count) if self.seed is None else np.random.default_rng([self.seed, epoch]).permutation(count)
        )


def _open_run(run: Run, manifest: Manifest, resume: bool) -> None:
    """Create the run folder, or check that it is the one to resume."""
    config = run.folder / "config.json"
    wanted = {"recipe": run.recipe.to_dict(), "split_fingerprint": run.split.fingerprint}
    if config.is_file():
        if not resume:
            raise RunError(f"expected a new run, {run.folder} exists: add  --resume  to go on, or another --seed")
        found = json.loads(config.read_text(encoding="utf-8"))
        for name in ("recipe", "split_fingerprint"):
            if found.get(name) != wanted[name]:
                raise RunError(
                    f"expected to resume {run.folder} with the {name} it began with, "
                    f"{_difference(found.get(name), wanted[name])}: "
                    "give the same options and data, or another --runs folder"
                )
        return
    if resume:
        raise RunError(f"expected a run to resume at {run.folder}, found none: leave out --resume to begin it")
    run.folder.mkdir(parents=True, exist_ok=True)
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
    write_whole(config, json.dumps(content, indent=1).encode())


def _difference(found: object, wanted: object) -> str:
    if isinstance(found, dict) and isinstance(wanted, dict):
        names = [name for name in wanted if found.get(name) != wanted[name]]
        return ", ".join(f"{name} was {found.get(name)!r} and is {wanted[name]!r}" for name in names)
    return f"it was {str(found)[:12]} and is {str(wanted)[:12]}"


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _deterministic() -> None:
    """Equal seeds give equal weights: TensorFlow is told to keep the order of its sums."""
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()


def _fit(run, whole, model, training, validation, weights, tensorboard, on_batch) -> int:
    """Fit from the last checkpoint to the last epoch; returns how many epochs this call ran.

    ``model`` is fitted; ``whole`` is the model it is the head of, or itself.
    """
    model.optimizer.build(model.trainable_variables)
    history = _restore_checkpoint(run, model)
    training.start_epoch(len(history))
    callbacks = [_Keeper(run, whole, training, history, on_batch)]
    if tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(run.folder / "tensorboard"))
    before = len(history)
    if before < run.recipe.epochs:
        model.fit(
            training,
            validation_data=validation,
            initial_epoch=before,
            epochs=run.recipe.epochs,
            shuffle=False,  # Batches has its own order
            class_weight={label_index(label): weight for label, weight in weights.items()},
            callbacks=callbacks,
            verbose=0,
        )
    return len(history) - before


class _Keeper(keras.callbacks.Callback):
    """Writes the state after each epoch, keeps the best weights, and reports progress."""

    def __init__(
        self, run: Run, whole: keras.Model, training: Batches, history: list[dict], on_batch: Callable | None
    ) -> None:
        super().__init__()
        self.run, self.whole, self.training, self.history, self.on_batch = run, whole, training, history, on_batch

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        self.epoch, self.began = epoch, time.perf_counter()
        self.training.start_epoch(epoch)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        if self.on_batch:
            steps = len(self.training)
            self.on_batch(self.epoch * steps + batch + 1, self.run.recipe.epochs * steps, logs or {})

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        row = {"epoch": epoch + 1, **{name: float(value) for name, value in logs.items()}}
        row["seconds"] = time.perf_counter() - self.began
        if all(row[MONITOR] > earlier[MONITOR] for earlier in self.history):
            best = {f"weight{i}": weight for i, weight in enumerate(self.whole.get_weights())}
            _write_npz(self.run.folder / "best.npz", best)
        self.history.append(row)
        _write_checkpoint(self.run, self.model, self.history)


def _state(model: keras.Model) -> dict[str, object]:
    """Every variable that the next step depends on: weights, dropout seeds, optimizer."""
    variables = [*model.variables, *model.optimizer.variables]
    return {f"variable{i}": variable for i, variable in enumerate(variables)}


def _write_checkpoint(run: Run, model: keras.Model, history: list[dict]) -> None:
    arrays = {name: np.asarray(variable) for name, variable in _state(model).items()}
    _write_npz(run.folder / "checkpoint.npz", {**arrays, "history": np.array(json.dumps(history))})
    _write_history(run, history)


def _restore_checkpoint(run: Run, model: keras.Model) -> list[dict]:
    """Load the last state; returns the history up to it."""
    path = run.folder / "checkpoint.npz"
    if not path.is_file():
        return []
    with np.load(path, allow_pickle=False) as saved:
        for name, variable in _state(model).items():
            variable.assign(saved[name])
        history = json.loads(str(saved["history"]))
    _write_history(run, history)  # a kill between the two files leaves the table one row behind
    return history


def _write_history(run: Run, history: list[dict]) -> None:
    import io

    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_whole(run.folder / "history.csv", text.getvalue().encode())


def _add_timing(run: Run, session: dict) -> None:
    path = run.folder / "timing.json"
    sessions = json.loads(path.read_text()) if path.is_file() else []
    write_whole(path, json.dumps([*sessions, session], indent=1).encode())


def _write_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    import io

    content = io.BytesIO()
    np.savez(content, **arrays)
    write_whole(path, content.getvalue())


def write_whole(path: Path, content: bytes) -> None:
    """Write a file whole or not at all, also through a power cut."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
