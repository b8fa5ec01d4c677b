"""A radiograph and its prediction -> all DICOM results that are asked for."""

from collections.abc import Callable, Collection

from pydicom.dataset import Dataset
from pydicom.uid import UID

from pneumoscope.errors import PneumoscopeError, RefusedImage, UnreadableImage
from pneumoscope.inference.explain import Explanation, explain_prediction
from pneumoscope.inference.predict import Predictor
from pneumoscope.inference.prediction import Prediction
from pneumoscope.io.names import printable
from pneumoscope.pacs.presentation_state import make_presentation_state
from pneumoscope.pacs.secondary_capture import make_secondary_capture
from pneumoscope.pacs.source_image import is_image, read_source_image
from pneumoscope.pacs.structured_report import make_structured_report
from pneumoscope.radiographs.images import read_radiograph

REPORT, CAPTURE, STATE = "SR", "SC", "PR"

_OF_EXPLANATION: dict[str, Callable[[Dataset, Explanation], Dataset]] = {
    CAPTURE: make_secondary_capture,
    STATE: make_presentation_state,
}


def make_results(
    data: bytes, predictor: Predictor, prediction: Prediction, kinds: Collection[str]
) -> dict[str, Dataset]:
    """Make the results of one radiograph.

    Args:
        data: the DICOM file.
        predictor: the model.
        prediction: of this file by this model.
        kinds: of ``"SR"``, ``"SC"`` and ``"PR"``.

    Returns:
        The results by kind. An image that was not judged has a report only. A radiograph stored in colour, also
        a gray one stored as RGB or YBR, has no presentation state.

    Raises:
        UnreadableImage: not a DICOM file, or one whose header no result can be made from.
        RefusedImage: a DICOM file that is no image, such as a report.
    """
    source = read_source_image(data)
    if not is_image(source):
        raise RefusedImage(
            "expected an image, to which a DICOM result can refer, received a DICOM file of another kind "
            f"({printable(UID(source.SOPClassUID).name)}): send the radiograph",
            code="modality",
        )
    kinds = [kind for kind in kinds if kind == REPORT or prediction.judged]
    if source.get("SamplesPerPixel", 1) != 1:
        kinds = [kind for kind in kinds if kind != STATE]
    try:
        results = {REPORT: make_structured_report(source, prediction)} if REPORT in kinds else {}
        if set(kinds) - {REPORT}:
            radiograph = read_radiograph(data, any_age=predictor.any_age)
            explanation = explain_prediction(predictor, radiograph, prediction)
            results |= {kind: _OF_EXPLANATION[kind](source, explanation) for kind in kinds if kind != REPORT}
    except PneumoscopeError:
        raise
    except Exception:  # highdicom raises several types for odd values, and its message may contain patient data
        raise UnreadableImage(
            "expected a header from which a DICOM result can be made, received one with values that the standard does "
            "not allow: export the image again",
            code="damaged",
        ) from None
    return results
