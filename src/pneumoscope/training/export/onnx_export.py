"""Finished run -> one ONNX file with its contract, compared with the Keras model before it is used."""

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from pneumoscope import __version__
from pneumoscope.evaluation import uncertain_band, uncertain_rule
from pneumoscope.inference import SCHEMA, contract_sha256, metadata_bytes, open_bundle
from pneumoscope.io import write_atomic
from pneumoscope.labels import LABELS
from pneumoscope.training import networks
from pneumoscope.training.checkpoints import restore_best
from pneumoscope.training.export.inference_graph import build_inference_graph
from pneumoscope.training.export.onnx_graph import onnx_bytes
from pneumoscope.training.export.parity import check_gradcam, check_parity
from pneumoscope.training.keras_backend import Model
from pneumoscope.training.runs import Run

#: Operating point of a reference model.
THRESHOLD = 0.5


def export_run(run: Run, out: str | Path | None = None, pooled: dict[str, Any] | None = None) -> Path:
    """Write the kept epoch of a run as a model file, by default ``runs/<id>/model.onnx``.

    The file lacks only the held-out figures. :func:`add_evaluation` adds them after the file was evaluated. A model
    that was trained on every image gets the figures of its recipe's folds instead.

    Args:
        run: finished.
        out: the file.
        pooled: out-of-fold results of the recipe, from :func:`pneumoscope.training.pooling.pool_folds`. They give the
            calibration, the operating points and, if the run holds nothing out, the figures.

    Raises:
        BundleError: the ONNX file does not compute what the Keras model computes.
    """
    model = networks.build(run.recipe, weights=None, inference=True)
    restore_best(run, model)
    out = Path(out or run.folder / "model.onnx")
    calibration = pooled["calibration"] if pooled else {}
    network = build_inference_graph(model, mirror=run.recipe.mirror, **calibration)
    body = onnx_bytes(network)
    contract = {
        **_model_section(run, list(network.output)),
        **(_results_of_folds(pooled) if pooled else {}),
        "training": _training_section(run, model),
        "body_bytes": len(body),
        "body_sha256": hashlib.sha256(body).hexdigest(),
    }
    write_contract(out, contract, body)
    bundle = open_bundle(out)
    check_parity(bundle, network)
    check_gradcam(bundle, model)
    return out


def add_evaluation(path: str | Path, report: dict[str, Any], labels: np.ndarray, probability: np.ndarray) -> Path:
    """Add the held-out figures and the band of uncertain probabilities to a model file.

    Args:
        path: written by :func:`export_run`.
        report: of the held-out images, from :mod:`pneumoscope.evaluation.evaluate`.
        labels: (N,) int, of the held-out images.
        probability: (N,) float, of pneumonia.
    """
    bundle = open_bundle(path)
    low, high = uncertain_band(probability, bundle.threshold)
    wrong = (probability >= bundle.threshold) != labels.astype(bool)
    contract = {
        **bundle.contract,
        "metrics": report["metrics"],
        "subtypes": report["subtypes"],
        "held_out": {name: report["data"][name] for name in ("images", "patients", "median_size")},
        "uncertain": [low, high],
        "uncertain_rule": uncertain_rule(probability, wrong, low, high),
    }
    write_contract(path, contract)
    open_bundle(path)  # verifies it
    return Path(path)


def write_contract(path: str | Path, contract: dict[str, Any], body: bytes | None = None) -> None:
    """Write a network with a contract behind it; without ``body``, the network that the file has already."""
    if body is None:
        body = Path(path).read_bytes()[: contract["body_bytes"]]
    write_atomic(Path(path), with_contract(body, contract))


def with_contract(body: bytes, contract: dict[str, Any]) -> bytes:
    """The bytes of a model file: a network, and its contract with the contract's own hash."""
    return body + metadata_bytes({**contract, "contract_sha256": contract_sha256(contract)})


def _model_section(run: Run, outputs: list[str]) -> dict[str, Any]:
    """The contract of a file without calibration and without held-out figures."""
    return {
        "schema": SCHEMA,
        "name": run.recipe.name,
        "pneumoscope": __version__,
        "architecture": run.recipe.model,
        "input": run.spec.to_dict(),
        "labels": list(LABELS),
        "outputs": outputs,
        "threshold": THRESHOLD,
        "threshold_rule": "as published, not chosen on data",
        "uncertain": [THRESHOLD, THRESHOLD],
        "uncertain_rule": "not fitted",
        "calibration": {"method": "none"},
    }


def _results_of_folds(pooled: dict[str, Any]) -> dict[str, Any]:
    """The part of a contract that comes from the out-of-fold predictions of the recipe."""
    return {
        "threshold": pooled["operating_points"]["default"],
        "threshold_rule": pooled["rules"]["default"],
        "operating_points": pooled["operating_points"],
        "operating_point_rules": pooled["rules"],
        "prevalence": pooled["prevalence"],
        "calibration": {
            "method": "temperature and intercept",
            **pooled["calibration"],
            "rule": pooled["rules"]["calibration"],
        },
        "uncertain": pooled["uncertain"],
        "uncertain_rule": pooled["rules"]["uncertain"],
        "metrics": pooled["calibrated"],
        "subtypes": pooled["subtypes"],
        "held_out": pooled["held_out"],
        **({"beside_float32": pooled["float32"]} if pooled.get("float32") else {}),
    }


def _training_section(run: Run, model: Model) -> dict[str, Any]:
    """The part of a contract that tells how the model was trained."""
    config = json.loads((run.folder / "config.json").read_text(encoding="utf-8"))
    return {
        "recipe": {**run.recipe.to_dict(), "weights": Path(run.recipe.weights).name},
        "split_fingerprint": run.split.fingerprint,
        "images": config["images"],
        "versions": config["versions"],
        "best_epoch": int(run.kept["epoch"]),
        "parameters": int(model.count_params()),
    }
