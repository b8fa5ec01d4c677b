"""Which patient an image shows: the stated rules, and what the table says of them."""

import json

import pytest

from pneumoscope.data.manifest import TableOptions, read_manifest
from pneumoscope.data.overlaps import find_overlaps
from pneumoscope.data.patients import FROM_COLUMN, FROM_FOLDER, FROM_NAME, OWN, describe_sources, name_patients
from pneumoscope.data.scan import read_dataset
from pneumoscope.data.splits import make_split


@pytest.mark.parametrize(
    ("path", "patient", "source"),
    [
        ("CheXpert/train/patient00007/study1/view1_frontal.jpg", "CheXpert/patient00007", FROM_FOLDER),
        ("CheXpert/valid/patient00007/study2/view1_frontal.jpg", "CheXpert/patient00007", FROM_FOLDER),
        ("files/p10/p10000032/s50414267/a.jpg", "files/p10/p10000032", FROM_FOLDER),
        ("sub-S03044/ses-E07985/mod-rx/sub-S03044_ses-E07985_run-1_vp-ap_dx.png", "sub-S03044", FROM_FOLDER),
        ("PAT00001/STD00001/SER00001/IMG00001", "PAT00001", FROM_FOLDER),
        ("PNEUMONIA/virus/Subject 12/a.png", "Subject 12", FROM_FOLDER),
        ("patient3/IM-0001-0001.dcm", "patient3", FROM_FOLDER),
        ("train/NORMAL/IM-0115-0001.jpeg", "IM-0115", FROM_NAME),
        ("PNEUMONIA/person1_bacteria_2.jpeg", "person1", FROM_NAME),
        ("images/00000013_005.png", "00000013", FROM_NAME),
        ("NORMAL/patient7_lateral.png", "patient7", FROM_NAME),
        ("siteA/PNEUMONIA/patient7.png", "siteA/patient7", FROM_NAME),
        ("NORMAL/patients/a.png", "a", OWN),
        ("NORMAL/subway.png", "subway", OWN),
        ("NORMAL/1.jpeg", "1", OWN),
    ],
)
def test_the_rules(path, patient, source):
    assert name_patients([path]) == [(patient, source)]


def test_numbers_alone_say_nothing_of_patients(data_folder):
    """Each class has its own 1.png to 12.png: they were 12 patients in place of 24."""
    folder = data_folder(*(f"{label}/{number}.png" for label in ("NORMAL", "PNEUMONIA") for number in range(1, 13)))
    records = read_dataset(folder).records
    assert len({record.patient for record in records}) == len({record.group for record in records}) == 24
    assert {record.patient_from for record in records} == {OWN}


def test_chexpert_paths_in_a_table_give_a_split(tmp_path):
    rows = [f"patient{n}/study1/view1_frontal.jpg,{'PNEUMONIA' if n % 2 else 'NORMAL'}" for n in range(24)]
    (tmp_path / "labels.csv").write_text("\n".join(["path,label", *rows, ""]))
    manifest = read_manifest(tmp_path / "labels.csv")
    assert len({record.group for record in manifest.records}) == 24
    assert len(make_split(manifest).val) == 2


def test_a_column_wins(tmp_path):
    (tmp_path / "labels.csv").write_text(
        "path,label,Patient ID,code\npatient1/a.png,NORMAL,x,1\npatient2/a.png,NORMAL,x,2\nc.png,PNEUMONIA,,3\n"
    )
    records = read_manifest(tmp_path / "labels.csv").records
    assert [(record.patient, record.patient_from) for record in records] == [
        ("x", FROM_COLUMN),
        ("x", FROM_COLUMN),
        ("c", OWN),
    ]
    records = read_manifest(tmp_path / "labels.csv", TableOptions(patient_column="code")).records
    assert [record.patient for record in records] == ["1", "2", "3"]


def test_absolute_paths_give_the_same_patients(data_folder):
    folder = data_folder("NORMAL/1.png", "PNEUMONIA/1.png", "PNEUMONIA/patient4/a.png")
    table = folder.parent / "labels.csv"
    records = read_dataset(folder).records
    table.write_text("path,label\n" + "".join(f"{folder / record.path},{record.label}\n" for record in records))
    assert [record.patient for record in read_manifest(table).records] == [record.patient for record in records]


def test_a_name_of_its_own_is_never_that_of_a_patient():
    assert name_patients(["person1.png", "person1_virus_1.png"]) == [("person1.png", OWN), ("person1", FROM_NAME)]
    assert name_patients(["a/x.png", "a/x.jpg"]) == [("a/x.png", OWN), ("a/x.jpg", OWN)]


def test_the_sources_in_words():
    assert describe_sources(["", ""]) == "from the column of the table"
    assert describe_sources([FROM_NAME, OWN, FROM_NAME]) == "from file names (2 images), each image its own (1 image)"


# Overlaps --------------------------------------------------------------------------------------------------


def test_a_picture_under_both_labels_is_said(data_folder):
    data_folder("NORMAL/a.png", "PNEUMONIA/b.png")
    folder = data_folder("NORMAL/x.png", "PNEUMONIA/y.png", picture="the same")
    manifest = read_dataset(folder)
    overlaps = find_overlaps(manifest, manifest.records)
    assert overlaps.both_labels == ("NORMAL/x.png", "PNEUMONIA/y.png")
    (sentence,) = overlaps.sentences()
    assert sentence.startswith("2 images show a picture that is there under both labels (first: 'NORMAL/x.png')")


def test_a_test_image_that_is_a_training_image_is_said(data_folder):
    data_folder("train/NORMAL/a.png", "train/PNEUMONIA/b.png", "test/NORMAL/c.png")
    folder = data_folder("train/NORMAL/x.png", "test/NORMAL/y.png", picture="the same")
    manifest = read_dataset(folder)
    assert find_overlaps(manifest, manifest.select("test")).in_training == ("test/NORMAL/y.png",)
    assert find_overlaps(manifest, manifest.select("train")).in_training == ()


def test_overlaps_are_found_by_the_bytes_where_the_table_has_no_hashes(tmp_path):
    (tmp_path / "labels.csv").write_text("path,label\na.png,NORMAL\nb.png,PNEUMONIA\nc.png,PNEUMONIA\n")
    manifest = read_manifest(tmp_path / "labels.csv")
    found = find_overlaps(manifest, manifest.records, {"a.png": "1", "b.png": "1", "c.png": "2"})
    assert found.both_labels == ("a.png", "b.png")


def test_evaluate_says_where_patients_come_from_and_what_is_not_used(data_folder, tmp_path):
    from pneumoscope import load
    from pneumoscope.evaluation.evaluate import evaluate_model
    from pneumoscope.evaluation.report import report_html

    data_folder(*(f"{label}/{n}.png" for label in ("NORMAL", "PNEUMONIA") for n in range(4)), "other/c.png")
    manifest = read_dataset(data_folder("NORMAL/x.png", "PNEUMONIA/x.png", picture="the same"))
    report = evaluate_model(load(), manifest, manifest.records, "all", out=tmp_path / "out", resamples=20)
    data = json.loads((tmp_path / "out" / "report.json").read_text())["data"]
    assert data["patients_from"] == OWN
    assert data["patients"] == 9  # the two with one picture count as one
    assert data["unused"] == {"images in the folder other, outside of NORMAL and PNEUMONIA": 1}
    assert data["both_labels"] == ["NORMAL/x.png", "PNEUMONIA/x.png"]
    page = report_html(report, [], tmp_path / "report.html").read_text()
    for words in ("each image its own", "images in the folder other", "under both labels"):
        assert words in page
