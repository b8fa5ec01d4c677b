"""One ONNX file is a model: the network and, in its metadata, the contract to use it by; load and verify.

The contract is a JSON object under the metadata key ``pneumoscope``, written by :mod:`pneumoscope.training.export.onnx_export` at
the end of the file, after the network. It holds the network's length and SHA-256 and its own, so that a file
that was damaged or edited is refused.
"""

import functools
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pneumoscope.errors import BundleError
from pneumoscope.inference.preprocess import InputSpec
from pneumoscope.labels import LABELS

METADATA_KEY = "pneumoscope"
#: Version of the contract's keys; a file with another one is refused.
SCHEMA = 1

#: Names in the ONNX graph.
PROBABILITIES = "probabilities"
GRADCAM = "gradcam"
SUBTYPES = "subtypes"

#: Folder of the models that ship, and the one that screens when none is named.
ZOO = Path(__file__).parents[1] / "zoo"
DEFAULT_MODEL = "mobilenet"

_REQUIRED = {
    "name": str, "architecture": str, "input": dict, "labels": list, "outputs": list, "threshold": float,
    "threshold_rule": str, "uncertain": list, "uncertain_rule": str, "calibration": dict, "training": dict,
    "body_bytes": int, "body_sha256": str, "contract_sha256": str,
}  # fmt: skip


@dataclass(frozen=True, eq=False)
class Bundle:
    """A verified model file.

    Attributes:
        path: of the file.
        sha256: of the whole file; identifies the model in reports.
        contract: the whole contract, as written by the exporter.
        spec: the input contract.
        session: the ONNX Runtime session.
    """

    path: Path
    sha256: str
    contract: dict
    spec: InputSpec
    session: object

    @property
    def name(self) -> str:
        """Name of the model, for people."""
        return self.contract["name"]

    @property
    def threshold(self) -> float:
        """Operating point: from this probability on the verdict is PNEUMONIA."""
        return self.contract["threshold"]

    @property
    def operating_points(self) -> dict[str, float]:
        """Thresholds by name; the first one is the default."""
        return self.contract.get("operating_points", {"default": self.threshold})

    @property
    def prevalence(self) -> float | None:
        """Share of pneumonia that the probabilities assume; None for a model that was not calibrated."""
        return self.contract.get("prevalence")

    @property
    def uncertain(self) -> tuple[float, float]:
        """Probabilities between these two are marked uncertain."""
        low, high = self.contract["uncertain"]
        return low, high

    @property
    def has_gradcam(self) -> bool:
        """Whether the file gives a Grad-CAM map with each probability."""
        return GRADCAM in self.contract["outputs"]

    def run(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        """One forward pass.

        Args:
            inputs: (N, *spec.shape) float32 in [0, 1].

        Returns:
            ``"probabilities"`` (N, 2) float32 and, for models with a feature map, ``"gradcam"`` (N, 2, h, w)
            float32, zero or above; for models that tell sub-types, ``"subtypes"`` (N, 2) float32, the shares of
            bacterial and viral if it is a pneumonia.
        """
        names = self.contract["outputs"]
        values = self.session.run(names, {self.session.get_inputs()[0].name: inputs})
        return dict(zip(names, values, strict=True))


def shipped_models() -> list[str]:
    """Names of the models inside the package.

    >>> DEFAULT_MODEL in shipped_models()
    True
    """
    return sorted(path.stem for path in ZOO.glob("*.onnx"))


def open_bundle(model: str | Path = DEFAULT_MODEL, threads: int = 0) -> Bundle:
    """Load and verify a model file.

    Args:
        model: name of a shipped model, or path of a file that the exporter wrote.
        threads: see :func:`read_bundle`.

    Raises:
        BundleError: no such model, not one of ours, altered, or of another version.
    """
    path = _find(model)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"expected a model file at {path}: {error.strerror}") from None
    return read_bundle(data, path, threads)


def read_bundle(data: bytes, path: Path, threads: int = 0) -> Bundle:
    """Verify the bytes of a model file.

    Args:
        data: the whole file.
        path: where it came from, for messages.
        threads: of one forward pass; 0 for one a core. The results do not depend on it, which a test holds.

    Raises:
        BundleError: not one of ours, altered, or of another version.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: warnings speak to the exporter, not to the user
    options.intra_op_num_threads = threads
    # Threads that wait for the next layer would keep the cores from those that decode.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not _has_vnni():
        # Eight-bit products that cannot overflow, see pneumoscope.training.export.quantise; the runtime would take this for all of x86.
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's exceptions share no base class but this
        first_line = str(error).strip().splitlines()[0]
        raise BundleError(f"expected an ONNX model at {path}, ONNX Runtime says {first_line}") from None
    contract = _contract(session, path)
    _verify_bytes(contract, data, path)
    bundle = Bundle(path, hashlib.sha256(data).hexdigest(), contract, InputSpec.from_dict(contract["input"]), session)
    _verify_graph(bundle)
    return bundle


@functools.cache
def _has_vnni() -> bool:
    """Whether Linux says that the processor sums eight-bit products in 32 bits; False where nothing says so."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            flags = next((line.split() for line in lines if line.startswith("flags")), [])
    except OSError:
        return False
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags)


def _find(model: str | Path) -> Path:
    if str(model) in shipped_models():
        return ZOO / f"{model}.onnx"
    path = Path(model)
    if path.is_dir() and (path / "model.onnx").is_file():  # a run folder
        return path / "model.onnx"
    if not path.is_file():
        raise BundleError(
            f"expected a model file, a run folder or one of {', '.join(shipped_models())}, found no {str(model)!r}"
        )
    return path


def _contract(session: object, path: Path) -> dict:
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise BundleError(
            f"expected a model that pneumoscope exported, {path} carries no contract: "
            "export it with  pneumoscope export"
        )
    try:
        contract = json.loads(text)
    except ValueError:
        contract = None
    if not isinstance(contract, dict) or contract.get("schema") != SCHEMA:
        found = contract.get("schema") if isinstance(contract, dict) else text[:20]
        raise BundleError(f"expected contract version {SCHEMA} in {path}, received {found!r}: use that version")
    for name, kind in _REQUIRED.items():
        if not isinstance(contract.get(name), kind):
            raise BundleError(
                f"expected {name} as {kind.__name__} in the contract of {path}, received {contract.get(name)!r}: "
                "export the model again"
            )
    band = contract["uncertain"]
    if len(band) != 2 or not all(isinstance(end, float) for end in band) or not 0 <= band[0] <= band[1] <= 1:
        raise BundleError(f"expected two rising probabilities as uncertain in the contract of {path}, received {band}")
    points = contract.get("operating_points", {})
    if not isinstance(points, dict) or not all(isinstance(t, float) and 0 <= t <= 1 for t in points.values()):
        raise BundleError(f"expected named thresholds as operating_points in the contract of {path}, received {points}")
    prevalence = contract.get("prevalence", 0.5)
    if not isinstance(prevalence, float) or not 0 < prevalence < 1:
        raise BundleError(f"expected a prevalence between 0 and 1 in the contract of {path}, received {prevalence}")
    if not 0 <= contract["threshold"] <= 1:
        raise BundleError(f"expected a threshold from 0 to 1 in {path}, received {contract['threshold']}")
    if not isinstance(contract["training"].get("recipe"), dict) or "split_fingerprint" not in contract["training"]:
        raise BundleError(f"expected recipe and split_fingerprint under training in the contract of {path}")
    if tuple(contract["labels"]) != LABELS:
        raise BundleError(f"expected the classes {', '.join(LABELS)} in {path}, received {contract['labels']}")
    return contract


def _verify_bytes(contract: dict, data: bytes, path: Path) -> None:
    """The file is the network of the contract, then the contract, and nothing else.

    This finds damage and edits; it does not prove who made the file.
    """
    body = memoryview(data)[: contract["body_bytes"]]
    if (
        hashlib.sha256(body).hexdigest() != contract["body_sha256"]
        or contract_sha256(contract) != contract["contract_sha256"]
        or data[contract["body_bytes"] :] != metadata_bytes(contract)
    ):
        raise BundleError(
            f"expected the network and the contract that {path} was written with, it was altered: fetch it again"
        )


def contract_sha256(contract: dict) -> str:
    """Hash of a contract without its own hash."""
    bare = {name: value for name, value in contract.items() if name != "contract_sha256"}
    return hashlib.sha256(json.dumps(bare, sort_keys=True).encode()).hexdigest()


def metadata_bytes(contract: dict) -> bytes:
    """A contract as ONNX metadata; appended to a serialised model, it becomes part of it.

    ONNX is a protocol buffer: the entry is field 14 of the model, its key field 1, its value field 2.
    """
    key, value = METADATA_KEY.encode(), json.dumps(contract, sort_keys=True).encode()
    entry = b"\x0a" + _varint(len(key)) + key + b"\x12" + _varint(len(value)) + value
    return b"\x72" + _varint(len(entry)) + entry


def _varint(number: int) -> bytes:
    """Base-128 number of the protocol buffer encoding, low groups first."""
    groups = b""
    while number > 127:
        groups += bytes([number & 127 | 128])
        number >>= 7
    return groups + bytes([number])


def _verify_graph(bundle: Bundle) -> None:
    """The contract and the graph must speak of the same arrays."""
    (received,) = (value.shape for value in bundle.session.get_inputs()[:1])
    if tuple(received[1:]) != bundle.spec.shape:
        raise BundleError(f"expected input {bundle.spec.shape} in {bundle.path}, the network takes {received[1:]}")
    outputs = [value.name for value in bundle.session.get_outputs()]
    if sorted(outputs) != sorted(bundle.contract["outputs"]) or PROBABILITIES not in outputs:
        raise BundleError(
            f"expected the outputs {bundle.contract['outputs']} in {bundle.path}, the network gives {outputs}"
        )
