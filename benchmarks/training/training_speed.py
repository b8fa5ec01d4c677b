"""Measure images a second in fine-tuning the MobileNet: this project, Keras on an image folder, and plain PyTorch.

    python benchmarks/training/training_speed.py --data DIR --weights FILE --torch-python PYTHON_WITH_TORCH

A is ``pneumoscope.training.train.train`` itself. It decodes the pixels once, augments every image again in each epoch,
and adds in a deterministic order. B is ``model.fit`` on ``image_dataset_from_directory``, the present form of
``flow_from_directory``. It reads, decodes and resizes every image again in each epoch, augments nothing, and adds in
any order. Give full-size images: with small ones B is spared the decoding that A does once. A and B train every layer
of the same network from the same weights, with the size, batch size and optimizer of the recipe. C is the same network
in plain PyTorch on one random batch, so only the network is measured. The rows "network alone" are its counterpart in
Keras (``train_on_batch`` on one random batch), with the settings of A and of B.

PyTorch is not a dependency of this project. Its side runs in an environment of its own::

    python -m venv /tmp/torch && /tmp/torch/bin/pip install torch numpy

Each side is a process on the same two cores. The sides take turns within every repeat; only one works at a time. The
first repeat warms up and is not counted. Only the middle of each epoch is timed: the graph is built before it, and
after it come batches that were prepared while the timed ones trained. The script writes
``benchmarks/results/training_speed.json``.
"""

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from importlib.metadata import version
from itertools import count
from pathlib import Path

import numpy as np

from pneumoscope.data import read_dataset
from pneumoscope.data.manifest import NO_SPLIT, Manifest
from pneumoscope.labels import FINDINGS, LABELS
from pneumoscope.training import networks
from pneumoscope.training import train as training
from pneumoscope.training.batches import load_pixels
from pneumoscope.training.optimizer import build_optimizer
from pneumoscope.training.recipe import Recipe, read_recipe

BENCHMARKS = Path(__file__).parents[1]
sys.path.insert(0, str(BENCHMARKS / "peers"))
from sides import Side, cpu, pin

keras = networks.keras

RESULT = BENCHMARKS / "results" / "training_speed.json"
THREADS = 2
LEAD, TAIL = 2, 4  # batches before and after the timed ones
# Row -> side, and the name of the work that is sent to it.
ROWS = {
    "A  pneumoscope, augmented": ("ours", "fit"),
    "B  Keras fit from the image folder": ("folder", "fit"),
    "   network alone, as in A": ("ours", "network"),
    "   network alone, as in B": ("folder", "network"),
    "C  network alone, PyTorch float32": ("torch", "float32"),
    "C  network alone, PyTorch bfloat16": ("torch", "bfloat16"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder [split/]LABEL/image")
    parser.add_argument("--recipe", default="mobilenet", help="file or name")
    parser.add_argument("--weights", help="of the backbone; default: the recipe's")
    parser.add_argument("--torch-python", help="interpreter of an environment with torch")
    parser.add_argument("--steps", type=int, default=12, help="timed batches a repeat")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--side", choices=("ours", "folder"), help=argparse.SUPPRESS)  # set for the process of one side
    arguments = parser.parse_args()
    recipe = read_recipe(arguments.recipe, weights=arguments.weights)
    if (recipe.model, recipe.trainable, recipe.augments) != ("mobilenet", "all", True):
        parser.error(f"expected a recipe that trains all of an augmented mobilenet, received {arguments.recipe}")
    if min(arguments.steps, arguments.repeats) < 1:
        parser.error("expected --steps and --repeats of 1 or more")
    if arguments.side:
        _answer(arguments, recipe)
    else:
        _compare(arguments, recipe)


def _compare(arguments: argparse.Namespace, recipe: Recipe) -> None:
    """Start the sides, let them take turns, and write their figures."""
    load = os.getloadavg()[0]
    pin(THREADS)
    own = [sys.executable, __file__, *sys.argv[1:], "--side"]
    commands = {"ours": [*own, "ours"], "folder": [*own, "folder"]}
    if arguments.torch_python:
        script = str(BENCHMARKS / "peers" / "torch_mobilenet.py")
        commands["torch"] = [arguments.torch_python, script, json.dumps(_torch_settings(arguments, recipe))]
    sides = {name: Side(name, command) for name, command in commands.items()}
    about = {name: side.about for name, side in sides.items()}
    if "torch" in sides:
        _check_same_network(about["torch"], about["ours"])
    rates = _take_turns(sides, arguments.steps * recipe.batch_size, arguments.repeats)
    content = {
        "machine": {"cpu": cpu(), "cores": os.cpu_count(), "threads": THREADS, "load_before": round(load, 2)},
        "versions": {name: each for side in about.values() for name, each in side["versions"].items()},
        "recipe": {"name": recipe.name, "size": recipe.spec.height, "batch_size": recipe.batch_size},
        "steps": arguments.steps,
        "repeats": arguments.repeats,
        "image_pixels_median": about["ours"]["image_pixels_median"],
        "decode_once_images_per_second": about["ours"]["decode_once_images_per_second"],
        "parameters": about["ours"]["network_parameters"],
        "rows": {" ".join(row.split()): _row(rates.get(row), rates) for row in ROWS},
    }
    _print(content)
    RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"written to {RESULT}")


def _check_same_network(torch: dict, keras: dict) -> None:
    for what in ("backbone_parameters", "network_parameters"):
        if torch[what] != keras[what]:
            sys.exit(f"expected the {what} of Keras, {keras[what]}, PyTorch has {torch[what]}")


def _take_turns(sides: dict[str, Side], images: int, repeats: int) -> dict[str, list[float]]:
    """Images a second of every row and repeat. The warm-up is left out."""
    rates = {row: [] for row, (side, _) in ROWS.items() if side in sides}
    for repeat in range(repeats + 1):
        for row, measured in rates.items():
            side, what = ROWS[row]
            measured.append(images / sides[side].ask(what))
        print(f"repeat {repeat} of {repeats}{'' if repeat else ' (warm-up)'}", file=sys.stderr, flush=True)
    for side in sides.values():
        side.end()
    return {row: measured[1:] for row, measured in rates.items()}


def _torch_settings(arguments: argparse.Namespace, recipe: Recipe) -> dict:
    return {
        "size": recipe.spec.height,
        "batch_size": recipe.batch_size,
        "classes": _classes(recipe),
        "dropout": recipe.dropout,
        "frozen_norm": recipe.batch_norm == "frozen",
        "learning_rate": recipe.learning_rate,
        "weight_decay": recipe.weight_decay,
        "label_smoothing": recipe.label_smoothing,
        "lead": LEAD,
        "steps": arguments.steps,
        "threads": THREADS,
    }


def _answer(arguments: argparse.Namespace, recipe: Recipe) -> None:
    """Run the process of one Keras side: print versions, then do one timed repeat for each line on standard input."""
    import tensorflow as tf

    tf.config.threading.set_intra_op_parallelism_threads(THREADS)
    tf.config.threading.set_inter_op_parallelism_threads(THREADS)
    answers = sys.stdout
    with redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as folder:
        if arguments.side == "ours":
            training._enable_determinism()  # as in train(); it is set for the whole process, so each side needs its own
        model = networks.build(recipe, weights=recipe.weights)
        model.compile(
            optimizer=build_optimizer(recipe, arguments.steps, model),
            loss=keras.losses.CategoricalCrossentropy(label_smoothing=recipe.label_smoothing),
            metrics=["accuracy"],
        )
        about = {
            "versions": {name: version(name) for name in ("pneumoscope", "keras", "tensorflow", "numpy")}
            | {"python": platform.python_version()},
        }
        if arguments.side == "ours":
            manifest = _some_images(arguments, recipe)
            about |= _reading(manifest, recipe)
            published = keras.applications.MobileNet(include_top=False, weights=None, input_shape=recipe.spec.shape)
            about |= {"backbone_parameters": published.count_params(), "network_parameters": _parameters(model)}
            fit = _own_fit(arguments, recipe, manifest, Path(folder))
        else:
            fit = _folder_fit(arguments, recipe, model)
        repeats = {"fit": fit, "network": _network_alone(arguments, recipe, model)}
        print(json.dumps(about), file=answers, flush=True)
        for line in sys.stdin:
            print(json.dumps(repeats[line.strip()]()), file=answers, flush=True)


def _own_fit(arguments: argparse.Namespace, recipe: Recipe, manifest: Manifest, runs: Path) -> Callable[[], float]:
    """A: a repeat is one epoch of the project's own training. After the first repeat the pixels are in its cache."""
    numbers = count()

    def repeat() -> float:
        ends = []
        one_epoch = replace(recipe, name=f"bench-{next(numbers)}", split="all", average=0, epochs=1, keep="last")
        training.train(one_epoch, manifest, runs=runs, on_batch=lambda *_: ends.append(time.perf_counter()))
        return _timed(ends, arguments.steps)

    return repeat


def _folder_fit(arguments: argparse.Namespace, recipe: Recipe, model: keras.Model) -> Callable[[], float]:
    """B: a repeat is ``fit`` on the folder, without a cache."""
    import tensorflow as tf

    folder = Path(arguments.data)
    images = keras.utils.image_dataset_from_directory(
        folder / "train" if (folder / "train").is_dir() else folder,
        class_names=list(LABELS),
        batch_size=recipe.batch_size,
        image_size=(recipe.spec.height, recipe.spec.width),
        seed=recipe.seed,
        verbose=False,
    )
    # The notebook's rescale=1/255. Targets are as wide as the network: with sub-types one class has no images.
    images = images.map(lambda x, y: (x / 255, tf.one_hot(y, _classes(recipe))), num_parallel_calls=tf.data.AUTOTUNE)
    images = images.take(_batches(arguments)).prefetch(tf.data.AUTOTUNE)

    def repeat() -> float:
        ends = []
        clock = keras.callbacks.LambdaCallback(on_train_batch_end=lambda batch, logs: ends.append(time.perf_counter()))
        model.fit(images, shuffle=False, callbacks=[clock], verbose=0)  # image_dataset_from_directory shuffles
        return _timed(ends, arguments.steps)

    return repeat


def _network_alone(arguments: argparse.Namespace, recipe: Recipe, model: keras.Model) -> Callable[[], float]:
    x = np.random.default_rng(0).random((recipe.batch_size, *recipe.spec.shape), dtype=np.float32)  # [0, 1)
    y = np.eye(_classes(recipe), dtype=np.float32)[np.arange(recipe.batch_size) % _classes(recipe)]

    def repeat() -> float:
        ends = []
        for _ in range(LEAD + arguments.steps):
            model.train_on_batch(x, y)
            ends.append(time.perf_counter())
        return _timed(ends, arguments.steps)

    return repeat


def _timed(ends: list[float], steps: int) -> float:
    """Seconds from the end of the last batch before the timed ones to the end of the last timed one."""
    return ends[LEAD + steps - 1] - ends[LEAD - 1]


def _batches(arguments: argparse.Namespace) -> int:
    return LEAD + arguments.steps + TAIL


def _classes(recipe: Recipe) -> int:
    return len(FINDINGS if recipe.subtypes else LABELS)


def _some_images(arguments: argparse.Namespace, recipe: Recipe) -> Manifest:
    """As many training images as one epoch of this script needs, with mixed labels."""
    manifest = read_dataset(arguments.data)
    records, needed = manifest.select("train", NO_SPLIT), _batches(arguments) * recipe.batch_size
    if len(records) < needed:
        sys.exit(f"expected {needed} training images under {arguments.data}, found {len(records)}: lower --steps")
    return Manifest(manifest.root, tuple(random.Random(0).sample(records, needed)))


def _reading(manifest: Manifest, recipe: Recipe) -> dict[str, float]:
    """How fast A decodes once before its first epoch, and how large the images are."""
    side = recipe.source_size or recipe.spec.height
    source = replace(recipe.spec, height=side, width=side)
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        load_pixels(manifest, list(manifest.records), source, Path(folder), lambda items, total, what: items)
        seconds = time.perf_counter() - began
    return {
        "decode_once_images_per_second": round(len(manifest) / seconds, 1),
        "image_pixels_median": int(statistics.median(record.width * record.height for record in manifest.records)),
    }


def _parameters(model: keras.Model) -> dict[str, int]:
    return {
        "all": model.count_params(),
        "trainable": sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
    }


def _row(values: list[float] | None, rates: dict[str, list[float]]) -> dict:
    if values is None:
        return {"not_measured": "no --torch-python"}
    median, own = statistics.median(values), statistics.median(rates[next(iter(ROWS))])
    return {
        "samples_per_second": {"median": round(median, 2), "min": round(min(values), 2), "max": round(max(values), 2)},
        "ratio_to_a": round(median / own, 3),
        "repeats": [round(value, 2) for value in values],
    }


def _print(content: dict) -> None:
    machine, recipe = content["machine"], content["recipe"]
    print(
        f"{machine['cpu']}, {machine['cores']} cores, {machine['threads']} used, load before {machine['load_before']}"
    )
    print(", ".join(f"{name} {each}" for name, each in content["versions"].items()))
    print(
        f"{recipe['name']}: {recipe['size']} pixels, batches of {recipe['batch_size']}; images of "
        f"{content['image_pixels_median'] / 1e6:.2f} megapixels, which A decodes once, "
        f"{content['decode_once_images_per_second']:.0f} a second"
    )
    print(f"{'samples/s, median of ' + str(content['repeats']):<38} {'median':>7} {'(min to max)':>18} {'to A':>6}")
    for name, row in zip(ROWS, content["rows"].values(), strict=True):
        if "not_measured" in row:
            print(f"{name:<38} not measured: {row['not_measured']}")
            continue
        rate = row["samples_per_second"]
        spread = f"({rate['min']:.1f} to {rate['max']:.1f})"
        print(f"{name:<38} {rate['median']:>7.1f} {spread:>18} {row['ratio_to_a']:>6.2f}")


if __name__ == "__main__":
    main()
