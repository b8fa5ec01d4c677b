"""The commands ``node`` and ``node queue``: a DICOM node between a PACS and the models."""

import contextlib
import re
import signal
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from pneumoscope.cli.console import echo_stderr, print_table
from pneumoscope.cli.image_files import DICOM_KINDS
from pneumoscope.cli.options import ANY_AGE, MODEL, PREVALENCE, THRESHOLD, open_predictor
from pneumoscope.errors import MissingExtra, UsageError
from pneumoscope.io.hosts import is_loopback
from pneumoscope.io.names import printable

if TYPE_CHECKING:
    from pneumoscope.pacs.node import Node
    from pneumoscope.pacs.queue import Queue
    from pneumoscope.pacs.receiver import Peer

_STATES = (
    "Only images in this state. received: on disk. judged: the results are on disk. delivered: the destination has "
    "them. dead: it cannot be answered."
)
_POLLING = ("--poll-days", "--poll-seconds", "--study")  # options that need --poll

QUEUE = typer.Option(Path("pneumoscope-node"), "--queue", metavar="DIR", help="Folder of the queue.")

node_app = typer.Typer(rich_markup_mode=None, help="Run a DICOM node, and look after its queue.")
queue_app = typer.Typer(
    rich_markup_mode=None, no_args_is_help=True, help="Look at the queue of a node, which may be running, and mend it."
)
node_app.add_typer(queue_app, name="queue")


@node_app.callback(invoke_without_command=True)
def node(
    context: typer.Context,
    reply_to: str | None = typer.Option(
        None,
        metavar="AET@HOST:PORT|URL",
        help="Where results go: an application entity (C-STORE), or the address of a DICOMweb server (STOW-RS).",
    ),
    ae_title: str = typer.Option("PNEUMOSCOPE", metavar="AET", help="AE title of the node."),
    host: str = typer.Option(
        "127.0.0.1", metavar="ADDRESS", help="Address to listen on. One that others can reach needs --allow."
    ),
    port: int = typer.Option(11112, min=0, max=65535, help="Port to listen on; 0 picks a free one."),
    allow: list[str] = typer.Option(
        None,
        metavar="AET[@HOST]",
        help="Who may send: an AE title, and the address that it comes from (a name is looked up at the start).",
    ),
    poll: str | None = typer.Option(
        None, metavar="URL", help="Also fetch radiographs from this DICOMweb server (QIDO-RS, WADO-RS)."
    ),
    poll_seconds: float = typer.Option(60.0, min=1.0, help="Seconds between two questions to it."),
    poll_days: int = typer.Option(1, min=0, help="Age in days of the studies to fetch, by StudyDate."),
    study: list[str] = typer.Option(
        None, metavar="UID", help="Fetch only the studies with these StudyInstanceUIDs, whatever their date."
    ),
    queue: Path = QUEUE,
    result: list[str] = typer.Option(
        None, metavar="SR|SC|PR", help="Kinds of results: SR and SC by default; see predict --sr, --sc and --pr."
    ),
    commitment: bool = typer.Option(
        False, "--commitment", help="Keep results until the archive confirms that it keeps them (storage commitment)."
    ),
    quota: int = typer.Option(
        10_000,
        min=0,
        metavar="MB",
        help="Images that may wait in the queue; 0 for no limit.",
    ),
    workers: int = typer.Option(0, min=0, help="Images judged at the same time; 0 for one a core."),
    max_associations: int = typer.Option(16, min=1, help="Associations at the same time."),
    max_rate: int = typer.Option(600, min=1, help="Associations a minute from one AE title."),
    max_pdu: int = typer.Option(131_072, min=4096, metavar="BYTES", help="Largest protocol data unit."),
    tls_certificate: Path | None = typer.Option(None, metavar="FILE", help="PEM certificate of the node, for TLS."),
    tls_key: Path | None = typer.Option(None, metavar="FILE", help="PEM key of the certificate."),
    tls_ca: Path | None = typer.Option(
        None, metavar="FILE", help="PEM certificates of those whose own certificates are accepted, in both directions."
    ),
    status_port: int | None = typer.Option(
        None,
        min=0,
        max=65535,
        help="Port of a page with the state of the node, and metrics, on this machine only (extra serve).",
    ),
    model: str = MODEL,
    threshold: str | None = THRESHOLD,
    prevalence: float | None = PREVALENCE,
    any_age: bool = ANY_AGE,
) -> None:
    """Receive radiographs, judge them, send DICOM results back.

    Ctrl-C or SIGTERM stops the node. What it has accepted stays in the queue, and is answered when it starts again.
    """
    given = _given_options(context)
    if context.invoked_subcommand:
        if others := [option for option in given if option != "--queue"]:
            raise UsageError(
                f"expected no option of node but --queue with {context.invoked_subcommand}, received "
                f"{', '.join(others)}: leave it out"
            )
        return
    if reply_to is None:
        raise UsageError("expected --reply-to, where results go: such as --reply-to ORTHANC@localhost:4242")
    from pneumoscope.pacs.destinations import check_web_address, parse_destination
    from pneumoscope.pacs.node import DEFAULT_KINDS, Node
    from pneumoscope.pacs.receiver import Limits
    from pneumoscope.pacs.tls import read_tls
    from pneumoscope.radiographs.dicom.reference import is_uid

    kinds = tuple(dict.fromkeys(kind.upper() for kind in result or DEFAULT_KINDS))
    if unknown := [kind for kind in kinds if kind not in DICOM_KINDS]:
        raise UsageError(f"expected --result {', '.join(DICOM_KINDS)}, received {unknown[0]}")
    if not re.fullmatch(r"[ -\[\]-~]{1,16}", ae_title) or not ae_title.strip():
        raise UsageError(f"expected an AE title of 1 to 16 plain characters, received {ae_title!r}")
    if commitment and reply_to.startswith(("http://", "https://")):
        raise UsageError("expected --reply-to AET@HOST:PORT with --commitment, received a web address: leave one out")
    if poll is None and (unused := [option for option in _POLLING if option in given]):
        raise UsageError(f"expected --poll with {unused[0]}, where studies are to be fetched: add it")
    if wrong := [uid for uid in study or [] if not is_uid(uid)]:
        raise UsageError(
            f"expected --study with a StudyInstanceUID, digits and points such as 1.2.840.1, received {wrong[0]!r}"
        )
    if poll is not None:
        check_web_address(poll, "--poll")
    if status_port is not None:
        _import_status()
    peers = [peer for text in allow or [] for peer in _parse_peers(text)]
    if not peers and not is_loopback(host):
        raise UsageError(f"expected --allow AET[@HOST] where others can reach the node at {host}: add it")
    listening_tls, sending_tls = read_tls(tls_certificate, tls_key, tls_ca)
    running = Node(
        open_predictor(model, threshold, prevalence, 1, any_age),
        queue,
        parse_destination(reply_to, ae_title, sending_tls),
        ae_title,
        kinds,
        peers,
        Limits(max_associations, max_rate, max_pdu),
        quota * 10**6,
        workers or None,
        commitment,
    )
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    with contextlib.ExitStack() as opened:
        opened.callback(running.stop)
        page = None
        if status_port is not None:
            page = opened.enter_context(_import_status()(running, status_port))
        port = running.start(host, port, listening_tls)
        echo_stderr(f"{ae_title} listens on {host}:{port}, results go to {reply_to}, Ctrl-C stops it")
        if page:
            echo_stderr(f"its state is shown at {page}")
        if poll:
            running.poll(poll, poll_seconds, poll_days, study or [])
        ended.wait()
        echo_stderr("stopping; what was accepted stays in the queue")


@queue_app.command("list")
def list_images(
    context: typer.Context,
    queue: Path = QUEUE,
    state: str | None = typer.Option(None, help=_STATES, metavar="STATE"),
) -> None:
    """List images with states and reasons."""
    opened = _open_queue(context, queue)
    _check_state(state)
    rows: list[tuple[str, ...]] = [("id", "state", "attempts", "from", "changed", "SOPInstanceUID", "reason")]
    for image in opened.images(*([state] if state else [])):
        rows.append(
            (
                str(image.id), image.state, str(image.attempts), printable(image.calling_aet), image.changed_at,
                image.sop_instance_uid, printable(image.reason),
            )
        )  # fmt: skip
    opened.close()
    print_table(f"{len(rows) - 1} images", rows)


@queue_app.command()
def stats(context: typer.Context, queue: Path = QUEUE) -> None:
    """Count the images of a queue by state."""
    opened = _open_queue(context, queue)
    for state, count in opened.counts().items():
        print(f"{state:<10} {count:>8}")
    print(f"{'waiting':<10} {opened.waiting_bytes() / 1e6:>8.1f} MB")
    opened.close()


@queue_app.command()
def retry(
    context: typer.Context,
    ids: list[int] = typer.Argument(None, help="Ids of dead images; all of them by default.", metavar="[ID]..."),
    queue: Path = QUEUE,
) -> None:
    """Give dead images another chance."""
    opened = _open_queue(context, queue)
    count = opened.retry(ids or None)
    opened.close()
    print(f"{count} images wait again")
    if ids and count < len(set(ids)):
        echo_stderr(f"{len(set(ids)) - count} of the ids are no dead images with a file")
        raise typer.Exit(1)


@queue_app.command()
def purge(
    context: typer.Context,
    state: str = typer.Argument(help="delivered or dead.", metavar="STATE"),
    queue: Path = QUEUE,
) -> None:
    """Forget delivered or dead images.

    An image that was forgotten is answered again when it is sent again.
    """
    opened = _open_queue(context, queue)
    try:
        print(f"{opened.purge(state)} images forgotten")
    finally:
        opened.close()


def _open_queue(context: typer.Context, folder: Path) -> "Queue":
    from pneumoscope.pacs.queue import Queue

    of_node = context.parent.parent if context.parent else None  # node --queue DIR queue stats
    if of_node and "--queue" not in _given_options(context):
        folder = of_node.params["queue"]

    if not (folder / "queue.sqlite").is_file():
        raise UsageError(f"expected the queue of a node in {folder}, found none: name its folder with --queue")
    return Queue(folder, "", exclusive=False)


def _check_state(state: str | None) -> None:
    from pneumoscope.pacs.queue import STATES

    if state is not None and state not in STATES:
        raise UsageError(f"expected --state {', '.join(STATES)}, received {state}")


def _given_options(context: typer.Context) -> list[str]:
    """The options of a command that were typed, not those with their defaults."""
    return [
        parameter.opts[0]
        for parameter in context.command.params
        if parameter.name and str(context.get_parameter_source(parameter.name)).endswith("COMMANDLINE")
    ]


def _parse_peers(text: str) -> "list[Peer]":
    """One AE title, for each address that its host has."""
    from pneumoscope.pacs.receiver import Peer

    aet, _, host = text.partition("@")
    if not 0 < len(aet.strip()) <= 16:
        raise UsageError(f"expected --allow AET or AET@ADDRESS, received {text!r}: an AE title has 1 to 16 characters")
    if not host:
        return [Peer(aet.strip())]
    try:
        addresses = {str(found[4][0]) for found in socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)}
    except (OSError, UnicodeError):
        raise UsageError(
            f"expected --allow AET@ADDRESS, the name {host} is not known: check it, or give the address"
        ) from None
    return [Peer(aet.strip(), address) for address in sorted(addresses)]


def _import_status() -> "Callable[[Node, int], contextlib.AbstractContextManager[str]]":
    try:
        from pneumoscope.pacs.status import serve_status
    except ImportError as error:
        raise MissingExtra("--status-port", "serve", error.name or "starlette") from None
    return serve_status
