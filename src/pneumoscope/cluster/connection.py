"""Ray, found or started: on loopback, behind a token, without reports to its makers, notes or dashboard."""

import contextlib
import importlib.util
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator

from pneumoscope.errors import MissingExtra, UsageError

_EXPECTED = "expected a Ray cluster"


def require_ray() -> None:
    """Say so, without loading it, where Ray is not installed.

    Raises:
        MissingExtra: Ray or pyarrow is not installed.
    """
    for package in ("ray", "pyarrow"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra("--engine ray", "ray", package)


@contextlib.contextmanager
def connected(address: str | None = None, cpus: int | None = None) -> Iterator[None]:
    """Ray for a while; the signals stay ours.

    Args:
        address: of a cluster, or ``"auto"`` for the one of this machine; None starts Ray on this machine alone.
        cpus: cores to start it with; None for all.

    Raises:
        UsageError: no cluster at this address, or Ray does not start.
    """
    if address is not None:
        _check_reached(address)
    _set_environment(alone=address is None)
    import ray

    before = signal.getsignal(signal.SIGTERM)
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is None:
            ray.init("local", num_cpus=cpus, include_dashboard=False, **quiet)
        else:
            ray.init(address, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        said = " ".join(str(error).split()) or type(error).__name__
        raise UsageError(
            f"{_EXPECTED} at {address or 'this machine'}, Ray says {said}: start it, or name another"
        ) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)
    try:
        yield
    finally:
        ray.shutdown()


def _check_reached(address: str) -> None:
    """Say at once what Ray says after minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():  # such as "auto", which Ray looks up
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        said = getattr(error, "strerror", None) or error
        raise UsageError(f"{_EXPECTED} at {address}, the system says {said}: start it, or name another") from None


def _set_environment(alone: bool) -> None:
    """What Ray reads when it is imported."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # else it prints between our results when a worker dies
    if alone and "ray" not in sys.modules:
        os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")  # its name on Linux: listen on loopback only
        # Others on this machine reach its ports, but not without this token.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
