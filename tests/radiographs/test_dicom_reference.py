"""Study, series and instance of a DICOM file in its radiograph, its prediction and the results."""

import csv
import json

import pytest
from builders.dicom_files import ELEMENTS_OF_STUDY, dicom_file

from pneumoscope import load, read_radiograph
from pneumoscope.output import CsvFile
from pneumoscope.radiographs.contents import content_reference
from pneumoscope.radiographs.dicom import InstanceReference

UIDS = ("study_instance_uid", "series_instance_uid", "sop_instance_uid")


@pytest.fixture(scope="module")
def data(samples):
    return dicom_file(read_radiograph(samples[9]).pixels, **ELEMENTS_OF_STUDY, SOPInstanceUID="1.2.3.4")


def test_a_radiograph_knows_its_study_series_and_instance(data):
    assert read_radiograph(data).reference == InstanceReference(
        ELEMENTS_OF_STUDY["StudyInstanceUID"], ELEMENTS_OF_STUDY["SeriesInstanceUID"], "1.2.3.4", "A-77"
    )


def test_other_images_have_no_reference(samples):
    assert read_radiograph(samples[0]).reference == InstanceReference()
    assert content_reference(samples[0].read_bytes()) == InstanceReference()


@pytest.mark.parametrize(
    ("keyword", "value"),
    [("StudyInstanceUID", "Doe^Jane"), ("SeriesInstanceUID", "1.2." + "3" * 70), ("AccessionNumber", "Doe\x1b[31m")],
)
def test_a_value_that_cannot_be_right_is_left_out(samples, keyword, value):
    data = dicom_file(read_radiograph(samples[9]).pixels, **{**ELEMENTS_OF_STUDY, keyword: value})
    assert "" in read_radiograph(data).reference


def test_predictions_carry_the_reference_and_the_accession_number_only_on_request(data):
    for requested, number in ((False, ""), (True, "A-77")):
        predictor = load(accession_numbers=requested)
        for prediction in (predictor.predict(data), predictor.at(0.2).predict(data)):
            row = prediction.to_dict()
            assert [row[name] for name in UIDS] == [
                ELEMENTS_OF_STUDY["StudyInstanceUID"], ELEMENTS_OF_STUDY["SeriesInstanceUID"], "1.2.3.4",
            ]  # fmt: skip
            assert row["accession_number"] == number


def test_a_refused_image_keeps_its_reference(samples):
    data = dicom_file(read_radiograph(samples[9]).pixels, **{**ELEMENTS_OF_STUDY, "ViewPosition": "LL"})
    prediction = load().predict(data)
    assert prediction.status == "rejected"
    assert prediction.study_instance_uid == ELEMENTS_OF_STUDY["StudyInstanceUID"]


def test_a_file_of_results_of_the_version_before_is_continued_with_its_columns(samples, tmp_path):
    predictor = load()
    predictions = list(predictor.predict_many(samples[:2]))
    file = CsvFile(tmp_path / "r.csv", predictor, resume=False)
    file.begin()
    file.write(predictions[0])
    file.close()
    rows = list(csv.reader((tmp_path / "r.csv").read_text().splitlines()))
    before = [row[: rows[0].index("study_instance_uid")] for row in rows]
    with (tmp_path / "r.csv").open("w", newline="") as old:
        csv.writer(old, lineterminator="\n").writerows(before)
    file = CsvFile(tmp_path / "r.csv", predictor, resume=True)
    assert file.predictions == predictions[:1]
    file.begin()
    file.write(predictions[1])
    file.close()
    table = list(csv.reader((tmp_path / "r.csv").read_text().splitlines()))
    assert [len(row) for row in table] == [len(before[0])] * 3


def test_json_of_a_dicom_file_names_nobody(data, tmp_path):
    (tmp_path / "a.dcm").write_bytes(data)
    text = json.dumps(load(accession_numbers=True).predict(tmp_path / "a.dcm").to_dict())
    for name in ("PatientName", "PatientBirthDate", "ReferringPhysicianName"):
        assert str(ELEMENTS_OF_STUDY.get(name, "Doe^Jane^1957")) not in text
