"""List the training radiographs whose label the cross-validated models doubt, by confident learning.

    python benchmarks/models/suspicious_labels.py RUN RUN RUN RUN RUN

RUN are the folders of the folds of one recipe. An image is listed when its probability of the other class is at
least the mean probability that images of that class have of it: Northcutt, Jiang and Chuang, "Confident learning:
estimating uncertainty in dataset labels", 2021, equation 1. Each image was judged by the fold that had not seen it.
Writes ``benchmarks/results/suspicious_labels.csv``; a list to look at, not a list of errors: nothing was relabelled.
"""

import argparse
import csv
from pathlib import Path

import numpy as np

from pneumoscope.evaluation.evaluate import read_report
from pneumoscope.labels import LABELS

RESULT = Path(__file__).parent / "results" / "suspicious_labels.csv"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    arguments = parser.parse_args()
    rows = [row for run in arguments.runs for row in read_report(run / "evaluation-val")[1]]
    rows = [row for row in rows if row["probability"] is not None]
    labels = np.array([LABELS.index(row["label"]) for row in rows])
    pneumonia = np.array([row["probability"] for row in rows])
    of_class = np.stack([1 - pneumonia, pneumonia])  # (2, N)
    means = [of_class[c][labels == c].mean() for c in range(len(LABELS))]
    doubted = [i for i, label in enumerate(labels) if of_class[1 - label][i] >= means[1 - label]]
    doubted.sort(key=lambda i: of_class[labels[i]][i])
    with RESULT.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["path", "label", "sublabel", "patient", "probability of pneumonia"])
        for i in doubted:
            row = rows[i]
            writer.writerow([row["path"], row["label"], row["sublabel"], row["patient"], f"{pneumonia[i]:.4f}"])
    counts = {label: sum(rows[i]["label"] == label for i in doubted) for label in LABELS}
    print(f"{len(doubted)} of {len(rows)} images doubted {counts}, class means {[round(float(m), 3) for m in means]}")
    print(f"written to {RESULT}")


if __name__ == "__main__":
    main()
