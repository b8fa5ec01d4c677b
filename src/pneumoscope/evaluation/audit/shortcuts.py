"""What tells the labels apart without the lungs: the shape of the image, its file, its tones, its corners and borders.

For each signal, a logistic regression is cross-validated by patient. Where it does well, a network that is trained on
these images can do as well without looking at the lungs, and its figures on held-out images of the same collection do
not show it.

Reference: DeGrave, Janizek and Lee, "AI for radiographic COVID-19 detection selects shortcuts over signal", 2021.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple, TypedDict

import numpy as np

from pneumoscope.evaluation.audit.inspection import Inspected
from pneumoscope.evaluation.bootstrap import Estimate
from pneumoscope.evaluation.metrics import roc_auc_estimate
from pneumoscope.evaluation.shortcut_scores import cross_validated_scores, style_features
from pneumoscope.labels import LABELS, NORMAL, PNEUMONIA, label_index

#: From this AUC on, by the lower end of its interval, a signal is called a shortcut; below, down to the second, weak.
STRONG, WEAK = 0.75, 0.6

_EXAMPLES = 4  # images of each side


class Signal(NamedTuple):
    """What is looked at.

    ``features`` has the name of the features of :class:`pneumoscope.evaluation.audit.inspection.Inspected`. With
    ``shows_lungs``, disease itself changes the signal a little.
    """

    features: str
    title: str
    shows_lungs: bool = False


SIGNALS = (
    Signal("ratio", "aspect ratio"),
    Signal("size", "width and height"),
    Signal("bytes", "file size"),
    Signal("compression", "compression"),
    Signal("histogram", "histogram of the gray levels", shows_lungs=True),
    Signal("bands", "energy of the frequency bands", shows_lungs=True),
    Signal("corners", "corners"),
    Signal("borders", "borders"),
    Signal("style", "bands, histogram and corners together, the style of the console", shows_lungs=True),
)


class Shortcut(TypedDict):
    """How well one signal tells the labels apart.

    ``level`` is ``strong``, ``weak``, ``unclear`` (the interval is too wide to say), ``none`` or, without an AUC,
    ``undefined``. ``examples`` has the paths of images
    that the signal alone makes typical of each label.
    """

    signal: str
    title: str
    roc_auc: Estimate
    level: str
    sentence: str
    examples: dict[str, list[str]]


def find_shortcuts(
    files: Sequence[Inspected],
    seed: int,
    resamples: int,
    progress: Callable[[Iterable[Any]], Iterable[Any]] | None = None,
) -> list[Shortcut]:
    """Measure every signal on the usable files.

    Args:
        files: without a problem.
        seed, resamples: of the bootstrap over patients.
        progress: wraps the iteration over the signals.
    """
    labels = np.array([label_index(file.record.label) for file in files], np.int64)
    groups = np.array([file.record.group or file.record.path for file in files], str)
    return [
        _measure(signal, files, labels, groups, seed, resamples)
        for signal in (progress(SIGNALS) if progress else SIGNALS)
    ]


def _measure(
    signal: Signal, files: Sequence[Inspected], labels: np.ndarray, groups: np.ndarray, seed: int, resamples: int
) -> Shortcut:
    features = np.stack([_features(file, signal.features) for file in files])
    known = np.isfinite(features).all(axis=1)
    files = [file for file, is_known in zip(files, known, strict=True) if is_known]
    features, labels, groups = features[known], labels[known], groups[known]
    scores = cross_validated_scores(features, labels, groups) if len(set(labels.tolist())) == len(LABELS) else None
    auc = _auc_by_patient(labels, scores, groups, seed, resamples)
    level = _level(auc)
    return {
        "signal": signal.features,
        "title": signal.title,
        "roc_auc": auc,
        "level": level,
        "sentence": _sentence(signal, auc, level),
        "examples": _examples(files, labels, scores) if scores is not None and level in ("strong", "weak") else {},
    }


def _features(file: Inspected, name: str) -> np.ndarray:
    return style_features(file.features) if name == "style" else file.features[name]


def _auc_by_patient(
    labels: np.ndarray, scores: np.ndarray | None, groups: np.ndarray, seed: int, resamples: int
) -> Estimate:
    if scores is None:
        method = "at least two patients of each label are needed"
        return {"value": None, "low": None, "high": None, "n": len(labels), "method": method}
    return roc_auc_estimate(labels, scores, groups, seed, resamples)


def _level(auc: Estimate) -> str:
    if auc["value"] is None:
        return "undefined"
    # Without an interval (few patients, or no error in any resample), the value has to do.
    low = auc["value"] if auc["low"] is None else auc["low"]
    if low >= WEAK:
        return "strong" if low >= STRONG else "weak"
    return "unclear" if auc["value"] >= WEAK else "none"


def _sentence(signal: Signal, auc: Estimate, level: str) -> str:
    if auc["value"] is None:
        return f"The {signal.title} cannot be measured: {auc['method']}."
    ends = "" if auc["low"] is None else f" ({auc['low']:.2f} to {auc['high']:.2f})"
    start = f"From the {signal.title} alone, {PNEUMONIA} is told from {NORMAL} with an AUC of {auc['value']:.2f}{ends}"
    if level == "none":
        return f"{start}, which is little."
    if level == "unclear":
        return f"{start}: there are too few images to say whether this is a shortcut."
    real = " Disease changes it, too, so a part of this may be real." if signal.shows_lungs else ""
    learn = "learn this instead of the lungs" if level == "strong" else "be helped by this"
    return f"{start}: a network can {learn}.{real}"


def _examples(files: Sequence[Inspected], labels: np.ndarray, scores: np.ndarray) -> dict[str, list[str]]:
    """Images of each label that the signal alone takes for it most clearly, of different patients where possible."""
    chosen = {}
    for label in LABELS:
        index = label_index(label)
        order = np.argsort(-scores if index else scores, kind="stable")
        paths: dict[str, str] = {}
        for place in order[labels[order] == index].tolist():
            paths.setdefault(files[place].record.group or files[place].record.path, files[place].record.path)
            if len(paths) == _EXAMPLES:
                break
        chosen[label] = list(paths.values())
    return chosen
