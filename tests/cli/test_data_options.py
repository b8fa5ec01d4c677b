"""Labelled data as people have them, on the command line: what is read, how it was understood, what is not used."""

import json
import shutil

import pytest

from pneumoscope.samples import SAMPLES


@pytest.fixture
def labelled(tmp_path):
    """Six of the bundled radiographs under names that say nothing, and a table of them."""
    paths = [*sorted(SAMPLES.glob("NORMAL/*.jpeg"))[:3], *sorted(SAMPLES.glob("PNEUMONIA/*.jpeg"))[:3]]
    (tmp_path / "images").mkdir()
    for number, path in enumerate(paths):
        shutil.copy(path, tmp_path / "images" / f"{number}.jpeg")

    def table(header: str, *labels: str, name: str = "labels.csv", prefix: str = "", encoding: str = "utf-8") -> None:
        delimiter = next(sign for sign in ";\t|," if sign in header)
        rows = [delimiter.join([f"{prefix}{number}.jpeg", label]) for number, label in enumerate(labels)]
        (tmp_path / name).write_bytes("\n".join([header, *rows, ""]).encode(encoding))

    return table


@pytest.mark.parametrize(
    ("header", "normal", "pneumonia", "options", "encoding"),
    [
        ("path,label", "normal", "Pneumonia", (), "utf-8"),
        ("image;finding", "No Finding", "pneumonia", (), "utf-8-sig"),
        ("filename\tclass", "0", "1", (), "utf-16"),
        ("file|target", "0,0", "1,0", (), "utf-8"),
        ("mine;other", "fine", "ill", ("--path-column", "mine", "--label-column", "Other", "--positive", "ill",
                                       "--negative", "fine"), "utf-8"),
    ],
)  # fmt: skip
def test_a_table_is_understood(run, labelled, tmp_path, header, normal, pneumonia, options, encoding):
    labelled(header, normal, normal, normal, pneumonia, pneumonia, pneumonia, prefix="images/", encoding=encoding)
    code, out, err = run("evaluate", "--data", "labels.csv", "--split", "all", "--out", "e", *options)
    assert code == 0, err
    assert "6 images of 6 patients" in out
    assert "patients: each image its own" in out
    assert f"3 {normal!r} as NORMAL, 3 {pneumonia!r} as PNEUMONIA" in err
    assert json.loads((tmp_path / "e" / "report.json").read_text())["data"]["labels"] == {"NORMAL": 3, "PNEUMONIA": 3}


def test_a_dry_run_counts_and_does_nothing(run, labelled, tmp_path):
    labelled("image;finding", "normal", "Pneumonia", "Effusion", "Effusion", name="l.csv")
    options = ("--positive", "pneumonia", "--negative", "normal", "--root", "images", "--dry-run")
    for command in (("evaluate",), ("train", "--model", "mobilenet"), ("data", "split")):
        code, out, err = run(*command, "--data", "l.csv", *options)
        assert (code, err) == (0, "")
        assert "path from column 'image', label from column 'finding'" in out
        assert "l.csv: found and not used: 2 rows with the label 'Effusion'" in out
        assert "2 images, 2 patients (each image its own)" in out
        assert "missing" not in out
    assert "2 files are missing (first: 0.jpeg)" in run("evaluate", "--data", "l.csv", *options[:4], "--dry-run")[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "l.csv"]


def test_predict_reads_such_a_table(run, labelled):
    labelled("image;finding", "x", "x")
    code, out, err = run("predict", "labels.csv", "--root", "images")
    assert code == 0, err
    assert "2 images" in out
    assert "file names from the column 'image'" in err
    code, out, _ = run("predict", "labels.csv", "--dry-run")
    assert (code, out.splitlines()[0]) == (0, "0 images to judge, 2 missing files")


def test_a_label_without_a_meaning_says_which_options_help(run, labelled):
    labelled("path,label", "normal", "COVID")
    code, _, err = run("evaluate", "--data", "labels.csv", "--split", "all")
    assert code == 1
    assert "line 3, received 'COVID'" in err
    assert "--positive and --negative" in err


def test_folders_below_a_class_count_and_the_rest_is_said(run, tmp_path):
    """The gravest fault: 7 of 15 images were counted, and nothing said so."""
    names = sorted(SAMPLES.glob("PNEUMONIA/*.jpeg"))
    for place, paths in (
        ("PNEUMONIA/bacteria", names[:4]), ("PNEUMONIA/virus", names[4:8]), ("COVID", names[8:9]),
        ("NORMAL", sorted(SAMPLES.glob("NORMAL/*.jpeg"))[:7]),
    ):  # fmt: skip
        (tmp_path / "set" / place).mkdir(parents=True)
        for path in paths:
            shutil.copy(path, tmp_path / "set" / place)
    (tmp_path / "set" / "NORMAL" / "Thumbs.db").touch()
    code, out, err = run("evaluate", "--data", "set", "--split", "all", "--out", "e")
    assert code == 0, err
    assert "15 images" in out
    assert "set: found and not used: 1 hidden or system files and folders, 1 images in the folder COVID" in err
    assert json.loads((tmp_path / "e" / "report.json").read_text())["data"]["unused"]
    assert "images in the folder COVID" in (tmp_path / "e" / "report.html").read_text()
    code, out, err = run("data", "fetch", "--from", "set", "--out", "m")
    assert (code, "15 images" in out, "COVID" in err) == (0, True, True)


def test_evaluate_without_held_out_images_says_at_once_what_to_type(run, tmp_path):
    (tmp_path / "my data").mkdir()  # empty: the sentence comes before the data are read
    code, _, err = run("evaluate", "--data", "my data")
    assert code == 1
    assert "type  pneumoscope evaluate --data 'my data' --split all" in err
    (tmp_path / "my data" / "test").mkdir()
    assert "--split test  to measure it on the test images" in run("evaluate", "--data", "my data")[2]


@pytest.mark.parametrize(
    "stdin",
    [
        "\ufeffimages/0.jpeg\nimages/1.jpeg\n",
        "images/0.jpeg\r\nimages/1.jpeg\r\n",
        "images/0.jpeg\0images/1.jpeg\0",
        "\n\nimages/0.jpeg\nimages/1.jpeg",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_names_on_standard_input(labelled, tmp_path, monkeypatch, stdin, encoding):
    import io
    import sys

    from pneumoscope.cli.paths import read_names

    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.lstrip("\ufeff").encode(encoding))))
    if encoding == "utf-8":
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
    assert list(read_names(["-"])) == ["images/0.jpeg", "images/1.jpeg"]


# Nothing of the user's is overwritten ------------------------------------------------------------------------


def test_a_list_is_not_replaced_by_its_results(run, labelled, tmp_path):
    labelled("path,label", "x", "y", prefix="images/")
    before = (tmp_path / "labels.csv").read_bytes()
    (tmp_path / "link.csv").hardlink_to(tmp_path / "labels.csv")
    for output in ("labels.csv", "./labels.csv", "link.csv"):
        code, _, err = run("predict", "labels.csv", "--csv", output)
        assert code == 2
        assert "expected another output than the input" in err
    assert (tmp_path / "labels.csv").read_bytes() == before


@pytest.mark.parametrize(
    ("name", "content", "arguments"),
    [
        ("notes.csv", "path,label\n", ("predict", "images/0.jpeg", "--csv", "notes.csv")),
        ("notes.jsonl", '{"path": "a"}\n', ("predict", "images/0.jpeg", "--jsonl", "notes.jsonl")),
        ("page.html", "<html>", ("predict", "images/0.jpeg", "--heatmaps", "h", "--html", "page.html")),
        ("x.png", "picture", ("explain", "images/0.jpeg", "--out", "x.png")),
        ("x.jpg", "picture", ("explain", "images/0.jpeg", "--out", "x.jpg")),
        ("e/predictions.csv", "mine", ("evaluate", "--data", str(SAMPLES), "--split", "all", "--out", "e")),
        ("m/manifest.csv", "path,label\n", ("data", "fetch", "--from", str(SAMPLES), "--out", "m")),
        ("s.json", "{}", ("data", "split", "--data", str(SAMPLES), "--fraction", "0.25", "--out", "s.json")),
    ],
)
def test_a_file_of_somebody_else_is_not_replaced(run, labelled, tmp_path, name, content, arguments):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(content)
    code, _, err = run(*arguments)
    assert code in (1, 2)
    assert "found another" in err
    assert (tmp_path / name).read_text() == content


def test_results_of_our_own_are_replaced(run, labelled):
    for _ in range(2):
        outputs = ("--csv", "r.csv", "--jsonl", "r.jsonl", "--heatmaps", "h", "--html", "p.html")
        assert run("predict", "images/0.jpeg", *outputs)[0] == 0
        assert run("explain", "images/0.jpeg", "--out", "x.png")[0] == 0
        assert run("explain", "images/0.jpeg", "--out", "x.jpg")[0] == 0
        assert run("evaluate", "--data", SAMPLES, "--split", "all", "--out", "e")[0] == 0
        assert run("data", "split", "--data", SAMPLES, "--fraction", "0.25", "--out", "s.json")[0] == 0


def test_a_heatmap_takes_another_name_beside_a_picture_of_somebody_else(run, labelled, tmp_path):
    (tmp_path / "h").mkdir()
    (tmp_path / "h" / "0.png").write_text("mine")
    assert run("predict", "images/0.jpeg", "--heatmaps", "h")[0] == 0
    assert (tmp_path / "h" / "0.png").read_text() == "mine"
    assert (tmp_path / "h" / "0-2.png").is_file()


def test_a_heatmap_of_an_image_with_the_longest_name(run, labelled, tmp_path):
    (tmp_path / "images" / "0.jpeg").rename(tmp_path / "images" / ("x" * 255))
    assert run("predict", "images/" + "x" * 255, "--heatmaps", "h")[0] == 0
    assert [path.name for path in (tmp_path / "h").iterdir()] == ["x" * 230 + ".png"]


# Exports -----------------------------------------------------------------------------------------------------


def test_an_export_of_300_files_with_litter_and_three_damaged_ones(run, tmp_path, gray):
    """Nested, names without ending, as from a CD: one command, 297 verdicts, three reasons."""
    from builders.image_files import encode

    data = encode(gray, "JPEG")
    for number in range(300):
        path = tmp_path / f"export/PAT{number // 30:05}/ST{number // 10:05}/IM{number:06}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data[: 700 if number in (3, 150, 299) else None])
    for name in ("DICOMDIR", "Thumbs.db", "PAT00001/.DS_Store"):
        (tmp_path / "export" / name).touch()
    code, out, err = run("predict", "export", "--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert code == 1
    assert len(rows) == 300
    assert sum(row["probability"] is not None for row in rows) == 297
    assert sum("cut off" in row["reason"] for row in rows) == 3
    assert "export: left out 3 hidden or system files and folders" in err
    shutil.make_archive(str(tmp_path / "cd"), "zip", tmp_path / "export")
    rows = [json.loads(line) for line in run("predict", "cd.zip", "--json")[1].splitlines()]
    assert sum(row["probability"] is not None for row in rows) == 297
