"""A small web service that shows the state of a node: a page, JSON, metrics for Prometheus (extra ``serve``).

It says how many images are in which state, and why; it names no patient and no UID.
"""

import html
import socket
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from pneumoscope import RESEARCH_USE_ONLY, __version__
from pneumoscope.errors import UsageError
from pneumoscope.pacs.node import Node
from pneumoscope.pacs.queue import DEAD

_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:2rem auto;padding:0 1rem}td{padding:0 1rem 0 0}"
)


def describe(node: Node) -> dict[str, Any]:
    """The state of a node as plain values."""
    counters = node.receiver.counters
    return {
        "aet": node.receiver.aet,
        "version": __version__,
        "images": node.queue.counts(),
        "waiting_bytes": node.queue.waiting_bytes(),
        "accepted": counters.accepted,
        "repeated": counters.repeated,
        "own": counters.own,
        "refused": dict(counters.refused),
        "rejected_associations": counters.rejected_associations,
        "destination_tried": node.sender.has_tried,
        "destination_problem": node.sender.problem,
        "source_problem": node.poller.problem if node.poller else "",
        "dead": [{"id": image.id, "reason": image.reason} for image in node.queue.images(DEAD)[-100:]],
        "notice": RESEARCH_USE_ONLY,
    }


class _NodeCollector(Collector):
    """Metrics that are read from the node when they are asked for."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def collect(self) -> Iterable[Metric]:
        state = describe(self._node)
        images = GaugeMetricFamily("pneumoscope_node_images", "Images in the queue by state", labels=["state"])
        for name, count in state["images"].items():
            images.add_metric([name], count)
        yield images
        yield GaugeMetricFamily(
            "pneumoscope_node_waiting_bytes", "Bytes of images in the queue", value=state["waiting_bytes"]
        )
        if state["destination_tried"]:
            yield GaugeMetricFamily(
                "pneumoscope_node_destination_reachable", "Whether the last results could be sent",
                value=not state["destination_problem"],
            )  # fmt: skip
        for name, words in (
            ("accepted", "Images accepted since the start"),
            ("repeated", "Images that came again since the start"),
            ("own", "Results of this program that came back since the start"),
            ("rejected_associations", "Associations rejected since the start"),
        ):
            yield CounterMetricFamily(f"pneumoscope_node_{name}", words, value=state[name])
        refused = CounterMetricFamily("pneumoscope_node_refused", "Images refused since the start", labels=["reason"])
        for reason, count in state["refused"].items():
            refused.add_metric([reason], count)
        yield refused


def create_status_app(node: Node) -> Starlette:
    """The web application; its paths are ``/``, ``/status``, ``/metrics`` and ``/healthz``."""
    registry = CollectorRegistry()
    registry.register(_NodeCollector(node))

    def page(request: Request) -> Response:
        return HTMLResponse(_render(describe(node)), headers={"content-security-policy": _POLICY})

    def status(request: Request) -> Response:
        return JSONResponse(describe(node))

    def metrics(request: Request) -> Response:
        return PlainTextResponse(generate_latest(registry))

    def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    return Starlette(
        routes=[Route("/", page), Route("/status", status), Route("/metrics", metrics), Route("/healthz", health)]
    )


_POLICY = "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"


def _render(state: dict[str, Any]) -> str:
    reachable = "can be reached" if state["destination_tried"] else "not tried yet"
    rows = [(name, count) for name, count in state["images"].items()]
    rows += [
        ("waiting", f"{state['waiting_bytes'] / 1e6:.1f} MB"),
        ("accepted since the start", state["accepted"]),
        ("came again", state["repeated"]),
        ("own results that came back", state["own"]),
        *((f"refused: {reason}", count) for reason, count in state["refused"].items()),
        ("associations rejected", state["rejected_associations"]),
        ("destination of results", state["destination_problem"] or reachable),
        *([("source of images", state["source_problem"])] if state["source_problem"] else []),
        *((f"dead: {image['id']}", image["reason"]) for image in state["dead"]),
    ]
    cells = [(html.escape(str(name)), html.escape(str(value))) for name, value in rows]
    table = "".join(f"<tr><td>{name}</td><td>{value}</td></tr>" for name, value in cells)
    title = html.escape(f"{state['aet']}, pneumoscope {state['version']}")
    return (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="5">'
        f"<title>{title}</title><style>{_STYLE}</style><h1>{title}</h1><table>{table}</table>"
        f"<p>{html.escape(state['notice'])}</p></html>"
    )


@contextmanager
def serve_status(node: Node, port: int) -> Iterator[str]:
    """Serve the state of a node on this machine, in a thread; the value is the address of the page.

    Raises:
        UsageError: the port cannot be used.
    """
    config = uvicorn.Config(create_status_app(node), host="127.0.0.1", port=port, log_config=None, access_log=False)
    try:
        listening = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        raise UsageError(f"expected to listen on 127.0.0.1:{port}, the system says {error.strerror}") from None
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, args=([listening],), name="status", daemon=True)
    thread.start()
    while not server.started and thread.is_alive():
        time.sleep(0.01)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
    finally:
        server.should_exit = True
        thread.join()
        listening.close()
