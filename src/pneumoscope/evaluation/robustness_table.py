"""How a model does on changed radiographs: shifts, the style of other images, and corruptions at five levels."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from pneumoscope.data import Manifest, Record
from pneumoscope.evaluation.corruptions import CORRUPTIONS
from pneumoscope.evaluation.robustness import measure_shifts, with_intervals
from pneumoscope.evaluation.style_proxies import measure_style_shifts
from pneumoscope.inference import Predictor
from pneumoscope.labels import label_index


def measure_robustness(
    predictor: Predictor,
    manifest: Manifest,
    records: Sequence[Record],
    progress: Callable[[Iterable[Any], int | None, str], Iterable[Any]] | None = None,
) -> dict[str, dict[str, dict[str, Any]]]:
    """Measure a model on radiographs that it was not trained on, changed in many ways.

    Args:
        predictor: the model.
        manifest: has the folder of the records.
        records: labelled radiographs that can be read. Each is judged more than eighty times.
        progress: wraps the iteration, ``progress(items, total, what)``.

    Returns:
        ``shifts``, ``style`` and ``corruptions``: for each change the figures of
        :func:`pneumoscope.evaluation.robustness.with_intervals`. ``style`` is empty with one label only.
    """
    labels = np.array([label_index(record.label) for record in records])
    patients = np.array([record.group or record.patient or record.path for record in records])
    measured = {
        "shifts": measure_shifts(predictor, manifest, records, progress),
        "style": measure_style_shifts(predictor, manifest, records, progress),
        "corruptions": measure_shifts(predictor, manifest, records, progress, CORRUPTIONS),
    }
    return {name: with_intervals(shifts, labels, patients) for name, shifts in measured.items()}
