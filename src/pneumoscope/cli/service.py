"""The command that answers over HTTP: serve."""

import re
from pathlib import Path

import typer

from pneumoscope.cli import app
from pneumoscope.cli.options import PREVALENCE, THRESHOLD, open_predictor
from pneumoscope.cli.output import echo_stderr
from pneumoscope.errors import MissingExtra, UsageError

_SHORTEST_TOKEN = 16


@app.command()
def serve(
    model: list[str] = typer.Option(
        None, "--model", "-m", metavar="NAME|FILE", help="Models to offer, the default one first; all that ship."
    ),
    host: str = typer.Option(
        "127.0.0.1", metavar="ADDRESS", help="Where to listen; others than this machine's own need a token."
    ),
    port: int = typer.Option(8000, min=0, max=65535, help="0 takes a free one."),
    allow_host: list[str] = typer.Option(
        None, metavar="NAME", help="A further name under which clients reach the service."
    ),
    token: str = typer.Option(
        None,
        metavar="TOKEN",
        help="That requests must bring; others see it in the list of processes, so rather use a file.",
    ),
    token_file: Path = typer.Option(None, metavar="FILE", help="A file with the token."),
    threshold: str = THRESHOLD,
    prevalence: float = PREVALENCE,
) -> None:
    """Answer over HTTP: images in, predictions out, nothing kept.

    Listens on this machine alone unless told otherwise. Stops on Ctrl-C or SIGTERM, once the requests it has accepted
    are answered.
    """
    secret = _token(token, token_file)
    try:
        from pneumoscope.service.app import LOOPBACK, create_app
        from pneumoscope.service.server import is_loopback, run
    except ImportError as error:
        raise MissingExtra("serve", "serve", error.name or "fastapi") from None
    if not is_loopback(host) and not secret:
        raise UsageError(
            f"expected a token where others can reach the service at {host}: add --token-file FILE, or listen on "
            "127.0.0.1"
        )
    for name in allow_host or []:
        if not re.fullmatch(r"[A-Za-z0-9.-]+|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]*", name):
            raise UsageError(
                f"expected --allow-host as a bare name or address, without port or scheme, received {name!r}"
            )
    if not host:
        raise UsageError("expected an address for --host, received an empty one: leave it out for 127.0.0.1")
    everywhere = host in ("0.0.0.0", "::")  # no name of its own
    names = tuple(dict.fromkeys([*LOOPBACK, *(allow_host or []), *([] if everywhere else [host])]))
    from pneumoscope.inference.bundle import DEFAULT_MODEL, shipped_models

    every = sorted(shipped_models(), key=lambda name: name != DEFAULT_MODEL)
    predictors = [open_predictor(name, threshold, prevalence, threads=1) for name in model or every]
    by_name = {predictor.bundle.name: predictor for predictor in predictors}
    if len(by_name) < len(predictors):
        raise UsageError("expected models of different names, received two of one: leave one out")
    service = create_app(by_name, token=secret, hosts=names)
    run(service, host, port, ready=lambda address: echo_stderr(f"pneumoscope listens on {address}, Ctrl-C stops it"))


def _token(token: str | None, file: Path | None) -> str | None:
    if token and file:
        raise UsageError("expected --token or --token-file, received both")
    if file:
        try:
            token = file.read_text(encoding="utf-8").strip()
        except (OSError, UnicodeDecodeError):
            raise UsageError(f"expected a text file with the token at {file}, it cannot be read") from None
    if (token is not None) and (len(token) < _SHORTEST_TOKEN or not token.isascii() or not token.isprintable()):
        raise UsageError(
            f"expected a token of at least {_SHORTEST_TOKEN} plain characters, received another: make one with  "
            "python -c 'import secrets; print(secrets.token_urlsafe())'"
        )
    return token
