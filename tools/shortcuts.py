"""The table of what tells the labels of the training images apart without the lungs, from benchmarks/results."""

import json
from pathlib import Path

from page_parts import table

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "shortcuts.json"


def signals() -> list[str]:
    """Each signal with its AUC."""
    rows = [
        [shortcut["title"], f"{auc['value']:.3f}", f"{auc['low']:.3f} to {auc['high']:.3f}", f"{auc['n']:,}"]
        for shortcut in json.loads(RESULTS.read_text(encoding="utf-8"))["shortcuts"]
        for auc in (shortcut["roc_auc"],)
    ]
    return table(["signal", "ROC AUC", "95 % interval", "images"], rows)
