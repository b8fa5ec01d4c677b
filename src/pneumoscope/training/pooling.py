"""Fold runs -> figures, calibration and operating points, from their out-of-fold predictions as one set.

The temperature is fitted on the out-of-fold predictions under all shifts together, with the classes weighted as in the
training. A temperature from the unchanged images alone would make the model too sure on images of another hospital. The
operating point is an out-of-fold sensitivity that is set in advance, not the threshold that is best on the folds.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from pneumoscope.data import ALL, Split, class_weights
from pneumoscope.evaluation import (
    COVERAGES,
    OWN,
    TURNED,
    Estimate,
    against_ratio,
    against_style,
    cross_fitted_sets,
    evaluate_metrics,
    find_label_errors,
    fit_limits,
    measure_sets,
    prediction_sets,
    read_report,
    style_difference,
    subtype_auc,
    to_arrays,
    uncertain_band,
    uncertain_rule,
    with_intervals,
)
from pneumoscope.evaluation.metrics import roc_auc
from pneumoscope.inference import assumed_prevalence, calibrate, highest_threshold, log_odds, midpoint_below, sigmoid
from pneumoscope.labels import NORMAL, PNEUMONIA
from pneumoscope.training.recipe import BALANCED, RECIPES, Recipe
from pneumoscope.training.runs import FLOAT32_ANSWERS, Run, open_finished_run
from pneumoscope.training.temperature import fit_slope

#: Files of a run: predictions under each shift, the aspect ratios of the held-out images, and their style.
SHIFTS_NAME, RATIOS_NAME, STYLE_NAME = "shifts.json", "ratios.json", "style.json"
#: Key of the metrics on the radiographs whose style is typical of the other label.
AGAINST_STYLE = "against the style"
#: Out-of-fold sensitivity of the operating point; experiments/README.md gives the reason.
SENSITIVITY = 0.94
#: Sensitivity that the screening operating point must reach on the pooled out-of-fold predictions.
SCREENING_SENSITIVITY = 0.99


def pool_folds(folders: Sequence[Path]) -> dict[str, Any]:
    """Out-of-fold predictions of all folds as one set: figures, calibration and operating points.

    Args:
        folders: of the runs of disjoint folds.

    Returns:
        - ``metrics`` before and ``calibrated`` after calibration, with intervals;
        - ``subtypes`` and ``against_ratio``, both before calibration;
        - ``float32``: how the answers differ from those of the float32 files, None if the files are float32;
        - ``calibration``: ``slope`` and ``intercept`` of the log odds, see
          :class:`pneumoscope.training.export.inference_graph.CalibratedProbabilities`;
        - ``prevalence`` that the probabilities assume;
        - ``operating_points`` by name, ``uncertain`` (two probabilities), and the ``rules`` of all these in words;
        - ``prediction_sets``, for each coverage of :data:`pneumoscope.evaluation.conformal.COVERAGES`: the ``limits``,
          and how the sets do on the ``held_out`` images (with limits from other patients) and under the ``shifts``;
        - ``held_out``: what the figures were measured on;
        - ``suspects``: labels that look wrong (see :mod:`pneumoscope.evaluation.label_errors`), the most suspicious
          first, each with ``path``, ``label`` and the calibrated ``probability`` of pneumonia.
    """
    folds = _read_folds(folders)
    rows, first = folds.rows, open_finished_run(folders[0])
    labels, probability, patients = to_arrays(rows)
    point = 0.0  # in log odds
    if first.recipe.operating_point != BALANCED:
        point = midpoint_below(probability, highest_threshold(labels, probability, SENSITIVITY))
    shifted_labels = np.concatenate(folds.shifted_labels)
    shifted_odds = log_odds(np.concatenate(folds.shifted_probability)) - point  # 0 at the operating point
    slope, how_fitted = fit_slope(shifted_labels, shifted_odds, implied_prevalence(rows, first.recipe))
    intercept = -slope * point
    calibrated = calibrate(probability, slope, intercept)
    screening = highest_threshold(labels, calibrated, SCREENING_SENSITIVITY)
    low, high = uncertain_band(calibrated, 0.5)
    wrong = (calibrated >= 0.5) != labels.astype(bool)
    return {
        "metrics": evaluate_metrics(labels, probability, 0.5, patients),
        "calibrated": evaluate_metrics(labels, calibrated, 0.5, patients),
        "subtypes": subtype_auc(rows),
        "against_ratio": against_ratio(rows, folds.ratios),
        "float32": _difference_from_float32(rows, folds.float32, float(sigmoid(np.asarray(point)))),
        "calibration": {"slope": slope, "intercept": intercept},
        "prevalence": assumed_prevalence(shifted_labels, sigmoid(slope * shifted_odds)),
        "operating_points": {"default": 0.5, "screening": screening},
        "uncertain": [low, high],
        "prediction_sets": {
            f"{coverage:g}": _prediction_sets(folds, labels, calibrated, patients, slope, intercept, coverage)
            for coverage in COVERAGES
        },
        "rules": {
            **_rules(first.recipe, len(rows), folds.shifts, how_fitted),
            "uncertain": uncertain_rule(calibrated, wrong, low, high),
        },
        "held_out": {
            "split_fingerprint": Split(ALL, 0, 0.0, tuple(covered_images(first)), ()).fingerprint,
            "images": len(rows),
            "patients": len(set(patients.tolist())),
            "median_size": folds.median_sizes.pop() if len(folds.median_sizes) == 1 else None,
            "folds": len(folders),
        },
        "suspects": _suspects(rows, labels, calibrated),
    }


def implied_prevalence(rows: Sequence[dict[str, Any]], recipe: Recipe) -> float:
    """Share of pneumonia in the training, when each image counts with the weight of its class."""
    names = [row["sublabel"] if recipe.subtypes and row["label"] == PNEUMONIA else row["label"] for row in rows]
    weights = class_weights(names, recipe.class_weights, recipe.classes)
    of_pneumonia, of_all = [weights[name] * (name != NORMAL) for name in names], [weights[name] for name in names]
    return float(sum(of_pneumonia) / sum(of_all))


def summarise_run(folder: str | Path) -> dict[str, Any]:
    """The results of a finished and measured run, for tables.

    Returns:
        ``run``, ``recipe``, ``split_fingerprint``, ``images``, ``patients``; ``metrics`` and ``subtypes`` with
        intervals; ``against_ratio`` (see :func:`pneumoscope.evaluation.subgroups.against_ratio`); ``shifts`` (see
        :func:`pneumoscope.evaluation.robustness.with_intervals`); ``style``, the same for the shifts of
        :mod:`pneumoscope.evaluation.style_proxies`, with ``against the style``, and ``style_difference`` (see there),
        both None if they were not measured;
        ``kept_epoch``, ``history``, ``timing`` and ``versions``.
    """
    folder = Path(folder)
    report, predictions = read_report(folder / "evaluation-val")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    labels, _, patients = to_arrays([row for row in predictions if row["probability"] is not None])
    run = open_finished_run(folder)
    figures = ("accuracy", "sensitivity", "specificity", "roc_auc", "brier", "ece")
    return {
        "run": folder.name,
        "recipe": {**config["recipe"], "weights": Path(config["recipe"]["weights"]).name},
        "split_fingerprint": config["split_fingerprint"],
        "images": config["images"],
        "patients": report["data"]["patients"],
        "metrics": {name: report["metrics"][name] for name in figures},
        "subtypes": report.get("subtypes"),
        "against_ratio": against_ratio(predictions, _read_json_or_empty(folder / RATIOS_NAME)),
        "shifts": with_intervals(_read_json_or_empty(folder / SHIFTS_NAME), labels, patients),
        "style": _summarise_style(folder, predictions, labels, patients),
        "style_difference": _style_difference(folder, labels, patients),
        "kept_epoch": int(run.kept["epoch"]),
        "history": [{name: round(value, 5) for name, value in row.items()} for row in run.history],
        "timing": json.loads((folder / "timing.json").read_text(encoding="utf-8")),
        "versions": config["versions"],
    }


def _summarise_style(
    folder: Path, predictions: Sequence[dict[str, Any]], labels: np.ndarray, patients: np.ndarray
) -> dict[str, Any] | None:
    """The figures of ``style.json``; None for a run that was measured before this file existed."""
    measured = _read_json_or_empty(folder / STYLE_NAME)
    if not measured:
        return None
    shifts = with_intervals(measured["shifts"], labels, patients)
    return {**shifts, AGAINST_STYLE: against_style(predictions, measured["scores"])}


def _style_difference(folder: Path, labels: np.ndarray, patients: np.ndarray) -> Estimate | None:
    """How much better the run does with the style of the own label; None where ``style.json`` has no such shifts."""
    shifts = _read_json_or_empty(folder / STYLE_NAME).get("shifts", {})
    if not {OWN, TURNED} <= set(shifts):
        return None
    turned, own = (np.array(shifts[name]["probability"]) for name in (TURNED, OWN))
    return style_difference(labels, turned, own, patients)


def fold_results(recipe: Recipe, runs: str | Path, fingerprint: str | None = None) -> dict[str, Any] | None:
    """The cross-validation of a recipe: the user's own in ``runs``, or else the one that ships with the recipe.

    Args:
        recipe: may differ from that of the folds in split, seed and the place of the weights.
        runs: parent of the run folders.
        fingerprint: of the split ``"all"`` of the data; the folds must be of the same data.

    Returns:
        As from :func:`pneumoscope.training.crossval.cross_validate`, with ``pooled``; None if there is none of this
        recipe and these data.
    """
    for path in (Path(runs) / f"{recipe.name}-folds.json", RECIPES / f"{recipe.name}.folds.json"):
        results = _read_json_or_empty(path)
        known = results.get("pooled", {}).get("held_out", {}).get("split_fingerprint")
        if known and fingerprint in (None, known) and same_recipe(recipe, Recipe(**results["recipe"])):
            return results
    return None


def same_recipe(a: Recipe, b: Recipe) -> bool:
    """Whether two recipes differ at most in split, seed and the place of the starting weights."""
    ignored = ("split", "seed", "weights")
    first, second = ({key: value for key, value in r.to_dict().items() if key not in ignored} for r in (a, b))
    return first == second


def covered_images(run: Run) -> list[str]:
    """Sorted keys of all images of a run: those that train and those that are held out."""
    return sorted([*run.split.train, *run.split.val])


@dataclass
class _Folds:
    """What all folds together have on disk.

    Attributes:
        rows: of the held-out images that could be read, see :func:`pneumoscope.evaluation.report_files.read_report`.
        median_sizes: of the held-out images of each fold.
        ratios: width over height by path, where known.
        float32: probabilities of the float32 files by path; empty if the files are float32.
        shifts: how many shifts each fold was measured under.
        shifted_probability, shifted_labels, shifted_patients: for each fold (shifts * N,), of every image under every
            shift.
    """

    rows: list[dict[str, Any]] = field(default_factory=list)
    median_sizes: set[str | None] = field(default_factory=set)
    ratios: dict[str, float] = field(default_factory=dict)
    float32: dict[str, float] = field(default_factory=dict)
    shifts: int = 0
    shifted_probability: list[np.ndarray] = field(default_factory=list)
    shifted_labels: list[np.ndarray] = field(default_factory=list)
    shifted_patients: list[np.ndarray] = field(default_factory=list)


def _read_folds(folders: Sequence[Path]) -> _Folds:
    folds = _Folds()
    for folder in folders:
        report, predictions = read_report(folder / "evaluation-val")
        rows = [row for row in predictions if row["probability"] is not None]
        folds.rows += rows
        folds.median_sizes.add(report["data"]["median_size"])
        folds.ratios |= _read_json_or_empty(folder / RATIOS_NAME)
        folds.float32 |= _read_json_or_empty(folder / FLOAT32_ANSWERS)
        shifts = json.loads((folder / SHIFTS_NAME).read_text(encoding="utf-8"))
        folds.shifts = len(shifts)
        folds.shifted_probability.append(np.array([shift["probability"] for shift in shifts.values()]).ravel())
        labels, _, patients = to_arrays(rows)
        folds.shifted_labels.append(np.tile(labels, len(shifts)))
        folds.shifted_patients.append(np.tile(patients, len(shifts)))
    return folds


def _read_json_or_empty(path: Path) -> dict[str, Any]:
    """The content of a JSON file; empty if the file is missing."""
    if not path.is_file():
        return {}
    content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return content


def _difference_from_float32(
    rows: Sequence[dict[str, Any]], float32: dict[str, float], threshold: float
) -> dict[str, Any] | None:
    """How the files' answers differ from those of the float32 files on the same held-out images, uncalibrated."""
    if not float32:
        return None
    labels, probability, _ = to_arrays(rows)
    float32_probability = np.array([float32[row["path"]] for row in rows])
    return {
        "images": len(rows),
        "roc_auc": roc_auc(labels, probability),
        "roc_auc_float32": roc_auc(labels, float32_probability),
        "other_verdicts": int(((probability >= threshold) != (float32_probability >= threshold)).sum()),
        "mean_difference": float(np.abs(probability - float32_probability).mean()),
    }


def _prediction_sets(
    folds: _Folds,
    labels: np.ndarray,
    calibrated: np.ndarray,
    patients: np.ndarray,
    slope: float,
    intercept: float,
    coverage: float,
) -> dict[str, Any]:
    limits = fit_limits(labels, calibrated, patients, coverage)
    cross_fitted = cross_fitted_sets(labels, calibrated, patients, coverage)
    shifted = calibrate(np.concatenate(folds.shifted_probability), slope, intercept)
    shifted_sets = prediction_sets(shifted, limits)
    return {
        "limits": limits,
        "held_out": None if cross_fitted is None else measure_sets(labels, cross_fitted, patients),
        "shifts": measure_sets(
            np.concatenate(folds.shifted_labels), shifted_sets, np.concatenate(folds.shifted_patients)
        ),
    }


def _rules(recipe: Recipe, images: int, shifts: int, how_fitted: str) -> dict[str, str]:
    """The rules in words. Model files and fold results contain these sentences: do not reword them."""
    if recipe.operating_point == BALANCED:
        default = "0.5 of the network as trained, with classes of equal weight, moved by nothing that the folds show"
    else:
        default = (
            f"the highest threshold with a sensitivity of {SENSITIVITY:.0%} on the {images} out-of-fold "
            "images (experiments/README.md says why), moved to 0.5; it is set, not found"
        )
    return {
        "default": default,
        "screening": f"the highest threshold with a sensitivity of {SCREENING_SENSITIVITY:.0%} on the "
        f"{images} out-of-fold images",
        "calibration": "the intercept moves the operating point to 0.5; one temperature around it, "
        f"{how_fitted} on the {images} out-of-fold images under {shifts} shifts, the classes weighted as in training",
    }


def _suspects(rows: Sequence[dict[str, Any]], labels: np.ndarray, calibrated: np.ndarray) -> list[dict[str, Any]]:
    suspicious, _ = find_label_errors(labels, np.stack([1 - calibrated, calibrated], axis=1))
    return [
        {"path": rows[i]["path"], "label": rows[i]["label"], "probability": round(float(calibrated[i]), 6)}
        for i in suspicious
    ]
