"""Prediction -> DICOM Structured Report: a measurement report (TID 1500) as Comprehensive SR.

The report says what was looked for, how sure the model is, the threshold, the verdict, bacterial or viral, or why the
image was not judged. It names the model and its hash, and refers to the radiograph, so that a viewer can open it.

Reference: PS3.16, templates TID 1500, 1410, 1501, 1600 and 4019; IHE Radiology, AI Results (AIR), 2022.
"""

import functools
from collections.abc import Callable

import highdicom.sr as sr
import numpy as np
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes as dicom_codes
from pydicom.sr.coding import Code

from pneumoscope import RESEARCH_USE_ONLY, __version__
from pneumoscope.inference.prediction import ERROR, UNCERTAIN, Prediction
from pneumoscope.labels import PNEUMONIA
from pneumoscope.pacs import codes
from pneumoscope.pacs.identifiers import MANUFACTURER, identify_result, make_uid

_Group = sr.PlanarROIMeasurementsAndQualitativeEvaluations | sr.MeasurementsAndQualitativeEvaluations
_CONTAINS = sr.RelationshipTypeValues.CONTAINS
_HAS_ACQ_CONTEXT = sr.RelationshipTypeValues.HAS_ACQ_CONTEXT


def make_structured_report(source: Dataset, prediction: Prediction) -> Dataset:
    """The report of one radiograph, also of one that was not judged.

    Args:
        source: header of the radiograph, see :func:`pneumoscope.pacs.source_image.read_source_image`.
        prediction: of it.

    Returns:
        The data set, ready to be written, with patient and study of the radiograph.
    """
    return sr.ComprehensiveSR(
        evidence=[source],
        content=_make_content(source, prediction),
        **identify_result("SR", source, prediction),
        is_complete=True,
        is_final=False,
    )


def _make_content(source: Dataset, prediction: Prediction) -> sr.MeasurementReport:
    observer = sr.DeviceObserverIdentifyingAttributes(
        uid=make_uid("device", prediction.model_sha256),
        name="pneumoscope",
        manufacturer_name=MANUFACTURER,
        model_name=prediction.model,
        serial_number=prediction.model_sha256,
    )
    context = sr.ObservationContext(
        observer_device_context=sr.ObserverContext(dicom_codes.DCM.Device, observer_identifying_attributes=observer)
    )
    report = sr.MeasurementReport(
        observation_context=context,
        procedure_reported=codes.PLAIN_CHEST_XRAY,
        imaging_measurements=_make_groups(source, prediction),
    )
    items = report[0].ContentSequence
    items.insert(len(items) - 1, _make_image_library(source))  # TID 1500 has it before the measurements
    _separate(report[0])
    return report


def _separate(container: Dataset) -> None:
    """Say that the items of all containers stand alone: viewers then show the name of each beside its value."""
    container.ContinuityOfContent = "SEPARATE"
    for item in container.ContentSequence:
        if item.ValueType == "CONTAINER":
            _separate(item)


def _make_groups(source: Dataset, prediction: Prediction) -> list[_Group]:
    """Pneumonia first; then bacterial and viral, each with its own probability, where the model says it is one."""
    groups = [_make_group(source, prediction, codes.PNEUMONIA, prediction.probability)]
    if prediction.label == PNEUMONIA and prediction.bacterial is not None and prediction.probability is not None:
        for finding, share in (
            (codes.BACTERIAL_PNEUMONIA, prediction.bacterial),
            (codes.VIRAL_PNEUMONIA, 1 - prediction.bacterial),
        ):
            groups.append(_make_group(source, prediction, finding, prediction.probability * share))
    return groups


def _make_group(source: Dataset, prediction: Prediction, finding: Code, probability: float | None) -> _Group:
    """One finding, of the whole radiograph: as a region (TID 1410), because viewers draw measurements that have one.

    A radiograph whose header does not say how large it is has a measurement without a region (TID 1501).
    """
    is_main = finding == codes.PNEUMONIA
    measurements = []
    if probability is not None:
        measurements.append(sr.Measurement(codes.CERTAINTY, round(100 * probability, 2), codes.PERCENT))
        if is_main:
            measurements.append(sr.Measurement(codes.THRESHOLD, round(100 * prediction.threshold, 2), codes.PERCENT))
    identifier = f"pneumoscope: {finding.meaning.lower()}"
    width, height = int(source.get("Columns") or 0), int(source.get("Rows") or 0)
    template: Callable[..., _Group]
    if width and height:
        template = functools.partial(
            sr.PlanarROIMeasurementsAndQualitativeEvaluations,
            referenced_region=sr.ImageRegion(
                sr.GraphicTypeValues.POLYLINE,
                np.array([(0, 0), (width, 0), (width, height), (0, height), (0, 0)], np.float64),
                sr.SourceImageForRegion(source.SOPClassUID, source.SOPInstanceUID),
            ),
        )
    else:
        template = functools.partial(
            sr.MeasurementsAndQualitativeEvaluations,
            source_images=[sr.SourceImageForMeasurementGroup(source.SOPClassUID, source.SOPInstanceUID)],
        )
    group = template(
        tracking_identifier=sr.TrackingIdentifier(
            uid=make_uid("finding", source.SOPInstanceUID, prediction.model_sha256, finding.value),
            identifier=identifier,
        ),
        finding_type=finding,
        algorithm_id=_identify_algorithm(prediction),
        finding_sites=[sr.FindingSite(codes.LUNG)],
        measurements=measurements,
        qualitative_evaluations=_make_evaluations(prediction) if is_main else None,
    )
    if is_main:
        verdict = f"{prediction.verdict}, threshold {prediction.threshold:.3f}" if prediction.judged else ""
        for text in (verdict, prediction.reason, prediction.note, RESEARCH_USE_ONLY):
            if text:
                group[0].ContentSequence.append(sr.TextContentItem(codes.COMMENT, text, _CONTAINS))
    return group


def _identify_algorithm(prediction: Prediction) -> sr.AlgorithmIdentification:
    """Name, version and settings of the algorithm (TID 4019)."""
    parameters = [f"model_sha256={prediction.model_sha256}", f"threshold={prediction.threshold:.6g}"]
    if prediction.prevalence is not None:
        parameters.append(f"prevalence={prediction.prevalence:.6g}")
    return sr.AlgorithmIdentification(
        name=f"pneumoscope {prediction.model}",
        version=__version__,
        parameters=parameters,
        family=codes.ARTIFICIAL_INTELLIGENCE,
        manufacturer=MANUFACTURER,
    )


def _make_evaluations(prediction: Prediction) -> list[sr.QualitativeEvaluation]:
    """What became of the analysis; the verdict, where there is one."""
    if not prediction.judged:
        outcome = codes.FAILED if prediction.status == ERROR else codes.NOT_ATTEMPTED
        return [sr.QualitativeEvaluation(codes.ANALYSES, outcome)]
    verdict = codes.PRESENT if prediction.label == PNEUMONIA else codes.ABSENT
    if prediction.status == UNCERTAIN:
        verdict = codes.INDETERMINATE
    return [
        sr.QualitativeEvaluation(codes.ANALYSES, codes.SUCCEEDED),
        sr.QualitativeEvaluation(codes.PRESENCE, verdict),
    ]


def _make_image_library(source: Dataset) -> sr.ContainerContentItem:
    """The radiograph as an entry of the image library (TID 1600), with what its header says of it, and nothing else.

    highdicom's own library needs the patient's orientation and the detector's pixel spacing, which not all have.
    """
    entry = sr.ImageContentItem(
        dicom_codes.SCT.Source, source.SOPClassUID, source.SOPInstanceUID, relationship_type=_CONTAINS
    )
    entry.ContentSequence = sr.ContentSequence()
    modality = _MODALITIES.get(str(source.get("Modality", "")))
    if modality:
        entry.ContentSequence.append(sr.CodeContentItem(dicom_codes.DCM.Modality, modality, _HAS_ACQ_CONTEXT))
    pixels = sr.CodedConcept("{pixels}", "UCUM", "Pixels")
    for name, keyword in ((dicom_codes.DCM.PixelDataRows, "Rows"), (dicom_codes.DCM.PixelDataColumns, "Columns")):
        if source.get(keyword):
            number = int(source[keyword].value)
            entry.ContentSequence.append(sr.NumContentItem(name, number, pixels, relationship_type=_HAS_ACQ_CONTEXT))
    group = sr.ContainerContentItem(dicom_codes.DCM.ImageLibraryGroup, relationship_type=_CONTAINS)
    group.ContentSequence = sr.ContentSequence([entry])
    library = sr.ContainerContentItem(dicom_codes.DCM.ImageLibrary, relationship_type=_CONTAINS)
    library.ContentSequence = sr.ContentSequence([group])
    return library


_MODALITIES = {
    "CR": dicom_codes.cid29.ComputedRadiography,
    "DX": dicom_codes.cid29.DigitalRadiography,
    "RG": dicom_codes.cid29.RadiographicImaging,
}
