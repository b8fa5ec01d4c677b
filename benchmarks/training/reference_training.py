"""Time the training of the two published networks: this project beside the way of the published notebook.

    python benchmarks/training/reference_training.py --data DIR --weights FILE

Give full-size radiographs, ``DIR/LABEL/image``. If there are fewer than ``--images``, links to them fill the rest.

MobileNet, ten epochs. Ours is ``pneumoscope.training.train.train`` from its call to its end; nothing is decoded before
and nothing is exported after. The notebook's way is ``fit`` on ``ImageDataGenerator.flow_from_directory``, which reads,
decodes and resizes each image in each epoch; one epoch is measured and counted ten times.

LSTM, one step. Our layer and that of Keras train the same network on the same batch;
tests/training/test_fused_lstm.py checks that both compute the same.

Each side is a process on the same two cores. The sides take turns within every repeat; only one works at a time. The
first repeat warms up and is not counted. The script writes ``benchmarks/results/reference_training.json``.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np

from pneumoscope.labels import LABELS
from pneumoscope.training import networks
from pneumoscope.training.recipe import read_recipe
from pneumoscope.training.train import train

BENCHMARKS = Path(__file__).parents[1]
sys.path.insert(0, str(BENCHMARKS / "peers"))
from sides import Side, cpu, pin

keras = networks.keras

RESULT = BENCHMARKS / "results" / "reference_training.json"
CORES, EPOCHS, STEPS = 2, 10, 8
WORKS, SIDES = ("mobilenet", "lstm"), ("ours", "notebook")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, help="folder LABEL/image of full-size radiographs")
    parser.add_argument("--weights", required=True, help="of the backbone")
    parser.add_argument("--images", type=int, default=1600)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", choices=WORKS, help=argparse.SUPPRESS)  # set for the process of one side
    parser.add_argument("--side", choices=SIDES, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.side:
        answer(arguments)
        return
    load = os.getloadavg()[0]
    pin(CORES)
    with tempfile.TemporaryDirectory() as folder:
        link_images(arguments.data, Path(folder), arguments.images)
        seconds = measure(folder, arguments.weights, arguments.repeats)
    content = {
        "machine": {"cpu": cpu(), "cores": os.cpu_count(), "used": CORES, "load_before": round(load, 2)},
        "images": arguments.images,
        "epochs": EPOCHS,
        "repeats": arguments.repeats,
        **{work: row(by_side) for work, by_side in seconds.items()},
    }
    RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(content, indent=1))


def measure(data: str, weights: str, repeats: int) -> dict[str, dict[str, list[float]]]:
    """Seconds of every work, side and repeat. The warm-up is left out."""
    command = [sys.executable, __file__, "--data", data, "--weights", weights]
    sides = {
        (work, side): Side(f"{work}, {side}", [*command, "--work", work, "--side", side])
        for work in WORKS
        for side in SIDES
    }
    seconds = {work: {side: [] for side in SIDES} for work in WORKS}
    for repeat in range(repeats + 1):
        for (work, side), process in sides.items():
            seconds[work][side].append(process.ask(work))
        print(f"repeat {repeat} of {repeats}{'' if repeat else ' (warm-up)'}", file=sys.stderr, flush=True)
    for side in sides.values():
        side.end()
    return {work: {side: values[1:] for side, values in by_side.items()} for work, by_side in seconds.items()}


def link_images(data: Path, folder: Path, images: int) -> None:
    """Fill the folder with links to the files, as often as needed."""
    files = sorted(path for label in LABELS for path in (data / label).iterdir())
    for label in LABELS:
        (folder / label).mkdir()
    files = files[:: max(1, len(files) // images)]
    for number, path in zip(range(images), cycle(files)):
        (folder / path.parent.name / f"{path.stem}-{number // len(files)}{path.suffix}").symlink_to(path.resolve())


def answer(arguments: argparse.Namespace) -> None:
    """Run the process of one side: for each line on standard input, do the work and print its seconds."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(CORES)
    tf.config.threading.set_inter_op_parallelism_threads(CORES)
    answers = sys.stdout
    with redirect_stdout(sys.stderr):
        if arguments.side == "notebook":
            networks.FusedLSTM = keras.layers.LSTM
        if arguments.work == "lstm":
            work = lstm_step()
        else:
            work = own_training(arguments) if arguments.side == "ours" else notebook_training(arguments)
        print(json.dumps({}), file=answers, flush=True)
        for _ in sys.stdin:
            print(json.dumps(work()), file=answers, flush=True)


def own_training(arguments: argparse.Namespace) -> Callable[[], float]:
    """Ten epochs, including the reading and the features before them."""
    recipe = read_recipe("reference-mobilenet", weights=arguments.weights, split="all", keep="last", epochs=EPOCHS)

    def work() -> float:
        with tempfile.TemporaryDirectory() as runs:
            began = time.perf_counter()
            train(replace(recipe, name="bench"), arguments.data, runs=runs)
            return time.perf_counter() - began

    return work


def notebook_training(arguments: argparse.Namespace) -> Callable[[], float]:
    """One epoch, counted ten times."""
    import tensorflow as tf

    recipe = read_recipe("reference-mobilenet", weights=arguments.weights)
    model = networks.build(recipe, weights=arguments.weights)
    model.compile(optimizer=keras.optimizers.Adam(recipe.learning_rate), loss="categorical_crossentropy")
    images = tf.keras.preprocessing.image.ImageDataGenerator(rescale=1 / 255).flow_from_directory(
        arguments.data, target_size=recipe.spec.shape[:2], batch_size=recipe.batch_size, classes=list(LABELS)
    )

    def work() -> float:
        began = time.perf_counter()
        model.fit(images, epochs=1, verbose=0)
        return EPOCHS * (time.perf_counter() - began)

    return work


def lstm_step() -> Callable[[], float]:
    """Mean seconds of a step of the reference LSTM."""
    recipe = read_recipe("reference-lstm")
    model = networks.build(recipe)
    model.compile(optimizer=keras.optimizers.Adam(recipe.learning_rate), loss="categorical_crossentropy")
    x = np.random.default_rng(0).random((recipe.batch_size, *recipe.spec.shape), dtype=np.float32)  # [0, 1)
    y = np.eye(len(LABELS), dtype=np.float32)[np.arange(recipe.batch_size) % len(LABELS)]

    def work() -> float:
        began = time.perf_counter()
        for _ in range(STEPS):
            model.train_on_batch(x, y)
        return (time.perf_counter() - began) / STEPS

    return work


def row(seconds: dict[str, list[float]]) -> dict:
    """Medians, every repeat, and how many times faster ours is: by the medians, and in each repeat."""
    ours, notebook = (seconds[name] for name in SIDES)
    return {
        "ours_seconds": round(statistics.median(ours), 3),
        "notebook_seconds": round(statistics.median(notebook), 3),
        "times_faster": round(statistics.median(notebook) / statistics.median(ours), 2),
        "times_faster_by_repeat": [round(b / a, 2) for a, b in zip(ours, notebook, strict=True)],
        "repeats": {name: [round(value, 3) for value in values] for name, values in seconds.items()},
    }


if __name__ == "__main__":
    main()
