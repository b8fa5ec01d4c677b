"""Distillation: the teacher has the same split, answers in the student's classes, and is recorded with the run."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from pneumoscope.data import read_dataset
from pneumoscope.data.splits import make_split
from pneumoscope.errors import RunError
from pneumoscope.inference.bundle import PROBABILITIES, SUBTYPES, open_bundle
from pneumoscope.inference.preprocess import preprocess, resize
from pneumoscope.radiographs.images import read_radiograph
from pneumoscope.training.distillation import Teacher, find_teacher
from pneumoscope.training.export.onnx_export import export_run, write_contract
from pneumoscope.training.runs import open_finished_run
from pneumoscope.training.train import train


@pytest.fixture(scope="module")
def taught(tiny_recipe, samples_folder, tmp_path_factory):
    """A runs folder with a teacher of three classes, the teacher's recipe file, and a student's recipe."""
    runs = tmp_path_factory.mktemp("runs")
    recipe = tiny_recipe("mobilenet", name="teacher", size=96, subtypes=True, epochs=2)
    file = runs / "teacher.toml"
    lines = {"name": "teacher", "model": "mobilenet", "size": 96, "epochs": 2, "weights": recipe.weights}
    text = "".join(f"{key} = {value!r}\n" for key, value in lines.items())
    file.write_text(text + "subtypes = true\nbatch_size = 8\nvalidation_fraction = 0.25\n")
    export_run(train(recipe, samples_folder, runs=runs))
    options = {"teacher": str(file), "teacher_share": 0.5, "subtypes": True, "size": 32, "epochs": 1}
    student = replace(tiny_recipe("mobilenet", name="student", trainable="head", **options))
    return runs, student


@pytest.fixture
def split(taught, samples_folder):
    """Of the student, and so of its teacher."""
    _, student = taught
    return make_split(read_dataset(samples_folder), student.split, fraction=student.validation_fraction)


def test_a_teacher_answers_in_the_classes_of_its_student(taught, split, samples):
    runs, student = taught
    teacher = find_teacher(student, runs, split)
    assert teacher.bundle.path.parent.name == "teacher-patient-seed0"
    images = np.stack([resize(read_radiograph(path), teacher.spec) for path in samples[:5]])
    answers = teacher.targets(images)
    assert (answers.shape, answers.dtype) == ((5, 3), np.float32)
    np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-6)
    values = teacher.bundle.run(np.concatenate([preprocess(path, teacher.spec) for path in samples[:5]]))
    np.testing.assert_allclose(answers[:, 0], values[PROBABILITIES][:, 0])
    np.testing.assert_allclose(answers[:, 1] / answers[:, 1:].sum(axis=1), values[SUBTYPES][:, 0], atol=1e-5)
    two = Teacher(teacher.bundle, subtypes=False).targets(images)
    np.testing.assert_array_equal(two, values[PROBABILITIES])


def test_a_student_of_another_split_does_not_get_this_teacher(taught, split, tmp_path):
    """Its teacher has seen the images that the student is measured on."""
    runs, student = taught
    with pytest.raises(RunError, match=r"expected the teacher of student at .*teacher-fold1of5-seed0, found none"):
        find_teacher(replace(student, split="fold1of5"), runs, split)
    with pytest.raises(
        RunError,
        match=r"found none: train it first with  pneumoscope train --recipe .* --split patient --data DIR --runs /",
    ):
        find_teacher(student, tmp_path, split)
    assert find_teacher(replace(student, teacher="", teacher_share=0.0), tmp_path, split) is None


def test_a_teacher_of_other_images_under_the_same_name_is_refused(taught, samples_folder):
    """One image less, or another share held out: in both cases the teacher saw other images than the student."""
    runs, student = taught
    manifest = read_dataset(samples_folder)
    options = {"scheme": student.split, "fraction": student.validation_fraction}
    fewer = make_split(replace(manifest, records=manifest.records[:-1]), **options)
    for other in (fewer, make_split(manifest, student.split, fraction=0.4)):
        with pytest.raises(RunError, match=r"expected a teacher trained on the images of this split, .*model\.onnx"):
            find_teacher(student, runs, other)


def test_a_shipped_teacher_teaches_only_students_of_its_images(taught, samples_folder, tmp_path):
    _, student = taught
    file = tmp_path / "mine.toml"
    file.write_text('name = "reference-lstm"\nmodel = "lstm"\nkeep = "last"\n')
    whole = replace(student, split="all", keep="last", subtypes=False, teacher=str(file))
    split = make_split(read_dataset(samples_folder), "all")
    with pytest.raises(RunError, match=r"teacher .*reference-lstm\.onnx was trained on others and may .* --runs"):
        find_teacher(whole, tmp_path, split)
    shipped = open_bundle("reference-lstm").contract["training"]["split_fingerprint"]
    assert find_teacher(whole, tmp_path, SimpleNamespace(fingerprint=shipped)).bundle.name == "reference-lstm"


@pytest.mark.parametrize(("slope", "intercept", "atol"), [(0.4, 1.3, 2e-6), (1.6, -0.7, 2e-5), (2.5, -0.7, 1e-3)])
def test_a_calibrated_teacher_answers_as_it_was_trained(taught, samples, tmp_path, slope, intercept, atol):
    """Up to the float32 of the file: a steep slope brings its probabilities close to 0 and 1."""
    runs, _ = taught
    plain = open_bundle(runs / "teacher-patient-seed0")
    pooled = {
        "calibration": {"slope": slope, "intercept": intercept}, "operating_points": {"default": 0.5},
        "rules": dict.fromkeys(("default", "calibration", "uncertain"), "by hand"), "prevalence": 0.5,
        "uncertain": [0.4, 0.6], "calibrated": {}, "subtypes": None, "held_out": {},
    }  # fmt: skip
    calibrated = open_bundle(export_run(open_finished_run(plain.path.parent), tmp_path / "calibrated.onnx", pooled))
    inputs = np.concatenate([preprocess(path, plain.spec) for path in samples])
    assert np.abs(calibrated.run(inputs)[PROBABILITIES] - plain.run(inputs)[PROBABILITIES]).max() > 0.01
    images = np.stack([resize(read_radiograph(path), plain.spec) for path in samples])
    for subtypes in (False, True):
        answers = Teacher(calibrated, subtypes).targets(images)
        assert answers.dtype == np.float32
        np.testing.assert_allclose(answers, Teacher(plain, subtypes).targets(images), atol=atol)
        np.testing.assert_allclose(answers.sum(axis=1), 1, atol=1e-6)


def test_a_teacher_without_subtypes_cannot_teach_them():
    with pytest.raises(RunError, match=r"expected a teacher that tells bacterial from viral, .*subtypes = true as"):
        Teacher(open_bundle("reference-mobilenet"), subtypes=True)
    assert Teacher(open_bundle("reference-mobilenet"), subtypes=False).spec.height == 150


def test_a_student_trains_and_remembers_its_teacher(taught, samples_folder):
    runs, student = taught
    alone = train(replace(student, name="alone", teacher="", teacher_share=0.0), samples_folder, runs=runs)
    run = train(student, samples_folder, runs=runs)
    assert run.history[0]["loss"] != alone.history[0]["loss"]
    other = runs / "teacher-patient-seed0" / "model.onnx"
    kept = other.read_bytes()
    two_classes = open_bundle("reference-mobilenet")
    shutil.copy(two_classes.path, other)
    try:
        with pytest.raises(RunError, match="expected a teacher trained on the images of this split"):
            train(student, samples_folder, runs=runs, resume=True)
        training = {**two_classes.contract["training"], "split_fingerprint": run.split.fingerprint}
        write_contract(other, {**two_classes.contract, "training": training})
        with pytest.raises(RunError, match="expected a teacher that tells bacterial from viral"):
            train(student, samples_folder, runs=runs, resume=True)
        export_run(replace(run, recipe=replace(run.recipe, name="teacher")), other)
        with pytest.raises(RunError, match="with the teacher_sha256 it began with"):
            train(student, samples_folder, runs=runs, resume=True)
    finally:
        other.write_bytes(kept)
