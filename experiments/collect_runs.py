"""Gather every run of the given folders into the experiment log: none left out, none twice.

    python experiments/collect_runs.py runs [RUNS...]

A run counts once its training reached the last epoch and its file was measured on the held-out images and under
the shifts. Rows of runs that are no longer on this machine stay; a run that is here again replaces its row. Writes
``experiments/log.json``, from which ``docs/generate.py`` makes docs/EXPERIMENTS.md.
"""

import argparse
import json
from pathlib import Path

from pneumoscope.training.crossval import measured_runs, summarise_run

RESULT = Path(__file__).parent / "results" / "experiments.json"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path)
    arguments = parser.parse_args()
    rows = {row["run"]: row for row in json.loads(RESULT.read_text(encoding="utf-8"))} if RESULT.is_file() else {}
    for folder in arguments.runs:
        rows.update({run.folder.name: summarise_run(run.folder) for run in measured_runs(folder)})
    lines = ",\n".join(json.dumps(rows[name]) for name in sorted(rows))
    RESULT.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"{len(rows)} runs in {RESULT}")


if __name__ == "__main__":
    main()
