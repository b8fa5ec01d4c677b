"""What tells the labels of a collection apart without the lungs?

    python benchmarks/models/shortcuts.py --data DATA

DATA is the folder of the training images, or a manifest that has the aspect ratios of the originals (see
``original_ratios.py``). The script measures each signal of ``pneumoscope data audit`` and writes the figures to
results/shortcuts.json.
"""

import argparse
import json
from pathlib import Path

from pneumoscope.data import list_dataset
from pneumoscope.evaluation.audit import audit_data

RESULTS = Path(__file__).parents[1] / "results" / "shortcuts.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, type=Path, help="folder or manifest of the labelled radiographs")
    arguments = parser.parse_args()
    report = audit_data(list_dataset(arguments.data))
    kept = {
        "images": report["data"]["images"],
        "patients": report["data"]["patients"],
        "findings": {finding["kind"]: len(finding["items"]) for finding in report["findings"]},
        "shortcuts": [
            {key: shortcut[key] for key in ("signal", "title", "roc_auc", "level")} for shortcut in report["shortcuts"]
        ],
    }
    for shortcut in report["shortcuts"]:
        print(shortcut["sentence"])
    RESULTS.write_text(json.dumps(kept, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
