"""From a model file and labelled radiographs to a report with intervals.

In: a :class:`~pneumoscope.inference.Predictor` and a :class:`~pneumoscope.data.Manifest`. Out: ``report.json``,
``predictions.csv``, tables, figures, an HTML page.
Read first: ``evaluate.py``; the definitions of all figures are in ``metrics.py``. What is measured is the file that
ships, so TensorFlow is never imported here.
"""

from pneumoscope.evaluation.evaluate import (
    REPORT_NAME,
    against_ratio,
    compare,
    csv_bytes,
    evaluate_model,
    read_report,
    subtype_auc,
    to_arrays,
)
from pneumoscope.evaluation.figures import draw_figures
from pneumoscope.evaluation.label_errors import find_label_errors
from pneumoscope.evaluation.metrics import uncertain_band, uncertain_rule
from pneumoscope.evaluation.report import render_comparison, render_table, report_html
from pneumoscope.evaluation.robustness import measure_shifts, with_intervals

__all__ = [
    "REPORT_NAME",
    "against_ratio",
    "compare",
    "csv_bytes",
    "draw_figures",
    "evaluate_model",
    "find_label_errors",
    "measure_shifts",
    "read_report",
    "render_comparison",
    "render_table",
    "report_html",
    "subtype_auc",
    "to_arrays",
    "uncertain_band",
    "uncertain_rule",
    "with_intervals",
]
