"""The model file: one ONNX file that holds a network and, in its metadata, everything needed to use it.

The metadata is called the contract: input, labels, threshold, calibration, training record, metrics. It is a JSON
object under the metadata key ``pneumoscope``. :mod:`pneumoscope.training.export.onnx_export` appends it after the
network. The contract holds the length and SHA-256 of the network, and its own SHA-256: a damaged or edited file is
refused.
"""

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pneumoscope.errors import BundleError
from pneumoscope.inference.preprocess import InputSpec
from pneumoscope.inference.sessions import ForkSafeSession, read_unchanged
from pneumoscope.labels import LABELS, SCOPE

METADATA_KEY = "pneumoscope"
#: Version of the contract's keys; a file with another version is refused.
SCHEMA = 1

#: Names of the outputs of the ONNX graph.
PROBABILITIES = "probabilities"
GRADCAM = "gradcam"
SUBTYPES = "subtypes"
LUNGS = "lungs"
EVIDENCE = "evidence"

#: Folder of the shipped models, and the model that is used by default.
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
        contract: the whole contract, as the exporter wrote it.
        spec: what the model takes as input.
        session: runs the network.
        threads: for one forward pass; 0 means one per core.

    A bundle can be pickled: the other process opens the same file again, and refuses one that has changed.
    """

    path: Path
    sha256: str
    contract: dict[str, Any]
    spec: InputSpec
    session: ForkSafeSession
    threads: int = 0

    def __reduce__(self) -> tuple[Callable[[str, str, int], "Bundle"], tuple[str, str, int]]:
        shipped = self.path == ZOO / self.path.name  # by its name: another installation may lie elsewhere
        return _open_same, (self.path.stem if shipped else str(self.path.absolute()), self.sha256, self.threads)

    @property
    def name(self) -> str:
        """Name of the model."""
        name: str = self.contract["name"]
        return name

    @property
    def threshold(self) -> float:
        """Operating point: the lowest probability with the label PNEUMONIA."""
        threshold: float = self.contract["threshold"]
        return threshold

    @property
    def operating_points(self) -> dict[str, float]:
        """Thresholds by name; the first one is the default."""
        points: dict[str, float] = self.contract.get("operating_points", {"default": self.threshold})
        return points

    @property
    def prevalence(self) -> float | None:
        """Share of pneumonia that the probabilities assume; None for a model that is not calibrated."""
        prevalence: float | None = self.contract.get("prevalence")
        return prevalence

    @property
    def uncertain(self) -> tuple[float, float]:
        """Lower and upper end of the probabilities that are marked uncertain."""
        low, high = self.contract["uncertain"]
        return low, high

    @property
    def has_maps(self) -> bool:
        """Whether the network outputs a map of its evidence, of either kind."""
        return self.has_gradcam or EVIDENCE in self.contract["outputs"]

    @property
    def has_gradcam(self) -> bool:
        """Whether the network outputs Grad-CAM maps."""
        return GRADCAM in self.contract["outputs"]

    def run(self, inputs: np.ndarray) -> dict[str, np.ndarray]:
        """Run one forward pass.

        Args:
            inputs: (N, *spec.shape) float32 in [0, 1].

        Returns:
            - ``"probabilities"``: (N, 2) float32.
            - ``"gradcam"``: (N, 2, h, w) float32, zero or above; only from models with a feature map.
            - ``"subtypes"``: (N, 2) float32, the probabilities of bacterial and viral, given that it is a pneumonia;
              only from models that tell them apart.
            - ``"lungs"``: (N, h, w) float32 in [0, 1], the lung field; only from models that learn it.
            - ``"evidence"``: (N, h, w) float32, positive for PNEUMONIA. It adds up to the log odds of
              ``"probabilities"``; only from models with ``"lungs"``.
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


def scope_of(name: str) -> str:
    """The sentence that says whom a shipped model knows; empty for another model, which may know other patients."""
    return SCOPE if name in shipped_models() else ""


def open_bundle(model: str | Path = DEFAULT_MODEL, threads: int = 0) -> Bundle:
    """Load and verify a model file.

    Args:
        model: name of a shipped model, path of an exported file, or path of a run folder.
        threads: see :func:`read_bundle`.

    Raises:
        BundleError: no such model, or one that :func:`read_bundle` refuses.
    """
    path = _find_model(model)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(f"expected a model file at {path}: {error.strerror}") from None
    return read_bundle(data, path, threads)


def read_bundle(data: bytes, path: Path, threads: int = 0) -> Bundle:
    """Verify the bytes of a model file.

    Args:
        data: the whole file.
        path: of the file, for messages.
        threads: for one forward pass; 0 means one per core. The results do not depend on it, which a test checks.

    Raises:
        BundleError: not exported by pneumoscope, altered, or of another version.
    """
    sha256 = hashlib.sha256(data).hexdigest()
    session = ForkSafeSession(data, sha256, path, threads)
    contract = _read_contract(session, path)
    _verify_bytes(contract, data, path)
    spec = InputSpec.from_dict(contract["input"])
    bundle = Bundle(path, sha256, contract, spec, session, threads)
    _verify_graph(bundle)
    return bundle


def contract_sha256(contract: dict[str, Any]) -> str:
    """Hash of a contract without its own hash."""
    unhashed = {name: value for name, value in contract.items() if name != "contract_sha256"}
    return hashlib.sha256(json.dumps(unhashed, sort_keys=True).encode()).hexdigest()


def metadata_bytes(contract: dict[str, Any]) -> bytes:
    """A contract as ONNX metadata; appended to a serialised model, it becomes part of it.

    ONNX is a protocol buffer: the entry is field 14 of the model, its key field 1, its value field 2.
    """
    key, value = METADATA_KEY.encode(), json.dumps(contract, sort_keys=True).encode()
    entry = b"\x0a" + _varint(len(key)) + key + b"\x12" + _varint(len(value)) + value
    return b"\x72" + _varint(len(entry)) + entry


@functools.lru_cache(maxsize=4)  # joblib and Dask send the same model with every task
def _open_same(model: str, sha256: str, threads: int) -> Bundle:
    """What a pickled bundle becomes in another process: the same file, opened there."""
    path = ZOO / f"{model}.onnx" if model in shipped_models() else Path(model)
    return read_bundle(read_unchanged(path, sha256), path, threads)


def _find_model(model: str | Path) -> Path:
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


def _read_contract(session: ForkSafeSession, path: Path) -> dict[str, Any]:
    """Read the contract from the metadata, and check its keys and values."""
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    if text is None:
        raise BundleError(
            f"expected a model that pneumoscope exported, {path} has no contract: export it with  pneumoscope export"
        )
    try:
        contract = json.loads(text)
    except ValueError:
        contract = None
    if not isinstance(contract, dict) or contract.get("schema") != SCHEMA:
        received = contract.get("schema") if isinstance(contract, dict) else text[:20]
        raise BundleError(f"expected contract version {SCHEMA} in {path}, received {received!r}: use that version")
    for name, kind in _REQUIRED.items():
        if not isinstance(contract.get(name), kind):
            raise BundleError(
                f"expected {name} as {kind.__name__} in the contract of {path}, received {contract.get(name)!r}: "
                "export the model again"
            )
    _check_values(contract, path)
    return contract


def _check_values(contract: dict[str, Any], path: Path) -> None:
    threshold, band = contract["threshold"], contract["uncertain"]
    points, prevalence = contract.get("operating_points", {}), contract.get("prevalence", 0.5)
    if not _is_probability(threshold):
        raise BundleError(f"expected a threshold from 0 to 1 in the contract of {path}, received {threshold}")
    if len(band) != 2 or not all(map(_is_probability, band)) or band[0] > band[1]:
        raise BundleError(f"expected uncertain as two rising probabilities in the contract of {path}, received {band}")
    if not isinstance(points, dict) or not all(map(_is_probability, points.values())):
        raise BundleError(f"expected operating_points as named thresholds in the contract of {path}, received {points}")
    if not _is_probability(prevalence) or prevalence in (0, 1):
        raise BundleError(f"expected a prevalence between 0 and 1 in the contract of {path}, received {prevalence}")
    if not isinstance(contract["training"].get("recipe"), dict) or "split_fingerprint" not in contract["training"]:
        raise BundleError(f"expected recipe and split_fingerprint under training in the contract of {path}")
    if tuple(contract["labels"]) != LABELS:
        raise BundleError(
            f"expected the classes {', '.join(LABELS)} in the contract of {path}, received {contract['labels']}"
        )


def _is_probability(value: object) -> bool:
    return isinstance(value, float) and 0 <= value <= 1


def _verify_bytes(contract: dict[str, Any], data: bytes, path: Path) -> None:
    """Check that the file is the network of the contract, followed by the contract, and nothing else.

    This detects damage and edits. It does not prove who made the file.
    """
    body = memoryview(data)[: contract["body_bytes"]]
    if (
        hashlib.sha256(body).hexdigest() != contract["body_sha256"]
        or contract_sha256(contract) != contract["contract_sha256"]
        or data[contract["body_bytes"] :] != metadata_bytes(contract)
    ):
        raise BundleError(
            f"expected the network and the contract as they were exported in {path}, the file was altered: "
            "fetch it again"
        )


def _verify_graph(bundle: Bundle) -> None:
    """Check that contract and network have the same inputs and outputs."""
    received = bundle.session.get_inputs()[0].shape
    if tuple(received[1:]) != bundle.spec.shape:
        raise BundleError(f"expected input {bundle.spec.shape} in {bundle.path}, the network takes {received[1:]}")
    outputs = [value.name for value in bundle.session.get_outputs()]
    if sorted(outputs) != sorted(bundle.contract["outputs"]) or PROBABILITIES not in outputs:
        raise BundleError(
            f"expected the outputs {bundle.contract['outputs']} in {bundle.path}, the network gives {outputs}"
        )


def _varint(number: int) -> bytes:
    """Base-128 number of the protocol buffer encoding, low groups first."""
    groups = b""
    while number > 127:
        groups += bytes([number & 127 | 128])
        number >>= 7
    return groups + bytes([number])
