"""Recipe + labelled radiographs -> runs/<id>/: seeded, recorded, and resumable to the same result."""

import time
from pathlib import Path

from pneumoscope.data import LungMasks, Manifest, read_dataset
from pneumoscope.data.splits import ALL, make_split
from pneumoscope.errors import UsageError
from pneumoscope.inference import LUNGS, PROBABILITIES
from pneumoscope.training import networks
from pneumoscope.training.checkpoints import CheckpointCallback, remove_earlier_state, restore_checkpoint
from pneumoscope.training.distillation import find_teacher
from pneumoscope.training.inputs import Inputs, hash_inputs, prepare_inputs
from pneumoscope.training.keras_backend import Model, Tensor, keras, tf
from pneumoscope.training.lung_layers import dice, lung_loss
from pneumoscope.training.moving_average import AveragedValidation
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
    masks: str | Path | None = None,
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
        masks: folder of lung masks, see :mod:`pneumoscope.data.lung_masks`; for a network that learns the lungs.

    Raises:
        UsageError: masks without such a network, or such a network without masks.
        RunError: the run exists already, or differs from the one to resume.
        DatasetError: the data cannot be split as asked.
    """
    if recipe.average and recipe.split == ALL:
        raise UsageError(f"expected one training, {recipe.name} averages {recipe.average} folds: use train_average")
    lung_masks = check_masks(recipe, masks)
    started = time.perf_counter()
    progress = progress or no_progress
    manifest = read_dataset(data, progress=lambda items: progress(items, None, "reading images"))
    split = make_split(manifest, recipe.split, seed=recipe.split_seed, fraction=recipe.validation_fraction)
    run = Run(Path(runs) / run_id(recipe), recipe, split)
    with run_lock(run.folder):
        teacher = find_teacher(recipe, runs, split)
        open_run(run, manifest, resume, hash_inputs(run, manifest, teacher, lung_masks))
        model = _build_seeded(recipe)
        inputs = prepare_inputs(run, model, manifest, teacher, cache, progress, lung_masks)
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


def check_masks(recipe: Recipe, masks: str | Path | None) -> LungMasks | None:
    """The masks of a recipe that needs them.

    Raises:
        UsageError: masks without a network that learns the lungs, or such a network without masks.
    """
    if recipe.learns_lungs and masks is None:
        raise UsageError(
            f"expected lung masks for {recipe.name}, which learns the lungs, received none: add --masks DIR"
        )
    if masks is not None and not recipe.learns_lungs:
        raise UsageError(
            f"expected no masks for {recipe.name}, whose {recipe.model} learns no lungs: leave out --masks"
        )
    return LungMasks(Path(masks)) if masks is not None else None


def _build_seeded(recipe: Recipe) -> Model:
    """The network with its starting weights: equal seeds give equal networks and equal trainings."""
    keras.utils.set_random_seed(recipe.seed if recipe.initial_seed < 0 else recipe.initial_seed)
    _enable_determinism()
    return networks.build(recipe, weights=recipe.weights)


def _enable_determinism() -> None:
    """Make TensorFlow add in a fixed order; for the whole process."""
    tf.config.experimental.enable_op_determinism()


def _compile(recipe: Recipe, inputs: Inputs) -> None:
    optimizer = build_optimizer(recipe, len(inputs.training), inputs.fitted)
    loss = keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing)
    accuracy = keras.metrics.MeanMetricWrapper(_verdict_is_right, name="accuracy")
    if not recipe.learns_lungs:
        inputs.fitted.compile(optimizer=optimizer, loss=loss, weighted_metrics=[], metrics=[accuracy])
        return
    inputs.fitted.compile(
        optimizer=optimizer,
        loss={PROBABILITIES: loss, LUNGS: lung_loss},
        loss_weights={PROBABILITIES: 1.0, LUNGS: recipe.lung_weight},
        metrics={PROBABILITIES: [accuracy]},
        weighted_metrics={LUNGS: [keras.metrics.MeanMetricWrapper(dice, name="dice")]},  # images without a mask: 0
    )


def _verdict_is_right(targets: Tensor, probabilities: Tensor) -> Tensor:
    """(N,) 1 where the verdict at a threshold of 0.5 is right: normal against all pneumonia."""
    ops = keras.ops
    return ops.cast(ops.equal(targets[:, 0] < 0.5, probabilities[:, 0] <= 0.5), "float32")


def _fit(run: Run, model: Model, inputs: Inputs, tensorboard: bool, on_batch: BatchCallback | None) -> int:
    """Fit from the last checkpoint to the last epoch; returns how many epochs this call ran."""
    history = restore_checkpoint(run, inputs.fitted, model)
    inputs.training.start_epoch(len(history))
    callbacks = [CheckpointCallback(run, model, inputs.training, history, on_batch)]
    if run.recipe.ema:
        callbacks.insert(0, AveragedValidation())
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
    remove_earlier_state(run)
    return len(history) - epochs_before
