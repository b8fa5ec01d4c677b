"""Does the verdict follow the console instead of the lungs? Three measurements on held-out radiographs.

``style turned round``
    Each radiograph is moved by 0.8 towards the style of a random held-out radiograph of the other class, and its four
    corners are copied from it. A model that reads the console falls here.
``style of its own class``
    The control: the same towards a random radiograph of the same class. What this costs is the price of the change
    itself, not of the class that the style speaks for.
``against the style``
    Nothing is changed: the figures on those held-out radiographs whose own style speaks against their label. The style
    score is a logistic regression on band energies, histogram and corner thumbnails, cross-validated by patient.

All three are proxies for another hospital, and no substitute for one.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pneumoscope.data.manifest import Manifest, Record
from pneumoscope.data.style import BAND_SIGMAS, StylePartners, copy_corners, measure_style, move_style
from pneumoscope.evaluation import metrics
from pneumoscope.evaluation.robustness import summarise
from pneumoscope.inference.bundle import PROBABILITIES
from pneumoscope.inference.predict import Predictor
from pneumoscope.inference.preprocess import InputSpec, resize, to_input
from pneumoscope.labels import LABELS, POSITIVE, label_index
from pneumoscope.radiographs.images import Radiograph, read_radiograph

TURNED, OWN = "style turned round", "style of its own class"
#: Share of the way towards the other style.
STRENGTH = 0.8
#: The size at which styles are measured and moved.
SIZE = InputSpec(height=224, width=224, channels=1)

_BATCH = 32
_FOLDS = 5
_CORNER, _THUMBNAIL = 56, 8  # pixels of a corner at that size, and of its thumbnail


def measure_style_shifts(
    predictor: Predictor, manifest: Manifest, records: Sequence[Record], progress: Callable | None = None
) -> dict[str, dict]:
    """Probabilities with the style turned round, and with that of the same class.

    Returns:
        As :func:`pneumoscope.evaluation.robustness.measure_shifts`.
    """
    labels = np.array([label_index(record.label) for record in records])
    partners = StylePartners.measure(read_small(manifest, records), labels, SIZE)
    spec = predictor.bundle.spec
    found: dict[str, list[np.ndarray]] = {TURNED: [], OWN: []}
    starts = range(0, len(records), _BATCH)
    for start in progress(starts, None, "moved styles") if progress else starts:
        rows = range(start, min(start + _BATCH, len(records)))
        for name, parts in found.items():
            moved = [_towards(partners, row, labels, name == TURNED, _seed(records[row])) for row in rows]
            small = np.stack([resize(Radiograph(image), spec) for image in moved])
            parts.append(predictor.bundle.run(to_input(small, spec))[PROBABILITIES][:, POSITIVE])
    return {name: summarise(labels, np.concatenate(parts), predictor.threshold) for name, parts in found.items()}


def style_scores(manifest: Manifest, records: Sequence[Record]) -> np.ndarray:
    """How much the style of each radiograph looks like PNEUMONIA, by a model that has not seen its patient.

    Returns:
        (N,) float64 in [0, 1].
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedGroupKFold
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    labels = np.array([label_index(record.label) for record in records])
    features = np.stack([_style_features(image) for image in read_small(manifest, records)])
    groups = [record.group or record.path for record in records]
    scores = np.empty(len(records))
    for train, test in StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=0).split(features, labels, groups):
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=2000, class_weight="balanced"))
        scores[test] = model.fit(features[train], labels[train]).predict_proba(features[test])[:, POSITIVE]
    return scores


def against_style(labels: np.ndarray, probability: np.ndarray, groups: np.ndarray, scores: np.ndarray) -> dict:
    """Figures on the radiographs whose style speaks against their label, see :func:`style_scores`.

    Args:
        labels: (N,) int.
        probability: (N,) float, of the model.
        groups: (N,) patients.
        scores: (N,) float, of the style.
    """
    chosen = (scores >= 0.5) != labels.astype(bool)
    counts = np.bincount(labels[chosen], minlength=len(LABELS)).tolist()
    figures = metrics.evaluate(labels[chosen], probability[chosen], 0.5, groups[chosen])
    return {"normal": counts[0], "pneumonia": counts[1], **figures}


def read_small(manifest: Manifest, records: Sequence[Record]) -> np.ndarray:
    """(N, 224, 224) uint8."""

    def one(record: Record) -> Iterator[np.ndarray]:
        return resize(read_radiograph(manifest.path(record)), SIZE)

    return np.stack([one(record) for record in records])


def _towards(partners: StylePartners, row: int, labels: np.ndarray, turned: bool, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    label = int(labels[row])
    partner = partners.draw(rng, label=1 - label if turned else label)
    shares = np.full(len(BAND_SIGMAS), STRENGTH)
    image = move_style(partners.images[row], partners.styles[partner], shares, STRENGTH)
    return copy_corners(image, partners.images[partner], np.ones(4, bool), rng)


def _style_features(image: np.ndarray) -> np.ndarray:
    import cv2

    style = measure_style(image)
    corners = [image[:_CORNER, :_CORNER], image[:_CORNER, -_CORNER:], image[-_CORNER:, :_CORNER], image[-_CORNER:, -_CORNER:]]
    small = [cv2.resize(corner, (_THUMBNAIL, _THUMBNAIL), interpolation=cv2.INTER_AREA).ravel() / 255 for corner in corners]
    histogram = np.diff(style.cumulative[3::4], prepend=0)
    return np.concatenate([np.log(style.bands + 1e-3), np.sqrt(histogram.clip(0)), *small])


def _seed(record: Record) -> int:
    return zlib.crc32(record.key.encode(errors="surrogateescape"))
