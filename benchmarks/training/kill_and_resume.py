"""Stop a real training with kill -9 at random moments, resume it, and compare it with an uninterrupted run.

    python benchmarks/training/kill_and_resume.py --data DIR --model mobilenet --weights FILE --kills 3

The script prints the moments, and whether history, weights and exported network are equal to the last bit. Its last
output is kept by hand in ``benchmarks/results/kill_and_resume.txt``.
"""

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from pneumoscope.inference.bundle import open_bundle
from pneumoscope.training.runs import Run, open_finished_run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder [split/]LABEL/image")
    parser.add_argument("--model", default="mobilenet")
    parser.add_argument("--weights", help="of the backbone; default: the recipe's")
    parser.add_argument("--epochs", help="default: the recipe's")
    parser.add_argument("--kills", type=int, default=3, help="how often the training is stopped")
    parser.add_argument("--out", type=Path, default=Path("runs-killed"), help="must not exist")
    arguments = parser.parse_args()
    command = [sys.executable, "-m", "pneumoscope", "train", "--model", arguments.model, "--data", arguments.data]
    for option in ("weights", "epochs"):
        if getattr(arguments, option):
            command += [f"--{option}", getattr(arguments, option)]
    arguments.out.mkdir(parents=True)

    began = time.monotonic()
    _finish([*command, "--runs", str(arguments.out / "whole")])
    seconds_whole = time.monotonic() - began
    seconds = [row["seconds"] for row in _only_run(arguments.out / "whole").history]
    killed = [*command, "--runs", str(arguments.out / "killed")]
    for epochs in sorted(random.sample(range(len(seconds)), min(arguments.kills, len(seconds)))):
        _kill_in_epoch(killed, arguments.out / "killed", epochs, random.uniform(0.1, 0.9) * seconds[epochs])
    _finish(killed + _resume(arguments.out / "killed"))
    _compare(arguments.out, seconds_whole)


def _kill_in_epoch(command: list[str], runs: Path, epochs: int, delay: float) -> None:
    """Let the training finish some epochs, wait for a part of the next one, and kill it."""
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


def _only_run(runs: Path) -> Run:
    return open_finished_run(next(runs.glob("reference-*")))


def _compare(out: Path, seconds_whole: float) -> None:
    whole, resumed = _only_run(out / "whole"), _only_run(out / "killed")
    figures = [[{k: v for k, v in row.items() if k != "seconds"} for row in run.history] for run in (whole, resumed)]
    with np.load(whole.folder / "checkpoint.npz") as first, np.load(resumed.folder / "checkpoint.npz") as second:
        names = [name for name in first.files if name != "history"]
        equal = all(np.array_equal(first[name], second[name]) for name in names)
    contracts = [open_bundle(run.folder / "model.onnx").contract for run in (whole, resumed)]
    print(f"uninterrupted run: {seconds_whole:.1f} s, {len(figures[0])} epochs")
    print(f"history equal:      {figures[0] == figures[1]}")
    print(f"final state equal:  {equal} ({len(names)} arrays)")
    print(f"network equal:      {contracts[0]['body_sha256'] == contracts[1]['body_sha256']}")
    print(f"metrics equal:      {contracts[0]['metrics'] == contracts[1]['metrics']}")
    metrics = contracts[0]["metrics"]
    print(
        ", ".join(
            f"{name} {metrics[name]['value']:.4f}" for name in ("accuracy", "roc_auc", "sensitivity", "specificity")
        )
    )


if __name__ == "__main__":
    main()
