"""Radiographs -> predictions, in order and in bounded memory. An image that cannot be judged does not stop the others.

:meth:`Predictor._judge` decides between NORMAL and PNEUMONIA.
"""

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pneumoscope.errors import ImageError, RefusedImage, UsageError
from pneumoscope.inference.bundle import DEFAULT_MODEL, GRADCAM, PROBABILITIES, SUBTYPES, Bundle, open_bundle
from pneumoscope.inference.calibration import exact_log_odds, shift_log_odds
from pneumoscope.inference.prediction import ERROR, OK, REJECTED, UNCERTAIN, Prediction
from pneumoscope.inference.preprocess import ImageSource, resize, to_input
from pneumoscope.io.prefetch import ordered_prefetch
from pneumoscope.labels import NORMAL, PNEUMONIA, POSITIVE
from pneumoscope.radiographs.images import read_file

#: Images in one forward pass. With more, the data between two layers does not fit into a core's cache.
BATCH = 4


def load(
    model: str | Path = DEFAULT_MODEL,
    threshold: float | str | None = None,
    prevalence: float | None = None,
    *,
    threads: int = 0,
    any_age: bool = False,
) -> "Predictor":
    """Open a model for use.

    Args:
        model: name of a shipped model, path of a model file, or path of a run folder.
        threshold, prevalence, any_age: see :class:`Predictor`.
        threads: for one forward pass; 0 means one per core. 1 is a little faster when several images are judged at
            the same time, with :meth:`Predictor.predict_many` or in the caller's own threads.

    >>> from pneumoscope import load, sample_paths
    >>> load().predict(sample_paths()[9]).label
    'PNEUMONIA'
    """
    return Predictor(open_bundle(model, threads), threshold, prevalence, any_age)


class PreparedImage(NamedTuple):
    """An image that is ready for the model.

    Attributes:
        path: of the image, as given.
        sha256: of its bytes; empty where there are none.
        pixels: (height, width) uint8, or the error that says why there are none.
        note: what was assumed about the file; empty where nothing was.
    """

    path: str
    sha256: str
    pixels: np.ndarray | ImageError
    note: str = ""


class Predictor:
    """A model at an operating point. It keeps no state between calls and can be used from several threads.

    The uncertain band moves with the operating point, by the same step of the log odds.

    A prevalence changes the probabilities by Bayes' rule: their log odds shift by the difference between the log odds
    of this prevalence and of the one that the model assumes. The model's own thresholds shift in the same way, so
    labels, sensitivity and specificity stay the same. A threshold given as a number does not shift.

    Args:
        bundle: the verified model file.
        threshold: operating point, instead of the model's default: a probability from 0 to 1, or the name of one in
            the model file, such as ``"screening"``.
        prevalence: share of pneumonia among the patients, between 0 and 1, instead of the one that the model assumes.
        any_age: judge DICOM files of patients of any age. Otherwise those are rejected whose header says that the
            patient is older or younger than the children in the training images.

    Raises:
        UsageError: a threshold outside 0 to 1 or with an unknown name; or a prevalence for a model that is not
            calibrated.
    """

    def __init__(
        self,
        bundle: Bundle,
        threshold: float | str | None = None,
        prevalence: float | None = None,
        any_age: bool = False,
    ) -> None:
        self.bundle = bundle
        self.any_age = any_age
        self._options = threshold, prevalence
        self.prevalence = bundle.prevalence if prevalence is None else prevalence
        self._prevalence_shift = _prevalence_shift(bundle, prevalence)
        self.threshold = self._resolve_threshold(threshold)
        unchanged = self.threshold == bundle.threshold  # may be 0 or 1: infinite log odds have no difference
        band_shift = 0.0 if unchanged else exact_log_odds(self.threshold) - exact_log_odds(bundle.threshold)
        low, high = bundle.uncertain
        self.uncertain = shift_log_odds(low, band_shift), shift_log_odds(high, band_shift)

    def at(self, threshold: float | str | None = None, prevalence: float | None = None) -> "Predictor":
        """The same model at another operating point or prevalence; None keeps what was given to this one."""
        own_threshold, own_prevalence = self._options
        return Predictor(
            self.bundle,
            own_threshold if threshold is None else threshold,
            own_prevalence if prevalence is None else prevalence,
            self.any_age,
        )

    @property
    def operating_points(self) -> dict[str, float]:
        """The thresholds in the model file, by name, at this prevalence."""
        return {name: self._adjust(point) for name, point in self.bundle.operating_points.items()}

    def predict(self, source: ImageSource | ImageError) -> Prediction:
        """Judge one radiograph.

        Args:
            source: path, encoded bytes, or array (H, W), (H, W, 3) or (H, W, 4), uint8 or uint16. From a file, a
                large JPEG may be decoded at a smaller scale, if the model's input is ``scaled-224``. Its full-size
                pixels, given as an array, then have a slightly different probability.

        Returns:
            The prediction. If the image cannot be judged, its status and reason say why.
        """
        (prediction,) = self.predict_prepared([self.prepare(source)])
        return prediction

    def predict_many(self, sources: Iterable[ImageSource | ImageError]) -> Iterator[Prediction]:
        """Judge many radiographs. Each core reads and judges its own batches, a few of them in advance.

        Args:
            sources: anything that :meth:`predict` takes; may be endless.

        Yields:
            One prediction per source, in order.

        Raises:
            UsageError: one path instead of several.
        """
        if isinstance(sources, (str, bytes, os.PathLike)):
            raise UsageError(f"expected several images, received {sources!r} alone: use predict, or put it in a list")
        return self._predict_batches(sources)

    def prepare(self, source: ImageSource | ImageError) -> PreparedImage:
        """Read an image and resize it for the model.

        Args:
            source: as for :meth:`predict`. An error is kept: :func:`pneumoscope.radiographs.sources.expand` returns
                one for a name that matches no file.
        """
        name, digest = f"<{type(source).__name__}>", ""
        try:
            if isinstance(source, ImageError):
                raise source
            if isinstance(source, (str, os.PathLike)):
                name = str(source)
                source = read_file(source)
            if isinstance(source, (bytes, bytearray, memoryview)):
                digest = hashlib.sha256(source).hexdigest()
            radiograph = self.bundle.spec.read(source, self.any_age)
            pixels = resize(radiograph, self.bundle.spec)
            return PreparedImage(name, digest, pixels, "; ".join(radiograph.notes))
        except ImageError as error:
            return PreparedImage(getattr(error, "path", name), digest, error)

    def predict_prepared(self, images: Sequence[PreparedImage]) -> Iterator[Prediction]:
        """Judge prepared images in one forward pass.

        Yields:
            One prediction per image, in order.
        """
        pixels = [image.pixels for image in images if not isinstance(image.pixels, ImageError)]
        outputs = self._run_network(np.stack(pixels)) if pixels else iter(())
        for image in images:
            if isinstance(image.pixels, ImageError):
                status = REJECTED if isinstance(image.pixels, RefusedImage) else ERROR
                yield self._prediction(image, None, None, status, str(image.pixels))
            else:
                yield self._judge(image, *next(outputs))

    def _judge(
        self, image: PreparedImage, probability: float, bacterial: float | None, gradcam: np.ndarray | None
    ) -> Prediction:
        """Turn the network's outputs for one image into a prediction."""
        probability = self._adjust(probability)
        # THE VERDICT: from the operating point on it is PNEUMONIA, below it is NORMAL.
        label = PNEUMONIA if probability >= self.threshold else NORMAL
        status, reason = OK, ""
        low, high = self.uncertain
        if low < high and low <= probability <= high:  # low == high: this model has no uncertain band
            status = UNCERTAIN
            reason = f"the probability lies between {low:.3f} and {high:.3f}, too close to the operating point"
        return self._prediction(image, label, probability, status, reason, bacterial, gradcam)

    def _run_network(self, pixels: np.ndarray) -> Iterator[tuple[float, float | None, np.ndarray | None]]:
        """(N, height, width) uint8 -> for each image the probability of pneumonia, of bacterial, and Grad-CAM maps."""
        outputs = self.bundle.run(to_input(pixels, self.bundle.spec))
        nothing = [None] * len(pixels)
        probability = outputs[PROBABILITIES][:, POSITIVE].tolist()
        bacterial = outputs[SUBTYPES][:, 0].tolist() if SUBTYPES in outputs else nothing
        return zip(probability, bacterial, outputs.get(GRADCAM, nothing), strict=True)

    def _prediction(
        self,
        image: PreparedImage,
        label: str | None,
        probability: float | None,
        status: str,
        reason: str,
        bacterial: float | None = None,
        gradcam: np.ndarray | None = None,
    ) -> Prediction:
        return Prediction(
            path=image.path,
            label=label,
            probability=probability,
            threshold=self.threshold,
            model=self.bundle.name,
            status=status,
            reason=reason,
            note=image.note,
            bacterial=bacterial,
            prevalence=self.prevalence,
            image_sha256=image.sha256,
            model_sha256=self.bundle.sha256,
            gradcam=gradcam,
        )

    def _predict_batches(self, sources: Iterable[ImageSource | ImageError]) -> Iterator[Prediction]:
        workers = min(4, os.cpu_count() or 1)
        with ThreadPoolExecutor(workers) as pool:
            for predictions in ordered_prefetch(pool, self._predict_batch, _batches(sources), max_pending=2 * workers):
                yield from predictions

    def _predict_batch(self, sources: list[ImageSource | ImageError]) -> list[Prediction]:
        return list(self.predict_prepared([self.prepare(source) for source in sources]))

    def _resolve_threshold(self, threshold: float | str | None) -> float:
        """The operating point as a number."""
        points = self.bundle.operating_points
        if threshold is None:
            return self._adjust(self.bundle.threshold)
        if isinstance(threshold, str) and threshold in points:
            return self._adjust(points[threshold])
        if isinstance(threshold, (int, float)) and 0 <= threshold <= 1:
            return threshold
        names = f", or {' or '.join(points)}" if len(points) > 1 else f" ({self.bundle.name} has no named ones)"
        raise UsageError(f"expected a threshold from 0 to 1{names}, received {threshold!r}")

    def _adjust(self, probability: float) -> float:
        """A probability of the model file, at the prevalence of this predictor."""
        return shift_log_odds(probability, self._prevalence_shift)


def parse_threshold(text: str | None) -> float | str | None:
    """Read an operating point as a user types it: a number, or else a name.

    >>> parse_threshold("0.3"), parse_threshold("screening"), parse_threshold(None)
    (0.3, 'screening', None)
    """
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


def _prevalence_shift(bundle: Bundle, prevalence: float | None) -> float:
    """How much a prevalence shifts the log odds of the model's probabilities."""
    if prevalence is None:
        return 0.0
    if not isinstance(prevalence, (int, float)) or not 0 < prevalence < 1:
        raise UsageError(f"expected a prevalence between 0 and 1, received {prevalence!r}")
    if bundle.prevalence is None:
        raise UsageError(
            f"expected a calibrated model with a prevalence, {bundle.name} is not calibrated: leave the prevalence out"
        )
    return exact_log_odds(prevalence) - exact_log_odds(bundle.prevalence)


def _batches(sources: Iterable[ImageSource | ImageError]) -> Iterator[list[ImageSource | ImageError]]:
    batch = []
    for source in sources:
        batch.append(source)
        if len(batch) == BATCH:
            yield batch
            batch = []
    if batch:
        yield batch
