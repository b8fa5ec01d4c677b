"""Train the reference recipes on both splits and collect the figures of every run.

    python benchmarks/training/reference_runs.py --data DIR --weights FILE --runs runs

Eight runs, about 45 minutes on two cores: MobileNet with seeds 0, 1, 2 and LSTM with seed 0, on the patient-wise and on
the published split. Runs that are finished in the runs folder are not trained again; interrupted runs are resumed. The
script writes ``benchmarks/results/reference_runs.json``, from which ``make docs`` makes docs/EXPERIMENTS.md.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

from pneumoscope.training.recipe import read_recipe
from pneumoscope.training.runs import run_id

RESULT = Path(__file__).parents[1] / "results" / "reference_runs.json"
PLAN = [
    (model, split, seed)
    for model, seeds in (("mobilenet", (0, 1, 2)), ("lstm", (0,)))
    for split in ("patient", "published")
    for seed in seeds
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder [split/]LABEL/image")
    parser.add_argument("--weights", default="imagenet", help="of the backbone")
    parser.add_argument("--runs", type=Path, default=Path("runs"), help="folder of the runs")
    arguments = parser.parse_args()
    collected = []
    for model, split, seed in PLAN:
        folder = arguments.runs / run_id(read_recipe(f"reference-{model}", split=split, seed=seed))
        if not (folder / "evaluation-val" / "report.json").is_file():
            _train(arguments, model, split, seed, resume=(folder / "checkpoint.npz").is_file())
        collected.append(_collect(folder))
        print(f"{folder.name}: accuracy {collected[-1]['metrics']['accuracy']['value']:.4f}", flush=True)
    RESULT.write_text(json.dumps(collected, indent=1) + "\n", encoding="utf-8")
    print(f"written to {RESULT}")


def _train(arguments: argparse.Namespace, model: str, split: str, seed: int, resume: bool) -> None:
    command = [sys.executable, "-m", "pneumoscope", "train", "--model", model, "--data", arguments.data]
    command += ["--split", split, "--seed", str(seed), "--runs", str(arguments.runs), "--weights", arguments.weights]
    subprocess.run(command + ["--resume"] * resume, check=True)


def _collect(folder: Path) -> dict:
    report = json.loads((folder / "evaluation-val" / "report.json").read_text(encoding="utf-8"))
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    history = (folder / "history.csv").read_text(encoding="utf-8").splitlines()
    columns = history[0].split(",")
    rows = [dict(zip(columns, map(float, line.split(",")), strict=True)) for line in history[1:]]
    metrics = {name: report["metrics"][name] for name in ("accuracy", "roc_auc", "sensitivity", "specificity", "ece")}
    return {
        "run": folder.name,
        "model": config["recipe"]["model"],
        "split": config["recipe"]["split"],
        "seed": config["recipe"]["seed"],
        "split_fingerprint": config["split_fingerprint"],
        "images": config["images"],
        "patients": report["data"]["patients"],
        "versions": config["versions"],
        "metrics": metrics,
        "best_epoch": int(max(rows, key=lambda row: row["val_accuracy"])["epoch"]),
        "val_accuracy": [row["val_accuracy"] for row in rows],
        "epoch_seconds": [round(row["seconds"], 2) for row in rows],
        "timing": json.loads((folder / "timing.json").read_text(encoding="utf-8")),
    }


if __name__ == "__main__":
    main()
