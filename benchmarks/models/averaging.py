"""Compare averaged weights with the networks they were made of, on patients that none of them has seen.

    python benchmarks/models/averaging.py RUN RUN... --data DIR

Each RUN is the folder of a finished run. All runs have the same recipe, split and ``initial_seed``, and different
seeds. The script prints the AUC on the held-out images as they are, and the mean AUC over some shifts, for each
network, for the mean of their log odds, and for the network with the mean of their weights. Each model file is used as
its recipe says, for example with the mirror image. No file is written.
"""

import argparse
import tempfile
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np

from pneumoscope import load
from pneumoscope.data import Manifest, read_dataset
from pneumoscope.evaluation.metrics import roc_auc
from pneumoscope.evaluation.robustness import SHIFTS
from pneumoscope.inference.calibration import log_odds, sigmoid
from pneumoscope.io.atomic import write_npz
from pneumoscope.labels import label_index
from pneumoscope.radiographs.images import Radiograph, read_radiograph
from pneumoscope.training.export.onnx_export import export_run
from pneumoscope.training.runs import Run, open_finished_run, write_history
from pneumoscope.training.weight_averaging import mean_weights

SHIFT_NAMES = (
    "none",
    "ratio turned round",
    "all wider",
    "black frame",
    "darker",
    "other scanner",
    "96 pixels",
    "noise",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of finished runs")
    parser.add_argument("--data", required=True, help="folder [split/]LABEL/image")
    arguments = parser.parse_args()
    manifest, runs = read_dataset(arguments.data), [open_finished_run(run) for run in arguments.runs]
    if len({run.split.fingerprint for run in runs}) > 1:
        parser.error("expected runs of one split, received several")
    with tempfile.TemporaryDirectory() as folder:
        files = [run.folder / "model.onnx" for run in runs] + [_average_of(runs, Path(folder))]
        auc_by_shift = {shift: _auc_by_model(files, runs[0], manifest, shift) for shift in SHIFT_NAMES}
    for name in auc_by_shift["none"]:
        areas = [auc_by_shift[shift][name] for shift in SHIFT_NAMES]
        print(f"{name:32s} AUC {areas[0]:.4f}, mean over {len(SHIFT_NAMES)} shifts {np.mean(areas):.4f}")


def _average_of(runs: list[Run], folder: Path) -> Path:
    """Model file of the network with the mean of the weights."""
    run = replace(runs[0], folder=folder)
    (folder / "config.json").write_bytes((runs[0].folder / "config.json").read_bytes())
    write_npz(folder / "best.npz", mean_weights([each.folder / "best.npz" for each in runs]))
    write_history(run, runs[0].history)
    return export_run(run)


def _auc_by_model(files: list[Path], run: Run, manifest: Manifest, shift: str) -> dict[str, float]:
    """AUC of each model on the held-out images under one shift; the last file is the average."""
    records = run.split.records(manifest, "val")
    labels = np.array([label_index(record.label) for record in records])
    shifted = [
        Radiograph(SHIFTS[shift](read_radiograph(manifest.path(r)).pixels, r.label, _rng(r.key))) for r in records
    ]
    odds = [log_odds([prediction.probability for prediction in load(file).predict_many(shifted)]) for file in files]
    rows = {file.parent.name: values for file, values in zip(files[:-1], odds, strict=False)}
    rows |= {"mean of the log odds": np.mean(odds[:-1], axis=0), "mean of the weights": odds[-1]}
    return {name: roc_auc(labels, sigmoid(values)) for name, values in rows.items()}


def _rng(key: str) -> np.random.Generator:
    return np.random.default_rng(zlib.crc32(key.encode()))


if __name__ == "__main__":
    main()
