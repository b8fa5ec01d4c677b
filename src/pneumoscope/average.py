"""Fold models -> one model: the mean of their weights.

Networks fine-tuned from one starting point lie in one basin of the loss, and the mean of their weights predicts
much like their ensemble, at the cost of one network: Wortsman et al., "Model soups: averaging weights of multiple
fine-tuned models improves accuracy without increasing inference time", 2022. Together the folds have seen every
image; each has left out others.

The statistics of batch normalisation belong to the activations of one network and have no mean of use; those of the
averaged one are taken anew from training images: Izmailov et al., "Averaging weights leads to wider optima and
better generalization", 2018, section 3.2.
"""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from pneumoscope import models
from pneumoscope.atomic import write_npz
from pneumoscope.datasets import Manifest
from pneumoscope.errors import RunError
from pneumoscope.feed import augmented, load_pixels
from pneumoscope.recipe import Recipe
from pneumoscope.runs import Run, add_timing, locked, open_run, run_id, write_history
from pneumoscope.splits import make_split
from pneumoscope.train import own_widenings, source_spec

#: Batches whose statistics are taken for the averaged network.
STATISTICS_BATCHES = 64


def average_runs(
    recipe: Recipe, folds: Sequence[Run], manifest: Manifest, runs: str | Path, progress: Callable | None = None
) -> Run:
    """Write a run whose weights are the mean of finished ones.

    Args:
        recipe: with the split ``"all"``; the folds share its ``initial_seed`` or seed.
        folds: finished runs of this recipe on folds that cover every image.
        manifest: of the data.
        runs: parent of the run folders.
        progress: ``show(items, total, what)``.

    Returns:
        The run, ready to be exported; its history is the mean of the folds' histories.

    Raises:
        RunError: no run to average, networks of different shapes, or an average of other runs in its place.
    """
    if not folds:
        raise RunError(f"expected fold runs of {recipe.name} to average, received none: cross-validate it first")
    run = Run(Path(runs) / run_id(recipe), recipe, make_split(manifest, recipe.split, seed=recipe.split_seed))
    files = [fold.folder / "best.npz" for fold in folds]
    contents = {"averaged_sha256": hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()}
    with locked(run.folder):
        open_run(run, manifest, (run.folder / "config.json").is_file(), contents)
        weights = mean_weights(files)
        if recipe.trainable == "all" and recipe.batch_norm == "batch":
            weights = with_statistics(run, weights, manifest, progress)
        write_npz(run.folder / "best.npz", weights)
        write_history(run, [_mean_row(rows) for rows in zip(*(fold.history for fold in folds), strict=True)])
        add_timing(run, {"averaged": len(folds)})
    return run


def mean_weights(files: Sequence[Path]) -> dict[str, np.ndarray]:
    """Mean of each array over the files, in float64, kept in the arrays' own type."""
    total: dict[str, np.ndarray] = {}
    for file in files:
        with np.load(file, allow_pickle=False) as arrays:
            if total and {name: total[name].shape for name in total} != {name: arrays[name].shape for name in arrays}:
                raise RunError(f"expected networks of one shape to average, {file} holds another")
            kinds = {name: arrays[name].dtype for name in arrays}
            total = {name: total.get(name, 0) + arrays[name].astype(np.float64) for name in arrays}
    return {name: (value / len(files)).astype(kinds[name]) for name, value in total.items()}


def with_statistics(
    run: Run, weights: dict[str, np.ndarray], manifest: Manifest, progress: Callable | None = None
) -> dict[str, np.ndarray]:
    """Weights whose batch normalisation has the statistics of training images, changed as in training.

    Mean and variance are those of :data:`STATISTICS_BATCHES` batches of the recipe's size, or of all images once
    where they make fewer.
    """
    recipe, layers = run.recipe, models.keras.layers
    model = models.build(recipe, weights=None)
    model.set_weights(list(weights.values()))
    norms = [layer for layer in model.get_layer("backbone").layers if isinstance(layer, layers.BatchNormalization)]
    records = run.split.records(manifest, "train")
    chosen = np.random.default_rng(recipe.seed).permutation(len(records))[: STATISTICS_BATCHES * recipe.batch_size]
    show = progress or (lambda items, total, what: items)
    chosen_records = [records[row] for row in np.sort(chosen)]
    pixels = load_pixels(manifest, chosen_records, source_spec(recipe), run.folder.parent / "cache", show)
    draw = augmented(run.spec, recipe.augment, recipe.seed, widening=own_widenings(records, recipe)[np.sort(chosen)])
    order = np.random.default_rng(recipe.seed).permutation(len(chosen))
    batches = [np.sort(order[start : start + recipe.batch_size]) for start in range(0, len(order), recipe.batch_size)]
    for done, rows in enumerate(show(batches, len(batches), "batch statistics")):
        for norm in norms:
            norm.momentum = done / (done + 1)  # the mean of the batches so far
        model(draw(pixels[rows], rows, 0), training=True)
    return dict(zip(weights, model.get_weights(), strict=True))


def _mean_row(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
