"""Random labels and probabilities, and estimates by name."""

import numpy as np


def draw_predictions(seed: int, n: int = 400, ties: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, probabilities and patients. A patient has one or more radiographs, all of one label."""
    random = np.random.default_rng(seed)
    patients = random.integers(0, n // 2, n)
    labels = (random.random(n // 2) < 0.6).astype(int)[patients]
    probability = np.clip(random.normal(0.35 + 0.3 * labels, 0.25), 0, 1)
    return labels, np.round(probability, 2) if ties else probability, patients


def estimates(result: dict) -> dict[str, dict]:
    """The estimates of an evaluation by name; those of a class have its label in the name."""
    flat = {name: estimate for name, estimate in result.items() if name != "classes"}
    return flat | {
        f"{name} {label}": estimate
        for label, by_name in result["classes"].items()
        for name, estimate in by_name.items()
    }
