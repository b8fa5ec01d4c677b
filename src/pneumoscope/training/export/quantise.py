"""Model file -> the same network with eight-bit convolutions: faster, smaller, with answers that differ a little.

Weights have a scale for each output channel, activations one for each tensor, from the range that they have on some
training images. The first layers stay in float32: their few channels span ranges of very different width, and most of
the error comes from there. So do the depthwise ones, which are no faster in eight bits. Processors without VNNI keep
sums of pairs in sixteen bits, where weights of eight bits overflow: :mod:`pneumoscope.inference.bundle` has the runtime take
another, slower way there, and every processor gives the same integers.

Reference: Jacob et al., "Quantization and training of neural networks for efficient integer-arithmetic-only
inference", 2018; per-channel weights and calibrated activations as in Nagel et al., "A white paper on neural network
quantization", 2021.
"""

import contextlib
import hashlib
import io
import logging
import tempfile
from pathlib import Path

import numpy as np

from pneumoscope.errors import BundleError, MissingExtra
from pneumoscope.inference.bundle import PROBABILITIES, Bundle, open_bundle, read_bundle
from pneumoscope.labels import POSITIVE
from pneumoscope.training.export.onnx_export import with_contract, write_contract

#: Convolutions from the input on that stay in float32, as all depthwise ones do.
FLOAT_LAYERS = 6
#: Training images that give the ranges, and the mean difference of their probabilities above which a file is refused.
CALIBRATION_IMAGES, TOLERANCE = 128, 0.05
_BATCH = 8


def quantise(source: Path, out: Path, images: np.ndarray) -> Path:
    """Write a model file with eight-bit convolutions.

    Args:
        source: a float32 file from :func:`pneumoscope.training.export.onnx_export.export_run`, not sealed yet: figures measured on it would
            stay in the new file's contract.
        out: the file to write; may be the same. Nothing is written where an error is raised.
        images: (N, *spec.shape) float32 in [0, 1], training images as the network takes them.

    Returns:
        ``out``; its contract says ``precision`` and how far the probabilities of ``images`` moved.

    Raises:
        BundleError: a network without convolutions, or one that answers otherwise in eight bits.
        MissingExtra: onnx is not installed.
    """
    before = open_bundle(source)
    body, kept = _quantised(source.read_bytes()[: before.contract["body_bytes"]], images)
    contract = {
        **before.contract,
        "precision": "int8",
        "quantisation": {
            "images": len(images),
            "float32_convolutions": kept,
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


def _quantised(body: bytes, images: np.ndarray) -> tuple[bytes, int]:
    """The network in eight bits, and how many of its convolutions stay in float32."""
    try:
        import onnx
        from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    except ImportError as error:
        raise MissingExtra("quantising", "train", error.name or "onnx") from None
    graph = onnx.load_from_string(body)
    convolutions = [node for node in graph.graph.node if node.op_type == "Conv"]
    kept = [node.name for index, node in enumerate(convolutions) if index < FLOAT_LAYERS or _groups(node) > 1]
    if len(kept) == len(convolutions):
        raise BundleError(
            f"expected a network with convolutions, other than depthwise, behind its first {FLOAT_LAYERS}, received "
            f"{len(convolutions)} that all stay as they are: leave it in float32"
        )
    logging.getLogger().addFilter(_no_advice)  # the library tells the root logger to pre-process the model, as done
    try:
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):  # it prints its steps
            path = Path(folder) / "int8.onnx"
            quantize_static(
                graph,
                path,
                _reader(graph.graph.input[0].name, images),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=["Conv"],
                nodes_to_exclude=kept,
                per_channel=True,
                weight_type=QuantType.QInt8,
            )
            result = onnx.load(path)
    finally:
        logging.getLogger().removeFilter(_no_advice)
    del result.metadata_props[:]
    return result.SerializeToString(deterministic=True), len(kept)


def _groups(convolution: object) -> int:
    return next((attribute.i for attribute in convolution.attribute if attribute.name == "group"), 1)


def _reader(name: str, images: np.ndarray) -> object:
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):
        """The images, each once and alone: the library wants batches of one length."""

        left = iter(images)

        def get_next(self) -> dict | None:
            image = next(self.left, None)
            return None if image is None else {name: image[None]}

    return Reader()


def _no_advice(record: logging.LogRecord) -> bool:
    return "pre-process" not in record.getMessage()


def _probabilities(bundle: Bundle, images: np.ndarray) -> np.ndarray:
    parts = [images[start : start + _BATCH] for start in range(0, len(images), _BATCH)]
    return np.concatenate([bundle.run(part)[PROBABILITIES][:, POSITIVE] for part in parts])
