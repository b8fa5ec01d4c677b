"""Files without what names the patient: the whole header is searched, inside sequences, too."""

import io

import cv2
import numpy as np
import pydicom
import pytest
from builders.dicom_files import ELEMENTS_OF_STUDY, SECRET, code_sequence, dicom_file
from pydicom.dataset import Dataset

from pneumoscope import load, read_radiograph
from pneumoscope.errors import UnreadableImage, UsageError
from pneumoscope.pacs import Pseudonyms, deidentify, dicom_bytes, find_text_lines

KEY = "a key of the project"
NAMES = {
    "InstitutionName": "St. Secret", "OperatorsName": "Secret^Operator", "StationName": "SECRET-7",
    "StudyDescription": "of Secret", "ImageComments": "Secret was here", "OtherPatientIDs": "SECRET",
    "PatientAge": "003Y", "PatientAddress": "Secret Street 1", "RequestingPhysician": "Secret^R",
    "DeviceSerialNumber": "SECRET",
}  # fmt: skip
PIXELS = b"\xe0\x7f\x10\x00"


@pytest.fixture(scope="module")
def original(samples):
    """A file with names at many places: in known elements, private ones, and nested in sequences."""
    pixels = read_radiograph(samples[9]).pixels[::4, ::4].copy()
    dataset = pydicom.dcmread(io.BytesIO(dicom_file(pixels, **ELEMENTS_OF_STUDY, **NAMES)))
    nested = Dataset()
    nested.PatientName, nested.ReferencedSOPInstanceUID = SECRET, "1.2.3.4.5"
    nested.ReferencedSOPClassUID = dataset.SOPClassUID
    dataset.SourceImageSequence = [nested]
    view = code_sequence("399348003", "antero-posterior")
    view[0].PatientName = SECRET  # nothing forbids it
    dataset.ViewCodeSequence = view
    dataset.private_block(0x0009, "SECRET VENDOR", create=True).add_new(1, "LO", SECRET)
    return dicom_bytes(dataset)


def _clean(original, **options):
    return pydicom.dcmread(io.BytesIO(dicom_bytes(deidentify(original, Pseudonyms(KEY), **options))))


def test_nothing_of_the_patient_is_left_anywhere(original):
    header = original[: original.rindex(PIXELS)].lower()
    words = ("secret", "doe", "jane", "grey", "20210101", "20240131", "a-77", "1.2.3.4.5",
             ELEMENTS_OF_STUDY["StudyInstanceUID"])  # fmt: skip
    assert all(word.encode() in header for word in words)
    content = dicom_bytes(deidentify(original, Pseudonyms(KEY)))
    clean = content[: content.rindex(PIXELS)].lower()
    assert [word for word in words if word.encode() in clean] == []


def test_the_image_is_the_same_and_gets_the_same_verdict(original):
    clean, source = _clean(original), pydicom.dcmread(io.BytesIO(original))
    assert np.array_equal(clean.pixel_array, source.pixel_array)
    predictor = load()
    assert predictor.predict(dicom_bytes(clean)).probability == predictor.predict(original).probability


def test_the_method_is_written_down(original):
    clean = _clean(original, keep_characteristics=True)
    assert clean.PatientIdentityRemoved == "YES"
    assert clean.LongitudinalTemporalInformationModified == "REMOVED"
    assert [code.CodeValue for code in clean.DeidentificationMethodCodeSequence] == ["113100", "113108"]
    assert [code.CodeValue for code in _clean(original).DeidentificationMethodCodeSequence] == ["113100"]


def test_age_and_sex_stay_only_on_request(original):
    assert "PatientAge" not in _clean(original)
    kept = _clean(original, keep_characteristics=True)
    assert (kept.PatientAge, kept.PatientSex) == ("003Y", "F")


def test_one_key_gives_one_pseudonym_and_another_key_another(original, samples):
    other_image = dicom_file(read_radiograph(samples[0]).pixels[::4, ::4].copy(), **ELEMENTS_OF_STUDY)
    first, again, second = (deidentify(data, Pseudonyms(KEY)) for data in (original, original, other_image))
    assert first.PatientID == again.PatientID == second.PatientID
    assert first.SOPInstanceUID == again.SOPInstanceUID != second.SOPInstanceUID
    assert first.StudyInstanceUID == second.StudyInstanceUID != ELEMENTS_OF_STUDY["StudyInstanceUID"]
    assert deidentify(original, Pseudonyms("another key of another project")).PatientID != first.PatientID
    assert deidentify(original, Pseudonyms()).PatientID != deidentify(original, Pseudonyms()).PatientID


def test_a_short_key_is_refused_and_no_key_is_shown():
    with pytest.raises(UsageError, match="at least 16 characters"):
        Pseudonyms("short")
    assert KEY not in repr(Pseudonyms(KEY))


def test_the_result_is_a_valid_file(original, tmp_path, tool):
    (tmp_path / "clean.dcm").write_bytes(dicom_bytes(deidentify(original, Pseudonyms(KEY))))
    assert "PatientIdentityRemoved" in tool("dcmdump", tmp_path / "clean.dcm")


@pytest.mark.parametrize("sop_class", ["1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1"])
def test_dummy_dates_are_valid(original, tmp_path, tool, sop_class):
    source = pydicom.dcmread(io.BytesIO(original))
    source.SOPClassUID = sop_class
    for keyword in ("SeriesDate", "ContentDate", "AcquisitionDate"):
        setattr(source, keyword, "20240131")
    source.AcquisitionDateTime = "20240131101500"
    source.SourceImageSequence[0].ContentDate = "20240131"
    step = Dataset()
    step.ScheduledProcedureStepStartDate = step.SeriesDate = "20240131"
    source.RequestAttributesSequence = [step]
    clean = _clean(dicom_bytes(source))
    assert (clean.SeriesDate, clean.ContentDate) == ("19000101", "19000101")
    (tmp_path / "clean.dcm").write_bytes(dicom_bytes(clean))
    assert "00010101" not in tool("dcmdump", tmp_path / "clean.dcm")
    report = tool("dciodvfy", tmp_path / "clean.dcm", check=False)
    assert not [line for line in report.splitlines() if line.startswith("Error") and "Date" in line]


def test_an_object_without_pixels_is_refused(original):
    source = pydicom.dcmread(io.BytesIO(original))
    del source.PixelData
    with pytest.raises(UnreadableImage, match="without pixels"):
        deidentify(dicom_bytes(source), Pseudonyms(KEY))


def test_other_files_are_refused(samples):
    with pytest.raises(UnreadableImage, match="expected a DICOM file"):
        deidentify(samples[0].read_bytes(), Pseudonyms(KEY))


@pytest.mark.parametrize("place", [(0.02, 0.06), (0.5, 0.97), (0.02, 0.97), (0.6, 0.05)])
@pytest.mark.parametrize("gray", [255, 0])
def test_text_in_the_border_is_found(samples, place, gray):
    pixels = read_radiograph(samples[9]).pixels.copy()
    height, width = pixels.shape
    band = pixels[: height // 10] if place[1] < 0.5 else pixels[-height // 10 :]
    band[:] = 255 - gray  # a background that it differs from
    origin = round(width * place[0]), round(height * place[1])
    cv2.putText(pixels, "DOE JANE 1957", origin, cv2.FONT_HERSHEY_SIMPLEX, height / 1000, gray, 2, cv2.LINE_AA)
    assert find_text_lines(pixels) > 0


def test_the_bundled_radiographs_have_no_text(samples):
    assert [path.name for path in samples if find_text_lines(read_radiograph(path).pixels)] == []
