"""Cross-validated recipe -> one model with the mean of its folds' weights, and the calibration that fits that mean."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pneumoscope.data import Manifest, read_dataset
from pneumoscope.errors import RunError
from pneumoscope.inference import load, log_odds
from pneumoscope.io import write_atomic
from pneumoscope.training.crossval import cross_validate
from pneumoscope.training.pooling import fold_results
from pneumoscope.training.recipe import Recipe
from pneumoscope.training.runs import BatchCallback, Progress, Run, no_progress, open_finished_run, run_id
from pneumoscope.training.weight_averaging import average_runs

ALIGNMENT_NAME = "alignment.json"
#: Every fourth training image is enough for two numbers.
_ALIGNMENT_STEP = 4


def train_average(
    recipe: Recipe,
    data: str | Path | Manifest,
    *,
    runs: str | Path = "runs",
    progress: Progress | None = None,
    on_finished_run: Callable[[dict[str, Any]], None] | None = None,
    on_batch: BatchCallback | None = None,
    masks: str | Path | None = None,
) -> Run:
    """Cross-validate a recipe and average the weights of its folds; the model has the figures of those folds.

    Args:
        recipe: with ``average`` folds and the split ``"all"``.
        data, runs, progress, on_finished_run, on_batch, masks: as for
            :func:`pneumoscope.training.crossval.cross_validate`.
    """
    manifest = read_dataset(data)
    splits = [f"fold{fold}of{recipe.average}" for fold in range(recipe.average)]
    cross_validate(
        recipe,
        manifest,
        splits=splits,
        seeds=(recipe.seed,),
        runs=runs,
        progress=progress,
        on_finished_run=on_finished_run,
        on_batch=on_batch,
        masks=masks,
    )
    folds = [open_finished_run(Path(runs) / run_id(replace(recipe, split=split))) for split in splits]
    run = average_runs(recipe, folds, manifest, runs)
    _write_alignment(run, folds, manifest, progress or no_progress)
    return run


def pooled_results(run: Run) -> dict[str, Any] | None:
    """The out-of-fold results of a run's recipe, for a model that holds nothing out.

    For an average of folds, the calibration is that of the folds after the mapping in :data:`ALIGNMENT_NAME`.

    Returns:
        As from :func:`pneumoscope.training.pooling.pool_folds`; None if the recipe was not cross-validated on these
        data.
    """
    results = fold_results(run.recipe, run.folder.parent, run.split.fingerprint)
    if results is None:
        return None
    pooled: dict[str, Any] = results["pooled"]
    path = run.folder / ALIGNMENT_NAME
    if not path.is_file():
        return pooled
    alignment = json.loads(path.read_text(encoding="utf-8"))
    slope, intercept = (pooled["calibration"][name] for name in ("slope", "intercept"))
    calibration = {
        "slope": slope * alignment["slope"],
        "intercept": slope * alignment["intercept"] + intercept,
    }
    mapped = f"times {alignment['slope']:.3f}, plus {alignment['intercept']:.3f}"
    rule = (
        f"{pooled['rules']['calibration']}; before that the log odds of the averaged network are mapped onto the mean "
        f"of its folds' ({mapped}), so that on {alignment['images']} training images their deviation and the share "
        f"called PNEUMONIA are the same; without labels; correlation {alignment['correlation']:.3f}"
    )
    return {**pooled, "calibration": calibration, "rules": {**pooled["rules"], "calibration": rule}}


def _write_alignment(run: Run, folds: Sequence[Run], manifest: Manifest, progress: Progress) -> None:
    """Write how the log odds of the averaged network map onto the mean of its folds': ``alignment.json``.

    An average of weights gives less extreme probabilities than the networks it averages, so their calibration does not
    fit it. The slope gives its log odds the standard deviation of the folds' mean. With the intercept it calls as many
    images PNEUMONIA as the folds' mean does at the folds' operating point. No label is used.
    """
    own, mean, images = _log_odds_of_average_and_folds(run, folds, manifest, progress)
    results = fold_results(run.recipe, run.folder.parent, run.split.fingerprint)
    if results is None:
        raise RunError(
            f"expected the fold results of {run.recipe.name} in {run.folder.parent}: cross-validate it first"
        )
    calibration = results["pooled"]["calibration"]
    folds_point = -calibration["intercept"] / calibration["slope"]  # log odds of the folds' operating point
    own_point = np.quantile(own, np.mean(mean < folds_point))
    if not own.std() > 0:
        raise RunError(
            f"expected different answers of the average of {run.recipe.name} to different images, it gives the same "
            "answer to all: train without average"
        )
    slope = float(mean.std() / own.std())
    content = {
        "slope": slope,
        "intercept": float(folds_point - slope * own_point),
        "correlation": float(np.corrcoef(own, mean)[0, 1]),
        "images": images,
    }
    write_atomic(run.folder / ALIGNMENT_NAME, (json.dumps(content, indent=1) + "\n").encode())


def _log_odds_of_average_and_folds(
    run: Run, folds: Sequence[Run], manifest: Manifest, progress: Progress
) -> tuple[np.ndarray, np.ndarray, int]:
    """On some training images, the log odds of the averaged network and the mean of its folds', and how many images."""
    from pneumoscope.training.export.onnx_export import export_run  # needs TensorFlow

    paths = [manifest.path(record) for record in run.split.records(manifest, "train")[::_ALIGNMENT_STEP]]
    files = [export_run(run), *(fold.folder for fold in folds)]
    odds = []
    for file in files:
        predictions = progress(load(file).predict_many(paths), len(paths), "aligning the average")
        odds.append(log_odds(np.array([prediction.probability for prediction in predictions], dtype=np.float64)))
    return odds[0], np.mean(odds[1:], axis=0), len(paths)
