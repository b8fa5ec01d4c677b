"""The audit finds planted faults and planted shortcuts, each alone, and nothing where nothing was planted."""

import csv
import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from pneumoscope import load
from pneumoscope.data import Manifest, list_dataset, read_dataset
from pneumoscope.errors import DatasetError
from pneumoscope.evaluation.audit import audit_data, audit_html
from pneumoscope.evaluation.audit.faults import find_faults
from pneumoscope.evaluation.audit.inspection import inspect_files
from pneumoscope.evaluation.audit.shortcuts import find_shortcuts
from pneumoscope.labels import LABELS, NORMAL, PNEUMONIA
from pneumoscope.radiographs import read_radiograph


@pytest.fixture(scope="session")
def pictures(samples) -> list[np.ndarray]:
    """The bundled radiographs and their mirror images, all (160, 200) uint8."""
    small = [cv2.resize(read_radiograph(path).pixels, (200, 160), interpolation=cv2.INTER_AREA) for path in samples]
    return [image for picture in small for image in (picture, np.ascontiguousarray(picture[:, ::-1]))]


class Collection:
    """Files and a table of them. A picture and its mirror image have different labels, so nothing tells these apart."""

    def __init__(self, folder, pictures, change=lambda image: image, encode=None):
        self.folder, self.rows = folder, []
        for number, picture in enumerate(pictures):
            label = LABELS[(number + number // 2) % 2]
            changed = change(picture) if label == PNEUMONIA else picture
            data = (encode or _png)(changed, label)
            self.add(f"{number}.png", data, label, f"p{number}", ("train", "val", "test")[number % 3])

    def add(self, name, data, label, patient, split):
        (self.folder / name).write_bytes(data)
        self.rows.append({"path": name, "label": label, "patient": patient, "split": split})

    def table(self):
        path = self.folder / "table.csv"
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ("path", "label", "patient", "split"))
            writer.writeheader()
            writer.writerows(self.rows)
        return path

    def manifest(self) -> Manifest:
        return list_dataset(self.table())

    def findings(self):
        manifest = self.manifest()
        return {finding["kind"]: finding for finding in find_faults(inspect_files(manifest, manifest.records))}

    def shortcuts(self):
        manifest = self.manifest()
        found = find_shortcuts(inspect_files(manifest, manifest.records), seed=0, resamples=200)
        return {shortcut["signal"]: shortcut for shortcut in found}


def _png(image, label=None):
    return cv2.imencode(".png", image)[1].tobytes()


def _jpeg(image, quality):
    return cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


@pytest.fixture
def collection(tmp_path, pictures):
    return Collection(tmp_path, pictures[:12])


def test_a_collection_without_faults_has_no_finding(collection):
    assert collection.findings() == {}


def test_files_that_cannot_be_used_are_named_with_their_reason(collection):
    collection.add("text.png", b"not an image", NORMAL, "a", "train")
    collection.add("blank.png", _png(np.full((100, 100), 90, np.uint8)), NORMAL, "b", "train")
    collection.rows.append({"path": "missing.png", "label": NORMAL, "patient": "c", "split": "train"})
    found = collection.findings()
    assert {code: finding["items"] for code, finding in found.items()} == {
        "unsupported_format": [["text.png"]], "blank": [["blank.png"]], "not_found": [["missing.png"]],
    }  # fmt: skip
    assert {finding["severity"] for finding in found.values()} == {"fault"}


def test_a_file_that_is_not_that_of_the_manifest_is_named(collection):
    manifest = collection.manifest()
    first, *others = manifest.records
    records = [replace(first, sha256="0" * 64), *others]
    (finding,) = find_faults(inspect_files(manifest, records))
    assert (finding["kind"], finding["items"]) == ("changed", [["0.png"]])


def test_a_picture_under_both_labels_is_named_however_it_was_saved(collection, pictures):
    other = NORMAL if collection.rows[0]["label"] == PNEUMONIA else PNEUMONIA
    collection.add("again.jpg", _jpeg(pictures[0], 90), other, "p0", "train")
    found = collection.findings()
    assert set(found) == {"label_conflict", "near_copy", "patient_with_both_labels"}
    assert found["label_conflict"]["items"] == [["0.png", "again.jpg"]]
    assert found["near_copy"]["severity"] == "note"


def test_a_picture_in_two_splits_is_named(collection, pictures):
    collection.add("again.png", _png(pictures[0]), collection.rows[0]["label"], "p0-again", "test")
    found = collection.findings()
    assert set(found) == {"picture_across_splits", "exact_copy"}
    assert found["picture_across_splits"]["items"] == [["0.png", "again.png"]]


def test_a_patient_in_two_splits_is_named(collection):
    collection.rows[0]["patient"] = collection.rows[3]["patient"] = collection.rows[1]["patient"] = "q"
    collection.rows[1]["label"] = collection.rows[3]["label"] = collection.rows[0]["label"]
    found = collection.findings()
    assert set(found) == {"patient_across_splits"}
    assert found["patient_across_splits"]["items"] == [["0.png", "1.png", "3.png"]]
    assert found["patient_across_splits"]["sentence"].startswith("1 patients are there in two splits")


def test_images_in_no_split_are_in_no_two_splits(collection):
    for row in collection.rows:
        row["patient"], row["split"] = "one", "all"
    assert set(collection.findings()) == {"patient_with_both_labels"}


def test_a_class_with_few_images_is_named(collection):
    for place, row in enumerate(collection.rows):
        row["label"] = NORMAL if place else PNEUMONIA
    assert collection.findings()["small_class"]["sentence"].startswith("1 of 12 images are PNEUMONIA")


@pytest.fixture(scope="module")
def honest_shortcuts(tmp_path_factory, pictures):
    return Collection(tmp_path_factory.mktemp("honest"), pictures).shortcuts()


def test_nothing_tells_the_labels_apart_where_nothing_was_planted(honest_shortcuts):
    assert [name for name, found in honest_shortcuts.items() if found["level"] == "strong"] == []
    assert all(0 <= found["roc_auc"]["low"] <= found["roc_auc"]["high"] <= 1 for found in honest_shortcuts.values())


def _with_corner(image):
    image = image.copy()
    cv2.putText(image, "R", (4, 30), cv2.FONT_HERSHEY_SIMPLEX, 1, 255, 3)
    return image


def _with_border(image):
    return cv2.rectangle(image.copy(), (0, 0), (199, 159), 0, 6)


def _softer(image):
    return np.asarray(255 * (image / 255) ** 0.6, np.uint8)


PLANTED = {
    "ratio": (lambda image: np.ascontiguousarray(image[:, 20:-20]), None),
    "size": (lambda image: cv2.resize(image, (400, 320)), None),
    "bytes": (lambda image: image, lambda image, label: _png(image) + bytes(3000 if label == PNEUMONIA else 0)),
    "compression": (lambda image: image, lambda image, label: _jpeg(image, 60 if label == PNEUMONIA else 95)),
    "histogram": (_softer, None),
    "bands": (lambda image: cv2.GaussianBlur(image, (0, 0), 1.5), None),
    "corners": (_with_corner, None),
    "borders": (_with_border, None),
    "style": (lambda image: _with_corner(cv2.GaussianBlur(_softer(image), (0, 0), 1.5)), None),
}


@pytest.mark.parametrize("signal", PLANTED)
def test_a_planted_shortcut_is_found(signal, tmp_path, pictures):
    change, encode = PLANTED[signal]
    found = Collection(tmp_path, pictures, change, encode).shortcuts()[signal]
    assert found["level"] == "strong", found["roc_auc"]
    assert "learn this instead of the lungs" in found["sentence"]
    assert {label: len(paths) for label, paths in found["examples"].items()} == {NORMAL: 4, PNEUMONIA: 4}


def test_a_wide_interval_is_called_unclear(tmp_path, pictures):
    """Five of eight patients have a cropped image."""
    collection = Collection(tmp_path, pictures[:8])
    for place in (0, 2, 3, 4, 7):
        name = collection.rows[place]["path"]
        (tmp_path / name).write_bytes(_png(np.ascontiguousarray(pictures[place][:, 20:-20])))
    found = collection.shortcuts()["ratio"]
    assert found["roc_auc"]["low"] is None or found["roc_auc"]["low"] < 0.6
    assert found["level"] in ("unclear", "none")
    assert ("too few images" in found["sentence"]) == (found["level"] == "unclear")


def test_the_ratio_of_the_original_counts_and_images_without_one_are_left_out(tmp_path, pictures):
    """All files have one shape, as in a squashed copy."""
    manifest = Collection(tmp_path, pictures).manifest()
    records = [
        replace(record, ratio=0.0 if place < 10 else 1.2 if record.label == NORMAL else 1.5)
        for place, record in enumerate(manifest.records)
    ]
    found = find_shortcuts(inspect_files(manifest, records), seed=0, resamples=50)
    ratio = next(shortcut for shortcut in found if shortcut["signal"] == "ratio")
    assert ratio["level"] == "strong"
    assert ratio["roc_auc"]["n"] == len(pictures) - 10


def test_one_label_or_one_patient_leaves_the_shortcuts_undefined(collection):
    for row in collection.rows:
        row["label"] = NORMAL
    shortcuts = collection.shortcuts()
    assert {found["level"] for found in shortcuts.values()} == {"undefined"}
    assert shortcuts["corners"]["roc_auc"]["value"] is None
    assert "cannot be measured" in shortcuts["corners"]["sentence"]
    for place, row in enumerate(collection.rows):
        row["label"], row["patient"] = LABELS[place % 2], "one"
    assert {found["level"] for found in collection.shortcuts().values()} == {"undefined"}


def test_a_collection_without_usable_files_has_findings_only(tmp_path):
    collection = Collection(tmp_path, [])
    collection.add("text.png", b"no image", NORMAL, "a", "train")
    report = audit_data(collection.manifest())
    assert [finding["kind"] for finding in report["findings"]] == ["unsupported_format"]
    assert report["shortcuts"] == []
    assert "No usable radiograph" in audit_html(report, collection.manifest(), tmp_path / "audit.html").read_text()


def test_no_radiograph_is_an_error(tmp_path):
    with pytest.raises(DatasetError, match="expected labelled radiographs under"):
        audit_data(Manifest(tmp_path, ()))


def test_a_wrong_label_is_found_with_a_model(samples_folder):
    """One label of the bundled radiographs is turned; the model was not trained on the wrong one."""
    manifest = read_dataset(samples_folder)
    turned = next(record for record in manifest.records if record.label == PNEUMONIA)
    records = tuple(replace(record, label=NORMAL) if record is turned else record for record in manifest.records)
    report = audit_data(Manifest(manifest.root, records), predictor=load(threads=1), resamples=10)
    (finding,) = [finding for finding in report["findings"] if finding["kind"] == "label_error"]
    assert finding["items"][0] == [turned.path]


def test_page_and_json_have_what_was_found_and_names_are_escaped(collection, pictures, tmp_path):
    collection.add("<b>again.png", _png(pictures[0]), collection.rows[0]["label"], "p0", "test")
    manifest = collection.manifest()
    report = audit_data(manifest, tmp_path / "out", resamples=20)
    assert report == json.loads((tmp_path / "out" / "audit.json").read_text())
    page = audit_html(report, manifest, tmp_path / "audit.html").read_text()
    assert "&lt;b&gt;again.png" in page
    assert "<b>again.png" not in page
    assert "1 pictures are there in two splits" in page


@pytest.mark.real
def test_the_style_of_the_console_is_found_in_the_kermany_images(real_data):
    manifest = list_dataset(real_data)
    records = manifest.records[::8]
    found = find_shortcuts(inspect_files(manifest, records), seed=0, resamples=100)
    areas = {shortcut["signal"]: shortcut["roc_auc"]["value"] for shortcut in found}
    assert min(areas["style"], areas["corners"], areas["histogram"]) > 0.85, areas
