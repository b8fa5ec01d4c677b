"""ONNX Runtime sessions that are of use after a fork.

A session has threads, which a forked process does not get. There, a session from before the fork may wait for ever:
when it runs, or when it is destroyed, which is at the end of the process. So a forked process opens its own one.
"""

import ctypes
import functools
import hashlib
import os
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pneumoscope.errors import BundleError
from pneumoscope.io.cores import available_cores

if TYPE_CHECKING:
    import onnxruntime


class ForkSafeSession:
    """A session of ONNX Runtime, with its methods. After a fork, the first call of a method opens a new one.

    Args:
        data: the whole model file.
        sha256: of these bytes.
        path: of the file, for messages, and to read it again after a fork.
        threads: for one forward pass; 0 means one per core.

    Raises:
        BundleError: not an ONNX model; or, in a forked process, the file is gone or has changed.
    """

    def __init__(self, data: bytes, sha256: str, path: Path, threads: int) -> None:
        self._path, self._sha256, self._threads = path.absolute(), sha256, threads
        self._lock = threading.Lock()
        self._session: onnxruntime.InferenceSession | None = open_session(data, path, threads)
        _SESSIONS.add(self)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session or self._open_again(), name)

    def _open_again(self) -> "onnxruntime.InferenceSession":
        with self._lock:
            if self._session is None:
                data = read_unchanged(self._path, self._sha256)
                self._session = open_session(data, self._path, self._threads)
            return self._session

    def abandon(self) -> None:
        """In a forked process: keep the session of the parent from being used, and from being destroyed."""
        self._lock = threading.Lock()  # a thread that the child does not have may hold the old one
        if self._session is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._session))  # one owner more than there are: never freed
            self._session = None


_SESSIONS: "weakref.WeakSet[ForkSafeSession]" = weakref.WeakSet()


def _abandon_sessions() -> None:
    for session in _SESSIONS:
        session.abandon()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_abandon_sessions)


def open_session(data: bytes, path: Path, threads: int) -> "onnxruntime.InferenceSession":
    """Open a session on the bytes of a model file.

    Raises:
        BundleError: not an ONNX model.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors only: warnings concern the exporter, not the user
    options.intra_op_num_threads = threads or available_cores()
    # Threads that wait actively for the next layer would take the cores from the threads that decode images.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if not _has_vnni():
        # int8 products that cannot overflow, see pneumoscope.training.export.quantise. On its own, ONNX Runtime would
        # choose the faster ones for every x86 processor.
        options.add_session_config_entry("session.x64quantprecision", "1")
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the exceptions of ONNX Runtime have no other common base class
        first_line = str(error).strip().splitlines()[0]
        raise BundleError(f"expected an ONNX model at {path}, ONNX Runtime says {first_line}") from None


def read_unchanged(path: Path, sha256: str) -> bytes:
    """Read a model file that was open before, in another process.

    Raises:
        BundleError: the file is gone, or is not the same any more.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise BundleError(
            f"expected the model file {path}, which another process has open: {error.strerror}; give every process "
            "the file under this name, or load the model in each of them"
        ) from None
    if hashlib.sha256(data).hexdigest() != sha256:
        raise BundleError(
            f"expected the model file {path} as another process opened it, it has changed since: "
            "load the model in each process"
        )
    return data


@functools.cache
def _has_vnni() -> bool:
    """Whether the processor can add int8 products in 32 bits (VNNI); False where /proc/cpuinfo does not say so."""
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="replace") as lines:
            flags = next((line.split() for line in lines if line.startswith("flags")), [])
    except OSError:
        return False
    return not {"avx512_vnni", "avx_vnni"}.isdisjoint(flags)
