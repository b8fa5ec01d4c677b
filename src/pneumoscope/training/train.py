"""Recipe + labelled radiographs -> runs/<id>/: seeded, recorded, resumable to the same result."""

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pneumoscope.data.augment import aspect_corrections
from pneumoscope.data.manifest import Manifest, Record, read_dataset
from pneumoscope.data.splits import ALL, class_weights, make_split
from pneumoscope.data.style import StylePartners
from pneumoscope.errors import DatasetError, UsageError
from pneumoscope.inference.preprocess import InputSpec, to_input
from pneumoscope.io.atomic import write_npz
from pneumoscope.labels import BACTERIAL, NORMAL, VIRAL, label_index
from pneumoscope.training import networks as models
from pneumoscope.training.batches import (
    Batches,
    augmentation_transform,
    frozen_features,
    image_fingerprint,
    load_pixels,
)
from pneumoscope.training.cache import cache_key
from pneumoscope.training.distillation import Teacher, find_teacher
from pneumoscope.training.optimizer import build_optimizer
from pneumoscope.training.recipe import Recipe
from pneumoscope.training.runs import MONITOR, Run, add_timing, open_run, run_id, run_lock, write_history

keras = models.keras


def train(
    recipe: Recipe,
    data: str | Path | Manifest,
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
        data: folder or manifest, see :func:`pneumoscope.data.manifest.read_dataset`.
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
    if recipe.average and recipe.split == ALL:
        raise UsageError(f"expected one training, {recipe.name} averages {recipe.average} folds: use train_average")
    started = time.perf_counter()
    show = progress or (lambda items, total, what: items)
    manifest = read_dataset(data, progress=lambda items: show(items, None, "reading images"))
    split = make_split(manifest, recipe.split, seed=recipe.split_seed, fraction=recipe.validation_fraction)
    run = Run(Path(runs) / run_id(recipe), recipe, split)
    with run_lock(run.folder):
        teacher = find_teacher(recipe, runs, split)
        open_run(run, manifest, resume, _contents(run, manifest, teacher))
        _train(run, manifest, teacher, cache, tensorboard, show, on_batch, started)
    return run


def _train(
    run: Run,
    manifest: Manifest,
    teacher: Teacher | None,
    cache: bool,
    tensorboard: bool,
    show: Callable,
    on_batch: Callable | None,
    started: float,
) -> None:
    """Prepare the inputs, fit, and note how long each took."""
    recipe, cache_folder = run.recipe, run.folder.parent / "cache"
    keras.utils.set_random_seed(recipe.seed if recipe.initial_seed < 0 else recipe.initial_seed)
    _deterministic()
    model = models.build(recipe, weights=recipe.weights)
    records = {side: run.split.records(manifest, side) for side in ("train", "val")}
    # Augmentation needs pixels around its crops; without it one cache holds both sides.
    source = _source_spec(recipe)
    if source == run.spec:
        pixels = load_pixels(manifest, [*records["train"], *records["val"]], run.spec, cache_folder, show)
        inputs = {"train": pixels[: len(records["train"])], "val": pixels[len(records["train"]) :]}
    else:
        specs = {"train": source, "val": run.spec}
        inputs = {
            side: load_pixels(manifest, list(records[side]), specs[side], cache_folder, show)
            for side in specs
            if records[side]
        }
    prepared = time.perf_counter()

    trained, parts = model, models.split_at_features(model) if cache and not recipe.augments else None
    transforms = dict.fromkeys(("train", "val"), lambda batch, rows, epoch: to_input(batch, run.spec))
    if parts:
        frozen, trained = parts
        features = frozen_features(frozen, pixels, run.spec, cache_folder, show)  # (N, F) float32
        inputs = {"train": features[: len(records["train"])], "val": features[len(records["train"]) :]}
        transforms = dict.fromkeys(("train", "val"), lambda batch, rows, epoch: np.asarray(batch))
    elif recipe.augments:
        aspect_correction = _aspect_corrections_of(records["train"], recipe)
        partners = None
        if recipe.augment.style or recipe.augment.style_corners:
            labels = np.array([label_index(record.label) for record in records["train"]])
            partners = StylePartners.measure(inputs["train"], labels, teacher.spec if teacher else run.spec)
        transforms["train"] = augmentation_transform(run.spec, recipe.augment, recipe.seed, teacher, aspect_correction, partners)
    featured = time.perf_counter()

    classes = recipe.classes
    found = {side: [class_of(record, recipe.subtypes) for record in records[side]] for side in records}
    weights = np.array(list(class_weights(found["train"], recipe.class_weights, classes).values()))
    targets = {side: np.eye(len(classes), dtype=np.float32)[[classes.index(c) for c in found[side]]] for side in found}
    training = Batches(
        inputs["train"],
        targets["train"],
        transforms["train"],
        recipe.batch_size,
        recipe.seed,
        weights,
        recipe.mixup,
        recipe.teacher_share,
    )
    validation = None
    if records["val"]:
        equal_weights = np.ones(len(classes))
        validation = Batches(inputs["val"], targets["val"], transforms["val"], recipe.batch_size, None, equal_weights)
    trained.compile(
        optimizer=build_optimizer(recipe, len(training), trained),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
        weighted_metrics=[],
        metrics=[keras.metrics.MeanMetricWrapper(_agreement, name="accuracy")],
    )
    epochs = _fit(run, model, trained, training, validation, tensorboard, on_batch)
    finished = time.perf_counter()
    add_timing(
        run,
        {
            "epochs": epochs,
            "read_and_decode_seconds": prepared - started,
            "frozen_features_seconds": featured - prepared,
            "fit_seconds": finished - featured,
        },
    )


def _source_spec(recipe: Recipe) -> InputSpec:
    """Form in which training images are kept, before they are changed."""
    large = recipe.source_size if recipe.augments else 0
    return replace(recipe.spec, height=large, width=large) if large else recipe.spec


def _aspect_corrections_of(records: Sequence[Record], recipe: Recipe) -> np.ndarray:
    """(N,) how much wider each training image is drawn, see :func:`pneumoscope.data.augment.aspect_corrections`."""
    return aspect_corrections([r.ratio for r in records], [r.label for r in records], recipe.augment.equalize_aspect)


def squashed_note(recipe: Recipe, manifest: Manifest) -> str | None:
    """What to tell who evens out aspect ratios on copies that all have one; None where the ratios differ."""
    ratios = [record.ratio for record in manifest.records if record.ratio]
    if not recipe.augment.equalize_aspect or (ratios and max(ratios) > 1.02 * min(ratios)):
        return None
    return (
        f"note: {recipe.name} takes out each image's aspect ratio, but these images tell none of their own (squashed "
        "copies?): use the full-size radiographs, or fill the manifest's column ratio"
    )


def class_of(record: Record, subtypes: bool) -> str:
    """The class that a record trains: its label, or its sub-label where bacterial and viral are told apart.

    Raises:
        DatasetError: a pneumonia of unknown sub-label.
    """
    if not subtypes or record.label == NORMAL:
        return record.label
    if not record.sublabel:
        raise DatasetError(
            f"expected {BACTERIAL} or {VIRAL} for every pneumonia, {record.path} has neither: "
            "fill the column sublabel of the manifest, or train with subtypes = false"
        )
    return record.sublabel


def _agreement(targets: object, probabilities: object) -> object:
    """(N,) 1 where the verdict at one half is right, normal against all pneumonia."""
    ops = keras.ops
    return ops.cast(ops.equal(targets[:, 0] < 0.5, probabilities[:, 0] <= 0.5), "float32")


def _contents(run: Run, manifest: Manifest, teacher: Teacher | None) -> dict[str, str]:
    """Hashes of what the recipe names and a resumed run must find unchanged."""
    training = run.split.records(manifest, "train")
    records = [*training, *run.split.records(manifest, "val")]
    weights = Path(run.recipe.weights)
    known = weights.is_file()  # else the download of Keras, which Keras verifies
    return {
        "images_sha256": cache_key(*(image_fingerprint(manifest, record) for record in records)),
        "weights_sha256": hashlib.sha256(weights.read_bytes()).hexdigest() if known else run.recipe.weights,
        **({"teacher_sha256": teacher.bundle.sha256} if teacher else {}),
        **(
            {"ratios_sha256": cache_key(*_aspect_corrections_of(training, run.recipe))}
            if run.recipe.augment.equalize_aspect
            else {}
        ),
    }


def restore_best(run: Run, model: keras.Model) -> None:
    """Load the weights of the kept epoch into a model of the run's architecture."""
    with np.load(run.folder / "best.npz", allow_pickle=False) as best:
        model.set_weights([best[f"weight{i}"] for i in range(len(best.files))])


def _deterministic() -> None:
    """Equal seeds give equal weights: TensorFlow is told to keep the order of its sums."""
    import tensorflow as tf

    tf.config.experimental.enable_op_determinism()


def _fit(run, whole, model, training, validation, tensorboard, on_batch) -> int:
    """Fit from the last checkpoint to the last epoch; returns how many epochs this call ran.

    ``model`` is fitted; ``whole`` is the model it is the head of, or itself.
    """
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
        last = self.run.recipe.keep == "last"
        if last or all(row[MONITOR] > earlier[MONITOR] for earlier in self.history):
            best = {f"weight{i}": weight for i, weight in enumerate(self.whole.get_weights())}
            write_npz(self.run.folder / "best.npz", best)
        self.history.append(row)
        _write_checkpoint(self.run, self.model, self.history)


def _state(model: keras.Model) -> dict[str, object]:
    """Every variable that the next step depends on: weights, dropout seeds, optimizer."""
    variables = [*model.variables, *model.optimizer.variables]
    return {f"variable{i}": variable for i, variable in enumerate(variables)}


def _write_checkpoint(run: Run, model: keras.Model, history: list[dict]) -> None:
    arrays = {name: np.asarray(variable) for name, variable in _state(model).items()}
    write_npz(run.folder / "checkpoint.npz", {**arrays, "history": np.array(json.dumps(history))})
    write_history(run, history)


def _restore_checkpoint(run: Run, model: keras.Model) -> list[dict]:
    """Load the last state; returns the history up to it."""
    path = run.folder / "checkpoint.npz"
    if not path.is_file():
        return []
    with np.load(path, allow_pickle=False) as saved:
        for name, variable in _state(model).items():
            variable.assign(saved[name])
        history = json.loads(str(saved["history"]))
    write_history(run, history)  # a kill between the two files leaves the table one row behind
    return history
