"""Check whether full-size radiographs and their 224-pixel copies get the same verdict.

    python benchmarks/models/full_size.py --full DIR --copies DIR [--model NAME]...

Both folders contain ``[split/]LABEL/file``. Files are paired by name; files without a partner are left out. The script
prints, for every shipped model or for the models named, how much the probabilities differ and how many verdicts
change. For all shipped models it also writes ``benchmarks/results/full_size.json``.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from pneumoscope import Predictor, load
from pneumoscope.inference.bundle import shipped_models
from pneumoscope.radiographs.images import SUFFIXES

RESULT = Path(__file__).parents[1] / "results" / "full_size.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", required=True, type=Path, help="folder of full-size radiographs")
    parser.add_argument("--copies", required=True, type=Path, help="folder of their 224-pixel copies")
    parser.add_argument("--model", action="append", help="instead of every shipped model; nothing is written then")
    arguments = parser.parse_args()
    full, copies = ({path.name: path for path in _images(folder)} for folder in (arguments.full, arguments.copies))
    pairs = [(full[name], copies[name]) for name in sorted(full.keys() & copies.keys())]
    differences = {}
    for model in arguments.model or shipped_models():
        predictor = load(model)
        name = predictor.bundle.name
        differences[name] = _compare(predictor, pairs)
        print(name, differences[name], flush=True)
    if not arguments.model:
        RESULT.write_text(json.dumps(differences, indent=1) + "\n", encoding="utf-8")
        print(f"written to {RESULT}")


def _compare(predictor: Predictor, pairs: list[tuple[Path, Path]]) -> dict[str, float]:
    """Differences of the probabilities, and the number of changed verdicts, for one model."""
    full, copies = (
        np.array([prediction.probability for prediction in predictor.predict_many(files)])
        for files in zip(*pairs, strict=True)
    )
    difference, changed = np.abs(full - copies), (full >= predictor.threshold) != (copies >= predictor.threshold)
    return {
        "images": len(pairs),
        "mean": round(float(difference.mean()), 4),
        "p95": round(float(np.quantile(difference, 0.95)), 4),
        "largest": round(float(difference.max()), 4),
        "verdicts": int(changed.sum()),
    }


def _images(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]


if __name__ == "__main__":
    main()
