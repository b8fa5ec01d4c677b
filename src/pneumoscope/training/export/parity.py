"""Checks of a model file against Keras: the same outputs, and maps that are the gradient's."""

import numpy as np

from pneumoscope.errors import BundleError
from pneumoscope.inference import GRADCAM, Bundle
from pneumoscope.training.export.inference_graph import autodiff_gradcam
from pneumoscope.training.keras_backend import Model

#: Largest absolute difference of a probability, or relative difference of a map, between ONNX and Keras. Both compute
#: in float32, and add in different orders.
ONNX_TOLERANCE = 1e-5
#: Largest difference between the closed-form maps and automatic differentiation, relative to the largest value in the
#: maps of an image.
GRADCAM_TOLERANCE = 1e-4


def check_parity(bundle: Bundle, network: Model, seed: int = 0) -> dict[str, float]:
    """Compare a file with the Keras network it was made from, at two batch sizes, on noise.

    Args:
        bundle: the file.
        network: made by :func:`pneumoscope.training.export.inference_graph.build_inference_graph`.
        seed: of the noise.

    Returns:
        The largest difference of each output.

    Raises:
        BundleError: a difference above :data:`ONNX_TOLERANCE`.
    """
    differences: dict[str, float] = {}
    for count in (1, 5):
        inputs = np.random.default_rng(seed).random((count, *bundle.spec.shape), np.float32)
        expected = network.predict_on_batch(inputs)
        for name, value in bundle.run(inputs).items():
            scale = max(1.0, float(np.abs(expected[name]).max()))
            difference = float(np.abs(value - expected[name]).max()) / scale
            differences[name] = max(difference, differences.get(name, 0.0))
    for name, difference in differences.items():
        if not difference <= ONNX_TOLERANCE:
            raise BundleError(
                f"expected {name} of {bundle.path} within {ONNX_TOLERANCE} of Keras, it differs by {difference:.2g}: "
                "do not use this file and report the versions in its run folder"
            )
    return differences


def check_gradcam(bundle: Bundle, model: Model, inputs: np.ndarray | None = None) -> float | None:
    """Compare the Grad-CAM maps of a file with automatic differentiation.

    Args:
        bundle: the file.
        model: the trained Keras model it was made from.
        inputs: (N, *spec.shape) float32; smooth random images by default.

    Returns:
        The largest difference, relative to the largest value in the maps of an image; None for a model without a
        feature map.

    Raises:
        BundleError: a difference above :data:`GRADCAM_TOLERANCE`.
    """
    if not bundle.has_gradcam:
        return None
    if inputs is None:
        inputs = _smooth_images(bundle.spec.shape)
    expected = autodiff_gradcam(model, inputs, bool(bundle.contract["training"]["recipe"].get("mirror")))
    peak = expected.max(axis=(1, 2, 3), keepdims=True)
    received = bundle.run(inputs)[GRADCAM]
    difference = float((np.abs(received - expected) / np.where(peak > 0, peak, 1)).max())
    if not difference <= GRADCAM_TOLERANCE:
        raise BundleError(
            f"expected the Grad-CAM maps of {bundle.path} within {GRADCAM_TOLERANCE} of automatic differentiation, "
            f"they differ by {difference:.2g}: do not use this file and report the versions in its run folder"
        )
    return difference


def _smooth_images(shape: tuple[int, ...]) -> np.ndarray:
    """(8, *shape) float32 in [0, 1]: fields of ten by ten random grays."""
    coarse = np.random.default_rng(0).random((8, 10, 10, 1), np.float32)
    height, width, channels = shape
    images = np.kron(coarse, np.ones((1, -(-height // 10), -(-width // 10), channels), np.float32))
    return images[:, :height, :width]
