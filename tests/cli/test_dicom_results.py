"""``predict --sr --sc --pr``: DICOM results beside the others."""

import zipfile

import numpy as np
import pydicom
import pytest
from builders.dicom_files import ELEMENTS_OF_STUDY, dicom_file

from pneumoscope import read_radiograph
from pneumoscope.pacs import write_dicom

KINDS = {"--sr": "sr", "--sc": "sc", "--pr": "pr"}
OPTIONS = [word for option, folder in KINDS.items() for word in (option, folder)]


@pytest.fixture
def study(samples, tmp_path):
    """Three files of one study: a radiograph, a lateral view, and a picture that is no DICOM file."""
    pixels = read_radiograph(samples[9]).pixels
    folder = tmp_path / "study"
    folder.mkdir()
    (folder / "a.dcm").write_bytes(dicom_file(pixels, **ELEMENTS_OF_STUDY))
    (folder / "b.dcm").write_bytes(dicom_file(pixels, **{**ELEMENTS_OF_STUDY, "ViewPosition": "LL"}))
    return folder


def test_a_folder_of_dicom_files_gets_results_of_every_kind(run, study, tmp_path):
    code, _, err = run("predict", "study", *OPTIONS, "--jsonl", "r.jsonl")
    assert (code, err) == (1, "")  # 1: the lateral view was not judged
    written = {folder: sorted(path.name for path in (tmp_path / folder).iterdir()) for folder in KINDS.values()}
    assert written == {"sr": ["a.sr.dcm", "b.sr.dcm"], "sc": ["a.sc.dcm"], "pr": ["a.pr.dcm"]}
    for path in tmp_path.glob("s[rc]/*.dcm"):
        assert pydicom.dcmread(path).StudyInstanceUID == ELEMENTS_OF_STUDY["StudyInstanceUID"]


def test_a_gray_image_stored_as_rgb_has_no_presentation_state_and_a_line_says_so(run, study, tmp_path):
    dataset = pydicom.dcmread(study / "a.dcm")
    gray = dataset.pixel_array
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation, dataset.PlanarConfiguration = 3, "RGB", 0
    dataset.PixelData = np.repeat(gray[:, :, None], 3, axis=2).tobytes()
    dataset.save_as(study / "a.dcm")
    code, _, err = run("predict", "study/a.dcm", *OPTIONS)
    assert (code, err.count("\n")) == (0, 1)
    assert "no presentation state of study/a.dcm: it is stored in colour (RGB or YBR)" in err
    assert not list((tmp_path / "pr").iterdir())


def test_a_file_that_cannot_be_read_has_no_result_and_a_sentence_says_so(run, study, tmp_path):
    (study / "c.dcm").write_bytes((study / "a.dcm").read_bytes()[:200])
    (study / "d.png").write_bytes(b"no picture")
    code, _, err = run("predict", "study", *OPTIONS)
    assert (code, err.count("\n")) == (1, 2)
    for name in ("c.dcm", "d.png"):
        assert f"no DICOM result of study/{name}, which is no DICOM file or cannot be read" in err
    assert len(list((tmp_path / "sr").iterdir())) == 2


def test_an_image_that_is_no_dicom_file_costs_its_result_only(run, study, samples):
    code, out, err = run("predict", samples[9], "study/a.dcm", *OPTIONS)
    assert code == 1
    assert err.count("\n") == 1
    assert f"no DICOM result of {samples[9]}: expected a DICOM file" in err
    assert "2 images: 2 PNEUMONIA" in out


def test_a_second_call_does_not_judge_its_own_results(run, study, tmp_path):
    for number in (0, 3):
        _, out, err = run("predict", "study", "--sr", "study/sr", "--sc", "study/sc", "--json")
        assert out.count('"path"') == 2
        sentence = f"left out {number} DICOM results of pneumoscope, which are no radiographs\n"
        assert err == (sentence if number else "")
    assert len(list((study / "sr").iterdir())) == 2


def test_an_export_with_its_own_results_gets_new_ones_of_the_radiographs_only(run, study, tmp_path):
    """An archive writes file meta information of its own; an image that was de-identified has that of this program."""
    run("predict", "study/a.dcm", *OPTIONS)
    for folder in KINDS.values():
        dataset = pydicom.dcmread(tmp_path / folder / f"a.{folder}.dcm")
        del dataset.file_meta.ImplementationClassUID, dataset.file_meta.ImplementationVersionName
        dataset.save_as(study / f"IM{folder}", enforce_file_format=True)
    write_dicom(pydicom.dcmread(study / "a.dcm"), study / "c.dcm")
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as archive:
        for path in study.iterdir():
            archive.write(path, path.name)
    for name in ("study", "export.zip"):
        _, out, err = run("predict", name, "--sr", "new", "--json")
        assert out.count('"path"') == 3
        assert "left out 3 DICOM results of pneumoscope" in err
        assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["a.sr.dcm", "b.sr.dcm", "c.sr.dcm"]


def test_an_object_that_is_no_image_has_a_row_and_no_report(run, study, tmp_path):
    for name, sop_class in (("k", "88.59"), ("r", "88.33"), ("p", "11.1"), ("d", "104.1")):
        dataset = pydicom.dcmread(study / "a.dcm")
        del dataset.PixelData, dataset.Rows, dataset.Columns
        dataset.SOPClassUID, dataset.Modality = f"1.2.840.10008.5.1.4.1.1.{sop_class}", "KO"
        dataset.save_as(study / f"{name}.dcm")
    code, out, err = run("predict", "study", "--sr", "sr", "--json")
    assert code == 1
    assert out.count('"path"') == 6
    assert out.count('"status": "rejected"') == 5
    assert err.count("expected an image, to which a DICOM result can refer") == err.count("\n") == 4
    assert sorted(path.name for path in (tmp_path / "sr").iterdir()) == ["a.sr.dcm", "b.sr.dcm"]


def test_a_resumed_call_writes_only_the_results_that_are_missing(run, study, tmp_path):
    run("predict", "study", *OPTIONS, "--csv", "r.csv")
    paths = sorted(tmp_path.glob("*/*.*.dcm"))
    before = {path: path.stat().st_mtime_ns for path in paths}
    content = (tmp_path / "sc" / "a.sc.dcm").read_bytes()
    (tmp_path / "sc" / "a.sc.dcm").unlink()
    (tmp_path / "sr" / "b.sr.dcm").unlink()
    code, _, err = run("predict", "study", *OPTIONS, "--csv", "r.csv", "--resume")
    assert (code, "2 of 2 images are already done" in err) == (1, True)
    changed = {path.name for path in paths if path.stat().st_mtime_ns != before[path]}
    assert changed == {"a.sc.dcm", "b.sr.dcm"}
    again = pydicom.dcmread(tmp_path / "sc" / "a.sc.dcm")
    assert again.PixelData in content
    assert str(again.SOPInstanceUID).encode() in content


def test_results_of_another_threshold_replace_those_of_the_call_before(run, study, tmp_path):
    run("predict", "study/a.dcm", "--sr", "sr")
    first = pydicom.dcmread(tmp_path / "sr" / "a.sr.dcm").SOPInstanceUID
    run("predict", "study/a.dcm", "--sr", "sr", "--threshold", "0.1")
    assert [path.name for path in (tmp_path / "sr").iterdir()] == ["a.sr.dcm"]
    assert pydicom.dcmread(tmp_path / "sr" / "a.sr.dcm").SOPInstanceUID != first


def test_a_dicom_file_of_another_program_is_not_replaced(run, study, tmp_path):
    (tmp_path / "sr").mkdir()
    foreign = (study / "a.dcm").read_bytes()
    (tmp_path / "sr" / "a.sr.dcm").write_bytes(foreign)
    assert run("predict", "study/a.dcm", "--sr", "sr")[0] == 0
    assert (tmp_path / "sr" / "a.sr.dcm").read_bytes() == foreign
    assert (tmp_path / "sr" / "a-2.sr.dcm").is_file()


def test_dicom_results_are_of_the_local_engine_only(run, study):
    code, _, err = run("predict", "study", "--sr", "sr", "--engine", "ray", "--parquet", "p")
    assert code == 2
    assert "expected --engine local for --sr" in err


def test_the_accession_number_is_written_on_request(run, study):
    assert '"accession_number": ""' in run("predict", "study/a.dcm", "--json")[1]
    assert '"accession_number": "A-77"' in run("predict", "study/a.dcm", "--json", "--accession-number")[1]
