"""kill -9 a real training at random moments, resume it, and compare the end with an uninterrupted run.

    python benchmarks/kill_and_resume.py --data DIR --model mobilenet --weights FILE --kills 3

Prints the moments, and whether history, weights and exported network are equal to the last bit.
"""

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

from pneumoscope.bundle import open_bundle
from pneumoscope.runs import open_finished


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--model", default="mobilenet")
    parser.add_argument("--weights")
    parser.add_argument("--epochs")
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
    killed = [*command, "--runs", str(arguments.out / "killed")]
    for number in range(arguments.kills):
        after = random.uniform(0.1, 0.9) * took
        begun = bool(list((arguments.out / "killed").glob("*/checkpoint.npz")))
        process = subprocess.Popen(killed + ["--resume"] * begun, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(after)
            print(f"kill {number + 1}: not reached, the run had ended before {after:.1f} s")
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        print(f"kill {number + 1}: after {after:.1f} s, {_epochs_done(arguments.out / 'killed')} epochs done")
    begun = bool(list((arguments.out / "killed").glob("*/checkpoint.npz")))
    _finish(killed + ["--resume"] * begun)
    _compare(arguments.out, took)


def _finish(command: list[str]) -> None:
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def _epochs_done(runs: Path) -> int:
    files = list(runs.glob("*/history.csv"))
    return len(files[0].read_text().splitlines()) - 1 if files else 0


def _compare(out: Path, took: float) -> None:
    whole, resumed = (open_finished(next((out / side).glob("reference-*"))) for side in ("whole", "killed"))
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
