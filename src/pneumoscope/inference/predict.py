"""Radiographs -> predictions, in order and in bounded memory. An image that cannot be judged does not stop the others.

:meth:`Predictor._judge` decides between NORMAL and PNEUMONIA.
"""

import functools
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import numpy as np

from pneumoscope.errors import ImageError, RefusedImage, UsageError
from pneumoscope.inference.bundle import (
    DEFAULT_MODEL,
    EVIDENCE,
    GRADCAM,
    LUNGS,
    PROBABILITIES,
    SUBTYPES,
    Bundle,
    open_bundle,
)
from pneumoscope.inference.calibration import exact_log_odds, shift_log_odds
from pneumoscope.inference.prediction import ERROR, OK, REJECTED, UNCERTAIN, Prediction
from pneumoscope.inference.preprocess import resize, to_input
from pneumoscope.io.cores import available_cores
from pneumoscope.io.prefetch import ordered_prefetch
from pneumoscope.labels import NORMAL, PNEUMONIA, POSITIVE
from pneumoscope.radiographs.contents import content_reference, is_one_image, read_content, source_name
from pneumoscope.radiographs.dicom.reference import NO_REFERENCE, InstanceReference
from pneumoscope.radiographs.images import ImageSource

_MAPS = (GRADCAM, EVIDENCE, LUNGS)  # outputs that are fields of a prediction, too


def load(
    model: str | Path = DEFAULT_MODEL,
    threshold: float | str | None = None,
    prevalence: float | None = None,
    *,
    threads: int = 0,
    any_age: bool = False,
    accession_numbers: bool = False,
) -> "Predictor":
    """Open a model for use.

    Args:
        model: name of a shipped model, path of a model file, or path of a run folder.
        threshold, prevalence, any_age, accession_numbers: see :class:`Predictor`.
        threads: for one forward pass; 0 means one per core. 1 is a little faster when several images are judged at
            the same time, with :meth:`Predictor.predict_many` or in the caller's own threads.

    >>> from pneumoscope import load, sample_paths
    >>> load().predict(sample_paths()[9]).label
    'PNEUMONIA'
    """
    return Predictor(open_bundle(model, threads), threshold, prevalence, any_age, accession_numbers)


class PreparedImage(NamedTuple):
    """An image that is ready for the model.

    Attributes:
        path: of the image, as given.
        sha256: of its bytes; empty where there are none.
        pixels: (height, width) uint8, or the error that says why there are none.
        note: what was assumed about the file; empty where nothing was.
        reference: study, series and instance of a DICOM file; empty identifiers for other images.
    """

    path: str
    sha256: str
    pixels: np.ndarray | ImageError
    note: str = ""
    reference: InstanceReference = NO_REFERENCE


class Predictor:
    """A model at an operating point. It keeps no state between calls and can be used from several threads.

    It can be pickled, and used after a fork: the other process opens the model file again. For a process on each core,
    load it with ``threads=1``.

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
        accession_numbers: put the AccessionNumber of DICOM files into the predictions. In many hospitals it leads to
            the patient, so it is left out otherwise.

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
        accession_numbers: bool = False,
    ) -> None:
        self.bundle = bundle
        self.any_age = any_age
        self.accession_numbers = accession_numbers
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
            self.accession_numbers,
        )

    @property
    def operating_points(self) -> dict[str, float]:
        """The thresholds in the model file, by name, at this prevalence."""
        return {name: self._adjust(point) for name, point in self.bundle.operating_points.items()}

    def predict(
        self, source: ImageSource | ImageError, *, value_range: tuple[float, float] | None = None
    ) -> Prediction:
        """Judge one radiograph.

        Args:
            source: path, encoded bytes, file object that returns them, Pillow image, :class:`Radiograph`, or an array
                (H, W), (H, W, 3) or (H, W, 4): uint8, uint16, or floats from 0 to 1. From a file, a large JPEG may be
                decoded at a smaller scale, if the model's input is ``scaled-224``. Its full-size pixels, given as an
                array or an image, then have a slightly different probability.
            value_range: values of an array that mean black and white, such as ``(0, 4095)``; the prediction's path
                then contains it.

        Returns:
            The prediction. If the image cannot be judged, its status and reason say why.
        """
        (prediction,) = self.predict_prepared([self.prepare(source, value_range)])
        return prediction

    def predict_many(
        self, sources: Iterable[ImageSource | ImageError], *, value_range: tuple[float, float] | None = None
    ) -> Iterator[Prediction]:
        """Judge many radiographs. Each core reads and judges its own, a few of them in advance.

        Args:
            sources: anything that :meth:`predict` takes, or an array (N, H, W) or (N, H, W, C); may be endless.
            value_range: as for :meth:`predict`; for all of them.

        Yields:
            One prediction per source, in order. Each has the same digits as from :meth:`predict`.

        Raises:
            UsageError: one image instead of several.
        """
        if is_one_image(sources):
            named = repr(sources) if isinstance(sources, (str, Path)) else f"one {type(sources).__name__}"
            raise UsageError(f"expected several images, received {named} alone: use predict, or put it in a list")
        return self._predict_in_threads(sources, value_range)

    def prepare(
        self, source: ImageSource | ImageError, value_range: tuple[float, float] | None = None
    ) -> PreparedImage:
        """Read an image and resize it for the model.

        Args:
            source: as for :meth:`predict`. An error is kept: :func:`pneumoscope.radiographs.sources.expand` returns
                one for a name that matches no file.
            value_range: as for :meth:`predict`.
        """
        name, digest, content = source_name(source, value_range), "", None
        try:
            content = read_content(source)
            digest = content_sha256(content)
            radiograph = self.bundle.spec.read(content, value_range, self.any_age)
            pixels = resize(radiograph, self.bundle.spec)
            return PreparedImage(name, digest, pixels, "; ".join(radiograph.notes), radiograph.reference)
        except ImageError as error:
            reference = NO_REFERENCE if content is None else content_reference(content)
            return PreparedImage(getattr(error, "path", name), digest, error, reference=reference)

    def predict_prepared(self, images: Iterable[PreparedImage]) -> Iterator[Prediction]:
        """Judge prepared images, each in a forward pass of its own.

        The last digit of a probability can depend on the images in the same pass.

        Yields:
            One prediction per image, in order.
        """
        for image in images:
            if isinstance(image.pixels, ImageError):
                status = REJECTED if isinstance(image.pixels, RefusedImage) else ERROR
                unjudged = self._prediction(image, None, None, status, str(image.pixels))
                yield replace(unjudged, code=image.pixels.code)
            else:
                yield self._judge(image, *self._run_network(image.pixels))

    def _judge(
        self, image: PreparedImage, probability: float, bacterial: float | None, maps: dict[str, np.ndarray]
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
        return self._prediction(image, label, probability, status, reason, bacterial, maps)

    def _run_network(self, pixels: np.ndarray) -> tuple[float, float | None, dict[str, np.ndarray]]:
        """(height, width) uint8 -> the probability of pneumonia, of bacterial, and the maps that the network gives."""
        outputs = self.bundle.run(to_input(pixels[None], self.bundle.spec))
        probability = float(outputs[PROBABILITIES][0, POSITIVE])
        bacterial = float(outputs[SUBTYPES][0, 0]) if SUBTYPES in outputs else None
        return probability, bacterial, {name: outputs[name][0] for name in _MAPS if name in outputs}

    def _prediction(
        self,
        image: PreparedImage,
        label: str | None,
        probability: float | None,
        status: str,
        reason: str,
        bacterial: float | None = None,
        maps: Mapping[str, np.ndarray] = MappingProxyType({}),
    ) -> Prediction:
        reference = image.reference
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
            study_instance_uid=reference.study_instance_uid,
            series_instance_uid=reference.series_instance_uid,
            sop_instance_uid=reference.sop_instance_uid,
            accession_number=reference.accession_number if self.accession_numbers else "",
            gradcam=maps.get(GRADCAM),
            evidence=maps.get(EVIDENCE),
            lungs=maps.get(LUNGS),
        )

    def _predict_in_threads(
        self, sources: Iterable[ImageSource | ImageError], value_range: tuple[float, float] | None
    ) -> Iterator[Prediction]:
        workers = min(4, available_cores())
        predict = functools.partial(self.predict, value_range=value_range)
        with ThreadPoolExecutor(workers) as pool:
            yield from ordered_prefetch(pool, predict, sources, max_pending=8 * workers)

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


def content_sha256(content: ImageSource) -> str:
    """SHA-256 of bytes; empty for pixels."""
    return hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else ""


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
