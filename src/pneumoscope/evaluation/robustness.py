"""Held-out radiographs made to look as if they came from elsewhere: how far does a model's verdict hold?

Patient-wise folds of one collection share its scanners, its habits of cropping and its years, and say little of
another collection. Each shift below changes one of these on held-out radiographs, by a generator seeded by the
image's name, so that every model meets the same pictures. They are a proxy, chosen before any model was
measured by them, and no substitute for other hospitals.

Reference: the corruptions follow Di Salvo, Doerrich and Ledig, "MedMNIST-C", 2024; the burnt-in marks follow
DeGrave, Janizek and Lee, "AI for radiographic COVID-19 detection selects shortcuts over signal", 2021.
"""

import zlib
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from pneumoscope.data.augment import Augmentation, augment
from pneumoscope.data.manifest import Manifest, Record
from pneumoscope.evaluation import metrics
from pneumoscope.inference.bundle import PROBABILITIES
from pneumoscope.inference.predict import Predictor
from pneumoscope.inference.preprocess import InputSpec, resize, to_input
from pneumoscope.labels import NORMAL, POSITIVE, label_index
from pneumoscope.radiographs.images import Radiograph, read_radiograph

_BATCH = 32


def _cropped(pixels: np.ndarray, rows: float, columns: float) -> np.ndarray:
    """The middle of a radiograph, a share of its rows and of its columns."""
    sizes = [max(1, round(share * side)) for share, side in zip((rows, columns), pixels.shape, strict=True)]
    top, left = ((side - kept) // 2 for side, kept in zip(pixels.shape, sizes, strict=True))
    return np.ascontiguousarray(pixels[top : top + sizes[0], left : left + sizes[1]])


def _framed(pixels: np.ndarray, rows: float, columns: float) -> np.ndarray:
    """A black frame around a radiograph; shares of its rows and columns."""
    pad = [(round(share * side / 2),) * 2 for share, side in zip((rows, columns), pixels.shape, strict=True)]
    return np.pad(pixels, pad)


def _ratio_swapped(pixels: np.ndarray, label: str) -> np.ndarray:
    """Normals wider and pneumonias narrower than they are: the training shortcut turned round."""
    return _cropped(pixels, 0.75, 1.0) if label == NORMAL else _cropped(pixels, 1.0, 0.75)


def _tone(pixels: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    table = np.clip(change(np.linspace(0, 1, 256)), 0, 1)
    return np.round(table * 255).astype(np.uint8)[pixels]


def _small(pixels: np.ndarray, side: int) -> np.ndarray:
    """Saved at a small size once."""
    return resize(Radiograph(pixels), InputSpec(height=side, width=side, channels=1))


def _jpeg(pixels: np.ndarray, quality: int) -> np.ndarray:
    import cv2

    return cv2.imdecode(cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])[1], cv2.IMREAD_GRAYSCALE)


def _drawn(pixels: np.ndarray, rng: np.random.Generator, **ranges: float) -> np.ndarray:
    """A change of :mod:`pneumoscope.data.augment`, at the radiograph's own size."""
    spec = InputSpec(height=pixels.shape[0], width=pixels.shape[1], channels=1)
    return augment(pixels, spec, Augmentation(**ranges), rng)


#: Name -> (pixels (H, W) uint8, label, generator) -> pixels. The label is used by the one shift that needs it.
SHIFTS: dict[str, Callable[[np.ndarray, str, np.random.Generator], np.ndarray]] = {
    "none": lambda pixels, label, rng: pixels,
    "ratio turned round": lambda pixels, label, rng: _ratio_swapped(pixels, label),
    "all wider": lambda pixels, label, rng: _cropped(pixels, 0.75, 1.0),
    "all narrower": lambda pixels, label, rng: _cropped(pixels, 1.0, 0.75),
    "black frame": lambda pixels, label, rng: _framed(pixels, 0.2, 0.2),
    "closer crop": lambda pixels, label, rng: _cropped(pixels, 0.8, 0.8),
    "tilted": lambda pixels, label, rng: _drawn(_small(pixels, 224), rng, rotation=12, shift=0.05),
    "darker": lambda pixels, label, rng: _tone(pixels, lambda gray: gray**1.7),
    "brighter": lambda pixels, label, rng: _tone(pixels, lambda gray: gray**0.6),
    "flat contrast": lambda pixels, label, rng: _tone(pixels, lambda gray: 0.25 + 0.5 * gray),
    "hard contrast": lambda pixels, label, rng: _tone(pixels, lambda gray: (gray - 0.5) * 1.6 + 0.5),
    "other scanner": lambda pixels, label, rng: _drawn(_small(pixels, 224), rng, tone=0.9),
    "96 pixels": lambda pixels, label, rng: _small(pixels, 96),
    "JPEG quality 20": lambda pixels, label, rng: _jpeg(_small(pixels, 224), 20),
    "noise": lambda pixels, label, rng: _drawn(_small(pixels, 224), rng, noise=0.1),
    "marks": lambda pixels, label, rng: _drawn(_small(pixels, 224), rng, markers=1.0),
}


def measure_shifts(
    predictor: Predictor, manifest: Manifest, records: Sequence[Record], show: Callable | None = None
) -> dict[str, dict]:
    """Probabilities of held-out radiographs under every shift.

    Args:
        predictor: the model.
        manifest: where the records lie.
        records: radiographs that the model was not trained on.
        show: wraps the iteration, ``show(items, total, what)``.

    Returns:
        By shift: ``probability`` (N,) rounded to six digits, ``accuracy``, ``roc_auc``, ``sensitivity``,
        ``specificity`` and ``balanced_accuracy`` at the predictor's threshold.
    """
    labels = np.array([label_index(record.label) for record in records])
    spec = predictor.bundle.spec
    found: dict[str, list[np.ndarray]] = {name: [] for name in SHIFTS}
    starts = range(0, len(records), _BATCH)
    for start in show(starts, None, "shifted radiographs") if show else starts:
        batch = list(_read(manifest, records[start : start + _BATCH]))
        for name, shift in SHIFTS.items():
            small = [
                resize(Radiograph(shift(pixels, label, np.random.default_rng(seed))), spec)
                for pixels, label, seed in batch
            ]
            values = predictor.bundle.run(to_input(np.stack(small), spec))
            found[name].append(values[PROBABILITIES][:, POSITIVE])
    return {name: summarise(labels, np.concatenate(parts), predictor.threshold) for name, parts in found.items()}


def summarise(labels: np.ndarray, probability: np.ndarray, threshold: float) -> dict:
    """Point estimates of one shift, and the probabilities they come from."""
    probability = np.round(probability.astype(np.float64), 6).clip(0, 1)
    matrix = metrics.confusion_matrix(labels, probability, threshold)
    sensitivity, specificity = metrics.sensitivity(matrix), metrics.specificity(matrix)
    return {
        "accuracy": metrics.accuracy(matrix),
        "roc_auc": metrics.roc_auc(labels, probability),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced_accuracy": None if None in (sensitivity, specificity) else (sensitivity + specificity) / 2,
        "probability": probability.tolist(),
    }


def with_intervals(found: dict[str, dict], labels: np.ndarray, patients: np.ndarray) -> dict[str, dict]:
    """The estimates of :func:`measure_shifts` with a 95 % interval of each AUC, by bootstrap over patients.

    Args:
        found: as measured.
        labels, patients: (N,) of the same radiographs in the same order.

    Returns:
        By shift: the estimates without ``probability``, and ``roc_auc_low`` and ``roc_auc_high``.
    """
    table = {}
    for name, shift in found.items():
        area = metrics.evaluate(labels, np.array(shift["probability"]), 0.5, patients)["roc_auc"]
        kept = {key: value for key, value in shift.items() if key != "probability"}
        table[name] = {**kept, "roc_auc_low": area["low"], "roc_auc_high": area["high"]}
    return table


def _read(manifest: Manifest, records: Sequence[Record]) -> Iterator[tuple[np.ndarray, str, int]]:
    for record in records:
        pixels = read_radiograph(manifest.path(record)).pixels
        yield pixels, record.label, zlib.crc32(record.key.encode(errors="surrogateescape"))
