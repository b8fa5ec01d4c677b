"""Add every measured run of the given folders to the experiment log.

    python experiments/collect_runs.py runs [RUNS...]

A run counts once its training reached the last epoch and its model file was measured on the held-out images and under
the shifts. No such run is left out. Rows of runs that are no longer on this machine stay; a run that is found again
replaces its row. The script writes ``experiments/log.json``, from which ``make docs`` makes docs/EXPERIMENTS.md.
"""

import argparse
import json
from pathlib import Path

from pneumoscope.training.crossval import measured_runs
from pneumoscope.training.pooling import summarise_run

LOG = Path(__file__).parent / "log.json"


def main() -> None:
    """Read the log, add or replace the rows of the runs, and write it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="folders of runs")
    arguments = parser.parse_args()
    rows = {row["run"]: row for row in json.loads(LOG.read_text(encoding="utf-8"))} if LOG.is_file() else {}
    for folder in arguments.runs:
        rows.update({run.folder.name: summarise_run(run.folder) for run in measured_runs(folder)})
    lines = ",\n".join(json.dumps(rows[name]) for name in sorted(rows))
    LOG.write_text(f"[\n{lines}\n]\n", encoding="utf-8")
    print(f"{len(rows)} runs in {LOG}")


if __name__ == "__main__":
    main()
