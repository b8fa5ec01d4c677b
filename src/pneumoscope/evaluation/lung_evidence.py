"""Does a model find the lungs, and does its evidence lie in them? Measured against masks drawn by people.

For model files with the outputs ``lungs`` and ``evidence``; for Grad-CAM files, the second question alone.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from pneumoscope.data import LungMasks
from pneumoscope.data.manifest import Manifest, Record
from pneumoscope.errors import DatasetError
from pneumoscope.evaluation.bootstrap import RESAMPLES, mean_by_patient
from pneumoscope.inference import Predictor, class_map
from pneumoscope.labels import PNEUMONIA

#: The figures, in the order of the table. All are means over images.
FIGURES = ("lung_dice", "evidence_in_lungs", "peak_in_lungs")


def measure_lungs(
    predictor: Predictor,
    manifest: Manifest,
    records: Sequence[Record],
    masks: LungMasks,
    progress: Callable[[Iterable[Any], int | None, str], Iterable[Any]] | None = None,
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> dict[str, Any]:
    """Compare lung fields and evidence with the masks of held-out radiographs.

    ``lung_dice``: Dice coefficient of the predicted field, enlarged to the model's input and cut at 0.5.
    ``evidence_in_lungs``: share of the evidence for PNEUMONIA that lies inside the mask, on images with that label.
    ``peak_in_lungs``: share of these images whose strongest cell is at least half inside the mask.

    Args:
        predictor: the model.
        manifest: has the folder of the records.
        records: radiographs that the model was not trained on.
        masks: images without one are left out.
        progress: wraps the iteration, ``progress(items, total, what)``.
        seed, resamples: of the bootstrap over patients.

    Returns:
        ``images`` with a mask, and for each of :data:`FIGURES` an estimate with its interval; None where the model has
        no such output.

    Raises:
        DatasetError: no image has a mask.
    """
    known = [record for record in records if masks.path(record)]
    if not known:
        raise DatasetError(f"expected masks of these images in {masks.folder}, found none: check the folder")
    fields, _ = masks.read(known, predictor.bundle.spec)
    rows = progress(range(len(known)), len(known), "lung fields") if progress else range(len(known))
    figures = [_of_one(predictor, manifest, known[row], fields[row]) for row in rows]
    groups = np.array([record.group or record.path for record in known])
    values = np.array([[figure[name] for name in FIGURES] for figure in figures])  # (N, 3), NaN where undefined
    estimates = {
        name: mean_by_patient(values[:, column], groups, seed, resamples) for column, name in enumerate(FIGURES)
    }
    return {"images": len(known), **estimates}


def _of_one(predictor: Predictor, manifest: Manifest, record: Record, mask: np.ndarray) -> dict[str, float]:
    """The figures of one image; NaN where the model or the image has none."""
    import cv2

    prediction = predictor.predict(manifest.path(record))
    size = mask.shape[::-1]
    figures = dict.fromkeys(FIGURES, float("nan"))
    if prediction.lungs is not None:
        field = cv2.resize(prediction.lungs, size, interpolation=cv2.INTER_LINEAR) > 0.5
        lungs = mask > 127
        figures["lung_dice"] = 2 * float((field & lungs).sum()) / max(1, int(field.sum() + lungs.sum()))
    found = class_map(prediction, PNEUMONIA)
    if found is not None and record.label == PNEUMONIA and found[0].sum() > 0:
        evidence = found[0].astype(np.float64)
        inside = cv2.resize(mask, evidence.shape[::-1], interpolation=cv2.INTER_AREA).astype(np.float64) / 255
        figures["evidence_in_lungs"] = float((evidence * inside).sum() / evidence.sum())
        figures["peak_in_lungs"] = float(inside.ravel()[evidence.argmax()] >= 0.5)
    return figures
