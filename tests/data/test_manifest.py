"""CSV files become manifests, and manifests are written as CSV files."""

import csv
import os
from dataclasses import replace

import pytest

from pneumoscope.data.manifest import (
    MANIFEST_NAME,
    Manifest,
    Record,
    TableOptions,
    complete_records,
    read_manifest,
    write_manifest,
)
from pneumoscope.data.patients import FROM_NAME, OWN
from pneumoscope.data.scan import read_dataset, scan_folder
from pneumoscope.errors import DatasetError
from pneumoscope.labels import NORMAL

NORMALS = ("NORMAL/IM-0001-0001.png", "NORMAL/NORMAL2-IM-0002-0001.png")
PNEUMONIAS = ("PNEUMONIA/person1_bacteria_1.png", "PNEUMONIA/person2_virus_2.png")


def csv_file(folder, text, name="labels.csv", encoding="utf-8"):
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


# Manifests -------------------------------------------------------------------------------------------------


def test_a_written_manifest_is_read_back_unchanged(data_folder):
    folder = data_folder(*NORMALS, *PNEUMONIAS, 'NORMAL/a, "quoted" name.png', "NORMAL/röntgen.png")
    manifest = read_dataset(folder)
    write_manifest(manifest, folder / MANIFEST_NAME)
    assert read_dataset(folder) == manifest
    assert read_dataset(folder / MANIFEST_NAME) == manifest
    assert sorted(path.name for path in folder.iterdir()) == ["NORMAL", "PNEUMONIA", MANIFEST_NAME]


def test_a_written_manifest_is_text_and_runs_no_formula(data_folder):
    strange = ("NORMAL/=cmd.png", "NORMAL/a\nb.png", "NORMAL/\\x41.png")
    folder = data_folder(*NORMALS, *PNEUMONIAS, *strange)
    records = [replace(record, path=record.path.removeprefix("NORMAL/")) for record in read_dataset(folder).records]
    manifest = Manifest(folder / "NORMAL", complete_records([record for record in records if record.label == NORMAL]))
    path = folder / "NORMAL" / "list.csv"
    write_manifest(manifest, path)
    text = path.read_bytes().decode("utf-8")
    assert len(text.splitlines()) == 1 + len(manifest.records)
    assert not [line for line in text.splitlines() if line.startswith(("=", "+", "-", "@"))]
    assert [record.path for record in read_dataset(path).records] == [record.path for record in manifest.records]


def test_file_names_that_are_not_utf_8_are_read_back_unchanged(data_folder):
    folder = data_folder(*NORMALS, *PNEUMONIAS)
    try:
        (folder / NORMALS[0]).rename(folder / "NORMAL" / os.fsdecode(b"r\xf6ntgen.png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    manifest = read_dataset(folder)
    write_manifest(manifest, folder / MANIFEST_NAME)
    assert read_dataset(folder) == manifest
    assert all(manifest.path(record).is_file() for record in manifest.records)


def test_a_manifest_may_be_outside_the_folder_of_its_images(data_folder, tmp_path):
    folder = data_folder(*NORMALS, *PNEUMONIAS)
    (tmp_path / "lists").mkdir()
    for folder_of_manifest in (tmp_path, tmp_path / "lists"):
        manifest, _ = scan_folder(folder, relative_to=folder_of_manifest)
        write_manifest(manifest, folder_of_manifest / "mine.csv")
        again = read_manifest(folder_of_manifest / "mine.csv")
        assert again == manifest
        assert all(again.path(record).is_file() for record in again.records)


def test_missing_columns_are_completed_from_the_file_names(tmp_path):
    path = csv_file(tmp_path, "label,path\nPNEUMONIA,scans/person3_virus_4.png\nNORMAL,b.png\n")
    assert read_dataset(path).records == (
        Record("scans/person3_virus_4.png", "PNEUMONIA", "viral", "person3", "person3", patient_from=FROM_NAME),
        Record("b.png", "NORMAL", "", "b", "b", patient_from=OWN),
    )
    assert read_dataset(path).root == tmp_path


def test_the_ratio_is_that_of_the_size_unless_a_column_says_otherwise(tmp_path):
    sizes = "path,label,width,height\na.png,NORMAL,300,200\nb.png,NORMAL,,\n"
    assert [record.ratio for record in read_dataset(csv_file(tmp_path, sizes)).records] == [1.5, 0.0]
    with_ratios = "path,label,width,height,ratio\na.png,NORMAL,224,224,1.37\nb.png,NORMAL,224,224,\n"
    assert [record.ratio for record in read_dataset(csv_file(tmp_path, with_ratios)).records] == [1.37, 0.0]


def test_an_unknown_ratio_is_read_back_as_unknown(data_folder, tmp_path):
    folder = data_folder(*NORMALS, *PNEUMONIAS)
    manifest = read_dataset(folder)
    assert {record.ratio for record in manifest.records} == {r.width / r.height for r in manifest.records}
    with_ratios = replace(manifest, records=tuple(replace(r, ratio=i / 3) for i, r in enumerate(manifest.records)))
    write_manifest(with_ratios, folder / MANIFEST_NAME)
    assert read_dataset(folder) == with_ratios
    assert with_ratios.records[0].ratio == 0


def test_the_csv_overrides_the_file_names(tmp_path):
    text = "path,label,patient,group,sublabel,split,age\nperson3_virus_4.png,NORMAL,ann,,,test,7\n"
    (record,) = read_dataset(csv_file(tmp_path, text)).records
    assert (record.patient, record.group, record.split) == ("ann", "ann", "test")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_csv_files_of_spreadsheets_are_read(tmp_path, encoding, newline):
    text = newline.join(["path,label,note", '"ä, b.png",NORMAL,"two', 'lines"', "c.png,PNEUMONIA,", "", ""])
    records = read_dataset(csv_file(tmp_path, text, encoding=encoding)).records
    assert [(record.path, record.label) for record in records] == [("ä, b.png", "NORMAL"), ("c.png", "PNEUMONIA")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"expected the columns path and label in .*labels.csv, missing label and path"),
        ("path\na.png\n", "missing label, received path: name them with"),
        ("a.png,NORMAL\nb.png,PNEUMONIA\n", "missing label and path"),
        ("path\tlabels and more\na.png\tNORMAL\n", "missing label, received path, labels and more"),
        ("path,label\n", "expected at least one row"),
        ("path,label\n\n\n", "expected at least one row"),
        ("path,label\na.png,NORMAL\nb.png,norm\n", r"label NORMAL or PNEUMONIA in .* line 3, received 'norm'"),
        ("path,label\na.png,COVID\n", r"line 2, received 'COVID'"),
        ("path,label\na.png,all\n", r"line 2, received 'all'"),
        ("path,label\na.png,\n", "line 2, received None"),
        ("path,label\na.png\n", "line 2, received None"),
        ("path,label\n,NORMAL\n", "expected a path in .* line 2, received none"),
        ("path,label,split\na.png,NORMAL,held out\n", "split train or val or test or all in .* 'held out'"),
        ("path,label,bytes\na.png,NORMAL,many\n", "expected a whole number of bytes in .* line 2, received 'many'"),
        ("path,label,width\na.png,NORMAL,-5\n", "whole number of width"),
        ("path,label,height\na.png,NORMAL,1.5\n", "whole number of height"),
        ("path,label,ratio\na.png,NORMAL,4:3\n", "expected width over height as ratio in .* line 2, received '4:3'"),
        ("path,label,ratio\na.png,NORMAL,-1\n", "received '-1': give a number, or leave the field empty"),
        ("path,label,ratio\na.png,NORMAL,nan\n", "received 'nan'"),
        ("path,label,ratio\na.png,NORMAL,inf\n", "received 'inf'"),
        ("path,label,note\na.png,NORMAL,\n\nb.png,PNEUMONIA,\nc.png,none,\n", "line 5, received 'none'"),
    ],
)
def test_a_wrong_csv_gives_an_error_with_its_place(tmp_path, text, message):
    with pytest.raises(DatasetError, match=message):
        read_dataset(csv_file(tmp_path, text))


def test_files_that_are_not_a_manifest(tmp_path):
    with pytest.raises(DatasetError, match=r"expected a folder or a CSV .* No such file"):
        read_dataset(tmp_path / "missing")
    with pytest.raises(DatasetError, match=r"expected a folder or a CSV .* null byte"):
        read_dataset("nul\0byte")
    (tmp_path / "binary.csv").write_bytes(bytes(range(256)) * 4)
    with pytest.raises(DatasetError, match=r"missing label and path|expected a folder or a CSV"):
        read_dataset(tmp_path / "binary.csv")
    with pytest.raises(DatasetError, match="field larger than"):
        read_dataset(csv_file(tmp_path, f"path,label\n{'x' * csv.field_size_limit()}x,NORMAL\n"))


# Attributes for subgroups ----------------------------------------------------------------------------------


def test_age_sex_and_view_of_a_table_are_kept_under_one_name(tmp_path):
    text = "Image Index,Finding Labels,Patient Age,Patient Gender,View Position,site\n"
    text += "a.png,normal,058Y,F,PA,x\nb.png,pneumonia,,M,AP,y\n"
    path = csv_file(tmp_path, text)
    first, second = read_manifest(path).records
    assert first.attributes == (("age", "058Y"), ("sex", "F"), ("view", "PA"))
    assert second.attributes == (("sex", "M"), ("view", "AP"))
    with_site = read_manifest(path, TableOptions(subgroups=("site",))).records
    assert [dict(record.attributes)["site"] for record in with_site] == ["x", "y"]


def test_a_subgroup_column_that_is_not_there_is_an_error(tmp_path):
    path = csv_file(tmp_path, "path,label\na.png,normal\n")
    with pytest.raises(DatasetError, match=r"expected the column 'site'.*check --subgroup"):
        read_manifest(path, TableOptions(subgroups=("site",)))
