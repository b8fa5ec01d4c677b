"""Does the verdict follow the console instead of the lungs? Three measurements on held-out radiographs.

``style turned round``
    Each radiograph is moved by 0.8 towards the style of a random held-out radiograph of the other label, and its four
    corners are copied from it. A model that reads the console loses here.
``style of its own class``
    The control: the same, towards a random radiograph of the same label. What this costs is the price of the change
    itself, not of the label that the style belongs to.
``against the style``
    Nothing is changed: the figures on the held-out radiographs whose own style is typical of the other label. The score
    of the style is a logistic regression on band energies, histogram and corner thumbnails, cross-validated by patient.

All three stand in for another hospital, and do not replace one. They are kept apart from the shifts of
:mod:`pneumoscope.evaluation.robustness`: the mean over the shifts, and the calibration that is fitted on them, stay
comparable with earlier runs.
"""

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np

from pneumoscope.data import BAND_SIGMAS, StylePartners, copy_corners, move_style
from pneumoscope.data.manifest import Manifest, Record
from pneumoscope.evaluation.bootstrap import RESAMPLES, Estimate, bootstrap
from pneumoscope.evaluation.robustness import summarise
from pneumoscope.evaluation.shortcut_scores import SIZE, cross_validated_scores, describe_picture, style_features
from pneumoscope.inference import PROBABILITIES, Predictor, resize, to_input
from pneumoscope.labels import LABELS, POSITIVE, label_index
from pneumoscope.radiographs import Radiograph, read_radiograph

TURNED, OWN = "style turned round", "style of its own class"
#: Share of the way towards the other style.
STRENGTH = 0.8

_BATCH = 32


def measure_style_shifts(
    predictor: Predictor,
    manifest: Manifest,
    records: Sequence[Record],
    progress: Callable[[Iterable[Any], int | None, str], Iterable[Any]] | None = None,
) -> dict[str, dict[str, Any]]:
    """Probabilities of held-out radiographs with the style turned round, and with that of their own class.

    Args:
        predictor: the model.
        manifest: has the folder of the records.
        records: radiographs that the model was not trained on. They lend each other their style, so the pictures depend
            on all of them, but not on the model.
        progress: wraps the iteration, ``progress(items, total, what)``.

    Returns:
        As from :func:`pneumoscope.evaluation.robustness.measure_shifts`, for :data:`TURNED` and :data:`OWN`; empty if
        the records have one label only.
    """
    labels = np.array([label_index(record.label) for record in records])
    if len(set(labels.tolist())) < len(LABELS):
        return {}
    partners = StylePartners.measure(_read_small(manifest, records), labels, SIZE)
    spec = predictor.bundle.spec
    probabilities: dict[str, list[np.ndarray]] = {TURNED: [], OWN: []}  # of each batch
    starts: Iterable[int] = range(0, len(records), _BATCH)
    for start in progress(starts, None, "moved styles") if progress else starts:
        rows = range(start, min(start + _BATCH, len(records)))
        for name, batches in probabilities.items():
            moved = [move_towards(partners, row, labels, name == TURNED, _seed(records[row])) for row in rows]
            inputs = np.stack([resize(Radiograph(image), spec) for image in moved])
            batches.append(predictor.bundle.run(to_input(inputs, spec))[PROBABILITIES][:, POSITIVE])
    return {
        name: summarise(labels, np.concatenate(batches), predictor.threshold) for name, batches in probabilities.items()
    }


def style_difference(
    labels: np.ndarray,
    turned: np.ndarray,
    own: np.ndarray,
    groups: np.ndarray,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """How much better a model does with the style of the own label: the difference of the balanced accuracies at 0.5.

    Args:
        labels: (N,) int.
        turned: (N,) float, probabilities of PNEUMONIA with the style turned round.
        own: (N,) float, with the style of the own class.
        groups: (N,), patients.
        seed, resamples: of the bootstrap over patients, in which both are measured on the same resamples.
    """
    patient = np.unique(groups, return_inverse=True)[1].astype(np.int64)
    positive = labels == POSITIVE

    def by_patient(of: np.ndarray) -> np.ndarray:
        return np.bincount(patient, of, minlength=int(patient.max(initial=-1)) + 1)

    # The difference of right verdicts, label by label.
    gained = (own >= 0.5).astype(int) - (turned >= 0.5).astype(int)
    parts = [by_patient(part) for part in (gained * positive, positive, -gained * ~positive, ~positive)]

    def statistics(weights: np.ndarray) -> dict[str, np.ndarray]:
        found, positives, spared, negatives = (weights @ part for part in parts)
        with np.errstate(invalid="ignore"):  # 0 / 0 is NaN, which means undefined
            return {"difference": (found / positives + spared / negatives) / 2}

    return bootstrap(statistics, patient, seed, resamples)["difference"]


def move_towards(partners: StylePartners, row: int, labels: np.ndarray, turned: bool, seed: int) -> np.ndarray:
    """A radiograph with most of the style, and with the corners, of another one.

    Args:
        partners: all radiographs.
        row: of the one that is changed.
        labels: (N,) int, of all.
        turned: take the style from the other label, otherwise from its own.
        seed: of the choice and of the size of the corners.

    Returns:
        (224, 224) uint8.
    """
    rng = np.random.default_rng(seed)
    label = int(labels[row])
    partner = partners.draw(rng, label=1 - label if turned else label)
    shares = np.full(len(BAND_SIGMAS), STRENGTH)
    image = move_style(partners.images[row], partners.styles[partner], shares, STRENGTH)
    return copy_corners(image, partners.images[partner], np.ones(4, bool), rng)


def style_scores(manifest: Manifest, records: Sequence[Record]) -> np.ndarray | None:
    """How much the style of each radiograph looks like PNEUMONIA, by a regression that has not seen its patient.

    Args:
        manifest: has the folder of the records.
        records: labelled radiographs, with patients.

    Returns:
        (N,) float64 in [0, 1]; None with fewer than two patients of a label, where nothing can be cross-validated.
    """
    labels = np.array([label_index(record.label) for record in records])
    groups = np.array([record.group or record.path for record in records])
    features = np.stack([style_features(describe_picture(image)) for image in _read_small(manifest, records)])
    return cross_validated_scores(features, labels, groups)


def _read_small(manifest: Manifest, records: Sequence[Record]) -> np.ndarray:
    """(N, 224, 224) uint8."""
    return np.stack([resize(read_radiograph(manifest.path(record), any_age=True), SIZE) for record in records])


def _seed(record: Record) -> int:
    """As for the shifts: the same picture for every model, wherever the file lies."""
    return zlib.crc32(record.key.encode(errors="surrogateescape"))
