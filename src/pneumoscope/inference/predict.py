"""Radiographs -> Predictions, in order, in bounded memory; one bad file costs nothing but itself."""

import hashlib
import math
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pneumoscope.errors import ImageError, RefusedImage, UsageError
from pneumoscope.inference.bundle import DEFAULT_MODEL, GRADCAM, PROBABILITIES, SUBTYPES, Bundle, open_bundle
from pneumoscope.inference.preprocess import resize, to_input
from pneumoscope.io.prefetch import ordered_prefetch
from pneumoscope.labels import LABELS, POSITIVE
from pneumoscope.radiographs.images import read_file

OK = "ok"
UNCERTAIN = "uncertain"
REJECTED = "rejected"
ERROR = "error"

#: Fields of a prediction in JSON and CSV.
FIELDS = (
    "path", "label", "probability", "threshold", "model", "status", "reason", "bacterial", "prevalence",
    "image_sha256", "model_sha256",
)  # fmt: skip

#: Images a forward pass: with more, what passes between layers outgrows a core's cache.
BATCH = 4


@dataclass(frozen=True)
class Prediction:
    """What a model says of one image.

    Attributes:
        path: of the image, as given.
        label: ``"NORMAL"`` or ``"PNEUMONIA"``; None when not judged.
        probability: of pneumonia, 0 to 1; None when not judged.
        threshold: from this probability on the label is PNEUMONIA.
        model: name of the model.
        status: ``"ok"``; ``"uncertain"``, too close to the threshold to rely on; ``"rejected"``, readable but
            not to be judged; ``"error"``, not readable.
        reason: one sentence for every status but ``"ok"``.
        bacterial: probability that it is bacterial, not viral, if it is a pneumonia; None for models that do not
            tell.
        prevalence: share of pneumonia that the probability assumes; None for a model that was not calibrated.
        image_sha256: of the file or the bytes; empty for pixels, and for a file that could not be read.
        model_sha256: of the model file.
        gradcam: (2, h, w) float32, zero or above, one map a class at the size of the last convolution; None
            for models without one.
    """

    path: str
    label: str | None
    probability: float | None
    threshold: float
    model: str
    status: str
    reason: str = ""
    bacterial: float | None = None
    prevalence: float | None = None
    image_sha256: str = ""
    model_sha256: str = ""
    gradcam: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def judged(self) -> bool:
        """Whether there is a verdict."""
        return self.label is not None

    def to_dict(self) -> dict:
        """The fields that go to JSON and CSV."""
        return {name: getattr(self, name) for name in FIELDS}


def parse_threshold(text: str | None) -> float | str | None:
    """An operating point as it was typed: a number where it is one, else a name.

    >>> parse_threshold("0.3"), parse_threshold("screening"), parse_threshold(None)
    (0.3, 'screening', None)
    """
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


class PreparedImage(NamedTuple):
    """An image on its way to the model: name, SHA-256 of its bytes, and pixels or why there are none."""

    path: str
    sha256: str
    pixels: "np.ndarray | ImageError"  # (height, width) uint8


class Predictor:
    """A model ready to judge; holds no state between calls.

    Args:
        bundle: the verified model file.
        threshold: operating point instead of the model's own: a probability from 0 to 1, or one of the file's
            names, such as ``"screening"``; the uncertain band moves along.
        prevalence: share of pneumonia among the patients, between 0 and 1, instead of the one that the file's
            probabilities assume. By Bayes' rule the log odds of every probability move by the difference of the
            log odds of the two shares. The file's thresholds move along, so sensitivity, specificity and verdicts
            stay as they are; a threshold given as a number is taken as it is.

    Raises:
        UsageError: a threshold outside 0 to 1 or of an unknown name, or a prevalence for a model that was not
            calibrated.
    """

    def __init__(self, bundle: Bundle, threshold: float | str | None = None, prevalence: float | None = None) -> None:
        self.bundle = bundle
        self._given = threshold, prevalence
        self.prevalence = bundle.prevalence if prevalence is None else prevalence
        self._offset = _prior_offset(bundle, prevalence)
        self.threshold = self._threshold(threshold)
        # The band moves with the operating point, by the same step of the log odds.
        same = self.threshold == bundle.threshold  # also where both are 0 or 1, whose log odds have no difference
        by = 0.0 if same else _log_odds(self.threshold) - _log_odds(bundle.threshold)
        self.uncertain = tuple(_moved(end, by) for end in bundle.uncertain)

    def at(self, threshold: float | str | None = None, prevalence: float | None = None) -> "Predictor":
        """The same model at another operating point or prevalence; what is None stays as it was given."""
        ours = self._given
        return Predictor(
            self.bundle,
            ours[0] if threshold is None else threshold,
            ours[1] if prevalence is None else prevalence,
        )

    @property
    def operating_points(self) -> dict[str, float]:
        """The file's thresholds by name, where pneumonia is as common as the user said."""
        return {name: self._at_prevalence(point) for name, point in self.bundle.operating_points.items()}

    def _threshold(self, threshold: float | str | None) -> float:
        points = self.bundle.operating_points
        if threshold is None:
            return self._at_prevalence(self.bundle.threshold)
        if isinstance(threshold, str) and threshold in points:
            return self._at_prevalence(points[threshold])
        if isinstance(threshold, (int, float)) and 0 <= threshold <= 1:
            return threshold
        names = f", or {' or '.join(points)}" if len(points) > 1 else f" (named ones are not in {self.bundle.name})"
        raise UsageError(f"expected a threshold from 0 to 1{names}, received {threshold!r}")

    def _at_prevalence(self, probability: float) -> float:
        """The probability where pneumonia is as common as the user said."""
        return _moved(probability, self._offset)

    def predict(self, source: object) -> Prediction:
        """Judge one radiograph.

        Args:
            source: path, encoded bytes, or array (H, W), (H, W, 3) or (H, W, 4), uint8 or uint16. A large JPEG may be
                decoded at a smaller scale, if the model asks for it (``scaled-224``); its array then has a
                probability that differs a little.

        Returns:
            A prediction; for an image that cannot be judged, one that says why.
        """
        (prediction,) = self.predict_prepared([self.prepare(source)])
        return prediction

    def predict_many(self, sources: Iterable[object]) -> Iterator[Prediction]:
        """Judge radiographs, in order; each core reads and judges a batch of its own, a few batches ahead.

        Args:
            sources: anything :meth:`predict` takes; may be endless.

        Yields:
            One prediction a source.

        Raises:
            UsageError: one path instead of several.
        """
        if isinstance(sources, (str, bytes, os.PathLike)):
            raise UsageError(f"expected several images, received {sources!r} alone: use predict, or put it in a list")
        return self._predict_many(sources)

    def _predict_many(self, sources: Iterable[object]) -> Iterator[Prediction]:
        workers = min(4, os.cpu_count() or 1)
        with ThreadPoolExecutor(workers) as pool:
            for predictions in ordered_prefetch(pool, self._predict_batch, _batches(sources), max_pending=2 * workers):
                yield from predictions

    def _predict_batch(self, sources: list[object]) -> list[Prediction]:
        return list(self.predict_prepared([self.prepare(source) for source in sources]))

    def prepare(self, source: object) -> "PreparedImage":
        """Read an image and bring it to the model's size."""
        is_path = isinstance(source, (str, os.PathLike))
        name, digest = str(source) if is_path else f"<{type(source).__name__}>", ""
        try:
            if isinstance(source, ImageError):  # a name that matched nothing, from sources.expand()
                raise source
            data = read_file(source) if is_path else source
            if isinstance(data, (bytes, bytearray, memoryview)):
                digest = hashlib.sha256(data).hexdigest()
            return PreparedImage(name, digest, resize(self.bundle.spec.read(data), self.bundle.spec))
        except ImageError as error:
            return PreparedImage(getattr(error, "path", name), digest, error)

    def predict_prepared(self, batch: "list[PreparedImage]") -> Iterator[Prediction]:
        """One forward pass over prepared images, and a prediction of each in order."""
        readable = [one.pixels for one in batch if not isinstance(one.pixels, ImageError)]
        outputs = iter(())
        if readable:
            values = self.bundle.run(to_input(np.stack(readable), self.bundle.spec))
            nothing = [None] * len(readable)
            bacterial = values[SUBTYPES][:, 0].tolist() if SUBTYPES in values else nothing
            maps = values.get(GRADCAM, nothing)
            outputs = iter(zip(values[PROBABILITIES][:, POSITIVE], bacterial, maps, strict=True))
        known = {
            "threshold": self.threshold,
            "model": self.bundle.name,
            "prevalence": self.prevalence,
            "model_sha256": self.bundle.sha256,
        }
        for one in batch:
            found = _failed(one.pixels) if isinstance(one.pixels, ImageError) else self._verdict(*next(outputs))
            yield Prediction(path=one.path, image_sha256=one.sha256, **known, **found)

    def _verdict(self, probability: np.float32, bacterial: float | None, gradcam: np.ndarray | None) -> dict:
        probability = self._at_prevalence(float(probability))
        low, high = self.uncertain
        status, reason = OK, ""
        if low < high and low <= probability <= high:  # a model without fitted band has low = high
            status = UNCERTAIN
            reason = f"the probability lies between {low:.3f} and {high:.3f}, too close to the operating point"
        return {
            "label": LABELS[POSITIVE] if probability >= self.threshold else LABELS[1 - POSITIVE],
            "probability": probability,
            "status": status,
            "reason": reason,
            "bacterial": bacterial,
            "gradcam": gradcam,
        }


def _failed(error: ImageError) -> dict:
    status = REJECTED if isinstance(error, RefusedImage) else ERROR
    return {"label": None, "probability": None, "status": status, "reason": str(error)}


def _prior_offset(bundle: Bundle, prevalence: float | None) -> float:
    """By how much the log odds of the model's probabilities move."""
    if prevalence is None:
        return 0.0
    if not isinstance(prevalence, (int, float)) or not 0 < prevalence < 1:
        raise UsageError(f"expected a prevalence between 0 and 1, received {prevalence!r}")
    if bundle.prevalence is None:
        raise UsageError(
            f"expected a calibrated model to take a prevalence, {bundle.name} is not: leave the prevalence out"
        )
    return _log_odds(prevalence) - _log_odds(bundle.prevalence)


def _log_odds(probability: float) -> float:
    if probability in (0, 1):
        return math.inf if probability else -math.inf
    return math.log(probability / (1 - probability))


def _moved(probability: float, by: float) -> float:
    """A probability whose log odds are moved; 0 and 1 stay, and a step of nothing changes no digit."""
    if not by or probability in (0.0, 1.0):
        return probability
    return 1 / (1 + math.exp(min(700.0, -_log_odds(probability) - by)))


def load(
    model: str | Path = DEFAULT_MODEL,
    threshold: float | str | None = None,
    prevalence: float | None = None,
    *,
    threads: int = 0,
) -> Predictor:
    """Open a model for use.

    Args:
        model: name of a shipped model, a file, or a run folder.
        threshold, prevalence: see :class:`Predictor`.
        threads: of one forward pass, 0 for one a core; 1 is a little faster where several images are judged side by
            side, with :meth:`Predictor.predict_many` or in threads of the caller's.

    >>> from pneumoscope import load, sample_paths
    >>> load().predict(sample_paths()[9]).label
    'PNEUMONIA'
    """
    return Predictor(open_bundle(model, threads), threshold, prevalence)


def _batches(items: Iterable) -> Iterator[list]:
    batch = []
    for item in items:
        batch.append(item)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
