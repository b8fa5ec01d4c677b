"""A connection to Ray, or a Ray of our own: on loopback, with a token, without dashboard and usage reports."""

import contextlib
import importlib.util
import os
import secrets
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from typing import Any

from pneumoscope.errors import MissingExtra, UsageError
from pneumoscope.io.cores import available_cores

_EXPECTED = "expected a Ray cluster"


def require_ray() -> None:
    """Check that Ray is installed, without loading it.

    Raises:
        MissingExtra: Ray or pyarrow is not installed.
    """
    for package in ("ray", "pyarrow"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra("--engine ray", "ray", package)


@contextlib.contextmanager
def connected(address: str | None = None, cpus: int | None = None) -> Iterator[None]:
    """Connect to Ray, and disconnect at the end. The signal handlers of this process stay in place.

    Args:
        address: of a cluster; ``"auto"`` for the one that runs on this machine; None to start Ray here.
        cpus: cores to start Ray with; None for all.

    Raises:
        UsageError: there is no cluster at this address, or Ray does not start.
    """
    if address is not None:
        _check_address(address)
    _set_environment(start_here=address is None)
    import ray

    handler = signal.getsignal(signal.SIGTERM)
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR"}
    try:
        if address is None:
            ray.init("local", num_cpus=cpus or available_cores(), include_dashboard=False, **quiet)
        else:
            ray.init(address, **quiet)
    except Exception as error:  # Ray raises bare exceptions, too, for example if a node does not start in time
        ray.shutdown()  # what has started
        reason = " ".join(str(error).split()) or type(error).__name__
        advice = "try again" if address is None else "start it, or name another"
        raise UsageError(f"{_EXPECTED} at {address or 'this machine'}, Ray says {reason}: {advice}") from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)
    try:
        yield
    finally:
        ray.shutdown()


def _check_address(address: str) -> None:
    """Check that something listens at an address; Ray itself would try for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():  # such as "auto", which Ray resolves
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{_EXPECTED} at {address}, the system says {reason}: start it, or name another") from None


def _set_environment(start_here: bool) -> None:
    """Set the variables that Ray reads when it is imported."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ.setdefault("RAY_DEDUP_LOGS_SKIP_REGEX", ".")  # otherwise it prints among our results when a worker dies
    if start_here and "ray" not in sys.modules:
        os.environ.setdefault(
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0"
        )  # on Linux too, this makes it listen on loopback only
        # Other users of this machine can reach its ports, but they need this token.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
