"""Structured Report, Secondary Capture, presentation state: what they say, and whether other programs accept them."""

import io
import subprocess
import sys

import highdicom as hd
import numpy as np
import pydicom
import pytest
from builders.dicom_files import ELEMENTS_OF_STUDY, dicom_file, to_bytes

from pneumoscope import RESEARCH_USE_ONLY, __version__, load, read_radiograph
from pneumoscope.errors import UnreadableImage
from pneumoscope.inference.explain import explain
from pneumoscope.output import draw_overlay
from pneumoscope.pacs import codes, dicom_bytes, make_results, read_source_image
from pneumoscope.pacs.identifiers import IMPLEMENTATION_VERSION_NAME
from pneumoscope.pacs.presentation_state import EVIDENCE_LEVEL

KINDS = ("SR", "SC", "PR")


@pytest.fixture(scope="module")
def prediction(predictor, radiograph):
    return predictor.predict(radiograph)


@pytest.fixture(scope="module")
def results(predictor, radiograph, prediction):
    """Read back from their files."""
    made = make_results(radiograph, predictor, prediction, KINDS)
    return {kind: pydicom.dcmread(io.BytesIO(dicom_bytes(dataset))) for kind, dataset in made.items()}


def _texts(report):
    """Name and value of every text, number and code in a report, in order."""
    found = []

    def walk(item):
        name = item.ConceptNameCodeSequence[0].CodeMeaning if "ConceptNameCodeSequence" in item else ""
        if item.ValueType == "TEXT":
            found.append((name, item.TextValue))
        elif item.ValueType == "NUM":
            found.append((name, float(item.MeasuredValueSequence[0].NumericValue)))
        elif item.ValueType == "CODE":
            found.append((name, item.ConceptCodeSequence[0].CodeMeaning))
        for child in item.get("ContentSequence", []):
            walk(child)

    walk(report)
    return found


def test_every_result_belongs_to_the_patient_and_study_of_the_radiograph(results, radiograph):
    source = pydicom.dcmread(io.BytesIO(radiograph))
    for result in results.values():
        for keyword in ("StudyInstanceUID", "AccessionNumber", "StudyID", "StudyDate", "StudyTime", "PatientID"):
            assert result[keyword].value == source[keyword].value
        for keyword in ("PatientName", "PatientBirthDate", "PatientSex", "ReferringPhysicianName"):
            assert str(result[keyword].value) == str(source[keyword].value)
        assert result.SeriesInstanceUID != source.SeriesInstanceUID
        assert "research use only" in result.SeriesDescription
        assert result.file_meta.ImplementationVersionName == IMPLEMENTATION_VERSION_NAME
    assert len({result.SeriesInstanceUID for result in results.values()}) == 3
    assert len({result.SOPInstanceUID for result in results.values()}) == 3


def test_a_report_says_what_the_prediction_says(results, prediction):
    texts = _texts(results["SR"])
    certainty = [value for name, value in texts if name == "Certainty of Finding"]
    p, b = prediction.probability, prediction.bacterial
    assert certainty == pytest.approx([100 * p, 100 * p * b, 100 * p * (1 - b)], abs=0.006)
    for expected in (
        ("Finding", "Pneumonia"), ("Finding", "Bacterial pneumonia"), ("Finding", "Viral pneumonia"),
        ("Presence of property", "Present"), ("Summary of Analyses", "Succeeded"), ("Comment", RESEARCH_USE_ONLY),
        ("Algorithm Name", "pneumoscope mobilenet"), ("Algorithm Version", __version__),
        ("Algorithm Parameters", f"model_sha256={prediction.model_sha256}"),
        ("Threshold Value", round(100 * prediction.threshold, 2)),
        ("Comment", f"PNEUMONIA: probability of pneumonia {p:.3f}, threshold {prediction.threshold:.3f}"),
    ):  # fmt: skip
        assert expected in texts


def test_a_report_shows_the_names_beside_the_values(results, tmp_path, tool):
    (tmp_path / "SR.dcm").write_bytes(dicom_bytes(results["SR"]))
    page = tool("dsr2html", tmp_path / "SR.dcm")
    assert "Certainty of Finding" in page
    assert "Presence of property" in page


def test_a_report_is_read_by_highdicom_as_a_measurement_report(results, radiograph):
    source = pydicom.dcmread(io.BytesIO(radiograph))
    report = hd.sr.ComprehensiveSR.from_dataset(results["SR"]).content
    groups = report.get_planar_roi_measurement_groups()
    assert [group.finding_type.value for group in groups] == ["233604007", "53084003", "75570004"]
    for group in groups:
        assert group.roi.ContentSequence[0].referenced_sop_instance_uid == source.SOPInstanceUID
        assert group.roi.value.max(axis=0).tolist() == [source.Columns, source.Rows]


def test_a_report_refers_to_the_radiograph_so_that_a_viewer_can_open_it(results, radiograph):
    source = pydicom.dcmread(io.BytesIO(radiograph))
    (study,) = results["SR"].CurrentRequestedProcedureEvidenceSequence
    (series,) = study.ReferencedSeriesSequence
    (instance,) = series.ReferencedSOPSequence
    assert study.StudyInstanceUID == source.StudyInstanceUID
    assert series.SeriesInstanceUID == source.SeriesInstanceUID
    assert instance.ReferencedSOPInstanceUID == source.SOPInstanceUID


def test_a_normal_radiograph_is_reported_as_absent_without_kinds_of_pneumonia(predictor, samples):
    data = dicom_file(read_radiograph(samples[0]).pixels, **ELEMENTS_OF_STUDY)
    prediction = predictor.predict(data)
    assert prediction.label == "NORMAL"
    texts = _texts(make_results(data, predictor, prediction, ["SR"])["SR"])
    assert ("Presence of property", "Absent") in texts
    assert [value for name, value in texts if name == "Finding"] == ["Pneumonia"]


def test_an_uncertain_verdict_is_reported_as_indeterminate(radiograph, predictor, prediction):
    at_threshold = predictor.at(prediction.probability)
    uncertain = at_threshold.predict(radiograph)
    assert uncertain.status == "uncertain"
    texts = _texts(make_results(radiograph, at_threshold, uncertain, ["SR"])["SR"])
    assert ("Presence of property", "Indeterminate") in texts
    assert ("Comment", uncertain.reason) in texts


def test_a_radiograph_without_a_size_in_its_header_has_a_report_without_a_region(radiograph, predictor):
    dataset = pydicom.dcmread(io.BytesIO(radiograph))
    del dataset.Rows
    data = to_bytes(dataset)
    prediction = predictor.predict(data)
    assert not prediction.judged
    report = make_results(data, predictor, prediction, ["SR"])["SR"]
    (group,) = hd.sr.ComprehensiveSR.from_dataset(report).content.get_image_measurement_groups()
    assert group.source_images[0].referenced_sop_instance_uid == dataset.SOPInstanceUID


def test_an_image_that_is_refused_has_a_report_that_says_why_and_no_picture(predictor, radiograph):
    dataset = pydicom.dcmread(io.BytesIO(radiograph))
    dataset.ViewPosition = "LL"
    data = dicom_bytes(dataset)
    prediction = predictor.predict(data)
    assert (prediction.status, prediction.code) == ("rejected", "view")
    results = make_results(data, predictor, prediction, KINDS)
    assert list(results) == ["SR"]
    texts = _texts(results["SR"])
    assert ("Summary of Analyses", "Not Attempted") in texts
    assert ("Comment", prediction.reason) in texts
    assert not [value for name, value in texts if name in ("Certainty of Finding", "Presence of property")]


def test_the_same_result_has_the_same_uids_and_another_result_has_others(predictor, radiograph, prediction):
    def uids(predictor):
        made = make_results(radiograph, predictor, predictor.predict(radiograph), KINDS)
        return [(result.SeriesInstanceUID, result.SOPInstanceUID) for result in made.values()]

    first = uids(predictor)
    assert uids(load(threads=1)) == first
    for other in (predictor.at(0.3), predictor.at(prevalence=0.1), load("reference-mobilenet", threads=1)):
        assert not set(uids(other)) & set(first)
    assert all(uid.is_valid for pair in first for uid in map(pydicom.uid.UID, pair))


def test_a_capture_shows_the_overlay_and_the_notice(predictor, samples):
    data = dicom_file(read_radiograph(samples[9]).pixels[:, :1200], **ELEMENTS_OF_STUDY)
    (capture,) = make_results(data, predictor, predictor.predict(data), ["SC"]).values()
    assert np.array_equal(capture.pixel_array, draw_overlay(explain(predictor, data)))
    assert capture.ImageComments == RESEARCH_USE_ONLY
    assert list(capture.PatientOrientation) == ["L", "F"]


def test_a_capture_of_a_large_radiograph_is_reduced(predictor, samples):
    pixels = np.kron(read_radiograph(samples[9]).pixels, np.ones((2, 2), np.uint8))
    data = dicom_file(pixels, **ELEMENTS_OF_STUDY)
    (capture,) = make_results(data, predictor, predictor.predict(data), ["SC"]).values()
    assert max(pixels.shape) > 2000
    assert max(capture.Rows, capture.Columns) < 1600


def test_a_presentation_state_outlines_the_evidence_in_stored_pixels(predictor, samples):
    """The stored pixels are twice as wide as high; the heatmap has square ones."""
    data = dicom_file(read_radiograph(samples[9]).pixels[:, ::2], **ELEMENTS_OF_STUDY, PixelSpacing=[0.1, 0.2])
    explanation = explain(predictor, data)
    state = make_results(data, predictor, explanation.prediction, ["PR"])["PR"]
    lines = state.GraphicAnnotationSequence[0].GraphicObjectSequence
    points = np.concatenate([np.reshape(line.GraphicData, (-1, 2)) for line in lines])
    heatmap = explanation.heatmap
    stored = pydicom.dcmread(io.BytesIO(data))
    scale = np.array([stored.Columns / heatmap.shape[1], stored.Rows / heatmap.shape[0]])
    assert list(scale) == [1, 2]
    inside = (np.argwhere(heatmap >= EVIDENCE_LEVEL)[:, ::-1] + 0.5) * scale  # (column, row)
    # One pixel of the heatmap, and what the simplified line may leave its course by.
    tolerance = scale * (1 + 0.002 * max(heatmap.shape))
    assert (abs(points.min(0) - inside.min(0)) < tolerance).all()
    assert (abs(points.max(0) - inside.max(0)) < tolerance).all()
    words = state.GraphicAnnotationSequence[-1].TextObjectSequence[0].UnformattedTextValue
    assert RESEARCH_USE_ONLY in words


def test_a_radiograph_stored_in_colour_has_no_presentation_state(predictor, samples):
    pixels = np.repeat(read_radiograph(samples[9]).pixels[..., None], 3, axis=2)
    elements = {"Rows": pixels.shape[0], "Columns": pixels.shape[1], "SamplesPerPixel": 3, "PlanarConfiguration": 0}
    data = dicom_file(pixels[:, :, 0], **{**ELEMENTS_OF_STUDY, **elements}, PhotometricInterpretation="RGB",
                      PixelData=pixels.tobytes())  # fmt: skip
    results = make_results(data, predictor, predictor.predict(data), KINDS)
    assert list(results) == ["SR", "SC"]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"PatientName": "Yamada^Tarou=\u5c71\u7530^\u592a\u90ce", "SpecificCharacterSet": "ISO_IR 192"},
        {"PatientBirthDate": "d14a028c2a3a2bc9476102bb", "StudyTime": "later", "PatientSex": "W"},
        dict.fromkeys(ELEMENTS_OF_STUDY.keys() - {"StudyInstanceUID", "SeriesInstanceUID"}, ""),
        {"PatientName": "one name only", "Modality": "DX", "PatientAge": "003Y"},
    ],
    ids=["whole", "japanese", "invalid", "empty", "single_name"],
)
def test_two_toolkits_find_no_error_in_any_result(predictor, samples, tmp_path, tool, changes):
    with pydicom.config.disable_value_validation():
        data = dicom_file(read_radiograph(samples[9]).pixels, **{**ELEMENTS_OF_STUDY, **changes})
    prediction = predictor.predict(data)
    for kind, dataset in make_results(data, predictor, prediction, KINDS).items():
        path = tmp_path / f"{kind}.dcm"
        path.write_bytes(dicom_bytes(dataset))
        problems = [line for line in tool("dciodvfy", path, check=False).splitlines() if line.startswith("Error")]
        assert problems == []
        assert dataset.StudyInstanceUID in tool("dcmdump", path)
    printed = tool("dsrdump", tmp_path / "SR.dcm")
    assert "Certainty of Finding" in printed
    assert "Error" not in printed
    page = tool("dsr2html", tmp_path / "SR.dcm")
    assert "Pneumonia" in page


def test_a_name_in_another_character_set_keeps_its_letters(predictor, samples):
    name = "Hong^Gildong=\u6d2a^\u5409\u6d1e=\ud64d^\uae38\ub3d9"
    data = dicom_file(
        read_radiograph(samples[9]).pixels,
        **{**ELEMENTS_OF_STUDY, "SpecificCharacterSet": ["", "ISO 2022 IR 149"], "PatientName": name},
    )
    for dataset in make_results(data, predictor, predictor.predict(data), KINDS).values():
        assert str(pydicom.dcmread(io.BytesIO(dicom_bytes(dataset))).PatientName) == name


@pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID"])
def test_a_radiograph_that_cannot_be_referred_to_has_no_result(radiograph, keyword):
    dataset = pydicom.dcmread(io.BytesIO(radiograph))
    delattr(dataset, keyword)
    file = io.BytesIO()
    dataset.save_as(file)
    with pytest.raises(UnreadableImage, match=f"expected {keyword} in the header"):
        read_source_image(file.getvalue())


def test_another_image_than_dicom_has_no_result(samples):
    with pytest.raises(UnreadableImage, match="expected a DICOM file"):
        read_source_image(samples[0].read_bytes())


def test_no_warning_quotes_a_patient(samples, tmp_path):
    """In a process of its own, because pytest changes what is shown of warnings."""
    (tmp_path / "a.dcm").write_bytes(
        dicom_file(read_radiograph(samples[9]).pixels, **{**ELEMENTS_OF_STUDY, "PatientName": "Smith"})
    )
    program = (
        "import pathlib, pneumoscope, pneumoscope.pacs as pacs\n"
        "data, predictor = pathlib.Path('a.dcm').read_bytes(), pneumoscope.load()\n"
        "print(*pacs.make_results(data, predictor, predictor.predict(data), ('SR', 'SC', 'PR')))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert (done.stdout.split(), done.stderr) == (["SR", "SC", "PR"], "")


def test_the_codes_are_those_of_the_standard():
    """Values typed from PS3.16 and SNOMED CT; the module takes most of them from pydicom by keyword."""
    expected = {
        "PLAIN_CHEST_XRAY": "399208008", "PNEUMONIA": "233604007", "BACTERIAL_PNEUMONIA": "53084003",
        "VIRAL_PNEUMONIA": "75570004", "LUNG": "39607008", "CERTAINTY": "111012", "THRESHOLD": "122411",
        "PERCENT": "%", "PRESENCE": "121052", "PRESENT": "52101004", "ABSENT": "272519000",
        "INDETERMINATE": "82334004", "ANALYSES": "111065", "SUCCEEDED": "111222", "NOT_ATTEMPTED": "111225",
        "FAILED": "111224", "COMMENT": "121106", "ARTIFICIAL_INTELLIGENCE": "123110",
    }  # fmt: skip
    concepts = {name: concept for name, concept in vars(codes).items() if name.isupper()}
    assert {name: concept.value for name, concept in concepts.items()} == expected
