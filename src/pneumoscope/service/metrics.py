"""What the service counts, for Prometheus."""

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector
from starlette.types import ASGIApp, Message, Receive, Scope, Send


class Metrics:
    """Counters of one service in a registry of their own; no label has a value that a client can make up."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter("pneumoscope_requests", "Requests", ["route", "status"], registry=registry)
        self.seconds = Histogram(
            "pneumoscope_request_seconds", "From the headers to the last byte", ["route"], registry=registry
        )
        self.images = Counter("pneumoscope_images", "Images by outcome", ["model", "status"], registry=registry)
        self.inside = Gauge("pneumoscope_images_inside", "Images that wait or are being judged", registry=registry)


class MetricsMiddleware:
    """ASGI middleware: how many requests of each route, with what status, in what time."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app, self.metrics = app, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def send_noting(message: Message) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        try:
            await self.app(scope, receive, send_noting)
        finally:
            route = getattr(scope.get("route"), "path", "none")
            self.metrics.requests.labels(route, status).inc()
            self.metrics.seconds.labels(route).observe(time.perf_counter() - began)
