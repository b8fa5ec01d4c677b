"""Do full-size radiographs and their 224-pixel copies get the same verdict?

    python benchmarks/models/full_size.py --full DIR --copies DIR [--model NAME]...

DIR of each holds ``[split/]LABEL/file`` with the same file names; files without a partner are left out. Prints, and
writes to ``benchmarks/results/full_size.json``, the differences of the probabilities and of the verdicts of every
shipped model (or those named).
"""

import argparse
import json
from pathlib import Path

import numpy as np

from pneumoscope import load
from pneumoscope.inference.bundle import shipped_models
from pneumoscope.radiographs.images import SUFFIXES

RESULT = Path(__file__).parent / "results" / "full_size.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--full", required=True, type=Path)
    parser.add_argument("--copies", required=True, type=Path)
    parser.add_argument("--model", action="append", help="instead of every shipped model; nothing is written then")
    arguments = parser.parse_args()
    full, copies = ({path.name: path for path in _images(folder)} for folder in (arguments.full, arguments.copies))
    names = sorted(full.keys() & copies.keys())
    found = {}
    for model in arguments.model or shipped_models():
        predictor = load(model)
        sides = [[files[name] for name in names] for files in (full, copies)]
        a, b = (np.array([one.probability for one in predictor.predict_many(side)]) for side in sides)
        difference, verdicts = np.abs(a - b), (a >= predictor.threshold) != (b >= predictor.threshold)
        found[predictor.bundle.name] = {
            "images": len(names),
            "mean": round(float(difference.mean()), 4),
            "p95": round(float(np.quantile(difference, 0.95)), 4),
            "largest": round(float(difference.max()), 4),
            "verdicts": int(verdicts.sum()),
        }
        print(predictor.bundle.name, found[predictor.bundle.name], flush=True)
    if not arguments.model:
        RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
        print(f"written to {RESULT}")


def _images(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES]


if __name__ == "__main__":
    main()
