"""Write the network that every side runs, with random weights: ``network.keras``, ``network.onnx`` and, in int8,
``network8.onnx``.

python network.py FOLDER    (with the environment of this project's training)
"""

import hashlib
import sys
from pathlib import Path

import numpy as np

from pneumoscope import sample_paths
from pneumoscope.inference.bundle import open_bundle
from pneumoscope.inference.preprocess import preprocess
from pneumoscope.training import networks
from pneumoscope.training.export.inference_graph import build_inference_graph
from pneumoscope.training.export.onnx_export import write_contract
from pneumoscope.training.export.onnx_graph import onnx_bytes
from pneumoscope.training.export.parity import check_parity
from pneumoscope.training.export.quantise import quantise

folder, shipped = Path(sys.argv[1]), open_bundle("mobilenet")
model = networks.build_mobilenet(shipped.spec, weights=None)
model.save(folder / "network.keras")
network = build_inference_graph(model)
body = onnx_bytes(network)
# The contract of the shipped file with the data of this network; threshold and figures have no meaning here.
contract = {
    **shipped.contract,
    "name": "random-mobilenet",
    "outputs": list(network.output),
    "body_bytes": len(body),
    "body_sha256": hashlib.sha256(body).hexdigest(),
}
write_contract(folder / "network.onnx", contract, body)
check_parity(open_bundle(folder / "network.onnx"), network)
samples = np.concatenate([preprocess(path, shipped.spec) for path in sample_paths()])
quantise(folder / "network.onnx", folder / "network8.onnx", samples)
