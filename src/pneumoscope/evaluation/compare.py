"""Reports of several models -> a comparison: metrics side by side, and paired differences on common radiographs."""

from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from pneumoscope import RESEARCH_USE_ONLY, __version__
from pneumoscope.errors import DatasetError
from pneumoscope.evaluation.paired_comparison import mcnemar_exact, paired_auc_difference
from pneumoscope.evaluation.report_files import to_arrays


def compare_reports(
    reports: Sequence[dict[str, Any]], predictions: Sequence[Sequence[dict[str, Any]]]
) -> dict[str, Any]:
    """Models side by side, and each pair of models on the radiographs that both judged.

    Args:
        reports: two or more, from :func:`pneumoscope.evaluation.report_files.read_report`.
        predictions: of each report, from the same function.

    Returns:
        ``models``: for each report ``name``, ``sha256``, ``threshold``, ``split``, ``images`` and its ``metrics``.
        ``pairs``: for each two of them ``a`` and ``b`` (positions in ``models``), ``images`` that both judged,
        ``left_out`` (judged by only one), ``disagreements`` of the verdicts, ``only_a_correct``, ``only_b_correct``,
        ``mcnemar_p``, and ``auc_difference`` of a minus b with its interval. The last two are None without a common
        radiograph.

    Raises:
        DatasetError: fewer than two reports, or a radiograph with two labels.
    """
    if len(reports) < 2 or len(reports) != len(predictions):
        raise DatasetError(
            f"expected two or more reports, each with its predictions, received {len(reports)} and {len(predictions)}"
        )
    models = [
        {**report["model"], "split": report["data"]["split"], "images": report["images"], "metrics": report["metrics"]}
        for report in reports
    ]
    judged = [{_picture_id(row): row for row in rows if row["probability"] is not None} for rows in predictions]
    pairs = [{"a": a, "b": b, **_compare_pair(judged[a], judged[b])} for a, b in combinations(range(len(reports)), 2)]
    return {"version": __version__, "notice": RESEARCH_USE_ONLY, "models": models, "pairs": pairs}


def _picture_id(row: dict[str, Any]) -> str:
    """What identifies an image in two reports, wherever the data are: its label folder and its content."""
    if not row["sha256"]:
        return str(row["path"])
    return "/".join([*Path(row["path"]).parts[-2:], row["sha256"]])


def _compare_pair(a: dict[str, dict[str, Any]], b: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Two models on their common radiographs; both arguments are rows of predictions by picture."""
    common = sorted(a.keys() & b.keys())
    relabelled = [path for path in common if a[path]["label"] != b[path]["label"]]
    if relabelled:
        raise DatasetError(
            f"expected reports on the same labelled radiographs, {relabelled[0]} is {a[relabelled[0]]['label']} in "
            f"one and {b[relabelled[0]]['label']} in the other: evaluate both on one data folder"
        )
    labels, prob_a, groups = to_arrays([a[path] for path in common])
    prob_b = to_arrays([b[path] for path in common])[1]
    right_a, right_b = (
        np.array([rows[path]["verdict"] == rows[path]["label"] for path in common], dtype=bool) for rows in (a, b)
    )
    return {
        "images": len(common),
        "left_out": len(a.keys() ^ b.keys()),
        # With two classes, verdicts differ if and only if exactly one of them is right.
        "disagreements": int((right_a ^ right_b).sum()),
        "only_a_correct": int((right_a & ~right_b).sum()),
        "only_b_correct": int((right_b & ~right_a).sum()),
        "mcnemar_p": mcnemar_exact(right_a, right_b) if common else None,
        "auc_difference": paired_auc_difference(labels, prob_a, prob_b, groups) if common else None,
    }
