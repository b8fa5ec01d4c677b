"""Recipes: complete, typed, and without unknown keys."""

import dataclasses
import json

import pytest
from builders import ROOT

from pneumoscope.data.augment import Augmentation
from pneumoscope.errors import UsageError
from pneumoscope.labels import BACTERIAL, FINDINGS, LABELS, NORMAL, VIRAL
from pneumoscope.training.recipe import RECIPES, Recipe, read_recipe

EXPERIMENTS = sorted((ROOT / "experiments" / "recipes").glob("*.toml"))
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
        ('name = "a"\nmodel = "lstm"\n[scheduler]\nname = "step"\n', "has unknown scheduler$"),
        (
            'name = "a"\nmodel = "lstm"\n[optimizer]\nname = "sgd"\n',
            "expected the recipe's optimizer as str, received {'name': 'sgd'}$",
        ),
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
        ({"split": "random"}, "expected a split patient, published, fold0of5, .*, all, received 'random'"),
        ({"class_weights": "5:1"}, "class_weights one of inverse-ratio, balanced, none, received '5:1'"),
        ({"model": "resnet"}, "model one of mobilenet, mobilenet-lungs, lstm, bilstm, received 'resnet'"),
        ({"epochs": 0}, "above zero, received 0"),
        ({"batch_size": -1}, "above zero"),
        ({"learning_rate": 0.0}, "above zero"),
        ({"learning_rate": float("nan")}, "above zero, received 10, 32 and nan"),
        ({"learning_rate": float("inf")}, "above zero, received 10, 32 and inf"),
        ({"seed": -1}, "seed from 0 and initial_seed from -1 to 4294967295, received -1 and -1"),
        ({"seed": 2**32}, "initial_seed from -1 to 4294967295, received 4294967296 and -1"),
        ({"initial_seed": -2}, "initial_seed from -1 to 4294967295, received 0 and -2"),
        ({"initial_seed": 2**32}, "initial_seed from -1 to 4294967295, received 0 and 4294967296"),
        ({"name": ""}, "name of letters, digits"),
        ({"name": ".."}, "name of letters, digits"),
        ({"name": "a/b"}, "name of letters, digits"),
        ({"name": "a b\n"}, "name of letters, digits"),
        ({"nonsense": 1}, "has unknown nonsense$"),
        ({"split": "fold5of5"}, "expected a fold like fold0of5 to fold4of5"),
        ({"split": "all"}, 'expected keep = "last" with split = "all"'),
        ({"trainable": "half"}, "trainable one of head, all, received 'half'"),
        ({"batch_norm": "none"}, "batch_norm one of batch, frozen, received 'none'"),
        ({"resize": "cubic"}, "resize one of area, area-224, scaled-224, received 'cubic'"),
        (
            {"teacher": "best"},
            r"teacher_share above 0 and at most 1, or neither, received 'best' and 0\.0",
        ),
        ({"teacher_share": 0.5}, "or neither, received '' and 0.5"),
        ({"teacher": "best", "teacher_share": 1.5}, "or neither, received 'best' and 1.5"),
        ({"optimizer": "sgd"}, "optimizer one of adam, adamw, received 'sgd'"),
        ({"schedule": "step"}, "schedule one of constant, cosine, received 'step'"),
        ({"keep": "first"}, "keep one of best, last, received 'first'"),
        ({"subtypes": 1}, "subtypes as bool, received 1"),
        ({"mirror": "yes"}, "mirror as bool, received 'yes'"),
        ({"mirror": True}, "expected mirror with a mobilenet, whose feature map it averages, received lstm"),
        ({"model": "bilstm", "mirror": True}, "expected mirror with a mobilenet, .*, received bilstm"),
        (
            {"train_size": 64},
            "expected train_size with a mobilenet that trains every layer on augmented images, received",
        ),
        ({"average": 1}, "average as 2 to 100 folds or 0, received 1"),
        ({"average": 101}, "average as 2 to 100 folds or 0, received 101"),
        ({"model": "mobilenet", "average": 5, "trainable": "all"}, "expected batch_norm = 'frozen' with average"),
        ({"dropout": 1.0}, r"dropout from 0 to below 1, received 1\.0"),
        ({"dropout": -0.1}, "dropout from 0 to below 1"),
        ({"label_smoothing": 1}, "label_smoothing from 0 to below 1"),
        ({"weight_decay": -1e-4}, "weight_decay zero or above, received -0.0001"),
        ({"warmup_epochs": float("inf")}, "warmup_epochs zero or above, received inf"),
        ({"mixup": float("nan")}, "mixup zero or above, received nan"),
        ({"size": 31}, "size of 32 pixels or more and source_size at least as large, received 31 and 0"),
        ({"size": -64}, "size of 32 pixels or more"),
        ({"size": 64, "source_size": 63}, "received 64 and 63"),
        ({"source_size": 149}, "received 0 and 149"),
        ({"augment": 3}, "augment as Augmentation, received 3"),
        ({"augment": {"flip": 2}}, r"expected augment\.flip from 0 to 1, received 2"),
    ],
)
def test_values_out_of_range_are_errors(change, message):
    with pytest.raises(UsageError, match=message):
        read_recipe("reference-lstm", **change)


def test_augment_is_a_table_of_the_file(tmp_path):
    text = 'name = "a"\nmodel = "mobilenet"\nepochs = 3\n[augment]\nside = 0.6\nrotation = 10\n'
    recipe = read_recipe(recipe_file(tmp_path, text))
    assert recipe.augment == Augmentation(crop_side=0.6, rotation=10.0)
    assert type(recipe.augment.rotation) is float
    assert recipe.augments
    saved = json.loads(json.dumps(recipe.to_dict()))  # as a run folder and a model file hold it
    assert saved["augment"]["crop_side"] == 0.6
    assert Recipe(**saved) == recipe
    with pytest.raises(
        UsageError,
        match=r"expected augment keys among equalize_aspect, .*, style_corners, received shear, zoom$",
    ):
        read_recipe(recipe_file(tmp_path, text + "zoom = 2\nshear = 1\n"))


def test_a_recipe_says_whether_its_images_change():
    assert not read_recipe("reference-mobilenet").augments
    assert read_recipe("reference-mobilenet", mixup=0.2).augments
    assert read_recipe("reference-mobilenet", augment={"flip": 0.5}).augments
    assert not read_recipe("reference-mobilenet", augment={"flip": 0}).augments


def test_a_recipe_has_the_classes_of_its_network():
    assert read_recipe("reference-mobilenet").classes == LABELS == ("NORMAL", "PNEUMONIA")
    assert read_recipe("reference-lstm", subtypes=True).classes == FINDINGS
    assert FINDINGS[0] == NORMAL
    assert set(FINDINGS[1:]) == {BACTERIAL, VIRAL}


def test_networks_with_frozen_batch_normalisation_can_be_averaged():
    frozen = read_recipe("reference-mobilenet", average=5, trainable="all", batch_norm="frozen", mirror=True)
    assert (frozen.average, frozen.mirror) == (5, True)
    assert read_recipe("reference-mobilenet", average=5).trainable == "head"  # its backbone is frozen anyway
    assert read_recipe("reference-mobilenet", trainable="all").batch_norm == "batch"  # enough without average


def test_the_size_is_the_architectures_unless_the_recipe_gives_one():
    for model, side in (("mobilenet", 150), ("lstm", 150), ("bilstm", 112)):
        recipe = Recipe("mine", model)
        assert (recipe.spec.height, recipe.spec.width) == (side, side)
        other = Recipe("mine", model, size=64)
        assert (other.spec.height, other.spec.width) == (64, 64)
        assert (other.spec.channels, other.spec.layout) == (recipe.spec.channels, recipe.spec.layout)


def test_only_recipes_that_keep_the_last_epoch_hold_nothing_out():
    """There are no held-out images to choose the best epoch by."""
    assert read_recipe("reference-mobilenet", split="all", keep="last").split == "all"


@pytest.mark.parametrize("path", EXPERIMENTS, ids=lambda path: path.stem)
def test_every_experiment_parses(path):
    assert read_recipe(path).name == path.stem


def test_a_recipe_is_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError, match="seed"):
        read_recipe("reference-lstm").seed = 3


def test_augmentation_keys_of_version_0_1_are_read_under_their_new_names():
    """Runs, fold results and model files of that version have them."""
    old = Recipe(name="old", model="mobilenet", augment={"even": 1.0, "side": 0.6, "both": 0.85})
    assert old.augment == Augmentation(equalize_aspect=1.0, crop_side=0.6, crop_both=0.85)
    with pytest.raises(UsageError, match=r"expected augment.crop_side once, received it and its old name side too"):
        Recipe(name="twice", model="mobilenet", augment={"side": 0.6, "crop_side": 0.6})
