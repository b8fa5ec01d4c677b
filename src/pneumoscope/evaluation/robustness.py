"""How well does a model keep its verdicts if held-out radiographs look as if they came from elsewhere?

Patient-wise folds of one collection have the same scanners, the same habits of cropping and the same years. They say
little about another collection. Each shift below changes one of these properties of held-out radiographs. The random
generator is seeded by the name of the image, so that every model is tested on the same pictures. The shifts were chosen
before any model was measured with them. They do not replace data from other hospitals.

Reference: the corruptions follow Di Salvo, Doerrich and Ledig, "MedMNIST-C", 2024; the burnt-in marks follow
DeGrave, Janizek and Lee, "AI for radiographic COVID-19 detection selects shortcuts over signal", 2021.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from pneumoscope.data.augment import Augmentation, augment, compress_jpeg
from pneumoscope.data.manifest import Manifest, Record
from pneumoscope.evaluation import metrics
from pneumoscope.inference import PROBABILITIES, InputSpec, Predictor, resize, to_input
from pneumoscope.labels import NORMAL, POSITIVE, label_index
from pneumoscope.radiographs import Radiograph, read_radiograph

_BATCH = 32


def _crop(pixels: np.ndarray, rows: float, columns: float) -> np.ndarray:
    """The middle of a radiograph: a share of its rows and of its columns."""
    sizes = [max(1, round(share * side)) for share, side in zip((rows, columns), pixels.shape, strict=True)]
    top, left = ((side - size) // 2 for side, size in zip(pixels.shape, sizes, strict=True))
    return np.ascontiguousarray(pixels[top : top + sizes[0], left : left + sizes[1]])


def _add_frame(pixels: np.ndarray, rows: float, columns: float) -> np.ndarray:
    """Add a black frame around a radiograph: a share of its rows and of its columns."""
    pad = [(round(share * side / 2),) * 2 for share, side in zip((rows, columns), pixels.shape, strict=True)]
    return np.pad(pixels, pad)


def _reverse_ratio(pixels: np.ndarray, label: str) -> np.ndarray:
    """Make normal radiographs wider and pneumonias narrower: the opposite of the shortcut in the training data."""
    return _crop(pixels, 0.75, 1.0) if label == NORMAL else _crop(pixels, 1.0, 0.75)


def _change_tone(pixels: np.ndarray, change: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Replace each gray level, from 0 to 1, by a function of it."""
    table = np.clip(change(np.linspace(0, 1, 256)), 0, 1)
    changed: np.ndarray = np.round(table * 255).astype(np.uint8)[pixels]
    return changed


def _shrink(pixels: np.ndarray, side: int) -> np.ndarray:
    """Resize to a small square, as if the radiograph had been saved at a small size."""
    return resize(Radiograph(pixels), InputSpec(height=side, width=side, channels=1))


def _augment(pixels: np.ndarray, rng: np.random.Generator, **ranges: float) -> np.ndarray:
    """Apply a change of :mod:`pneumoscope.data.augment` at the radiograph's own size."""
    spec = InputSpec(height=pixels.shape[0], width=pixels.shape[1], channels=1)
    return augment(pixels, spec, Augmentation(**ranges), rng)


#: Function (pixels (H, W) uint8, label, generator) -> pixels.
Shift = Callable[[np.ndarray, str, np.random.Generator], np.ndarray]

#: By name. Only one shift uses the label.
SHIFTS: dict[str, Shift] = {
    "none": lambda pixels, label, rng: pixels,
    "ratio turned round": lambda pixels, label, rng: _reverse_ratio(pixels, label),
    "all wider": lambda pixels, label, rng: _crop(pixels, 0.75, 1.0),
    "all narrower": lambda pixels, label, rng: _crop(pixels, 1.0, 0.75),
    "black frame": lambda pixels, label, rng: _add_frame(pixels, 0.2, 0.2),
    "closer crop": lambda pixels, label, rng: _crop(pixels, 0.8, 0.8),
    "tilted": lambda pixels, label, rng: _augment(_shrink(pixels, 224), rng, rotation=12, shift=0.05),
    "darker": lambda pixels, label, rng: _change_tone(pixels, lambda gray: gray**1.7),
    "brighter": lambda pixels, label, rng: _change_tone(pixels, lambda gray: gray**0.6),
    "flat contrast": lambda pixels, label, rng: _change_tone(pixels, lambda gray: 0.25 + 0.5 * gray),
    "hard contrast": lambda pixels, label, rng: _change_tone(pixels, lambda gray: (gray - 0.5) * 1.6 + 0.5),
    "other scanner": lambda pixels, label, rng: _augment(_shrink(pixels, 224), rng, tone=0.9),
    "96 pixels": lambda pixels, label, rng: _shrink(pixels, 96),
    "JPEG quality 20": lambda pixels, label, rng: compress_jpeg(_shrink(pixels, 224), 20),
    "noise": lambda pixels, label, rng: _augment(_shrink(pixels, 224), rng, noise=0.1),
    "marks": lambda pixels, label, rng: _augment(_shrink(pixels, 224), rng, markers=1.0),
}


def measure_shifts(
    predictor: Predictor,
    manifest: Manifest,
    records: Sequence[Record],
    progress: Callable[[Iterable[Any], int | None, str], Iterable[Any]] | None = None,
    shifts: Mapping[str, Shift] = SHIFTS,
) -> dict[str, dict[str, Any]]:
    """Probabilities of held-out radiographs under every shift.

    Args:
        predictor: the model.
        manifest: has the folder of the records.
        records: radiographs that the model was not trained on.
        progress: wraps the iteration, ``progress(items, total, what)``.
        shifts: by name; :data:`pneumoscope.evaluation.corruptions.CORRUPTIONS` has others.

    Returns:
        For each shift: ``probability`` (N,) rounded to six digits, ``accuracy``, ``roc_auc``, ``sensitivity``,
        ``specificity`` and ``balanced_accuracy`` at the predictor's threshold, and ``log_loss``.
    """
    labels = np.array([label_index(record.label) for record in records])
    spec = predictor.bundle.spec
    probabilities: dict[str, list[np.ndarray]] = {name: [] for name in shifts}  # of each batch
    starts: Iterable[int] = range(0, len(records), _BATCH)
    for start in progress(starts, None, "shifted radiographs") if progress else starts:
        batch = list(_read_batch(manifest, records[start : start + _BATCH]))
        for name, shift in shifts.items():
            inputs = [
                resize(Radiograph(shift(pixels, label, np.random.default_rng(seed))), spec)
                for pixels, label, seed in batch
            ]
            outputs = predictor.bundle.run(to_input(np.stack(inputs), spec))
            probabilities[name].append(outputs[PROBABILITIES][:, POSITIVE])
    return {
        name: summarise(labels, np.concatenate(batches), predictor.threshold) for name, batches in probabilities.items()
    }


def summarise(labels: np.ndarray, probability: np.ndarray, threshold: float) -> dict[str, Any]:
    """Point estimates of one shift, and the probabilities that they come from; both arrays are (N,)."""
    probability = np.round(probability.astype(np.float64), 6).clip(0, 1)
    matrix = metrics.confusion_matrix(labels, probability, threshold)
    sensitivity, specificity = metrics.sensitivity(matrix), metrics.specificity(matrix)
    balanced = None if sensitivity is None or specificity is None else (sensitivity + specificity) / 2
    return {
        "accuracy": metrics.accuracy(matrix),
        "roc_auc": metrics.roc_auc(labels, probability),
        "sensitivity": sensitivity,
        "specificity": specificity,
        "balanced_accuracy": balanced,
        "log_loss": metrics.log_loss(labels, probability),
        "probability": probability.tolist(),
    }


def with_intervals(
    shifts: dict[str, dict[str, Any]], labels: np.ndarray, patients: np.ndarray
) -> dict[str, dict[str, Any]]:
    """The estimates of :func:`measure_shifts`, with a 95 % interval of each AUC by bootstrap over patients.

    Args:
        shifts: from :func:`measure_shifts`.
        labels, patients: (N,) of the same radiographs in the same order.

    Returns:
        For each shift: the estimates without ``probability``, and ``roc_auc_low`` and ``roc_auc_high``.
    """
    table = {}
    for name, shift in shifts.items():
        auc = metrics.roc_auc_estimate(labels, np.array(shift["probability"]), patients)
        estimates = {key: value for key, value in shift.items() if key != "probability"}
        table[name] = {**estimates, "roc_auc_low": auc["low"], "roc_auc_high": auc["high"]}
    return table


def _read_batch(manifest: Manifest, records: Sequence[Record]) -> Iterator[tuple[np.ndarray, str, int]]:
    """Pixels (H, W) uint8, label and seed of each record."""
    for record in records:
        pixels = read_radiograph(manifest.path(record), any_age=True).pixels
        yield pixels, record.label, zlib.crc32(record.key.encode(errors="surrogateescape"))
