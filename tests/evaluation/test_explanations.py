"""Tests of maps, on a model whose true evidence is known: how bright each cell is."""

import numpy as np
import pytest
from PIL import Image

from pneumoscope.data import Manifest, Record
from pneumoscope.errors import DatasetError
from pneumoscope.evaluation.explanations import measure_explanations
from pneumoscope.inference import EVIDENCE, PROBABILITIES, InputSpec, Predictor
from pneumoscope.labels import NORMAL, PNEUMONIA

CELLS = 8


class BrightCells:
    """Stands for a model file: bright cells are evidence for PNEUMONIA, and its map is that evidence, or another."""

    name, sha256, threshold, uncertain = "bright", "ab" * 32, 0.5, (0.5, 0.5)
    operating_points, prevalence, spec = {"default": 0.5}, None, InputSpec(height=64, width=64)
    has_maps, contract = True, {}

    def __init__(self, change_map=lambda evidence: evidence):
        self.change_map = change_map

    def run(self, inputs):
        cells = inputs[..., 0].reshape(len(inputs), CELLS, 64 // CELLS, CELLS, 64 // CELLS).mean(axis=(2, 4))
        evidence = 6 * (cells - 0.35)
        pneumonia = 1 / (1 + np.exp(-evidence.sum(axis=(1, 2)) / 8))
        probabilities = np.stack([1 - pneumonia, pneumonia], axis=1).astype(np.float32)
        return {PROBABILITIES: probabilities, EVIDENCE: self.change_map(evidence).astype(np.float32)}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory) -> Manifest:
    """Dark normals; pneumonias with one bright side, at another place in each."""
    root, rng, records = tmp_path_factory.mktemp("cells"), np.random.default_rng(0), []
    for number in range(20):
        label = NORMAL if number % 2 else PNEUMONIA
        pixels = rng.normal(70, 12, (64, 64))
        if label == PNEUMONIA:
            top, left = rng.integers(0, 24, 2)
            pixels[top : top + 40, left : left + 40] += 110
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(root / f"{number}.png")
        records.append(Record(f"{number}.png", label, "", f"p{number}", f"p{number}"))
    return Manifest(root, tuple(records))


def measured(manifest, change_map=lambda evidence: evidence, randomised=None, records=None):
    predictor = Predictor(BrightCells(change_map))
    return measure_explanations(predictor, manifest, records or manifest.records, randomised, resamples=50)


@pytest.fixture(scope="module")
def true_map(manifest):
    return measured(manifest, randomised=Predictor(BrightCells(lambda evidence: evidence[:, ::-1, ::-1].copy())))


def test_a_true_map_deletes_and_inserts_better_than_maps_that_know_nothing(true_map):
    assert true_map["images"] == 10
    for other in ("random", "centred blob"):
        assert true_map["deletion"]["own"]["high"] < true_map["deletion"][other]["low"]
        assert true_map["insertion"]["own"]["low"] > true_map["insertion"][other]["high"]
    assert true_map["deletion"]["random"]["value"] == pytest.approx(0.5, abs=0.12)


def test_occlusion_finds_the_bright_side_too(true_map):
    assert true_map["deletion"]["occlusion"]["value"] < true_map["deletion"]["random"]["low"]


def test_a_map_that_shows_the_opposite_is_worse_than_chance(manifest):
    found = measured(manifest, lambda evidence: evidence.max() - evidence)
    assert found["deletion"]["own"]["low"] > found["deletion"]["random"]["high"]
    assert found["insertion"]["own"]["high"] < found["insertion"]["random"]["low"]


def test_a_true_map_is_stable_and_a_random_one_is_not(manifest, true_map):
    rng = np.random.default_rng(1)
    noise = measured(manifest, lambda evidence: rng.random(evidence.shape))
    for test in ("shifted", "brighter"):
        assert true_map[test]["value"] > 0.8
        assert abs(noise[test]["value"]) < 0.3


def test_a_map_that_does_not_depend_on_the_weights_is_seen(manifest, true_map):
    same = measured(manifest, randomised=Predictor(BrightCells()))
    assert same["randomised"]["value"] == pytest.approx(1)
    assert true_map["randomised"]["value"] < 0.8
    assert measured(manifest)["randomised"] is None


def test_without_normals_or_without_pneumonias_there_is_nothing_to_test(manifest):
    with pytest.raises(DatasetError, match="expected normal radiographs that the model calls NORMAL"):
        measured(manifest, records=manifest.records[::2])
    with pytest.raises(DatasetError, match="expected pneumonias that the model finds"):
        measured(manifest, records=manifest.records[1::2])
