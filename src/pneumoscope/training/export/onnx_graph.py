"""Keras network -> ONNX bytes that depend on the network only: equal weights give equal bytes in every process."""

import logging
import tempfile
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from pneumoscope import __version__
from pneumoscope.errors import BundleError, MissingExtra
from pneumoscope.training.keras_backend import Model

#: An ``onnx.ModelProto`` or ``onnx.GraphProto``; ONNX ships no annotations that a type checker can use.
Proto = Any


def onnx_bytes(network: Model) -> bytes:
    """A network as ONNX, without a contract.

    Args:
        network: made by :func:`pneumoscope.training.export.inference_graph.build_inference_graph`.

    Raises:
        MissingExtra: tf2onnx is not installed.
    """
    try:
        import onnx
        import tf2onnx  # noqa: F401  Keras needs it; its own message about it is longer
    except ImportError as error:
        raise MissingExtra("exporting", "train", error.name or "tf2onnx") from None
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)  # it warns of each operator that it folds away
    network(np.zeros((1, *network.input_shape[1:]), np.float32))  # Keras exports a model only after a first call
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        # tf2onnx 1.17 asks NumPy for np.object, which no longer exists
        warnings.simplefilter("ignore", FutureWarning)
        path = Path(folder) / "model.onnx"
        network.export(path, format="onnx", verbose=False)
        model = onnx.load(path)
    _rename(model.graph, network.input.name, list(network.output))
    model.producer_name, model.producer_version = "pneumoscope", __version__
    model.graph.doc_string = ""  # the converter's own text contains a running number
    del model.metadata_props[:]
    onnx.checker.check_model(model)
    body: bytes = model.SerializeToString(deterministic=True)
    return body


def _rename(graph: Proto, input_name: str, outputs: Iterable[str]) -> None:
    """Give the ends of the graph the contract's names, and everything between them numbers in order of use.

    The names and the order that the converter chooses change from process to process.
    """
    _sort_nodes(graph)
    names = {"": "", graph.input[0].name: input_name}  # "" stands for an input left out
    names.update({value.name: value.name for value in graph.output})
    if set(outputs) - set(names):
        raise BundleError(f"expected the outputs {list(outputs)} from the converter, received {list(names.values())}")
    for number, node in enumerate(graph.node):
        node.name = f"{node.op_type}_{number}"
        for ends in (node.input, node.output):
            ends[:] = [names.setdefault(name, f"t{len(names)}") for name in ends]
    for value in (*graph.input, *graph.output):
        value.name = names[value.name]
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    for tensor in graph.initializer:
        tensor.name = names[tensor.name]
    graph.initializer.sort(key=lambda tensor: int(tensor.name[1:]))
    del graph.value_info[:]
    graph.name = "pneumoscope"


def _sort_nodes(graph: Proto) -> None:
    """Depth first from the outputs: an order that depends on the network alone."""
    node_of = {name: node for node in graph.node for name in node.output}
    placed: set[str] = set()
    ordered = []

    def place(name: str) -> None:
        node = node_of.get(name)
        if node is not None and name not in placed:
            placed.update(node.output)
            for source in node.input:
                place(source)
            ordered.append(node)

    for value in sorted(graph.output, key=lambda value: (len(value.type.tensor_type.shape.dim), value.name)):
        place(value.name)
    copies = [type(node).FromString(node.SerializeToString()) for node in ordered]
    del graph.node[:]
    graph.node.extend(copies)
