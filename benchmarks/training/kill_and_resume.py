"""kill -9 a real training at random moments, resume it, and compare the end with an uninterrupted run.

    python benchmarks/training/kill_and_resume.py --data DIR --model mobilenet --weights FILE --kills 3

Prints the moments, and whether history, weights and exported network are equal to the last bit.
"""

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from pneumoscope.inference.bundle import open_bundle
from pneumoscope.training.runs import open_finished_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="mobilenet")
    parser.add_argument("--weights")
    parser.add_argument("--epochs", help="instead of the recipe's ten")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs-killed"), help="must not exist")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "pneumoscope", "train", "--model", arguments.model, "--data", arguments.data]
    for option in ("weights", "epochs"):
        if getattr(arguments, option):
            command += [f"--{option}", getattr(arguments, option)]
    arguments.out.mkdir(parents=True)

    began = time.monotonic()
    _finish([*command, "--runs", str(arguments.out / "whole")])
    took = time.monotonic() - began
    seconds = [row["seconds"] for row in open_finished_run(next((arguments.out / "whole").glob("reference-*"))).history]
    killed = [*command, "--runs", str(arguments.out / "killed")]
    for epochs in sorted(random.sample(range(len(seconds)), min(arguments.kills, len(seconds)))):
        _kill_in_epoch(killed, arguments.out / "killed", epochs, random.uniform(0.1, 0.9) * seconds[epochs])
    _finish(killed + _resume(arguments.out / "killed"))
    _compare(arguments.out, took)


def _kill_in_epoch(command: list[str], runs: Path, epochs: int, delay: float) -> None:
    """Let the training finish some epochs, wait a part of the next one, and kill it."""
    process = subprocess.Popen(command + _resume(runs), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    began = time.monotonic()
    while process.poll() is None and _epochs_done(runs) < epochs:
        time.sleep(0.01)
    time.sleep(delay)
    process.kill()
    code = process.wait()
    after = time.monotonic() - began
    print(f"kill -9 after {after:.1f} s: {_epochs_done(runs)} epochs on disk, exit code {code}", flush=True)


def _resume(runs: Path) -> list[str]:
    return ["--resume"] if list(runs.glob("*/checkpoint.npz")) else []


def _finish(command: list[str]) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def _epochs_done(runs: Path) -> int:
    files = list(runs.glob("*/history.csv"))
    return len(files[0].read_text().splitlines()) - 1 if files else 0


def _compare(out: Path, took: float) -> None:
    whole, resumed = (open_finished_run(next((out / side).glob("reference-*"))) for side in ("whole", "killed"))
    figures = [[{k: v for k, v in row.items() if k != "seconds"} for row in run.history] for run in (whole, resumed)]
    with np.load(whole.folder / "checkpoint.npz") as one, np.load(resumed.folder / "checkpoint.npz") as other:
        names = [name for name in one.files if name != "history"]
        equal = all(np.array_equal(one[name], other[name]) for name in names)
    bodies = [open_bundle(run.folder / "model.onnx").contract for run in (whole, resumed)]
    print(f"uninterrupted run: {took:.1f} s, {len(figures[0])} epochs")
    print(f"history equal:      {figures[0] == figures[1]}")
    print(f"final state equal:  {equal} ({len(names)} arrays)")
    print(f"network equal:      {bodies[0]['body_sha256'] == bodies[1]['body_sha256']}")
    print(f"metrics equal:      {bodies[0]['metrics'] == bodies[1]['metrics']}")
    last = bodies[0]["metrics"]
    print(
        ", ".join(f"{name} {last[name]['value']:.4f}" for name in ("accuracy", "roc_auc", "sensitivity", "specificity"))
    )


if __name__ == "__main__":
    main()
