"""Distillation: the teacher of the same split, its answers in the student's classes, recorded with the run."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from pneumoscope.bundle import PROBABILITIES, SUBTYPES, open_bundle
from pneumoscope.errors import RunError
from pneumoscope.export import export_run
from pneumoscope.images import read_radiograph
from pneumoscope.preprocess import preprocess, resize
from pneumoscope.teacher import Teacher, find_teacher
from pneumoscope.train import train


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


def test_a_teacher_answers_in_the_classes_of_its_student(taught, samples):
    runs, student = taught
    teacher = find_teacher(student, runs)
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


def test_a_student_of_another_split_does_not_get_this_teacher(taught, tmp_path):
    """Its teacher would have seen the images that the student is measured on."""
    runs, student = taught
    with pytest.raises(RunError, match=r"expected the teacher of student at .*teacher-fold1of5-seed0, found none"):
        find_teacher(replace(student, split="fold1of5"), runs)
    with pytest.raises(RunError, match="found none: train it first with  pneumoscope train --recipe"):
        find_teacher(student, tmp_path)
    assert find_teacher(replace(student, teacher="", teacher_share=0.0), tmp_path) is None


def test_a_teacher_without_subtypes_cannot_teach_them():
    with pytest.raises(RunError, match="expected a teacher that tells bacterial from viral"):
        Teacher(open_bundle("reference-mobilenet"), subtypes=True)
    assert Teacher(open_bundle("reference-mobilenet"), subtypes=False).spec.height == 150


def test_a_student_trains_and_remembers_its_teacher(taught, samples_folder):
    runs, student = taught
    alone = train(replace(student, name="alone", teacher="", teacher_share=0.0), samples_folder, runs=runs)
    run = train(student, samples_folder, runs=runs)
    assert run.history[0]["loss"] != alone.history[0]["loss"]
    other = runs / "teacher-patient-seed0" / "model.onnx"
    kept = other.read_bytes()
    shutil.copy(open_bundle("reference-mobilenet").path, other)
    try:
        with pytest.raises(RunError, match="expected a teacher that tells bacterial from viral"):
            train(student, samples_folder, runs=runs, resume=True)
        export_run(replace(run, recipe=replace(run.recipe, name="teacher")), other)
        with pytest.raises(RunError, match="with the teacher_sha256 it began with"):
            train(student, samples_folder, runs=runs, resume=True)
    finally:
        other.write_bytes(kept)
