"""From a model file and labelled radiographs to a report with intervals.

In: a :class:`~pneumoscope.inference.Predictor` and a :class:`~pneumoscope.data.Manifest`. Out: ``report.json``,
``predictions.csv``, tables, figures, an HTML page.
Read first: ``evaluate.py``; then ``metric_registry.py``, the list of all metrics, and ``metrics.py``, which defines
them. The evaluation measures the file that ships, so nothing here imports TensorFlow.
"""

from pneumoscope.evaluation.bootstrap import Estimate
from pneumoscope.evaluation.compare import compare_reports
from pneumoscope.evaluation.conformal import COVERAGES, cross_fitted_sets, fit_limits, measure_sets, prediction_sets
from pneumoscope.evaluation.evaluate import evaluate_model
from pneumoscope.evaluation.figures import draw_figures
from pneumoscope.evaluation.label_errors import find_label_errors
from pneumoscope.evaluation.metric_registry import evaluate_metrics
from pneumoscope.evaluation.metrics import roc_auc
from pneumoscope.evaluation.report import FIGURES, render_comparison, render_table, report_html
from pneumoscope.evaluation.report_files import PREDICTIONS_NAME, REPORT_NAME, read_report, rewrite_report, to_arrays
from pneumoscope.evaluation.robustness import measure_shifts, with_intervals
from pneumoscope.evaluation.style_proxies import OWN, TURNED, measure_style_shifts, style_difference, style_scores
from pneumoscope.evaluation.subgroups import against_ratio, against_style, subtype_auc
from pneumoscope.evaluation.uncertain import uncertain_band, uncertain_rule

__all__ = [
    "COVERAGES",
    "FIGURES",
    "OWN",
    "PREDICTIONS_NAME",
    "REPORT_NAME",
    "TURNED",
    "Estimate",
    "against_ratio",
    "against_style",
    "compare_reports",
    "cross_fitted_sets",
    "draw_figures",
    "evaluate_metrics",
    "evaluate_model",
    "find_label_errors",
    "fit_limits",
    "measure_sets",
    "measure_shifts",
    "measure_style_shifts",
    "prediction_sets",
    "read_report",
    "render_comparison",
    "render_table",
    "report_html",
    "rewrite_report",
    "roc_auc",
    "style_difference",
    "style_scores",
    "subtype_auc",
    "to_arrays",
    "uncertain_band",
    "uncertain_rule",
    "with_intervals",
]
