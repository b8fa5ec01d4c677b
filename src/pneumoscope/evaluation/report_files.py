"""The files of an evaluation: ``report.json`` and ``predictions.csv``, written and read.

Neither contains a date: equal model and data give equal bytes. ``predictions.csv`` has one row for each radiograph. Its
``patient`` is the record's group, so that patients who share a picture count as one. Attributes of the patients (age,
sex, view) follow in columns of their own.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pneumoscope.errors import DatasetError
from pneumoscope.io.atomic import write_atomic
from pneumoscope.io.csv_text import csv_bytes
from pneumoscope.io.names import decode_name
from pneumoscope.labels import LABELS, label_index

REPORT_NAME = "report.json"
PREDICTIONS_NAME = "predictions.csv"
#: Version of the keys of ``report.json``.
SCHEMA = 1

#: Columns of every file of predictions; attributes follow.
PREDICTION_COLUMNS = ("path", "sha256", "label", "sublabel", "patient", "probability", "verdict", "status", "bacterial")
_REQUIRED = {
    "version": str, "model": dict, "data": dict, "images": int, "judged": dict, "metrics": dict, "curves": dict,
    "confusion_matrix": list, "failed": list,
}  # fmt: skip


def write_report(report: dict[str, Any], rows: Sequence[dict[str, Any]], folder: Path) -> None:
    """Write a report and its predictions to a folder, which is created if missing."""
    folder.mkdir(parents=True, exist_ok=True)
    attributes = list(dict.fromkeys(name for row in rows for name in row if name not in PREDICTION_COLUMNS))
    table = ({name: row.get(name, "") for name in (*PREDICTION_COLUMNS, *attributes)} for row in rows)
    write_atomic(folder / PREDICTIONS_NAME, csv_bytes(table, [*PREDICTION_COLUMNS, *attributes]))
    rewrite_report(report, folder)


def rewrite_report(report: dict[str, Any], folder: Path) -> None:
    """Write a report that got something more; its predictions are there already."""
    text = json.dumps(report, indent=1, allow_nan=False) + "\n"
    write_atomic(folder / REPORT_NAME, text.encode())


def read_report(source: str | Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Read what :func:`pneumoscope.evaluation.evaluate.evaluate_model` wrote.

    Args:
        source: the folder, or its ``report.json``.

    Returns:
        The report, and one dict for each radiograph: ``path``, ``label``, ``patient``, ``probability`` (float or
        None), ``verdict`` (a label or None), ``status``.

    Raises:
        DatasetError: a file is missing or is not such a file, or the two files do not belong together.
    """
    path = Path(source)
    path = path / REPORT_NAME if path.is_dir() else path
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(
            f"expected an evaluation report at {path}, cannot read it ({error}): make one with  pneumoscope evaluate"
        ) from None
    schema = report.get("schema") if isinstance(report, dict) else None
    wrong = [name for name, kind in _REQUIRED.items() if not isinstance(report.get(name), kind)] if schema else []
    if schema != SCHEMA or wrong:
        problem = f"its {wrong[0]} is missing or of another kind" if wrong else f"received version {schema!r}"
        raise DatasetError(
            f"expected an evaluation report of version {SCHEMA} at {path}, {problem}: "
            "make it again with  pneumoscope evaluate"
        )
    predictions = _read_predictions(path.with_name(PREDICTIONS_NAME))
    if len(predictions) != report["images"]:
        raise DatasetError(
            f"expected the {report['images']} radiographs of {path} in {PREDICTIONS_NAME} beside it, "
            f"received {len(predictions)}: evaluate again"
        )
    return report, predictions


def _read_predictions(path: Path) -> list[dict[str, Any]]:
    try:
        with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ())[: len(PREDICTION_COLUMNS)] != PREDICTION_COLUMNS:
                raise DatasetError(
                    f"expected the columns {', '.join(PREDICTION_COLUMNS)} in {path}, "
                    f"received {', '.join(reader.fieldnames or ()) or 'none'}: evaluate again"
                )
            rows = (
                {key: decode_name(text) if isinstance(text, str) else text for key, text in row.items()}
                for row in reader
            )
            return [_parse_row(row, path, line) for line, row in enumerate(rows, 2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"expected the predictions of the report at {path}: {error}") from None


def _parse_row(row: dict[str, Any], path: Path, line: int) -> dict[str, Any]:
    """A row with numbers instead of text; an empty cell of a number or of the verdict becomes None."""
    try:
        probability, bacterial = (float(row[name]) if row[name] else None for name in ("probability", "bacterial"))
        valid = row["label"] in LABELS and _is_share(probability) and _is_share(bacterial)
        valid = valid and (not row["verdict"] if probability is None else row["verdict"] in LABELS)
    except (TypeError, ValueError):
        valid = False
    if not valid or None in row or None in row.values():  # a cell too many, or too few
        raise DatasetError(
            f"expected {', '.join(PREDICTION_COLUMNS)} in {path} line {line}, received {list(row.values())}: "
            "evaluate again"
        )
    return {**row, "probability": probability, "bacterial": bacterial, "verdict": row["verdict"] or None}


def _is_share(value: float | None) -> bool:
    """A number from 0 to 1, which NaN is not, or None."""
    return value is None or 0 <= value <= 1


def to_arrays(rows: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows of predictions as (N,) int64 labels, (N,) float64 probabilities and (N,) str patients."""
    labels = np.array([label_index(row["label"]) for row in rows], dtype=np.int64)
    probability = np.array([row["probability"] for row in rows], dtype=np.float64)
    return labels, probability, np.array([row["patient"] for row in rows], dtype=str)
