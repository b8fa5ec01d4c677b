"""The routes for those who run the service: ``/healthz``, ``/readyz`` and ``/metrics``."""

from typing import Any

from fastapi import FastAPI, Response
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import JSONResponse

from pneumoscope.service.capacity import Admission, Capacity
from pneumoscope.service.metrics import Metrics
from pneumoscope.service.schemas import Health


def add_health(app: FastAPI, capacity: Capacity, metrics: Metrics) -> None:
    """Add the routes."""

    @app.get("/healthz", response_model=Health)
    def healthz() -> dict[str, Any]:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz", response_model=Health)
    def readyz() -> Response:
        """There is room for an image."""
        Admission(capacity)
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def prometheus() -> Response:
        """Counters for Prometheus."""
        return Response(metrics.render(), media_type=CONTENT_TYPE_LATEST)
