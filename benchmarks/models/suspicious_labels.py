"""List the training radiographs whose label the cross-validated models doubt, by confident learning.

    python benchmarks/models/suspicious_labels.py RUN RUN RUN RUN RUN

The runs are the folds of one recipe. Each image was predicted by the fold that had not seen it. An image is listed if
its probability of the other class is at least the mean probability of that class over the images with that label:
Northcutt, Jiang and Chuang, "Confident learning: estimating uncertainty in dataset labels", 2021, equation 1. The
script writes ``benchmarks/results/suspicious_labels.csv``. The list is for a look, it is not a list of errors: no label
was changed.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from pneumoscope.evaluation import read_report
from pneumoscope.labels import LABELS

RESULT = Path(__file__).parents[1] / "results" / "suspicious_labels.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of the folds of one recipe")
    arguments = parser.parse_args()
    rows = [row for run in arguments.runs for row in read_report(run / "evaluation-val")[1]]
    rows = [row for row in rows if row["probability"] is not None]
    labels = np.array([LABELS.index(row["label"]) for row in rows])
    pneumonia = np.array([row["probability"] for row in rows])
    probability = np.stack([1 - pneumonia, pneumonia])  # (2, N), rows are classes
    means = [probability[label][labels == label].mean() for label in range(len(LABELS))]
    doubted = [i for i, label in enumerate(labels) if probability[1 - label][i] >= means[1 - label]]
    doubted.sort(key=lambda i: probability[labels[i]][i])
    _write([rows[i] for i in doubted])
    counts = {label: sum(rows[i]["label"] == label for i in doubted) for label in LABELS}
    print(f"{len(doubted)} of {len(rows)} images doubted {counts}, class means {[round(float(m), 3) for m in means]}")
    print(f"written to {RESULT}")


def _write(rows: list[dict]) -> None:
    with RESULT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "label", "sublabel", "patient", "probability of pneumonia"])
        for row in rows:
            writer.writerow([row["path"], row["label"], row["sublabel"], row["patient"], f"{row['probability']:.4f}"])


if __name__ == "__main__":
    main()
