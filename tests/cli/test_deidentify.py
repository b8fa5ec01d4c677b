"""``deidentify``: one folder a patient, one bad file does not stop the others, text is warned of."""

import cv2
import pydicom
import pytest
from builders.dicom_files import ELEMENTS_OF_STUDY, SECRET, dicom_file

from pneumoscope import read_radiograph


@pytest.fixture
def study(samples, tmp_path):
    pixels = read_radiograph(samples[9]).pixels
    folder = tmp_path / SECRET
    folder.mkdir()
    for name, text in (("a.dcm", ""), ("b.dcm", "DOE JANE 1957")):
        image = pixels.copy()
        cv2.putText(image, text, (30, 60), cv2.FONT_HERSHEY_SIMPLEX, 1.2, 255, 2, cv2.LINE_AA)
        (folder / name).write_bytes(dicom_file(image, **ELEMENTS_OF_STUDY))
    (tmp_path / "key").write_text("a key of the project")
    return folder


def test_files_go_into_a_folder_for_each_patient(run, study, tmp_path):
    code, out, err = run("deidentify", SECRET, "--out", "clean", "--key", "key")
    files = sorted((tmp_path / "clean").rglob("*.dcm"))
    assert code == 0
    assert out.splitlines()[0] == "2 of 2 files written to clean"
    assert "1 seem to have text" in out
    assert err.count("there seems to be text in the borders") == 1
    assert len({file.parent for file in files}) == 1
    for file in files:
        dataset = pydicom.dcmread(file)
        assert (file.parent.name, file.stem) == (dataset.PatientID, dataset.SOPInstanceUID)
    run("deidentify", SECRET, "--out", "again", "--key", "key")
    again = sorted(file.relative_to(tmp_path / "again") for file in (tmp_path / "again").rglob("*.dcm"))
    assert again == [file.relative_to(tmp_path / "clean") for file in files]


def test_one_bad_file_does_not_stop_the_others(run, study, samples):
    (study / "damaged.dcm").write_bytes((study / "a.dcm").read_bytes()[:2000])
    code, out, err = run("deidentify", SECRET, samples[0], "missing.dcm", "--out", "clean", "--key", "key")
    assert code == 1
    assert out.splitlines()[0] == "2 of 5 files written to clean"
    assert err.count(" left out: expected ") == 3


@pytest.mark.parametrize(
    ("content", "sentence"), [(None, "expected a text file with the key"), ("short", "at least 16 characters")]
)
def test_a_key_that_is_none_gives_a_sentence(run, study, tmp_path, content, sentence):
    if content is not None:
        (tmp_path / "k").write_text(content)
    code, _, err = run("deidentify", SECRET, "--out", "clean", "--key", "k")
    assert code == 2
    assert sentence in err


@pytest.mark.parametrize(
    ("paths", "out"),
    [
        ([SECRET], SECRET),
        ([SECRET], f"{SECRET}/clean"),
        ([f"{SECRET}/inner"], SECRET),
        ([f"{SECRET}/inner", SECRET], f"{SECRET}/inner/clean"),
        ([f"{SECRET}/*.dcm"], SECRET),
        ([f"{SECRET}/a.dcm"], "."),
        (["link"], SECRET),
    ],
)
def test_originals_and_new_files_do_not_mix(run, study, tmp_path, paths, out):
    (study / "inner").mkdir()
    (tmp_path / "link").symlink_to(study)
    before = sorted(tmp_path.rglob("*"))
    code, _, err = run("deidentify", *paths, "--out", out, "--key", "key")
    assert code == 2
    assert "expected --out outside the folders of the original files" in err
    assert err.count("\n") == 1
    assert sorted(tmp_path.rglob("*")) == before


def test_files_beside_the_new_folder_may_be_named(run, study, tmp_path):
    assert run("deidentify", f"{SECRET}/a.dcm", "--out", f"{SECRET}/clean", "--key", "key")[0] == 0


def test_objects_without_pixels_are_left_out_with_a_sentence(run, study, tmp_path):
    code, _, err = run("predict", f"{SECRET}/a.dcm", "--sr", "r", "--pr", "r")
    assert code == 0
    code, out, err = run("deidentify", SECRET, "r", "--out", "clean", "--key", "key")
    assert code == 1
    assert out.splitlines()[0] == "2 of 4 files written to clean"
    for name in ("Comprehensive SR Storage", "Grayscale Softcopy Presentation State Storage"):
        assert f"left out: expected an image, received a DICOM file without pixels ({name})" in err


def test_missing_uids_are_named(run, study):
    dataset = pydicom.dcmread(study / "a.dcm")
    del dataset.SOPClassUID, dataset.SOPInstanceUID
    dataset.save_as(study / "nouid.dcm", enforce_file_format=False)
    _, _, err = run("deidentify", f"{SECRET}/nouid.dcm", "--out", "clean", "--key", "key")
    assert "expected SOPClassUID and SOPInstanceUID in the header" in err


def test_images_that_cannot_be_searched_for_text_are_counted_apart(run, study):
    dataset = pydicom.dcmread(study / "a.dcm")
    dataset.BitsAllocated = 32
    dataset.save_as(study / "odd.dcm")
    code, out, _ = run("deidentify", SECRET, "--out", "clean", "--key", "key")
    assert code == 0
    assert "1 seem to have text in the borders" in out
    assert "of 1 it is not known whether they have text" in out
