"""Metrics of the service, for Prometheus."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Metrics:
    """Metrics of one service, in their own registry. A client cannot invent the value of a label."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("pneumoscope_requests", "Requests", ["route", "status"], registry=registry)
        self.seconds = Histogram(
            "pneumoscope_request_seconds", "From the headers to the last byte", ["route"], registry=registry
        )
        self.images = Counter("pneumoscope_images", "Images by outcome", ["model", "status"], registry=registry)
        self.images_in_flight = Gauge(
            "pneumoscope_images_inside", "Images that wait or are being judged", registry=registry
        )


class MetricsMiddleware:
    """ASGI middleware that counts requests by route and status, and measures their time."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start, status = time.perf_counter(), 500

        async def send_and_note_status(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, send_and_note_status)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self.metrics.requests.labels(route, status).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - start)
