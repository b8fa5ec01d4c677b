"""Predictors whose probabilities are given, so that an evaluation can be checked by hand."""

import numpy as np

from pneumoscope.inference import EVIDENCE, LUNGS, PROBABILITIES, SUBTYPES, InputSpec, Predictor
from pneumoscope.labels import label_index


class GivenBundle:
    """Stands for a model file: it gives prepared probabilities in the order of the radiographs."""

    name, sha256, threshold, uncertain = "given", "ab" * 32, 0.5, (0.45, 0.55)
    operating_points, prevalence = {"default": 0.5}, None
    spec = InputSpec(height=16, width=16)

    def __init__(self, probability, bacterial=None):
        self.rest = [float(value) for value in probability]
        self.shares = bacterial  # of bacterial pneumonia, for a model with this output

    def run(self, inputs):
        batch, self.rest = self.rest[: len(inputs)], self.rest[len(inputs) :]
        outputs = {PROBABILITIES: np.array([(1 - value, value) for value in batch], dtype=np.float32)}
        if self.shares is not None:
            shares, self.shares = self.shares[: len(inputs)], self.shares[len(inputs) :]
            outputs[SUBTYPES] = np.array([(share, 1 - share) for share in shares], dtype=np.float32)
        return outputs


class GivenMaps:
    """Stands for a model whose lung field is the left half of the image; its evidence speaks for PNEUMONIA there."""

    name, sha256, threshold, uncertain = "given", "ab" * 32, 0.5, (0.5, 0.5)
    operating_points, prevalence, spec = {"default": 0.5}, None, InputSpec(height=64, width=64)

    has_maps, contract = True, {}

    def run(self, inputs):
        left = np.zeros((1, 4, 4), np.float32)
        left[:, :, :2] = 1
        probabilities = np.array([[0.4, 0.6]], np.float32)
        return {PROBABILITIES: probabilities, LUNGS: left, EVIDENCE: left - 0.5 * (1 - left)}


def given(probability, threshold=None) -> Predictor:
    """A predictor with prepared probabilities."""
    return Predictor(GivenBundle(probability), threshold)


def probabilities(records, seed=0, spread=0.25) -> np.ndarray:
    """Random probabilities that are higher for pneumonias, with ties."""
    random = np.random.default_rng(seed)
    labels = np.array([label_index(record.label) for record in records])
    return np.clip(random.normal(0.3 + 0.4 * labels, spread), 0, 1).round(2)
