"""Distillation: a trained model file answers for each augmented training image, and the student learns its answers.

The teacher gets the same augmented image as the student, before it is made smaller for the student. So each epoch
brings new pairs of image and answer.

Reference: Beyer et al., "Knowledge distillation: a good teacher is patient and consistent", 2022, after Hinton, Vinyals
and Dean, "Distilling the knowledge in a neural network", 2015.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np

from pneumoscope.data.splits import ALL, Split
from pneumoscope.errors import RunError
from pneumoscope.inference.bundle import PROBABILITIES, SUBTYPES, Bundle, open_bundle, shipped_models
from pneumoscope.inference.calibration import sigmoid
from pneumoscope.inference.preprocess import to_input
from pneumoscope.training.recipe import Recipe, read_recipe
from pneumoscope.training.runs import run_id


class Teacher:
    """A model file whose answers have the classes of the student.

    Args:
        bundle: the file.
        subtypes: whether the student learns normal, bacterial and viral.

    Raises:
        RunError: the student learns sub-types and the teacher does not know them.
    """

    def __init__(self, bundle: Bundle, subtypes: bool) -> None:
        if subtypes and SUBTYPES not in bundle.contract["outputs"]:
            raise RunError(
                f"expected a teacher that tells bacterial from viral, {bundle.path} does not: "
                "name a recipe with subtypes = true as teacher"
            )
        self.bundle, self.subtypes, self.spec = bundle, subtypes, bundle.spec

    def targets(self, images: np.ndarray) -> np.ndarray:
        """Probabilities of the student's classes.

        Args:
            images: (N, height, width) uint8 at the teacher's size.

        Returns:
            (N, 2) or, with sub-types, (N, 3) float32, each row adding up to 1.
        """
        values = self.bundle.run(to_input(images, self.spec))
        probabilities = self._uncalibrated(values[PROBABILITIES])  # (N, 2)
        if not self.subtypes:
            return probabilities
        return np.concatenate([probabilities[:, :1], probabilities[:, 1:] * values[SUBTYPES]], axis=1)

    def _uncalibrated(self, probabilities: np.ndarray) -> np.ndarray:
        """Undo the calibration. Fold models have none, and a student gets the calibration of its own folds."""
        calibration = self.bundle.contract["calibration"]
        if "slope" not in calibration:
            return probabilities
        p = np.clip(probabilities.astype(np.float64), 1e-8, 1)  # near 1 the other column has more digits
        odds = (np.log(p[:, 1] / p[:, 0]) - calibration["intercept"]) / calibration["slope"]
        pneumonia = sigmoid(odds)
        return np.stack([1 - pneumonia, pneumonia], axis=1).astype(np.float32)


def find_teacher(recipe: Recipe, runs: str | Path, split: Split) -> Teacher | None:
    """The teacher of a recipe: the run of the teacher's recipe on the same split, and so on the same images.

    A student that trains on every image may also learn from the shipped model with the teacher's name.

    Args:
        recipe: of the student.
        runs: parent of the run folders.
        split: of the student; the teacher must have been trained on the same one.

    Returns:
        None for a recipe without a teacher.

    Raises:
        RunError: there is no such run, or it has another split.
    """
    if not recipe.teacher:
        return None
    teacher = replace(read_recipe(recipe.teacher), split=recipe.split, split_seed=recipe.split_seed)
    folder = Path(runs) / run_id(teacher)
    trained_here = (folder / "model.onnx").is_file()
    shipped = recipe.split == ALL and teacher.name in shipped_models()
    if not shipped and not trained_here:
        raise RunError(
            f"expected the teacher of {recipe.name} at {folder}, found none: train it first with  pneumoscope train "
            f"--recipe {recipe.teacher} --split {recipe.split} --data DIR --runs {runs}"
        )
    bundle = open_bundle(folder if trained_here else teacher.name)
    if bundle.contract["training"]["split_fingerprint"] != split.fingerprint:
        raise RunError(
            f"expected a teacher trained on the images of this split, {bundle.path} was trained on others and may know "
            "images that are held out here: train it on these data, or use another --runs"
        )
    return Teacher(bundle, recipe.subtypes)
