"""The service as one application: images in, predictions out, nothing kept. One process, any number of models.

The predictions are those of the command line, from the same :class:`pneumoscope.inference.predict.Predictor`. A request
passes the guard, its body is read in memory (uploads), and its images are judged with those of all requests (scoring).
The routes are in predictions, models, pages and health.
"""

import contextlib
from collections.abc import AsyncIterator, Mapping, Sequence

from fastapi import FastAPI
from starlette.types import ASGIApp

from pneumoscope import RESEARCH_USE_ONLY, __version__
from pneumoscope.inference.predict import Predictor
from pneumoscope.service.capacity import Capacity
from pneumoscope.service.description import ERRORS, add_description
from pneumoscope.service.guard import TIMEOUT, Guard
from pneumoscope.service.health import add_health
from pneumoscope.service.metrics import LogRequest, Metrics, MetricsMiddleware
from pneumoscope.service.models import add_models
from pneumoscope.service.pages import add_pages
from pneumoscope.service.paths import Paths
from pneumoscope.service.predictions import add_predictions
from pneumoscope.service.problems import add_error_handlers
from pneumoscope.service.scoring import Scorer

#: Names by which a browser on this machine reaches the service.
LOOPBACK = ("127.0.0.1", "localhost", "::1")


def create_app(
    predictors: Mapping[str, Predictor],
    *,
    token: str | None = None,
    hosts: Sequence[str] = LOOPBACK,
    capacity: Capacity | None = None,
    timeout: float = TIMEOUT,
    root_path: str = "",
    log_request: LogRequest | None = None,
) -> ASGIApp:
    """The service as an ASGI application: for a server, for another application that mounts it, or for a test client.

    Where nothing runs its lifespan, its threads end with the process.

    Args:
        predictors: models by name; the first one is the default.
        token: each request must carry it; None for no token.
        hosts: host names that the service answers to, see :mod:`pneumoscope.service.guard`.
        capacity: limits of images and bytes that it holds at a time.
        timeout: seconds that a request may take.
        root_path: path below which a proxy offers the service, such as ``/chest``.
        log_request: called after each request, see :mod:`pneumoscope.service.logs`; None for no log.
    """
    capacity, metrics = capacity or Capacity(), Metrics()
    capacity.observe = metrics.images_in_flight.set
    app = FastAPI(
        title="pneumoscope",
        version=__version__,
        description=f"Pneumonia in chest radiographs. {RESEARCH_USE_ONLY}",
        lifespan=_lifespan,
        docs_url=None,  # FastAPI's pages load scripts from other servers
        redoc_url=None,
        redirect_slashes=False,  # a redirection would be an error without problem details
        responses=ERRORS,
    )
    app.state.scorer = Scorer()  # starts threads with the first image; a mounted application has no lifespan
    add_error_handlers(app)
    add_predictions(app, predictors, capacity, metrics)
    add_models(app, predictors)
    add_pages(app, capacity)
    add_health(app, capacity, metrics)
    add_description(app, next(iter(predictors.values())), needs_token=token is not None)
    # Not added as FastAPI's own middleware, which does not see the answers to unexpected errors.
    return Paths(MetricsMiddleware(Guard(app, tuple(hosts), token, timeout), metrics, log_request), root_path)


@contextlib.asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    app.state.scorer = Scorer()  # a new one, as the application may have run and ended before
    yield
    app.state.scorer.close()
