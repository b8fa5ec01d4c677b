"""Recipe + labelled radiographs -> runs/<id>/: seeded, recorded, and resumable to the same result."""

import time
from pathlib import Path

from pneumoscope.data import Manifest, read_dataset
from pneumoscope.data.splits import ALL, make_split
from pneumoscope.errors import UsageError
from pneumoscope.training import networks
from pneumoscope.training.checkpoints import CheckpointCallback, restore_checkpoint
from pneumoscope.training.distillation import find_teacher
from pneumoscope.training.inputs import Inputs, hash_inputs, prepare_inputs
from pneumoscope.training.keras_backend import Model, Tensor, keras, tf
from pneumoscope.training.optimizer import build_optimizer
from pneumoscope.training.recipe import Recipe
from pneumoscope.training.runs import BatchCallback, Progress, Run, add_timing, no_progress, open_run, run_id, run_lock


def train(
    recipe: Recipe,
    data: str | Path | Manifest,
    *,
    runs: str | Path = "runs",
    resume: bool = False,
    cache: bool = True,
    tensorboard: bool = False,
    progress: Progress | None = None,
    on_batch: BatchCallback | None = None,
) -> Run:
    """Train a model, or continue an interrupted run.

    A run can be interrupted at any point, also by ``kill -9``. The resumed run ends with the weights and metrics of an
    uninterrupted one: the state after each epoch contains weights, optimizer, random seeds and history, and the order
    of the images depends only on seed and epoch.

    Args:
        recipe: what to train.
        data: folder or manifest, see :func:`pneumoscope.data.scan.read_dataset`.
        runs: parent of the run folder.
        resume: continue the run of this recipe; without it an existing run is an error.
        cache: compute the features of a frozen backbone once; turn it off only to show that it changes nothing.
        tensorboard: also write TensorBoard logs.
        progress: shows how far it is, ``progress(items, total, what)``.
        on_batch: called after each batch with the steps done, the steps in all, and the metrics so far.

    Raises:
        RunError: the run exists already, or differs from the one to resume.
        DatasetError: the data cannot be split as asked.
    """
    if recipe.average and recipe.split == ALL:
        raise UsageError(f"expected one training, {recipe.name} averages {recipe.average} folds: use train_average")
    started = time.perf_counter()
    progress = progress or no_progress
    manifest = read_dataset(data, progress=lambda items: progress(items, None, "reading images"))
    split = make_split(manifest, recipe.split, seed=recipe.split_seed, fraction=recipe.validation_fraction)
    run = Run(Path(runs) / run_id(recipe), recipe, split)
    with run_lock(run.folder):
        teacher = find_teacher(recipe, runs, split)
        open_run(run, manifest, resume, hash_inputs(run, manifest, teacher))
        model = _build_seeded(recipe)
        inputs = prepare_inputs(run, model, manifest, teacher, cache, progress)
        _compile(recipe, inputs)
        epochs = _fit(run, model, inputs, tensorboard, on_batch)
        timing = {
            "epochs": epochs,
            "read_and_decode_seconds": inputs.decoded_at - started,
            "frozen_features_seconds": inputs.ready_at - inputs.decoded_at,
            "fit_seconds": time.perf_counter() - inputs.ready_at,
        }
        add_timing(run, timing)
    return run


def squashed_note(recipe: Recipe, manifest: Manifest) -> str | None:
    """A note for the user if the recipe removes aspect ratios and all images have the same one; None otherwise."""
    ratios = [record.ratio for record in manifest.records if record.ratio]
    if not recipe.augment.equalize_aspect or (ratios and max(ratios) > 1.02 * min(ratios)):
        return None
    return (
        f"note: {recipe.name} removes the aspect ratio of each image, but these images all have the same one or none "
        "is known (squashed copies?): use the full-size radiographs, or fill the manifest's column ratio"
    )


def _build_seeded(recipe: Recipe) -> Model:
    """The network with its starting weights: equal seeds give equal networks and equal trainings."""
    keras.utils.set_random_seed(recipe.seed if recipe.initial_seed < 0 else recipe.initial_seed)
    _enable_determinism()
    return networks.build(recipe, weights=recipe.weights)


def _enable_determinism() -> None:
    """Make TensorFlow add in a fixed order; for the whole process."""
    tf.config.experimental.enable_op_determinism()


def _compile(recipe: Recipe, inputs: Inputs) -> None:
    inputs.fitted.compile(
        optimizer=build_optimizer(recipe, len(inputs.training), inputs.fitted),
        loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
        weighted_metrics=[],
        metrics=[keras.metrics.MeanMetricWrapper(_verdict_is_right, name="accuracy")],
    )


def _verdict_is_right(targets: Tensor, probabilities: Tensor) -> Tensor:
    """(N,) 1 where the verdict at a threshold of 0.5 is right: normal against all pneumonia."""
    ops = keras.ops
    return ops.cast(ops.equal(targets[:, 0] < 0.5, probabilities[:, 0] <= 0.5), "float32")


def _fit(run: Run, model: Model, inputs: Inputs, tensorboard: bool, on_batch: BatchCallback | None) -> int:
    """Fit from the last checkpoint to the last epoch; returns how many epochs this call ran."""
    history = restore_checkpoint(run, inputs.fitted)
    inputs.training.start_epoch(len(history))
    callbacks = [CheckpointCallback(run, model, inputs.training, history, on_batch)]
    if tensorboard:
        callbacks.append(keras.callbacks.TensorBoard(run.folder / "tensorboard"))
    epochs_before = len(history)
    if epochs_before < run.recipe.epochs:
        inputs.fitted.fit(
            inputs.training,
            validation_data=inputs.validation,
            initial_epoch=epochs_before,
            epochs=run.recipe.epochs,
            shuffle=False,  # Batches has an order of its own
            callbacks=callbacks,
            verbose=0,
        )
    return len(history) - epochs_before
