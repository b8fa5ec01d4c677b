"""Explanation -> DICOM Secondary Capture: a colour picture of the radiograph with heatmap, caption and notice."""

from dataclasses import replace

from highdicom.sc import SCImage
from highdicom.sr import CodedConcept
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from pneumoscope import RESEARCH_USE_ONLY
from pneumoscope.inference.explain import Explanation
from pneumoscope.output.overlay import draw_overlay
from pneumoscope.pacs.dicom_files import refer_to
from pneumoscope.pacs.identifiers import identify_result
from pneumoscope.radiographs.images import Radiograph

#: Longer side of the radiograph in the picture, in pixels. It is stored without compression, which every viewer reads.
MAX_SIDE = 1280


def make_secondary_capture(source: Dataset, explanation: Explanation) -> Dataset:
    """The picture of one judged radiograph.

    Args:
        source: header of the radiograph, see :func:`pneumoscope.pacs.source_image.read_source_image`.
        explanation: of it.

    Returns:
        The data set, ready to be written, with patient and study of the radiograph.
    """
    capture = SCImage(
        pixel_array=draw_overlay(_reduce(explanation)),
        photometric_interpretation="RGB",
        bits_allocated=8,
        coordinate_system="PATIENT",
        patient_orientation=("L", "F"),  # highdicom asks for one; replaced below
        study_instance_uid=source.StudyInstanceUID,
        **identify_result("SC", source, explanation.prediction),
        specific_character_set=source.SpecificCharacterSet,
    )
    capture.copy_patient_and_study_information(source)
    capture.PatientOrientation = list(source.get("PatientOrientation") or [])  # may be empty; nothing is invented
    capture.Laterality = ""  # both sides are shown
    capture.DerivationDescription = "Radiograph with evidence map in colour, caption and colour bar"
    capture.SourceImageSequence = [_refer_to_source(source)]
    capture.ImageComments = RESEARCH_USE_ONLY
    # The words that are burned in name the model and the result, not the patient (PS3.3, C.7.6.1.1).
    capture.BurnedInAnnotation = "NO"
    return capture


def _reduce(explanation: Explanation) -> Explanation:
    """The explanation with a radiograph of at most :data:`MAX_SIDE` pixels."""
    import cv2

    radiograph = explanation.radiograph
    factor = MAX_SIDE / max(radiograph.height, radiograph.width)
    if factor >= 1:
        return explanation
    size = max(1, round(radiograph.width * factor)), max(1, round(radiograph.height * factor))
    pixels = cv2.resize(radiograph.pixels, size, interpolation=cv2.INTER_AREA)
    heatmap = cv2.resize(explanation.heatmap, size, interpolation=cv2.INTER_AREA)
    lungs = None if explanation.lungs is None else cv2.resize(explanation.lungs, size, interpolation=cv2.INTER_AREA)
    return replace(explanation, radiograph=Radiograph(pixels, radiograph.source), heatmap=heatmap, lungs=lungs)


def _refer_to_source(source: Dataset) -> Dataset:
    """A reference to the radiograph (PS3.3, table 10-3), whose purpose is that the picture was made from it."""
    reference = refer_to(source)
    reference.PurposeOfReferenceCodeSequence = [
        CodedConcept.from_code(codes.DCM.SourceImageForImageProcessingOperation)
    ]
    return reference
