"""DICOM files of patients that the models were not trained for are rejected with the reason; an option judges them."""

import pytest
from builders.dicom_files import code_sequence, dicom_file

from pneumoscope import load
from pneumoscope.cli import main
from pneumoscope.errors import RefusedImage
from pneumoscope.radiographs.images import read_radiograph

OUTSIDE = [
    ({"PatientAge": "062Y"}, 62),
    ({"PatientAge": "81"}, 81),
    ({"PatientAge": "006Y"}, 6),
    ({"PatientAge": "010M"}, 0),
    ({"PatientAge": "003W"}, 0),
    ({"PatientBirthDate": "19400305", "StudyDate": "20040826"}, 64),
    ({"PatientBirthDate": "1940.03.05", "AcquisitionDate": "20040304"}, 63),
    ({"PatientAge": "004Y", "PatientBirthDate": "19400305", "StudyDate": "20040826"}, 64),
    ({"PatientAge": "062Y", "PatientBirthDate": "20000305", "StudyDate": "20040826"}, 62),
    ({"PatientAge": "004Y", "PatientBirthDate": "20040305", "StudyDate": "20040826"}, 0),
    ({"PatientAge": "004Y", "PatientBirthDate": "19000102", "StudyDate": "20040826"}, 104),
]
INSIDE = [
    {},
    {"PatientAge": "004Y"},
    {"PatientAge": "018M"},
    {"PatientAge": "012M"},
    {"PatientAge": "071M"},
    {"PatientAge": "unknown"},
    {"PatientBirthDate": "20000305", "StudyDate": "20040826"},
    {"PatientBirthDate": "20000305"},
    {"PatientBirthDate": "20040826", "StudyDate": "20000305"},
    {"PatientBirthDate": "18000101", "StudyDate": "20040826"},
    {"PatientBirthDate": "18991231", "StudyDate": "20040826"},
    {"PatientBirthDate": "19000101", "StudyDate": "20040826"},
    {"PatientAge": "004Y", "PatientBirthDate": "20300305", "StudyDate": "20040826"},
    {"PatientAge": "004Y", "PatientBirthDate": "18000101", "StudyDate": "20040826"},
    {"PatientAge": "004Y", "PatientBirthDate": "20000305", "StudyDate": "20040826"},
    {"PatientSpeciesDescription": "Homo sapiens"},
    {"PatientSpeciesCodeSequence": code_sequence("337915000", "Homo sapiens")},
]
ANIMALS = [
    {"PatientSpeciesDescription": "Canine"},
    {"PatientSpeciesCodeSequence": code_sequence("448771007", "Canis lupus subspecies familiaris")},
    {"PatientBreedDescription": "Beagle"},
]


@pytest.fixture(autouse=True)
def _any_value(monkeypatch):
    monkeypatch.setattr("pydicom.config.settings._writing_validation_mode", 0)


@pytest.mark.parametrize(("elements", "years"), OUTSIDE)
def test_a_patient_outside_the_range_is_rejected_with_the_age(image, elements, years):
    data = dicom_file(image, **elements)
    with pytest.raises(RefusedImage, match=rf"a patient of 1 to 5 years.*a patient of {years} years.*--any-age"):
        read_radiograph(data)
    assert read_radiograph(data, any_age=True).pixels.shape == image.shape
    assert load().predict(data).status == "rejected"
    assert load(any_age=True).predict(data).judged
    assert load(any_age=True).at(0.3).predict(data).judged


@pytest.mark.parametrize("elements", INSIDE)
def test_a_patient_in_the_range_or_of_unknown_age_is_judged(image, elements):
    assert read_radiograph(dicom_file(image, **elements)).pixels.shape == image.shape


@pytest.mark.parametrize("elements", ANIMALS)
def test_an_animal_is_rejected(image, elements):
    with pytest.raises(RefusedImage, match="gives an animal as the patient"):
        read_radiograph(dicom_file(image, **elements), any_age=True)


def test_the_option_of_the_command_line(image, tmp_path, capsys, monkeypatch):
    path = tmp_path / "adult.dcm"
    path.write_bytes(dicom_file(image, PatientAge="062Y"))
    for options, code, word in (([], 1, "rejected"), (["--any-age"], 0, '"label"')):
        assert _run(monkeypatch, "predict", str(path), "--json", *options) == code
        assert word in capsys.readouterr().out
    for options, code in (([], 1), (["--any-age"], 0)):
        assert _run(monkeypatch, "explain", str(path), "--out", str(tmp_path / "map.png"), *options) == code


def _run(monkeypatch, *words: str) -> int:
    monkeypatch.setattr("sys.argv", ["pneumoscope", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return int(ended.value.code or 0)
