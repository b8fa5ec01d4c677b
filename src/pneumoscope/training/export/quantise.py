"""Model file -> the same network with int8 convolutions: faster, smaller, with answers that differ a little.

Weights have one scale for each output channel. Activations have one for each tensor, from their range on some training
images. Some convolutions stay in float32:

- the first ones: they have few channels with ranges of very different width, and cause most of the error;
- the depthwise ones, which are not faster in int8.

Processors without VNNI add pairs of products in 16 bits, where int8 weights overflow. There,
:mod:`pneumoscope.inference.bundle` makes the runtime use a slower method, so that every processor gives the same
integers.

Reference: Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only
inference", 2018; per-channel weights and calibrated activations as in Nagel et al., "A white paper on neural network
quantization", 2021.
"""

import contextlib
import hashlib
import io
import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pneumoscope.errors import BundleError, MissingExtra
from pneumoscope.inference import PROBABILITIES, Bundle, open_bundle, read_bundle
from pneumoscope.labels import POSITIVE
from pneumoscope.training.export.onnx_export import with_contract, write_contract
from pneumoscope.training.export.onnx_graph import Proto

#: Convolutions from the input on that stay in float32, as all depthwise ones do.
FLOAT_LAYERS = 6
#: Training images that give the ranges, and the mean difference of their probabilities above which a file is refused.
CALIBRATION_IMAGES, TOLERANCE = 128, 0.05
_BATCH = 8


def quantise(source: Path, out: Path, images: np.ndarray) -> Path:
    """Write a model file with int8 convolutions.

    Args:
        source: a float32 file from :func:`pneumoscope.training.export.onnx_export.export_run`, without held-out figures
            (the new file would keep them).
        out: the file to write; it may be ``source``. After an error nothing is written.
        images: (N, *spec.shape) float32 in [0, 1], training images as model input.

    Returns:
        ``out``; its contract has ``precision`` and the mean change of the probabilities of ``images``.

    Raises:
        BundleError: the network has no convolutions to quantise, or its answers change too much.
        MissingExtra: onnx is not installed.
    """
    before = open_bundle(source)
    body, float32_convolutions = _quantise_body(source.read_bytes()[: before.contract["body_bytes"]], images)
    contract = {
        **before.contract,
        "precision": "int8",
        "quantisation": {
            "images": len(images),
            "float32_convolutions": float32_convolutions,
            "float32_body_sha256": before.contract["body_sha256"],
        },
        "body_bytes": len(body),
        "body_sha256": hashlib.sha256(body).hexdigest(),
    }
    after = read_bundle(with_contract(body, contract), out)
    difference = float(np.abs(_probabilities(before, images) - _probabilities(after, images)).mean())
    if not difference <= TOLERANCE:
        raise BundleError(
            f"expected the probabilities of {out} within {TOLERANCE} of float32 on average, they differ by "
            f"{difference:.3f}: ship the float32 file"
        )
    contract["quantisation"]["mean_difference"] = round(difference, 5)
    write_contract(out, contract, body)
    return out


def _quantise_body(body: bytes, images: np.ndarray) -> tuple[bytes, int]:
    """The network in int8, and how many of its convolutions stay in float32."""
    try:
        import onnx
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    except ImportError as error:
        raise MissingExtra("quantising", "train", error.name or "onnx") from None
    model = onnx.load_from_string(body)
    float32_names = _convolutions_in_float32(model.graph)
    with tempfile.TemporaryDirectory() as folder, _quiet_quantisation():
        path = Path(folder) / "int8.onnx"
        quantize_static(
            model,
            path,
            _calibration_reader(model.graph.input[0].name, images),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=["Conv"],
            nodes_to_exclude=float32_names,
            per_channel=True,
            weight_type=QuantType.QInt8,
        )
        result = onnx.load(path)
    del result.metadata_props[:]
    return result.SerializeToString(deterministic=True), len(float32_names)


def _convolutions_in_float32(graph: Proto) -> list[str]:
    """Names of the convolutions that stay in float32.

    Raises:
        BundleError: that would be all of them.
    """
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    names = [node.name for index, node in enumerate(convolutions) if index < FLOAT_LAYERS or _groups(node) > 1]
    if len(names) == len(convolutions):
        raise BundleError(
            f"expected a network with convolutions, other than depthwise, after its first {FLOAT_LAYERS}, received "
            f"{len(convolutions)} that all stay as they are: leave it in float32"
        )
    return names


def _groups(convolution: Proto) -> int:
    return next((attribute.i for attribute in convolution.attribute if attribute.name == "group"), 1)


@contextlib.contextmanager
def _quiet_quantisation() -> Iterator[None]:
    """Hide the steps that the library prints, and its advice to pre-process the model, which is already done."""
    root = logging.getLogger()
    root.addFilter(_is_not_preprocessing_advice)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        root.removeFilter(_is_not_preprocessing_advice)


def _is_not_preprocessing_advice(record: logging.LogRecord) -> bool:
    return "pre-process" not in record.getMessage()


def _calibration_reader(input_name: str, images: np.ndarray) -> Any:
    """A ``CalibrationDataReader`` of the images."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # ONNX Runtime ships no annotations
        """Each image once and alone: the library wants batches of one length."""

        remaining = iter(images)

        def get_next(self) -> dict[str, np.ndarray] | None:
            image = next(self.remaining, None)
            return None if image is None else {input_name: image[None]}

    return Reader()


def _probabilities(bundle: Bundle, images: np.ndarray) -> np.ndarray:
    parts = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
    return np.concatenate([bundle.run(part)[PROBABILITIES][:, POSITIVE] for part in parts])
