"""Measure the shipped models on a collection other than Kermany's; the model cards show the figures.

    python benchmarks/models/elsewhere.py --data DIR --name "NIH ChestX-ray14, 489 images"

DIR contains the folders NORMAL and PNEUMONIA. The script writes ``benchmarks/results/elsewhere.json``; ``make docs``
puts it into docs/models.md. No recipe, threshold or model is chosen with these figures.
"""

import argparse
import json
from pathlib import Path

from pneumoscope import load
from pneumoscope.data import read_dataset
from pneumoscope.evaluation.evaluate import evaluate_model
from pneumoscope.inference.bundle import shipped_models

RESULT = Path(__file__).parents[1] / "results" / "elsewhere.json"
METRICS = ("accuracy", "roc_auc", "sensitivity", "specificity")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, help="folder with NORMAL and PNEUMONIA")
    parser.add_argument("--name", required=True, help="what the collection is, for the model cards")
    arguments = parser.parse_args()
    manifest = read_dataset(arguments.data)
    metrics_by_model = {}
    for name in shipped_models():
        report = evaluate_model(load(name), manifest, manifest.records, "all")
        metrics_by_model[name] = {metric: report["metrics"][metric] for metric in METRICS}
        print(name, {metric: round(metrics_by_model[name][metric]["value"], 3) for metric in METRICS})
    content = {"collection": arguments.name, "labels": report["data"]["labels"], "models": metrics_by_model}
    RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(f"written to {RESULT}")


if __name__ == "__main__":
    main()
