"""Finished run -> the model file that ships: exported, measured on its held-out images, with the figures written in."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from pneumoscope.data import Manifest, Record, read_dataset
from pneumoscope.errors import BundleError
from pneumoscope.evaluation import REPORT_NAME, evaluate_model, read_report, to_arrays
from pneumoscope.inference import load
from pneumoscope.inference.preprocess import preprocess
from pneumoscope.io import write_atomic
from pneumoscope.training.export.onnx_export import add_evaluation, export_run
from pneumoscope.training.export.quantise import CALIBRATION_IMAGES, quantise
from pneumoscope.training.runs import FLOAT32_ANSWERS, FLOAT32_NAME, MONITOR, Progress, Run


def release(
    run: Run,
    data: str | Path | Manifest,
    progress: Progress | None = None,
    pooled: dict[str, Any] | None = None,
) -> dict[str, Any] | None:
    """Export a run, evaluate the file on the held-out images of the run, and write the figures into the file.

    Args:
        run: finished.
        data: what it was trained on.
        progress: ``progress(items, total, what)``.
        pooled: of the recipe's folds, see :func:`pneumoscope.training.export.onnx_export.export_run`.

    Returns:
        The report of the evaluation, which is also ``runs/<id>/evaluation-val/report.json``. None for a run that
        trained on every image: its file has the figures of its recipe's folds.

    Raises:
        BundleError: the accuracy of the file is not the one that the training measured on the same images.
    """
    out = run.folder / "evaluation-val"
    (out / REPORT_NAME).unlink(missing_ok=True)  # of an earlier file; the next steps may be interrupted
    manifest = read_dataset(data)
    path = _write_model_file(run, manifest, pooled)
    if not run.split.val:
        _check_against_folds(run, manifest, path, pooled, progress)
        return None
    records, fingerprint = run.split.records(manifest, "val"), run.split.fingerprint
    # Writing the figures changes the file and its hash, so the report that stays is of a second evaluation.
    with tempfile.TemporaryDirectory(dir=run.folder) as first:
        report = evaluate_model(load(path), manifest, records, "val", first, progress, fingerprint=fingerprint)
        judged = [row for row in read_report(first)[1] if row["probability"] is not None]
    _check_accuracy(run, report, path)
    if run.recipe.precision != "float32":
        _write_float32_answers(run, manifest, records)
    labels, probability, _ = to_arrays(judged)
    add_evaluation(path, report, labels, probability)
    return evaluate_model(load(path), manifest, records, "val", out, progress, fingerprint=fingerprint)


def _write_model_file(run: Run, manifest: Manifest, pooled: dict[str, Any] | None) -> Path:
    """The run's model file in the precision of its recipe, without held-out figures."""
    if run.recipe.precision == "float32":
        return export_run(run, pooled=pooled)
    float32 = export_run(run, run.folder / FLOAT32_NAME, pooled=pooled)
    records = run.split.records(manifest, "train")
    chosen = np.random.default_rng(run.recipe.seed).permutation(len(records))[:CALIBRATION_IMAGES]
    images = np.concatenate([preprocess(manifest.path(records[index]), run.spec) for index in chosen])
    return quantise(float32, run.folder / "model.onnx", images)


def _check_against_folds(
    run: Run, manifest: Manifest, path: Path, pooled: dict[str, Any] | None, progress: Progress | None
) -> None:
    """On its own training images, a model must be at least as good as its folds on images they had not seen.

    This does not measure the model. It finds an average of networks that do not belong together.
    """
    if pooled is None:
        return
    records = run.split.records(manifest, "train")
    report = evaluate_model(load(path), manifest, records, "train", progress=progress, resamples=10)
    measured, least = report["metrics"]["roc_auc"]["value"], pooled["calibrated"]["roc_auc"]["low"]
    if measured < least:
        raise BundleError(
            f"expected an AUC of at least {least:.4f}, as its folds have, of {path} on its own training images, "
            f"measured {measured:.4f}: do not use this file, and train without average"
        )


def _check_accuracy(run: Run, report: dict[str, Any], path: Path) -> None:
    """The file must judge the held-out images as the Keras model did; one image may lie on the threshold.

    A file that is int8, or averages a mirrored view, is another network than the one that training measured.
    """
    if run.recipe.mirror or run.recipe.precision != "float32":
        return
    trained = run.kept[MONITOR]
    accuracy = report["metrics"]["accuracy"]
    if abs(accuracy["value"] - trained) > 1.5 / accuracy["n"]:
        raise BundleError(
            f"expected the held-out accuracy {trained:.4f} of the training from {path}, measured "
            f"{accuracy['value']:.4f}: the export or the preprocessing went wrong, do not use this file"
        )


def _write_float32_answers(run: Run, manifest: Manifest, records: tuple[Record, ...]) -> None:
    """Write what the float32 file says about the held-out images, to compare the int8 file with."""
    paths = {record.path: manifest.path(record) for record in records}
    predictions = load(run.folder / FLOAT32_NAME).predict_many(paths.values())
    answers = {name: prediction.probability for name, prediction in zip(paths, predictions, strict=True)}
    write_atomic(run.folder / FLOAT32_ANSWERS, (json.dumps(answers) + "\n").encode())
