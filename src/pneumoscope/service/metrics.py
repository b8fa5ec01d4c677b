"""Metrics of the service, for Prometheus, and what a log may say of each request.

Of several processes behind one address (workers of gunicorn or uvicorn), each answers some of the requests. With the
variable ``PROMETHEUS_MULTIPROC_DIR``, which names an empty folder, they show their sum; see the documentation of
prometheus_client.
"""

import os
import time
from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.multiprocess import MultiProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")  # others are what a client invented
#: Takes method, route, status, bytes received and sent, and seconds of a request, by name.
LogRequest = Callable[[dict[str, object]], None]


class Metrics:
    """Metrics of one service, in their own registry. A client cannot invent the value of a label."""

    def __init__(self) -> None:
        registry = self._registry = CollectorRegistry()
        self._is_one_of_several = "PROMETHEUS_MULTIPROC_DIR" in os.environ
        if not self._is_one_of_several:
            ProcessCollector(registry=registry)
        self.requests = Counter("pneumoscope_requests", "Requests", ["route", "status"], registry=registry)
        self.seconds = Histogram(
            "pneumoscope_request_seconds", "From the headers to the last byte", ["route"], registry=registry
        )
        self.images = Counter("pneumoscope_images", "Images by outcome", ["model", "status"], registry=registry)
        self.images_in_flight = Gauge(
            "pneumoscope_images_inside",
            "Images that wait or are being judged",
            registry=registry,
            multiprocess_mode="livesum",
        )

    def render(self) -> bytes:
        """The metrics as text, of all processes if there are several."""
        registry = self._registry
        if self._is_one_of_several:
            registry = CollectorRegistry()
            MultiProcessCollector(registry)  # type: ignore[no-untyped-call]  # of a package with some annotations
        return generate_latest(registry)


class MetricsMiddleware:
    """ASGI middleware that counts requests by route and status, and measures their time.

    Args:
        app: the application.
        metrics: count here.
        log_request: called with the facts of each request. The path is that of the route: what a client wrote in its
            place, or as the name of a file, is not among them.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics, log_request: LogRequest | None = None) -> None:
        self.app, self.metrics, self.log_request = app, metrics, log_request

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status, received, sent = time.perf_counter(), 500, 0, 0

        async def receive_and_count() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            return message

        async def send_and_note(message: Message) -> None:
            nonlocal status, sent
            status = message.get("status", status)
            sent += len(message.get("body", b""))
            await send(message)

        try:
            await self.app(scope, receive_and_count, send_and_note)
        finally:
            route, seconds = getattr(scope.get("route"), "path", "none"), time.perf_counter() - start
            self.metrics.requests.labels(route, status).inc()
            self.metrics.seconds.labels(route).observe(seconds)
            if self.log_request:
                self.log_request(
                    {
                        "method": scope["method"] if scope["method"] in _METHODS else "other",
                        "route": route,
                        "status": status,
                        "received": received,
                        "sent": sent,
                        "seconds": round(seconds, 6),
                    }
                )
