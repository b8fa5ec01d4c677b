"""Our own side of ``folder_speed.py``: the folder, its two halves alone, the maps, and the memory.

python own_folder.py SETTINGS [N]

With N it predicts N images, repeating the files, and prints its peak memory in MB after a tenth and at the end.
"""

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path

from protocol import answer, settings

THREADS_TRIED = (1, 2, 4)


def main() -> None:
    config = settings()
    from pneumoscope import load

    shipped = load(threads=1)
    if len(sys.argv) > 2:
        print(*peaks(shipped.predict_many(islice(cycle(config["files"]), int(sys.argv[2]))), int(sys.argv[2])))
        return
    path = config["folder"] + "/network.onnx"
    files, works, same = config["files"], {}, load(path, threads=1)
    for name, predictor, on_all_cores in (("shipped", shipped, load()), ("same", same, load(path))):
        works[name] = lambda p=predictor: count(p.predict_many(files))
        works |= halves(name, predictor, on_all_cores, files)
    eight = load(config["folder"] + "/network8.onnx", threads=1)
    works["eight"] = lambda: count(eight.predict_many(files))
    bare = without_maps(same)
    works["maps"] = lambda: count(at_input_size(one.gradcam[1]) for one in same.predict_many(files))
    works["no maps"] = lambda: count(bare.predict_many(files))
    answer(works, ("pneumoscope", "onnxruntime", "opencv-python-headless", "numpy"))


def count(items: Iterable) -> int:
    """Number of items; none of them is kept."""
    return sum(1 for _ in items)


def halves(name: str, predictor: object, on_all_cores: object, files: list[str]) -> dict[str, Callable[[], int]]:
    """Reading to the model's size alone, and the model alone, with several threads and batch sizes.

    With one thread the model uses threads of its own; with two each runs on one core.
    """
    prepared = [predictor.prepare(path) for path in files]

    def read(threads: int) -> int:
        with ThreadPoolExecutor(threads) as pool:
            return count(pool.map(predictor.prepare, files))

    def run(model: object, threads: int, batch: int) -> int:
        parts = [prepared[start : start + batch] for start in range(0, len(prepared), batch)]
        with ThreadPoolExecutor(threads) as pool:
            return sum(pool.map(lambda part: count(model.predict_prepared(part)), parts))

    works = {f"{name}: decode, {threads} threads": lambda n=threads: read(n) for threads in THREADS_TRIED[1:]}
    for model, threads, batch in ((on_all_cores, 1, 16), (predictor, 2, 16), (predictor, 2, 4)):
        works[f"{name}: infer, {threads} x {batch}"] = lambda m=model, n=threads, b=batch: run(m, n, b)
    return works


def at_input_size(small: object) -> object:
    """A map in the form of pytorch-grad-cam: relative to its maximum, as large as the input of the network."""
    import numpy as np

    from pneumoscope.inference.explain import upsample_map
    from pneumoscope.radiographs.images import Radiograph

    return upsample_map(small, Radiograph(np.empty((160, 160), np.uint8)))


def without_maps(predictor: object) -> object:
    """The same file, but only probabilities are requested. ONNX Runtime then skips what only the maps need."""
    import onnxruntime

    from pneumoscope.inference.predict import Predictor

    only, bundle = onnxruntime.RunOptions(), predictor.bundle
    only.only_execute_path_to_fetches = True

    class Session:
        get_inputs = staticmethod(bundle.session.get_inputs)

        def run(self, names: list[str], inputs: dict) -> list:
            return bundle.session.run(names, inputs, only)

    return Predictor(replace(bundle, session=Session(), contract={**bundle.contract, "outputs": ["probabilities"]}))


def peaks(predictions: Iterator, total: int) -> tuple[int, int]:
    """Peak resident memory in MB after a tenth of the images and after all."""
    count(islice(predictions, total // 10))
    early = peak()
    count(predictions)
    return early, peak()


def peak() -> int:
    """Peak memory of this process in MB (Linux). getrusage would include the process that started this one."""
    return int(re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text(encoding="utf-8"))[1]) // 1000


if __name__ == "__main__":
    main()
