"""Fold models -> one model: the mean of their weights.

Networks that were fine-tuned from the same starting weights lie in one basin of the loss. The mean of their weights
predicts much like their ensemble, at the cost of one network. Together the folds have trained on every image; each fold
left out different ones.

Reference: Wortsman et al., "Model soups: averaging weights of multiple fine-tuned models improves accuracy without
increasing inference time", 2022.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pneumoscope.data.manifest import Manifest
from pneumoscope.data.splits import make_split
from pneumoscope.errors import RunError
from pneumoscope.io.atomic import read_npz, write_npz
from pneumoscope.training.recipe import Recipe
from pneumoscope.training.runs import BEST_NAME, Run, add_timing, open_run, run_id, run_lock, write_history


def average_runs(recipe: Recipe, folds: Sequence[Run], manifest: Manifest, runs: str | Path) -> Run:
    """Write a run whose weights are the mean of the weights of finished runs.

    Args:
        recipe: with the split ``"all"``; the folds have the same ``initial_seed`` or seed.
        folds: finished runs of this recipe on folds that together hold out every image.
        manifest: of the data.
        runs: parent of the run folders.

    Returns:
        The run, ready to be exported; its history is the mean of the folds' histories.

    Raises:
        RunError: no run to average, networks of different shapes, or a folder that holds the mean of other runs.
    """
    if not folds:
        raise RunError(f"expected fold runs of {recipe.name} to average, received none: cross-validate it first")
    run = Run(Path(runs) / run_id(recipe), recipe, make_split(manifest, recipe.split, seed=recipe.split_seed))
    files = [fold.folder / BEST_NAME for fold in folds]
    mean = mean_weights(files)
    contents = {"averaged_sha256": hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()}
    with run_lock(run.folder):
        open_run(run, manifest, (run.folder / "config.json").is_file(), contents)
        write_npz(run.folder / BEST_NAME, mean)
        write_history(run, [_mean_row(rows) for rows in zip(*(fold.history for fold in folds), strict=True)])
        add_timing(run, {"averaged": len(folds)})
    return run


def mean_weights(files: Sequence[Path]) -> dict[str, np.ndarray]:
    """Mean of each array over the files, summed in float64, in the type that the array has."""
    total: dict[str, np.ndarray] = {}
    for file in files:
        arrays = _read_weights(file)
        if total and {name: total[name].shape for name in total} != {name: arrays[name].shape for name in arrays}:
            raise RunError(f"expected networks of one shape to average, {file} has another shape")
        dtypes = {name: arrays[name].dtype for name in arrays}
        total = {name: total.get(name, 0) + arrays[name].astype(np.float64) for name in arrays}
    return {name: (value / len(files)).astype(dtypes[name]) for name, value in total.items()}


def _read_weights(file: Path) -> dict[str, np.ndarray]:
    try:
        return read_npz(file)
    except (OSError, ValueError) as error:
        raise RunError(
            f"expected the kept weights of a fold in {file}, they cannot be read ({error}): run the training of the "
            "fold with  --resume  to make them again"
        ) from None


def _mean_row(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: float(np.mean([row[name] for row in rows])) for name in rows[0]}
