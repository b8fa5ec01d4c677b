"""The network whose verdict comes from the lungs: learnt from masks, resumed to the bit, exported with its evidence."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from builders.given_models import GivenMaps
from PIL import Image

from pneumoscope.data import LungMasks, read_dataset
from pneumoscope.data.augment import Augmentation, augment, augment_with_mask
from pneumoscope.data.style import StylePartners
from pneumoscope.errors import BundleError, DatasetError, UsageError
from pneumoscope.evaluation.lung_evidence import measure_lungs
from pneumoscope.inference import EVIDENCE, LUNGS, PROBABILITIES, InputSpec, load, log_odds, open_bundle
from pneumoscope.inference.explain import EVIDENCE_MAP, explain
from pneumoscope.inference.preprocess import preprocess
from pneumoscope.labels import LABELS, NORMAL, PNEUMONIA, POSITIVE
from pneumoscope.training import networks
from pneumoscope.training.checkpoints import restore_best
from pneumoscope.training.export.inference_graph import build_inference_graph
from pneumoscope.training.export.onnx_export import export_run
from pneumoscope.training.keras_backend import keras, tf
from pneumoscope.training.lung_layers import Evidence, LungPooling, lung_loss, pooling_weights
from pneumoscope.training.recipe import Recipe
from pneumoscope.training.release import release
from pneumoscope.training.train import train

SPEC = InputSpec(height=64, width=64, channels=1)


@pytest.fixture(scope="module")
def lung_recipe(backbone_weights):
    """Makes recipes of the network, small enough for seconds, with every augmentation that moves a mask."""

    def make(**changes: object) -> Recipe:
        values = {
            "name": "lungs", "model": "mobilenet-lungs", "size": 64, "source_size": 80, "trainable": "all",
            "dropout": 0.2, "subtypes": True, "epochs": 2, "batch_size": 8, "optimizer": "adamw", "weight_decay": 1e-3,
            "class_weights": "balanced", "keep": "last", "ema": 0.9, "validation_fraction": 0.25,
            "weights": str(backbone_weights),
            "augment": {
                "crop_side": 0.7, "rotation": 9, "flip": 0.5, "equalize_aspect": 1, "erase": 0.3, "style": 0.9,
                "style_corners": 0.7,
            },
        }  # fmt: skip
        return Recipe(**{**values, **changes})

    return make


@pytest.fixture(scope="module")
def masks(samples_folder, tmp_path_factory) -> Path:
    """Masks for twenty of the 24 bundled radiographs: two ellipses."""
    folder = tmp_path_factory.mktemp("masks")
    rows, columns = np.mgrid[0:112, 0:112]
    lungs = [((rows - 56) / 36) ** 2 + ((columns - middle) / 18) ** 2 < 1 for middle in (34, 78)]
    for record in read_dataset(samples_folder).records[2:-2]:
        path = (folder / record.path).with_suffix(".png")
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(lungs[0] | lungs[1]).save(path)
    return folder


@pytest.fixture(scope="module")
def run(lung_recipe, samples_folder, masks, tmp_path_factory):
    return train(lung_recipe(), samples_folder, runs=tmp_path_factory.mktemp("runs"), masks=masks)


@pytest.fixture(scope="module")
def bundle(run, samples_folder):
    release(run, samples_folder)  # also checks that the file has the accuracy of the averaged weights in training
    return open_bundle(run.folder)


@pytest.fixture(scope="module")
def inputs(bundle, samples) -> np.ndarray:
    return np.concatenate([preprocess(path, bundle.spec) for path in samples])


# Formulas


def test_weights_add_up_to_one_and_are_defined_without_lungs():
    fields = np.stack([np.zeros((4, 4)), np.ones((4, 4)), np.eye(4)]).astype(np.float32)
    weights = np.asarray(pooling_weights(fields))
    np.testing.assert_allclose(weights.sum(axis=(1, 2)), 1, rtol=1e-6)
    np.testing.assert_allclose(weights[0], 1 / 16, rtol=1e-6)
    assert weights[2][np.eye(4) == 0].sum() < 0.01


def test_no_gradient_of_the_verdict_reaches_the_lung_field():
    maps, field = tf.random.normal((2, 4, 4, 3)), tf.Variable(tf.random.uniform((2, 4, 4)))
    with tf.GradientTape() as tape:
        logits = LungPooling()([maps, field])
    assert tape.gradient(logits, field) is None


def test_with_a_power_cells_at_the_border_count_less():
    fields = np.array([[[1.0, 0.5], [0.5, 0.0]]], np.float32)
    plain, squared = (np.asarray(pooling_weights(fields, power))[0] for power in (1.0, 2.0))
    np.testing.assert_allclose(plain[0, 0] / plain[0, 1], 2, rtol=2e-3)
    np.testing.assert_allclose(squared[0, 0] / squared[0, 1], 4, rtol=4e-3)
    np.testing.assert_allclose(squared.sum(), 1, rtol=1e-6)


@pytest.mark.parametrize("power", [1.0, 2.0])
@pytest.mark.parametrize("classes", [2, 3])
def test_the_evidence_adds_up_to_the_calibrated_log_odds(classes, power):
    rng = np.random.default_rng(0)
    maps, field = rng.normal(0, 3, (5, 4, 4, classes)).astype(np.float32), rng.random((5, 4, 4), np.float32)
    weights = np.asarray(pooling_weights(field, power))
    offsets = rng.normal(0, 1, classes).astype(np.float32)
    logits = (weights[..., None] * maps).sum(axis=(1, 2)) + offsets
    layer = LungPooling(power)
    layer.build([maps.shape, field.shape])
    layer.bias.assign(offsets)
    np.testing.assert_allclose(np.asarray(layer([maps, field])), logits, atol=1e-4)
    z = np.log(np.exp(logits[:, 1:]).sum(axis=1)) - logits[:, 0]
    evidence = np.asarray(Evidence(1.7, -0.4, power)([maps, field, logits.astype(np.float32)]))
    np.testing.assert_allclose(evidence.sum(axis=(1, 2)), 1.7 * z - 0.4, atol=1e-4)


def test_the_mask_loss_is_small_for_the_mask_and_large_for_its_opposite():
    mask = np.zeros((1, 6, 6), np.float32)
    mask[:, 1:5, 1:3] = 1
    right, wrong = (float(np.asarray(lung_loss(mask, field))[0]) for field in (mask, 1 - mask))
    assert right < 0.01
    assert wrong > 2


# Masks


def test_a_mask_moves_with_its_image():
    """An image that is its own mask stays its own mask, whatever the geometry."""
    mask = np.zeros((96, 96), np.uint8)
    mask[20:70, 30:60] = 255
    geometry = Augmentation(crop_side=0.6, crop_both=0.8, rotation=15, scale=1.2, shift=0.1, flip=0.5)
    for seed in range(20):
        for wide in (1.0, 1.3):
            image, moved = augment_with_mask(mask, mask, SPEC, geometry, np.random.default_rng(seed), wide)
            # The exposure of the image rounds once more.
            assert np.abs(image.astype(int) - moved).max() <= 1
    image, moved = augment_with_mask(mask, mask, SPEC, Augmentation(flip=1.0), np.random.default_rng(0))
    np.testing.assert_array_equal(image, moved)


def test_what_is_laid_over_the_image_leaves_the_mask_and_the_mask_changes_no_draw(gray):
    mask = np.where(gray > 128, 255, 0).astype(np.uint8)
    partners = StylePartners.measure(np.stack([gray, 255 - gray]), np.array([0, 1]), SPEC)
    overlaid = Augmentation(style=1, style_corners=1, markers=1, border=1, erase=1, noise=0.1, tone=0.5, jpeg=1)
    untouched = augment_with_mask(gray, mask, SPEC, Augmentation(), np.random.default_rng(3))[1]
    image, moved = augment_with_mask(gray, mask, SPEC, overlaid, np.random.default_rng(3), partners=partners)
    np.testing.assert_array_equal(moved, untouched)
    np.testing.assert_array_equal(image, augment(gray, SPEC, overlaid, np.random.default_rng(3), partners=partners))


def test_masks_are_counted_and_missing_ones_are_fine(samples_folder, masks):
    records = read_dataset(samples_folder).records
    found = LungMasks(masks)
    assert found.count_sentence(records) == "masks for 20 of 24 images"
    read, known = found.read(records, SPEC)
    assert (read.shape, read.dtype, known.sum()) == ((24, 64, 64), np.uint8, 20)
    assert not read[known == 0].any()
    assert all(mask.max() == 255 for mask in read[known == 1])


def test_a_folder_without_masks_and_a_broken_mask_are_one_sentence(samples_folder, masks, tmp_path):
    records = read_dataset(samples_folder).records
    with pytest.raises(DatasetError, match=r"expected masks of the images in .*, found none: give the folder with"):
        LungMasks(tmp_path).count_sentence(records)
    broken = Path(shutil.copytree(masks, tmp_path / "masks"))
    path = LungMasks(broken).path(records[5])
    path.write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"expected a PNG mask at .*, it cannot be read"):
        LungMasks(broken).read(records, SPEC)


# Training


def test_both_losses_are_recorded_and_the_lungs_are_learnt(run):
    names = set(run.history[0])
    assert {"accuracy", "val_accuracy", "loss", "lungs_dice", "val_lungs_dice", "lungs_loss"} <= names
    assert run.history[-1]["lungs_loss"] < run.history[0]["lungs_loss"]
    assert "masks_sha256" in json.loads((run.folder / "config.json").read_text())


def test_an_interrupted_training_ends_with_the_same_bits(run, lung_recipe, samples_folder, masks, tmp_path):
    """With masks, style and averaged weights; stopped inside the second epoch."""

    def interrupt(step, steps, figures):
        if step == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(lung_recipe(), samples_folder, runs=tmp_path, masks=masks, on_batch=interrupt)
    resumed = train(lung_recipe(), samples_folder, runs=tmp_path, masks=masks, resume=True)
    for name in ("best.npz", "checkpoint.npz"):
        with np.load(run.folder / name) as first, np.load(resumed.folder / name) as second:
            assert first.files == second.files
            for key in set(first.files) - {"history"}:
                np.testing.assert_array_equal(first[key], second[key], err_msg=f"{name} {key}")


def test_the_kept_weights_are_the_averages(run):
    with np.load(run.folder / "best.npz") as best, np.load(run.folder / "checkpoint.npz") as state:
        assert any(not np.array_equal(best[f"weight{number}"], state[f"variable{number}"]) for number in range(20))


def test_masks_and_network_go_together(lung_recipe, tiny_recipe, samples_folder, masks, tmp_path):
    with pytest.raises(UsageError, match="expected lung masks for lungs, which learns the lungs, received none: add"):
        train(lung_recipe(), samples_folder, runs=tmp_path)
    with pytest.raises(UsageError, match="expected no masks for reference-mobilenet, whose mobilenet learns no lungs"):
        train(tiny_recipe("mobilenet"), samples_folder, runs=tmp_path, masks=masks)
    for changes, sentence in (
        ({"size": 72, "source_size": 80}, "as multiples of 32, received 72"),
        ({"mixup": 0.2}, "expected mixup = 0 with mobilenet-lungs"),
        ({"mirror": True}, "expected mirror with a mobilenet, whose feature map it averages, received mobilenet-lungs"),
        ({"average": 5, "split": "all"}, "networks with free batch norm do not average"),
    ):
        with pytest.raises(UsageError, match=sentence):
            lung_recipe(**changes)


def test_the_network_costs_at_most_two_and_a_half_times_the_reference():
    """Multiplications of the convolutions, at 192 and at 150 pixels."""
    costs = []
    for model, size in (("mobilenet-lungs", 192), ("mobilenet", 150)):
        network = networks.build(Recipe(name="a", model=model, size=size, subtypes=True), weights=None)
        costs.append(sum(map(_multiplications, [*network.layers, *network.get_layer("backbone").layers])))
    assert 1 < costs[0] / costs[1] < 2.5


def _multiplications(layer) -> int:
    if isinstance(layer, keras.layers.SeparableConv2D):
        kernels = [layer.depthwise_kernel, layer.pointwise_kernel]
    elif isinstance(layer, (keras.layers.Conv2D, keras.layers.DepthwiseConv2D)):
        kernels = [layer.kernel]
    else:
        return 0
    return int(np.prod(layer.output.shape[1:3]) * sum(np.prod(kernel.shape) for kernel in kernels))


# The file


def test_the_file_gives_lungs_and_evidence_that_adds_up(bundle, inputs):
    outputs = bundle.run(inputs)
    assert {name: value.shape for name, value in outputs.items()} == {
        PROBABILITIES: (24, 2), "subtypes": (24, 2), LUNGS: (24, 4, 4), EVIDENCE: (24, 4, 4),
    }  # fmt: skip
    assert all(value.dtype == np.float32 for value in outputs.values())
    odds = log_odds(outputs[PROBABILITIES][:, POSITIVE].astype(np.float64))
    np.testing.assert_allclose(outputs[EVIDENCE].sum(axis=(1, 2)), odds, atol=1e-3)
    assert outputs[LUNGS].min() >= 0
    assert outputs[LUNGS].max() <= 1


def test_a_calibrated_file_computes_what_keras_computes(run, inputs):
    model = networks.build(run.recipe, weights=None, inference=True)
    restore_best(run, model)
    network = build_inference_graph(model, slope=1.5, intercept=0.3)
    plain, calibrated = build_inference_graph(model).predict_on_batch(inputs), network.predict_on_batch(inputs)
    sums = [values[EVIDENCE].sum(axis=(1, 2)) for values in (plain, calibrated)]
    np.testing.assert_allclose(sums[1], 1.5 * sums[0] + 0.3, atol=1e-3)
    np.testing.assert_array_equal(plain[LUNGS], calibrated[LUNGS])
    with pytest.raises(BundleError, match="expected a network without lungs to average mirrored views of"):
        build_inference_graph(model, mirror=True)


def test_explanations_show_the_part_of_the_class(bundle, samples):
    predictor = load(bundle.path)
    prediction = predictor.predict(samples[0])
    for label, sign in ((PNEUMONIA, 1), (NORMAL, -1)):
        explanation = explain(predictor, samples[0], label)
        assert explanation.method == EVIDENCE_MAP
        assert explanation.heatmap.shape == explanation.radiograph.pixels.shape
        assert (explanation.heatmap.max() > 0) == bool((sign * prediction.evidence).max() > 0)
        assert explanation.lungs.shape == explanation.heatmap.shape
    assert prediction.lungs.shape == (4, 4)
    assert bundle.has_maps


def test_an_int8_file_has_the_same_outputs(lung_recipe, samples_folder, masks, tmp_path, inputs, monkeypatch):
    # One epoch on random weights may move further than int8 is allowed to.
    monkeypatch.setattr("pneumoscope.training.export.quantise.TOLERANCE", 1.0)
    recipe = lung_recipe(precision="int8", epochs=1, name="lungs-int8")
    trained = train(recipe, samples_folder, runs=tmp_path, masks=masks)
    release(trained, samples_folder)
    outputs = open_bundle(trained.folder).run(inputs)
    assert set(outputs) == {PROBABILITIES, "subtypes", LUNGS, EVIDENCE}
    odds = log_odds(outputs[PROBABILITIES][:, POSITIVE].astype(np.float64))
    np.testing.assert_allclose(outputs[EVIDENCE].sum(axis=(1, 2)), odds, atol=1e-3)


def test_the_export_of_two_labels_has_no_subtypes(lung_recipe, samples_folder, masks, tmp_path):
    run = train(lung_recipe(subtypes=False, epochs=1), samples_folder, runs=tmp_path, masks=masks)
    assert set(open_bundle(export_run(run)).contract["outputs"]) == {PROBABILITIES, LUNGS, EVIDENCE}


# Measuring


def test_dice_and_evidence_in_the_masks_by_hand(samples_folder, tmp_path):
    from pneumoscope.inference import Predictor

    manifest, predictor = read_dataset(samples_folder), Predictor(GivenMaps())
    for name, shown in (("same", np.s_[:, :32]), ("other", np.s_[:, 32:])):
        mask = np.zeros((64, 64), bool)
        mask[shown] = True
        for record in manifest.records[4:12]:
            path = (tmp_path / name / record.path).with_suffix(".png")
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(mask).save(path)
        found = measure_lungs(predictor, manifest, manifest.records, LungMasks(tmp_path / name), resamples=50)
        same = name == "same"
        assert found["images"] == 8
        assert {record.label for record in manifest.records[4:12]} == set(LABELS)
        assert found["lung_dice"]["value"] == pytest.approx(float(same), abs=0.03)
        assert found["evidence_in_lungs"]["value"] == pytest.approx(float(same))
        assert found["peak_in_lungs"]["value"] == float(same)
    with pytest.raises(DatasetError, match="expected masks of these images"):
        measure_lungs(predictor, manifest, manifest.records[:2], LungMasks(tmp_path / "same"))


def test_training_may_use_smaller_images(lung_recipe, samples_folder, masks, tmp_path):
    """The augmented images are smaller; held-out images, and those of the file, have the size of the recipe."""
    recipe = lung_recipe(train_size=32, epochs=1)
    assert recipe.train_spec.shape == (32, 32, 3)
    run = train(recipe, samples_folder, runs=tmp_path, masks=masks)
    report = release(run, samples_folder)
    assert load(run.folder).bundle.spec == recipe.spec
    assert report["metrics"]["accuracy"]["value"] == pytest.approx(run.kept["val_accuracy"])
    other = train(lung_recipe(epochs=1), samples_folder, runs=tmp_path / "whole", masks=masks)
    assert other.history[0]["loss"] != run.history[0]["loss"]
