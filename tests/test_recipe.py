"""Recipes: complete, typed, and nothing unknown."""

import dataclasses

import pytest

from pneumoscope.errors import UsageError
from pneumoscope.recipe import RECIPES, Recipe, read_recipe

SHIPPED = sorted(path.stem for path in RECIPES.glob("*.toml"))


def recipe_file(folder, text):
    path = folder / "mine.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_shipped_recipes_are_the_published_ones():
    assert {"reference-lstm", "reference-mobilenet"} <= set(SHIPPED)
    for model in ("mobilenet", "lstm"):
        recipe = read_recipe(f"reference-{model}")
        assert (recipe.name, recipe.model) == (f"reference-{model}", model)
        assert (recipe.epochs, recipe.batch_size) == (10, 32)
        assert recipe.learning_rate == 0.001
        assert recipe.class_weights == "inverse-ratio"
        assert (recipe.split, recipe.validation_fraction) == ("patient", 0.1)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_recipe_parses_and_says_how_to_run_it(name):
    assert read_recipe(name).name == name
    head = (RECIPES / f"{name}.toml").read_text(encoding="utf-8")
    assert head.startswith("# ")
    assert "pneumoscope train" in head


def test_a_recipe_survives_its_dictionary():
    recipe = read_recipe("reference-lstm", seed=3, split="published")
    assert Recipe(**recipe.to_dict()) == recipe


def test_flags_win_over_the_file_and_none_leaves_it(tmp_path):
    path = recipe_file(tmp_path, 'name = "mine"\nmodel = "lstm"\nepochs = 3\nlearning_rate = 1\n')
    assert read_recipe(path) == Recipe("mine", "lstm", epochs=3, learning_rate=1.0)
    assert type(read_recipe(path).learning_rate) is float
    changed = read_recipe(str(path), epochs=5, seed=None, model="mobilenet")
    assert changed == Recipe("mine", "mobilenet", epochs=5, learning_rate=1.0)


def test_flags_may_complete_a_file(tmp_path):
    path = recipe_file(tmp_path, "epochs = 3\n")
    assert read_recipe(path, name="mine", model="lstm") == Recipe("mine", "lstm", epochs=3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "a"\nmodel = "lstm"\nepoch = 3\n', "expected recipe keys among name, model.*has unknown epoch$"),
        ('name = "a"\nmodel = "lstm"\n[optimizer]\nname = "sgd"\n', "has unknown optimizer$"),
        ('model = "lstm"\n', "lacks name$"),
        ("", "lacks model and name$"),
        ('name = "a\n', "expected a TOML recipe at"),
        ("\0", "expected a TOML recipe at"),
    ],
)
def test_files_with_other_keys_or_no_toml(tmp_path, text, message):
    with pytest.raises(UsageError, match=message):
        read_recipe(recipe_file(tmp_path, text))


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(UsageError, match=r"one of .*reference-lstm.*found no recipe 'no-such-recipe'"):
        read_recipe("no-such-recipe")
    with pytest.raises(UsageError, match=r"found no recipe 'missing\.toml'"):
        read_recipe("missing.toml")
    with pytest.raises(UsageError, match="expected a TOML recipe at"):
        read_recipe("nul\0byte.toml")
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(UsageError, match="expected a TOML recipe at"):
        read_recipe(tmp_path / "folder.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "r\xf6ntgen"\n')
    with pytest.raises(UsageError, match="expected a TOML recipe at"):
        read_recipe(tmp_path / "latin.toml")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 1.0}, "expected the recipe's epochs as int, received 1.0"),
        ({"epochs": True}, "epochs as int, received True"),
        ({"epochs": "10"}, "epochs as int, received '10'"),
        ({"learning_rate": "fast"}, "learning_rate as float, received 'fast'"),
        ({"weights": 3}, "weights as str, received 3"),
        ({"split": "random"}, "split one of patient, published, received 'random'"),
        ({"class_weights": "5:1"}, "class_weights one of inverse-ratio, balanced, none, received '5:1'"),
        ({"model": "resnet"}, "model one of mobilenet, lstm, received 'resnet'"),
        ({"epochs": 0}, "above zero, received 0"),
        ({"batch_size": -1}, "above zero"),
        ({"learning_rate": 0.0}, "above zero"),
        ({"learning_rate": float("nan")}, "above zero, received 10, 32 and nan"),
        ({"learning_rate": float("inf")}, "above zero, received 10, 32 and inf"),
        ({"seed": -1}, "seed from 0 to 4294967295, received -1"),
        ({"seed": 2**32}, "seed from 0 to 4294967295"),
        ({"name": ""}, "name of letters, digits"),
        ({"name": ".."}, "name of letters, digits"),
        ({"name": "a/b"}, "name of letters, digits"),
        ({"name": "a b\n"}, "name of letters, digits"),
        ({"nonsense": 1}, "has unknown nonsense$"),
    ],
)
def test_values_out_of_range_are_errors(change, message):
    with pytest.raises(UsageError, match=message):
        read_recipe("reference-lstm", **change)


def test_a_recipe_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError, match="seed"):
        read_recipe("reference-lstm").seed = 3
