"""The command ``serve``: predictions over HTTP."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pneumoscope.cli.console import echo_stderr
from pneumoscope.cli.options import ANY_AGE, PREVALENCE, THRESHOLD, open_predictor
from pneumoscope.errors import MissingExtra, UsageError
from pneumoscope.io.hosts import is_loopback

if TYPE_CHECKING:
    from pneumoscope.inference.predict import Predictor

_MIN_TOKEN_LENGTH = 16


def serve(
    model: list[str] = typer.Option(
        None,
        "--model",
        "-m",
        metavar="NAME|FILE",
        help="Models to offer, the default one first. Without it, all shipped models.",
    ),
    host: str = typer.Option(
        "127.0.0.1",
        metavar="ADDRESS",
        help="Address to listen on. An address that other machines can reach needs a token.",
    ),
    port: int = typer.Option(8000, min=0, max=65535, help="Port to listen on; 0 picks a free one."),
    allow_host: list[str] = typer.Option(None, metavar="NAME", help="Another host name that the service answers to."),
    token: str | None = typer.Option(
        None,
        metavar="TOKEN",
        help="Token that each request must carry. Other users can see it in the list of processes; --token-file is "
        "safer.",
    ),
    token_file: Path | None = typer.Option(None, metavar="FILE", help="File that contains the token."),
    root_path: str = typer.Option(
        "", metavar="/PATH", help="Path below which a proxy offers the service, such as /chest."
    ),
    log: str = typer.Option(
        "none",
        metavar="none|json",
        help="json: a line on standard error for each request, with time, route, status, bytes and seconds, without "
        "file names.",
    ),
    threshold: str | None = THRESHOLD,
    prevalence: float | None = PREVALENCE,
    any_age: bool = ANY_AGE,
) -> None:
    """Answer over HTTP: images in, predictions out, nothing kept.

    Listens on this machine only, unless --host says otherwise. Ctrl-C or SIGTERM stops it after it has answered the
    requests that it accepted.
    """
    if log not in ("none", "json"):
        raise UsageError(f"expected --log none or json, received {log}")
    secret = _read_token(token, token_file)
    try:
        from pneumoscope.service.app import LOOPBACK, create_app
        from pneumoscope.service.logs import log_requests_as_json
        from pneumoscope.service.server import run
    except ImportError as error:
        raise MissingExtra("serve", "serve", error.name or "fastapi") from None
    if not is_loopback(host) and not secret:
        raise UsageError(
            f"expected a token where others can reach the service at {host}: add --token-file FILE, or listen on "
            "127.0.0.1"
        )
    _check_host_names(host, allow_host or [])
    root_path = _check_root_path(root_path)
    any_address = host in ("0.0.0.0", "::")  # these two are no name that a client could use
    names = tuple(dict.fromkeys([*LOOPBACK, *(allow_host or []), *([] if any_address else [host])]))
    logger = log_requests_as_json() if log == "json" else None

    def announce(address: str) -> None:
        if logger:
            logger.info("listening", extra={"fields": {"address": address}})
        else:
            echo_stderr(f"pneumoscope listens on {address}, Ctrl-C stops it")

    service = create_app(
        _load_models(model or [], threshold, prevalence, any_age),
        token=secret,
        hosts=names,
        root_path=root_path,
        log_request=(lambda fields: logger.info("request", extra={"fields": fields})) if logger else None,
    )
    run(service, host, port, ready=announce)


def _read_token(token: str | None, file: Path | None) -> str | None:
    """The token of either option; None if none is given."""
    if token and file:
        raise UsageError("expected --token or --token-file, received both")
    if file:
        try:
            token = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise UsageError(f"expected a text file with the token at {file}, it cannot be read") from None
    if token is not None and (len(token) < _MIN_TOKEN_LENGTH or not token.isascii() or not token.isprintable()):
        raise UsageError(
            f"expected a token of at least {_MIN_TOKEN_LENGTH} plain characters, received another: make one with  "
            "python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return token


def _check_host_names(host: str, allowed: Sequence[str]) -> None:
    for name in allowed:
        if not re.fullmatch(r"[A-Za-z0-9.-]+|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*", name):
            raise UsageError(
                f"expected --allow-host as a bare name or address, without port or scheme, received {name!r}"
            )
    if not host:
        raise UsageError("expected an address for --host, received an empty one: leave it out for 127.0.0.1")


def _check_root_path(path: str) -> str:
    """The path without a slash at its end. It must not look like a path of the service itself."""
    path = path.rstrip("/")
    if path and (not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path) or path.split("/")[1] in ("v1", "page")):
        raise UsageError(
            f"expected --root-path as the path that the proxy offers, such as /chest, received {path!r}: name letters, "
            "digits and -._~ between slashes, and do not begin with /v1 or /page"
        )
    return path


def _load_models(
    names: Sequence[str], threshold: str | None, prevalence: float | None, any_age: bool
) -> "dict[str, Predictor]":
    """The models by name, the default one first; all shipped models if no name is given."""
    from pneumoscope.inference.bundle import DEFAULT_MODEL, shipped_models

    shipped = sorted(shipped_models(), key=lambda name: name != DEFAULT_MODEL)
    predictors = [open_predictor(name, threshold, prevalence, 1, any_age) for name in names or shipped]
    by_name = {predictor.bundle.name: predictor for predictor in predictors}
    if len(by_name) < len(predictors):
        raise UsageError("expected models with different names, received two of one name: leave one out")
    return by_name
