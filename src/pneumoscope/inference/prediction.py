"""What a prediction is: the result for one image, its status, and the fields that are written to files."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np

# The status of a prediction; Prediction explains each one.
OK = "ok"
UNCERTAIN = "uncertain"
REJECTED = "rejected"
ERROR = "error"

#: Fields of a prediction in JSON and CSV.
FIELDS = (
    "path", "label", "probability", "threshold", "model", "status", "reason", "bacterial", "prevalence",
    "image_sha256", "model_sha256", "code", "note",
    "study_instance_uid", "series_instance_uid", "sop_instance_uid", "accession_number",
)  # fmt: skip


@dataclass(frozen=True)
class Prediction:
    """The result for one image.

    Attributes:
        path: of the image, as given.
        label: ``"NORMAL"`` or ``"PNEUMONIA"``; None if the image was not judged.
        probability: of pneumonia, 0 to 1; None if the image was not judged.
        threshold: the operating point, which is the lowest probability with the label PNEUMONIA.
        model: name of the model.
        status: ``"ok"``; ``"uncertain"``: too close to the operating point to rely on; ``"rejected"``: readable, but
            not an image to judge; ``"error"``: not readable.
        reason: one sentence, for every status except ``"ok"``.
        note: what was assumed about the file where it is not as its format asks, such as a window that was left out;
            mostly empty.
        bacterial: probability that the pneumonia is bacterial and not viral, if it is a pneumonia; None for models
            that do not tell them apart.
        prevalence: share of pneumonia that the probability assumes; None for a model that is not calibrated.
        image_sha256: of the file or the bytes; empty for pixels, and for a file that could not be read.
        model_sha256: of the model file.
        code: why it was not judged, for programs, see :data:`pneumoscope.errors.CODES`; empty if it was judged.
        study_instance_uid, series_instance_uid, sop_instance_uid: of a DICOM file, from its header; else empty.
        accession_number: of a DICOM file, if the predictor was asked for it; else empty.
        evidence: (h, w) float32: the log odds of PNEUMONIA cell by cell, positive for PNEUMONIA, negative for NORMAL.
            They add up to the log odds of the probability at the prevalence of the model file. None for models without.
        lungs: (h, w) float32 in [0, 1]: the lung field that the model predicts; None for models without.
        gradcam: (2, h, w) float32, zero or above: one map per class, at the resolution of the last convolution; None
            for models without one.
    """

    path: str
    label: str | None
    probability: float | None
    threshold: float
    model: str
    status: str
    reason: str = ""
    note: str = ""
    bacterial: float | None = None
    prevalence: float | None = None
    image_sha256: str = ""
    model_sha256: str = ""
    code: str = ""
    study_instance_uid: str = ""
    series_instance_uid: str = ""
    sop_instance_uid: str = ""
    accession_number: str = ""
    gradcam: np.ndarray | None = field(default=None, repr=False, compare=False)
    evidence: np.ndarray | None = field(default=None, repr=False, compare=False)
    lungs: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def judged(self) -> bool:
        """Whether the image was judged, so that there is a label."""
        return self.label is not None

    @property
    def remarks(self) -> str:
        """Reason and note in one text for people; empty where there is neither."""
        return "; ".join(text for text in (self.reason, self.note) if text)

    @property
    def verdict(self) -> str:
        """Label and probability in words, for people; empty if the image was not judged."""
        if self.probability is None:
            return ""
        uncertain = " (uncertain)" if self.status == UNCERTAIN else ""
        return f"{self.label}{uncertain}: probability of pneumonia {self.probability:.3f}"

    def to_dict(self) -> dict[str, Any]:
        """The fields that go into JSON and CSV."""
        return {name: getattr(self, name) for name in FIELDS}
