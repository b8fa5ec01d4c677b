"""Measure the shipped models on a collection that is not Kermany's, and keep the figures for the model cards.

    python benchmarks/models/elsewhere.py --data DIR --name "NIH ChestX-ray14, 489 images"

DIR holds NORMAL and PNEUMONIA. Writes ``benchmarks/results/elsewhere.json``; ``docs/generate.py`` puts it into
docs/models.md. Nothing is chosen on these figures.
"""

import argparse
import json
from pathlib import Path

from pneumoscope import load
from pneumoscope.data.manifest import read_dataset
from pneumoscope.evaluation.evaluate import evaluate_model
from pneumoscope.inference.bundle import shipped_models

RESULT = Path(__file__).parent / "results" / "elsewhere.json"
FIGURES = ("accuracy", "roc_auc", "sensitivity", "specificity")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--name", required=True, help="what the collection is, for the model cards")
    arguments = parser.parse_args()
    manifest = read_dataset(arguments.data)
    found = {}
    for name in shipped_models():
        report = evaluate_model(load(name), manifest, manifest.records, "all")
        found[name] = {figure: report["metrics"][figure] for figure in FIGURES}
        print(name, {figure: round(found[name][figure]["value"], 3) for figure in FIGURES})
    content = {"collection": arguments.name, "labels": report["data"]["labels"], "models": found}
    RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"written to {RESULT}")


if __name__ == "__main__":
    main()
