"""Recipe + data -> patient-wise cross-validation: fold models, pooled out-of-fold predictions, calibration.

Each fold is an ordinary run: trained, exported, and the exported file measured on the patients it has not seen
and on the same radiographs under every shift of :mod:`pneumoscope.evaluation.robustness`. What the model that ships needs and
cannot measure on itself, because it trains on every image, is fitted here on the folds' predictions.

The temperature is fitted on the out-of-fold predictions under all shifts together, with the classes weighted as
in the training. Fitted on the plain folds it would be sure of itself where the next hospital is not like this one.
The operating point is an out-of-fold sensitivity, not the best threshold of the folds.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pneumoscope.data.manifest import Manifest, read_dataset
from pneumoscope.data.splits import ALL, Split, class_weights, make_split
from pneumoscope.errors import RunError
from pneumoscope.evaluation import metrics
from pneumoscope.evaluation.evaluate import REPORT_NAME, against_ratio, csv_bytes, read_report, subtype_auc, to_arrays
from pneumoscope.evaluation.label_errors import find_label_errors
from pneumoscope.evaluation.robustness import measure_shifts, with_intervals
from pneumoscope.inference.calibration import (
    assumed_prevalence,
    calibrate,
    highest_threshold,
    log_odds,
    midpoint_below,
    sigmoid,
)
from pneumoscope.inference.predict import load
from pneumoscope.io.atomic import write_atomic
from pneumoscope.labels import NORMAL, PNEUMONIA
from pneumoscope.training.recipe import RECIPES, Recipe
from pneumoscope.training.runs import FLOAT32_ANSWERS, Run, open_finished_run, run_id
from pneumoscope.training.temperature import fit_slope
from pneumoscope.training.weight_averaging import average_runs

#: Splits of a five-fold cross-validation.
FIVE_FOLDS = tuple(f"fold{fold}of5" for fold in range(5))
SHIFTS_NAME = "shifts.json"
RATIOS_NAME = "ratios.json"
ALIGNMENT_NAME = "alignment.json"
SUSPECT_COLUMNS = ("path", "label", "probability")
_ALIGNED = 4
#: Out-of-fold sensitivity of the operating point; experiments/README.md says where it comes from.
SENSITIVITY = 0.94
#: Sensitivity that the screening operating point must reach on the pooled out-of-fold predictions.
SCREENING_SENSITIVITY = 0.99


def cross_validate(
    recipe: Recipe,
    data: str | Path | Manifest,
    *,
    splits: Sequence[str] = FIVE_FOLDS,
    seeds: Sequence[int] = (0,),
    runs: str | Path = "runs",
    progress: Callable | None = None,
    on_run: Callable[[dict], None] | None = None,
    on_batch: Callable | None = None,
) -> dict:
    """Train and measure a recipe on patient-wise folds; what is done already is not done again.

    Args:
        recipe: its split and seed are replaced.
        data: as for training.
        splits: see :func:`pneumoscope.data.splits.make_split`; five patient-wise folds, or harder ones beside them.
        seeds: of the trainings; the first one's predictions are pooled, or of another seed where that has all folds
            and this one has not.
        runs: parent of the run folders.
        progress: ``show(items, total, what)``.
        on_run: told the row of each finished run.
        on_batch: as for training.

    Returns:
        ``recipe``, ``runs`` (a row for each measured run of this recipe in the folder, see :func:`summarise_run`) and
        ``pooled`` (see :func:`pool_folds`) where the folds of a seed cover every image. Also written to
        ``runs/<name>-folds.json``, and the suspected labels of ``pooled`` to ``runs/<name>-suspects.csv``.
    """
    manifest = read_dataset(data)
    rows = {}  # by folder: the bootstraps of a row take a second
    for seed in seeds:
        for split in splits:
            run = _finished_run(replace(recipe, split=split, seed=seed), manifest, runs, progress, on_batch)
            rows[run.folder] = summarise_run(run.folder)
            if on_run:
                on_run(rows[run.folder])
    measured = [run for run in measured_runs(runs) if _same(run.recipe, recipe)]
    plain = {**recipe.to_dict(), "weights": Path(recipe.weights).name}  # no path of this machine
    result = {"recipe": plain, "runs": [rows.get(run.folder) or summarise_run(run.folder) for run in measured]}
    every = make_split(manifest, ALL).train
    by_seed = sorted({run.recipe.seed for run in measured}, key=lambda seed: (seed != seeds[0], seed))
    for seed in by_seed:
        if complete := _complete_folds([run for run in measured if run.recipe.seed == seed], every):
            result["pooled"] = pool_folds([run.folder for run in complete[-1]])
            table = csv_bytes(result["pooled"]["suspects"], SUSPECT_COLUMNS)
            write_atomic(Path(runs) / f"{recipe.name}-suspects.csv", table)
            break
    path = Path(runs) / f"{recipe.name}-folds.json"
    write_atomic(path, (json.dumps(result, indent=1) + "\n").encode())
    return result


def train_average(recipe: Recipe, data: str | Path | Manifest, *, runs: str | Path = "runs", **watch: Callable) -> Run:
    """Cross-validate a recipe and average the weights of its folds: the model whose figures are those folds'.

    Args:
        recipe: with ``average`` folds and the split ``"all"``.
        data, runs: as for :func:`cross_validate`.
        watch: ``progress``, ``on_run`` and ``on_batch``.
    """
    manifest = read_dataset(data)
    splits = [f"fold{fold}of{recipe.average}" for fold in range(recipe.average)]
    cross_validate(recipe, manifest, splits=splits, seeds=(recipe.seed,), runs=runs, **watch)
    folds = [open_finished_run(Path(runs) / run_id(replace(recipe, split=split))) for split in splits]
    run = average_runs(recipe, folds, manifest, runs)
    _align(run, folds, manifest, watch.get("progress"))
    return run


def _align(run: Run, folds: Sequence[Run], manifest: Manifest, progress: Callable | None) -> None:
    """Write how the averaged network's log odds map onto the mean of its folds': ``alignment.json``.

    An average of weights is less sure than the networks it averages, so their calibration does not fit it. The slope
    gives its log odds the standard deviation of the mean of the folds', and the intercept makes it call as many
    images PNEUMONIA as that mean does at the folds' operating point, on every ``_ALIGNED``-th training image. No
    label is used.
    """
    from pneumoscope.training.export.onnx_export import export_run

    paths = [manifest.path(record) for record in run.split.records(manifest, "train")[::_ALIGNED]]
    files = [export_run(run), *(fold.folder for fold in folds)]
    odds = []
    for file in files:
        judged = load(file).predict_many(paths)
        judged = progress(judged, len(paths), "aligning the average") if progress else judged
        odds.append(log_odds(np.array([one.probability for one in judged], dtype=np.float64)))
    own, mean = odds[0], np.mean(odds[1:], axis=0)
    fitted = fold_results(run.recipe, run.folder.parent, run.split.fingerprint)["pooled"]["calibration"]
    point = -fitted["intercept"] / fitted["slope"]  # log odds of the folds' operating point
    own_point = np.quantile(own, np.mean(mean < point))
    if not own.std() > 0:
        raise RunError(
            f"expected the average of {run.recipe.name} to tell images apart, it gives one answer to all: train "
            "without average"
        )
    slope = float(mean.std() / own.std())
    content = {
        "slope": slope,
        "intercept": float(point - slope * own_point),
        "correlation": float(np.corrcoef(own, mean)[0, 1]),
        "images": len(paths),
    }
    write_atomic(run.folder / ALIGNMENT_NAME, (json.dumps(content, indent=1) + "\n").encode())


def pooled_results(run: Run) -> dict | None:
    """What the folds of a run's recipe say of a model that holds nothing out; for an average, mapped onto it.

    Returns:
        As from :func:`pool_folds`; None where the recipe was not cross-validated on these data.
    """
    found = fold_results(run.recipe, run.folder.parent, run.split.fingerprint)
    path = run.folder / ALIGNMENT_NAME
    if found is None or not path.is_file():
        return found and found["pooled"]
    pooled, alignment = found["pooled"], json.loads(path.read_text(encoding="utf-8"))
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


def measured_runs(runs: str | Path) -> list[Run]:
    """Every run of a folder that was trained to its end and measured under the shifts, by name."""
    return [open_finished_run(path.parent) for path in sorted(Path(runs).glob(f"*/{SHIFTS_NAME}"))]


def _same(one: Recipe, other: Recipe) -> bool:
    """Whether two recipes differ in split, seed and the place of the starting weights only."""
    apart = ("split", "seed", "weights")
    plain = [{key: value for key, value in recipe.to_dict().items() if key not in apart} for recipe in (one, other)]
    return plain[0] == plain[1]


def _complete_folds(runs: Sequence[Run], every: Sequence[str]) -> list[list[Run]]:
    """The folds of each number of folds whose held-out images are every image, once; the most folds last."""
    by_number: dict[int, list[Run]] = {}
    for run in runs:
        if run.recipe.split.startswith("fold") and _every_key(run) == list(every):  # not of other data
            by_number.setdefault(int(run.recipe.split.split("of")[1]), []).append(run)
    groups = [by_number[number] for number in sorted(by_number)]
    return [group for group in groups if sorted(k for run in group for k in run.split.val) == list(every)]


def _every_key(run: Run) -> list[str]:
    return sorted([*run.split.train, *run.split.val])


def _finished_run(recipe: Recipe, manifest: Manifest, runs: str | Path, progress: Callable | None, on_batch) -> Run:
    """Train, export and measure one run, or go on where it was interrupted."""
    from pneumoscope.training.networks import keras
    from pneumoscope.training.release import release
    from pneumoscope.training.train import train

    folder = Path(runs) / run_id(recipe)
    if not (folder / "evaluation-val" / REPORT_NAME).is_file():
        begun = (folder / "checkpoint.npz").is_file()
        run = train(recipe, manifest, runs=runs, resume=begun, progress=progress, on_batch=on_batch)
        release(run, manifest, progress)
        keras.utils.clear_session()  # or the graphs of all folds stay in memory
    run = open_finished_run(folder)
    if run.recipe != recipe:
        raise RunError(f"expected the runs of this recipe in {runs}, {folder} was made by another: use another --runs")
    split = make_split(manifest, recipe.split, seed=recipe.split_seed, fraction=recipe.validation_fraction)
    if run.split.fingerprint != split.fingerprint:
        raise RunError(f"expected the runs of these data in {runs}, {folder} was made of others: use another --runs")
    held_out = run.split.records(manifest, "val")
    if not (folder / SHIFTS_NAME).is_file():
        found = measure_shifts(load(folder), manifest, held_out, progress)
        write_atomic(folder / SHIFTS_NAME, (json.dumps(found) + "\n").encode())
    if not (folder / RATIOS_NAME).is_file():
        ratios = {record.path: record.ratio for record in held_out if record.ratio}
        write_atomic(folder / RATIOS_NAME, (json.dumps(ratios) + "\n").encode())
    return run


def _noted(path: Path) -> dict:
    """What stands in a JSON file of a run; nothing in one that was not written."""
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def summarise_run(folder: str | Path) -> dict:
    """What a finished and measured run says of itself, for tables.

    Returns:
        ``run``, ``recipe``, ``split_fingerprint``, ``images``, ``patients``, ``metrics`` and ``subtypes`` with
        intervals, ``against_ratio`` (see :func:`pneumoscope.evaluation.evaluate.against_ratio`), ``shifts`` (see
        :func:`pneumoscope.evaluation.robustness.with_intervals`), ``kept_epoch``, ``history``, ``timing``, ``versions``.
    """
    folder = Path(folder)
    report, predictions = read_report(folder / "evaluation-val")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    labels, _, patients = to_arrays([row for row in predictions if row["probability"] is not None])
    run = open_finished_run(folder)
    kept = ("accuracy", "sensitivity", "specificity", "roc_auc", "brier", "ece")
    return {
        "run": folder.name,
        "recipe": {**config["recipe"], "weights": Path(config["recipe"]["weights"]).name},
        "split_fingerprint": config["split_fingerprint"],
        "images": config["images"],
        "patients": report["data"]["patients"],
        "metrics": {name: report["metrics"][name] for name in kept},
        "subtypes": report.get("subtypes"),
        "against_ratio": against_ratio(predictions, _noted(folder / RATIOS_NAME)),
        "shifts": with_intervals(_noted(folder / SHIFTS_NAME), labels, patients),
        "kept_epoch": int(run.kept["epoch"]),
        "history": [{name: round(value, 5) for name, value in row.items()} for row in run.history],
        "timing": json.loads((folder / "timing.json").read_text(encoding="utf-8")),
        "versions": config["versions"],
    }


def pool_folds(folders: Sequence[Path]) -> dict:
    """Out-of-fold predictions of all folds as one set: figures, calibration and operating points.

    Args:
        folders: of the runs of disjoint folds.

    Returns:
        ``metrics`` before and ``calibrated`` after calibration, with intervals; ``subtypes``; ``against_ratio``
        (before calibration); ``float32``, how the files differ from those in float32, None where they are those;
        ``calibration``
        (``slope`` and ``intercept`` of the log odds, see :class:`pneumoscope.training.export.inference_graph.CalibratedProbabilities`); ``prevalence``
        that the probabilities assume; ``operating_points`` by name; ``uncertain``; the ``rules`` in words;
        ``held_out``; ``suspects``, the labels that look wrong (see :mod:`pneumoscope.evaluation.label_errors`), the most suspicious
        first, each with ``path``, ``label`` and the calibrated ``probability`` of pneumonia.
    """
    rows, sizes, ratios, float32, shifted, shifted_labels = [], set(), {}, {}, [], []
    for folder in folders:
        report, found = read_report(folder / "evaluation-val")
        found = [row for row in found if row["probability"] is not None]
        rows += found
        sizes.add(report["data"]["median_size"])
        ratios |= _noted(folder / RATIOS_NAME)
        float32 |= _noted(folder / FLOAT32_ANSWERS)
        shifts = json.loads((folder / SHIFTS_NAME).read_text())
        shifted.append(np.array([shift["probability"] for shift in shifts.values()]).ravel())  # (shifts * N,)
        shifted_labels.append(np.tile(to_arrays(found)[0], len(shifts)))
    labels, probability, groups = to_arrays(rows)
    first, shifted_labels = open_finished_run(folders[0]), np.concatenate(shifted_labels)
    point = midpoint_below(probability, highest_threshold(labels, probability, SENSITIVITY))
    moved = log_odds(np.concatenate(shifted)) - point
    slope, how = fit_slope(shifted_labels, moved, implied_prevalence(rows, first.recipe))
    intercept = -slope * point
    calibrated = calibrate(probability, slope, intercept)
    points = {"default": 0.5, "screening": highest_threshold(labels, calibrated, SCREENING_SENSITIVITY)}
    band = metrics.uncertain_band(calibrated, 0.5)
    wrong = (calibrated >= 0.5) != labels.astype(bool)
    return {
        "metrics": metrics.evaluate(labels, probability, 0.5, groups),
        "calibrated": metrics.evaluate(labels, calibrated, 0.5, groups),
        "subtypes": subtype_auc(rows),
        "against_ratio": against_ratio(rows, ratios),
        "float32": _beside_float32(rows, float32, sigmoid(point)),
        "calibration": {"slope": slope, "intercept": intercept},
        "prevalence": assumed_prevalence(shifted_labels, sigmoid(slope * moved)),
        "operating_points": points,
        "uncertain": list(band),
        "rules": {
            "default": f"the highest threshold with a sensitivity of {SENSITIVITY:.0%} on the {len(rows)} out-of-fold "
            "images (experiments/README.md says why), moved to 0.5; it is set, not found",
            "screening": f"the highest threshold with a sensitivity of {SCREENING_SENSITIVITY:.0%} on the "
            f"{len(rows)} out-of-fold images",
            "calibration": f"the intercept moves the operating point to 0.5; one temperature around it, {how} on the "
            f"{len(rows)} out-of-fold images under {len(shifts)} shifts, the classes weighted as in training",
            "uncertain": metrics.uncertain_rule(calibrated, wrong, *band),
        },
        "held_out": {
            "split_fingerprint": Split(ALL, 0, 0.0, tuple(_every_key(first)), ()).fingerprint,
            "images": len(rows),
            "patients": len(set(groups.tolist())),
            "median_size": sizes.pop() if len(sizes) == 1 else None,
            "folds": len(folders),
        },
        "suspects": [
            {"path": rows[at]["path"], "label": rows[at]["label"], "probability": round(float(calibrated[at]), 6)}
            for at in find_label_errors(labels, np.stack([1 - calibrated, calibrated], axis=1))[0]
        ],
    }


def _beside_float32(rows: Sequence[dict], answers: dict[str, float], threshold: float) -> dict | None:
    """How far the files' answers lie from those of the float32 files on the same held-out images, uncalibrated."""
    if not answers:
        return None
    labels, probability, _ = to_arrays(rows)
    other = np.array([answers[row["path"]] for row in rows])
    return {
        "images": len(rows),
        "roc_auc": metrics.roc_auc(labels, probability),
        "roc_auc_float32": metrics.roc_auc(labels, other),
        "other_verdicts": int(((probability >= threshold) != (other >= threshold)).sum()),
        "mean_difference": float(np.abs(probability - other).mean()),
    }


def implied_prevalence(rows: Sequence[dict], recipe: Recipe) -> float:
    """Share of pneumonia in the training once its images carry the weights of their classes."""
    classes = recipe.classes
    found = [row["sublabel"] if recipe.subtypes and row["label"] == PNEUMONIA else row["label"] for row in rows]
    weights = class_weights(found, recipe.class_weights, classes)
    mass = [weights[name] * (name != NORMAL) for name in found], [weights[name] for name in found]
    return sum(mass[0]) / sum(mass[1])


def fold_results(recipe: Recipe, runs: str | Path, fingerprint: str | None = None) -> dict | None:
    """Cross-validation of a recipe: the user's own beside the runs, else the one that ships with the recipe.

    Args:
        recipe: of the folds, in anything but split, seed and the place of the weights.
        runs: parent of the run folders.
        fingerprint: of the split ``"all"`` of the data, which the folds must be of.

    Returns:
        As from :func:`cross_validate`, complete (with ``pooled``); None where there is none of this very recipe and
        these very data.
    """
    for path in (Path(runs) / f"{recipe.name}-folds.json", RECIPES / f"{recipe.name}.folds.json"):
        if path.is_file():
            found = json.loads(path.read_text(encoding="utf-8"))
            known = found.get("pooled", {}).get("held_out", {}).get("split_fingerprint")
            if known and fingerprint in (None, known) and _same(recipe, Recipe(**found["recipe"])):
                return found
    return None
