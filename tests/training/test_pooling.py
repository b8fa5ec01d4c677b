"""What the pooling of folds takes from recipes; test_crossval.py pools the predictions of trained folds."""

from dataclasses import replace

import pytest

from pneumoscope.labels import BACTERIAL, NORMAL, PNEUMONIA, VIRAL
from pneumoscope.training.pooling import implied_prevalence, same_recipe
from pneumoscope.training.recipe import Recipe, read_recipe


def test_recipes_are_the_same_but_for_split_seed_and_the_place_of_the_weights():
    recipe = read_recipe("reference-mobilenet")
    assert same_recipe(replace(recipe, split="fold1of2", seed=3, weights="elsewhere.h5"), recipe)
    assert not same_recipe(replace(recipe, epochs=3), recipe)
    assert recipe.keep == "best"  # it cannot train on every image: the two recipes stay different
    assert not same_recipe(recipe, replace(recipe, keep="last", split="all"))


def rows_of(normal, bacterial, viral):
    kinds = [(NORMAL, "")] * normal + [(PNEUMONIA, BACTERIAL)] * bacterial + [(PNEUMONIA, VIRAL)] * viral
    return [{"label": label, "sublabel": sublabel} for label, sublabel in kinds]


@pytest.mark.parametrize(
    ("rule", "subtypes", "expected"),
    [
        ("none", False, 3 / 4),
        ("none", True, 3 / 4),
        ("balanced", False, 1 / 2),
        ("balanced", True, 2 / 3),
        ("inverse-ratio", False, 20 / (60 + 20)),
        ("inverse-ratio", True, (30 + 70) / (60 + 30 + 70)),  # the images of all other classes
    ],
)
def test_the_prevalence_that_the_weights_imply(rule, subtypes, expected):
    recipe = Recipe("mine", "mobilenet", class_weights=rule, subtypes=subtypes)
    assert implied_prevalence(rows_of(20, 50, 10), recipe) == pytest.approx(expected)
