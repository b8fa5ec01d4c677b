"""Finished run -> model file that ships: exported, measured on its held-out images, sealed with the figures."""

import json
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from pneumoscope.data.manifest import Manifest, read_dataset
from pneumoscope.errors import BundleError
from pneumoscope.evaluation.evaluate import REPORT_NAME, evaluate_model, read_report, to_arrays
from pneumoscope.inference.predict import load
from pneumoscope.inference.preprocess import preprocess
from pneumoscope.io.atomic import write_atomic
from pneumoscope.training.export.onnx_export import add_evaluation, export_run
from pneumoscope.training.export.quantise import CALIBRATION_IMAGES, quantise
from pneumoscope.training.runs import FLOAT32_ANSWERS, FLOAT32_NAME, MONITOR, Run


def release(
    run: Run, data: str | Path | Manifest, progress: Callable | None = None, pooled: dict | None = None
) -> dict | None:
    """Export a run, evaluate the file on the run's validation images, and write the figures into it.

    Args:
        run: finished.
        data: what it was trained on.
        progress: ``show(items, total, what)``.
        pooled: of the recipe's folds, see :func:`pneumoscope.training.export.onnx_export.export_run`.

    Returns:
        The evaluation's report, also in ``runs/<id>/evaluation-val/report.json``; None for a run that trained on
        every image, whose file carries the figures of its recipe's folds.

    Raises:
        BundleError: the file does not reach the accuracy that the training saw on the same images.
    """
    out = run.folder / "evaluation-val"
    (out / REPORT_NAME).unlink(missing_ok=True)  # an earlier file's; what follows may be interrupted
    manifest = read_dataset(data)
    path = _file_of(run, manifest, pooled)
    if not run.split.val:
        _check_whole(run, manifest, path, pooled, progress)
        return None
    records = run.split.records(manifest, "val")
    options = {"progress": progress, "fingerprint": run.split.fingerprint}
    with tempfile.TemporaryDirectory(dir=run.folder) as unsealed:  # the evaluation that stays is of the sealed file
        report = evaluate_model(load(path), manifest, records, "val", unsealed, **options)
        judged = [row for row in read_report(unsealed)[1] if row["probability"] is not None]
    _check_accuracy(run, report, path)
    if run.recipe.precision != "float32":
        held_out = {record.path: manifest.path(record) for record in records}
        answers = load(run.folder / FLOAT32_NAME).predict_many(held_out.values())
        found = {name: one.probability for name, one in zip(held_out, answers, strict=True)}
        write_atomic(run.folder / FLOAT32_ANSWERS, (json.dumps(found) + "\n").encode())
    labels, probability, _ = to_arrays(judged)
    add_evaluation(path, report, labels, probability)
    return evaluate_model(load(path), manifest, records, "val", out, **options)  # the report is on the sealed file


def _file_of(run: Run, manifest: Manifest, pooled: dict | None) -> Path:
    """The run's model file, in the precision of its recipe, without figures."""
    if run.recipe.precision == "float32":
        return export_run(run, pooled=pooled)
    float32 = export_run(run, run.folder / FLOAT32_NAME, pooled=pooled)
    records = run.split.records(manifest, "train")
    some = np.random.default_rng(run.recipe.seed).permutation(len(records))[:CALIBRATION_IMAGES]
    images = np.concatenate([preprocess(manifest.path(records[index]), run.spec) for index in some])
    return quantise(float32, run.folder / "model.onnx", images)


def _check_whole(run: Run, manifest: Manifest, path: Path, pooled: dict | None, progress: Callable | None) -> None:
    """A model trained on every image must know them at least as well as its folds knew what they had not seen.

    That is no measurement of it, but an average of networks that do not belong together would fail.
    """
    if pooled is None:
        return
    records = run.split.records(manifest, "train")
    report = evaluate_model(load(path), manifest, records, "train", progress=progress, resamples=10)
    found, least = report["metrics"]["roc_auc"]["value"], pooled["calibrated"]["roc_auc"]["low"]
    if found < least:
        raise BundleError(
            f"expected an AUC of at least {least:.4f}, as its folds have, of {path} on its own training images, "
            f"measured {found:.4f}: do not use this file, and train without average"
        )


def _check_accuracy(run: Run, report: dict, path: Path) -> None:
    """The file must judge the held-out images as the Keras model did; one image may sit on the threshold.

    With a mirrored view averaged in, or in eight bits, the file judges what the training did not see.
    """
    if run.recipe.mirror or run.recipe.precision != "float32":
        return
    best = run.kept[MONITOR]
    accuracy = report["metrics"]["accuracy"]
    if abs(accuracy["value"] - best) > 1.5 / accuracy["n"]:
        raise BundleError(
            f"expected the held-out accuracy {best:.4f} of the training from {path}, measured {accuracy['value']:.4f}: "
            "the export or the preprocessing went wrong, do not use this file"
        )
