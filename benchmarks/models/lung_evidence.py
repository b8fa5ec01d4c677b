"""Measure whether a model finds the lungs, and whether its evidence lies in them, on the held-out images of its split.

    python benchmarks/models/lung_evidence.py MODEL --data DIR --masks DIR [--out FILE]

MODEL is a model file or a run folder. The images are those that its own split holds out, so that none was trained on.
The script prints each figure with its 95 % interval and writes them as JSON if FILE is given;
``pneumoscope.evaluation.lung_evidence`` has the definitions.
"""

import argparse
import json
from pathlib import Path

from pneumoscope import load
from pneumoscope.data import LungMasks, read_dataset, select_records
from pneumoscope.evaluation.lung_evidence import FIGURES, measure_lungs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="model file or run folder")
    parser.add_argument("--data", required=True, type=Path, help="the data that it was trained on")
    parser.add_argument("--masks", required=True, type=Path, help="folder of lung masks")
    parser.add_argument("--out", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    predictor, manifest = load(arguments.model), read_dataset(arguments.data)
    records, _ = select_records(manifest, "val", predictor.bundle.contract["training"])
    found = measure_lungs(predictor, manifest, records, LungMasks(arguments.masks))
    print(f"{predictor.bundle.name}: {found['images']} of {len(records)} held-out images have a mask")
    for name in FIGURES:
        if figure := found[name]:
            print(f"{name:18s} {figure['value']:.3f} ({figure['low']:.3f} to {figure['high']:.3f}), n {figure['n']}")
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
