"""Recipe + data -> patient-wise cross-validation: fold models, and their out-of-fold predictions pooled.

Each fold is an ordinary run. It is trained and exported, and the exported file is measured on the patients it has not
seen, as they are, under every shift of :mod:`pneumoscope.evaluation.robustness`, and with the style of other images
(:mod:`pneumoscope.evaluation.style_proxies`). The model that ships trains on
every image, so it cannot be measured or calibrated on itself; :mod:`pneumoscope.training.pooling` uses the folds for
that.
"""

import functools
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pneumoscope.data import ALL, Manifest, make_split, read_dataset
from pneumoscope.errors import RunError
from pneumoscope.evaluation import REPORT_NAME, measure_shifts, measure_style_shifts, style_scores
from pneumoscope.inference import load
from pneumoscope.io import csv_bytes, write_atomic
from pneumoscope.training.pooling import (
    RATIOS_NAME,
    SHIFTS_NAME,
    STYLE_NAME,
    covered_images,
    pool_folds,
    same_recipe,
    summarise_run,
)
from pneumoscope.training.recipe import Recipe
from pneumoscope.training.runs import BatchCallback, Progress, Run, has_state, open_finished_run, run_id

#: Splits of a five-fold cross-validation.
FIVE_FOLDS = tuple(f"fold{fold}of5" for fold in range(5))
SUSPECT_COLUMNS = ("path", "label", "probability")


def cross_validate(
    recipe: Recipe,
    data: str | Path | Manifest,
    *,
    splits: Sequence[str] = FIVE_FOLDS,
    seeds: Sequence[int] = (0,),
    runs: str | Path = "runs",
    progress: Progress | None = None,
    on_finished_run: Callable[[dict[str, Any]], None] | None = None,
    on_batch: BatchCallback | None = None,
    masks: str | Path | None = None,
) -> dict[str, Any]:
    """Train and measure a recipe on patient-wise folds; finished steps are not repeated.

    Args:
        recipe: its split and seed are replaced.
        data: as for training.
        splits: see :func:`pneumoscope.data.splits.make_split`; five patient-wise folds, or harder splits beside them.
        seeds: of the trainings. The predictions of the first seed are pooled; if it lacks folds, those of another seed
            that has them all.
        runs: parent of the run folders.
        progress: ``progress(items, total, what)``.
        on_finished_run: called with the row of each finished run, see :func:`summarise_run`.
        on_batch, masks: as for training.

    Returns:
        ``recipe``; ``runs``, a row for each measured run of this recipe in the folder; and ``pooled`` (see
        :func:`pool_folds`) if the folds of a seed cover every image. The same is written to
        ``runs/<name>-folds.json``, and the suspected labels of ``pooled`` to ``runs/<name>-suspects.csv``.
    """
    manifest = read_dataset(data)
    scores_by_key = functools.cache(lambda: _style_scores_by_key(manifest))  # reads every image: only if it is needed
    rows: dict[Path, dict[str, Any]] = {}  # the bootstrap of a row takes a second
    for seed in seeds:
        for split in splits:
            one = replace(recipe, split=split, seed=seed)
            run = _finish_run(one, manifest, Path(runs), progress, on_batch, masks)
            _measure_style(run, manifest, scores_by_key, progress)
            rows[run.folder] = summarise_run(run.folder)
            if on_finished_run:
                on_finished_run(rows[run.folder])
    measured = [run for run in measured_runs(runs) if same_recipe(run.recipe, recipe)]
    result: dict[str, Any] = {
        "recipe": {**recipe.to_dict(), "weights": Path(recipe.weights).name},  # without a path of this machine
        "runs": [rows.get(run.folder) or summarise_run(run.folder) for run in measured],
    }
    folds = _folds_to_pool(measured, make_split(manifest, ALL).train, seeds[0])
    if folds:
        result["pooled"] = pool_folds([run.folder for run in folds])
        suspects = csv_bytes(result["pooled"]["suspects"], SUSPECT_COLUMNS)
        write_atomic(Path(runs) / f"{recipe.name}-suspects.csv", suspects)
    path = Path(runs) / f"{recipe.name}-folds.json"
    write_atomic(path, (json.dumps(result, indent=1) + "\n").encode())
    return result


def measured_runs(runs: str | Path) -> list[Run]:
    """Every run in a folder that is trained to its end and measured under the shifts, sorted by name."""
    return [open_finished_run(path.parent) for path in sorted(Path(runs).glob(f"*/{SHIFTS_NAME}"))]


def _finish_run(
    recipe: Recipe,
    manifest: Manifest,
    runs: Path,
    progress: Progress | None,
    on_batch: BatchCallback | None,
    masks: str | Path | None,
) -> Run:
    """Train, export and measure one run; an interrupted run continues, a finished step is not repeated."""
    folder = runs / run_id(recipe)
    if not (folder / "evaluation-val" / REPORT_NAME).is_file():
        _train_and_release(recipe, manifest, runs, progress, on_batch, masks)
    run = open_finished_run(folder)
    _check_origin(run, recipe, manifest)
    held_out = run.split.records(manifest, "val")
    if not (folder / SHIFTS_NAME).is_file():
        shifts = measure_shifts(load(folder), manifest, held_out, progress)
        write_atomic(folder / SHIFTS_NAME, (json.dumps(shifts) + "\n").encode())
    if not (folder / RATIOS_NAME).is_file():
        ratios = {record.path: record.ratio for record in held_out if record.ratio}
        write_atomic(folder / RATIOS_NAME, (json.dumps(ratios) + "\n").encode())
    return run


def _style_scores_by_key(manifest: Manifest) -> dict[str, float]:
    """How much the style of each image looks like PNEUMONIA; of all images but the official test set."""
    records = make_split(manifest, ALL).records(manifest, "train")
    scores = style_scores(manifest, records)
    if scores is None:
        return {}
    return {record.key: round(float(score), 6) for record, score in zip(records, scores, strict=True)}


def _measure_style(
    run: Run, manifest: Manifest, scores_by_key: Callable[[], dict[str, float]], progress: Progress | None
) -> None:
    """Write ``style.json``: the probabilities with moved styles, and the style score of each held-out image by path."""
    path = run.folder / STYLE_NAME
    if path.is_file():
        return
    held_out = run.split.records(manifest, "val")
    known = scores_by_key()
    content = {
        "shifts": measure_style_shifts(load(run.folder), manifest, held_out, progress),
        "scores": {record.path: known[record.key] for record in held_out if record.key in known},
    }
    write_atomic(path, (json.dumps(content) + "\n").encode())


def _train_and_release(
    recipe: Recipe,
    manifest: Manifest,
    runs: Path,
    progress: Progress | None,
    on_batch: BatchCallback | None,
    masks: str | Path | None,
) -> None:
    # Imported here: a cross-validation that is finished needs no TensorFlow.
    from pneumoscope.training.keras_backend import keras
    from pneumoscope.training.release import release
    from pneumoscope.training.train import train

    resume = has_state(runs / run_id(recipe))
    run = train(recipe, manifest, runs=runs, resume=resume, progress=progress, on_batch=on_batch, masks=masks)
    release(run, manifest, progress)
    keras.utils.clear_session()  # otherwise the graphs of all folds stay in memory


def _check_origin(run: Run, recipe: Recipe, manifest: Manifest) -> None:
    """A folder under the name of the run may come from another recipe or from other data."""
    folder, runs = run.folder, run.folder.parent
    if run.recipe != recipe:
        raise RunError(f"expected the runs of this recipe in {runs}, {folder} was made by another: use another --runs")
    split = make_split(manifest, recipe.split, seed=recipe.split_seed, fraction=recipe.validation_fraction)
    if run.split.fingerprint != split.fingerprint:
        raise RunError(f"expected the runs of these data in {runs}, {folder} was made of others: use another --runs")


def _folds_to_pool(runs: Sequence[Run], images: Sequence[str], preferred_seed: int) -> list[Run]:
    """The folds of one seed that together hold out every image; none if no seed has them."""
    seeds = sorted({run.recipe.seed for run in runs}, key=lambda seed: (seed != preferred_seed, seed))
    for seed in seeds:
        if complete := _complete_folds([run for run in runs if run.recipe.seed == seed], images):
            return complete[-1]
    return []


def _complete_folds(runs: Sequence[Run], images: Sequence[str]) -> list[list[Run]]:
    """For each number of folds, the runs that hold out every image exactly once; the largest number last."""
    by_number: dict[int, list[Run]] = {}
    for run in runs:
        if run.recipe.split.startswith("fold") and covered_images(run) == list(images):  # not of other data
            by_number.setdefault(int(run.recipe.split.split("of")[1]), []).append(run)
    groups = [by_number[number] for number in sorted(by_number)]
    return [group for group in groups if sorted(key for run in group for key in run.split.val) == list(images)]
