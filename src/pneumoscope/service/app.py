"""HTTP service: images in, predictions out, nothing kept. One process, any number of models.

The same predictions as the command line, from the same :class:`pneumoscope.inference.predict.Predictor`. Bodies are read in
memory (uploads), images of all requests share the cores (scoring), and what is not meant for this service is turned
away before (guard).
"""

import asyncio
import base64
import contextlib
import functools
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Literal

import numpy as np
from fastapi import FastAPI, Query, Request, Response
from fastapi import Path as InPath
from fastapi.exceptions import RequestValidationError
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import FileResponse, JSONResponse
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from pneumoscope import RESEARCH_USE_ONLY, __version__
from pneumoscope.errors import ImageError, PneumoscopeError, UsageError
from pneumoscope.inference.explain import GRAD_CAM
from pneumoscope.inference.predict import Prediction, Predictor, parse_threshold
from pneumoscope.labels import LABELS, label_index
from pneumoscope.samples import sample_paths
from pneumoscope.service.guard import PAGE_PATH, TIMEOUT, Guard
from pneumoscope.service.metrics import Metrics, MetricsMiddleware
from pneumoscope.service.problems import PROBLEM_JSON, problem_response
from pneumoscope.service.schemas import Predictions, Problem
from pneumoscope.service.scoring import Admission, Capacity, Scorer
from pneumoscope.service.uploads import MAX_FILE_BYTES, MAX_FILES, Upload, read_uploads

#: Names by which a browser on this machine reaches the service.
LOOPBACK = ("127.0.0.1", "localhost", "::1")
#: Files of a request whose overlays are drawn: each is some megabytes.
MAX_DRAWN = 8
_PAGE = Path(__file__).parent / "page"
_BINARY = {"schema": {"type": "string", "format": "binary"}}  # in OpenAPI


def create_app(
    predictors: Mapping[str, Predictor],
    *,
    token: str | None = None,
    hosts: Sequence[str] = LOOPBACK,
    capacity: Capacity | None = None,
    timeout: float = TIMEOUT,
) -> ASGIApp:
    """The service as an ASGI application.

    Args:
        predictors: models by name; the first one judges where none is asked for.
        token: that requests must bring; None for none.
        hosts: names under which the service is reached, see :mod:`pneumoscope.service.guard`.
        capacity: limits of what is inside at a time.
        timeout: seconds that a request may take.
    """
    capacity, metrics = capacity or Capacity(), Metrics()

    @contextlib.asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        app.state.scorer = Scorer()
        yield
        app.state.scorer.close()

    app = FastAPI(
        title="pneumoscope",
        version=__version__,
        description=f"Pneumonia in chest radiographs. {RESEARCH_USE_ONLY}",
        lifespan=lifespan,
        docs_url=None,  # these pages load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,  # their redirections are no problem details
        responses={"4XX": {"model": Problem, "content": {PROBLEM_JSON: {}}}, 503: {"model": Problem}},
    )
    metrics.inside.set_function(lambda: capacity.images)
    _add_errors(app)
    _add_predictions(app, predictors, capacity, metrics)
    _add_models(app, predictors)
    _add_page(app, capacity)
    _add_health(app, capacity, metrics)
    # Around the whole application, which its own middleware is not: its answers to unexpected errors lie outside it.
    return MetricsMiddleware(Guard(app, tuple(hosts), token, timeout), metrics)


def _add_predictions(app: FastAPI, predictors: Mapping[str, Predictor], capacity: Capacity, metrics: Metrics) -> None:
    first = next(iter(predictors))

    @functools.lru_cache(maxsize=64)  # one object a point, so that requests at the same one are judged together
    def at(model: str, threshold: str | None, prevalence: float | None) -> Predictor:
        if model not in predictors:
            raise UsageError(f"expected a model among {', '.join(predictors)}, received {model[:80]!r}")
        if threshold is None and prevalence is None:
            return predictors[model]
        return predictors[model].at(parse_threshold(threshold), prevalence)

    async def predictions(
        request: Request,
        model: str = Query(first, description="name, see /v1/models", examples=[first]),
        threshold: str | None = Query(
            None, description="operating point: a probability, or a name of the model's", examples=["0.5"]
        ),
        prevalence: float | None = Query(None, description="share of pneumonia among the patients", examples=[0.1]),
        heatmap: Literal["json", "png"] | None = Query(None, description="Grad-CAM as numbers, or drawn"),
    ) -> Response:
        """Judge one or many radiographs, sent as files of a form, or one as the body.

        One image that cannot be judged is a problem of status 422; among several it is an entry that says why.
        """
        predictor = at(model, threshold, prevalence)
        files: list[Upload] = []
        waiting: list[asyncio.Future[Prediction]] = []
        scorer: Scorer = app.state.scorer
        content_type = request.headers.get("content-type", "")
        with Admission(capacity) as inside, contextlib.ExitStack() as cancelling:
            async for upload in read_uploads(content_type, request.stream(), inside.reserve_bytes):
                if heatmap == "png" and len(files) == MAX_DRAWN:
                    raise UsageError(
                        f"expected at most {MAX_DRAWN} files a request with heatmap=png, received more: send them in "
                        "parts, or ask for heatmap=json"
                    )
                inside.admit_image()
                waiting.append(asyncio.wrap_future(scorer.submit(predictor, upload.data, upload.name)))
                cancelling.callback(waiting[-1].cancel)
                files.append(upload if heatmap == "png" else replace(upload, data=b""))
            found = list(await _unless_gone(request, asyncio.gather(*waiting)))
            maps = [await _heatmap(scorer, predictor, *pair, heatmap) for pair in zip(files, found, strict=True)]
            for prediction in found:
                metrics.images.labels(prediction.model, prediction.status).inc()
            rows = [{**one.to_dict(), "heatmap": drawn} for one, drawn in zip(found, maps, strict=True)]
            if len(found) == 1 and not found[0].judged:
                answer = problem_response(ImageError.http_status, found[0].reason, prediction=rows[0])
            else:
                answer = JSONResponse({"predictions": rows, "notice": RESEARCH_USE_ONLY})
            inside.reserve_bytes(len(answer.body))
        return inside.release_after_sending(answer)

    form = {
        "schema": {
            "type": "object",
            "required": ["files"],
            "properties": {
                "files": {
                    "type": "array",
                    "minItems": 1,
                    "maxItems": MAX_FILES,
                    "items": {**_BINARY["schema"], "description": f"at most {MAX_FILE_BYTES // 10**6} MB"},
                }
            },
        }
    }
    kinds = {kind: _BINARY for kind in ("image/jpeg", "image/png", "application/dicom", "application/octet-stream")}
    app.post(
        "/v1/predictions",
        response_model=Predictions,
        openapi_extra={"requestBody": {"required": True, "content": {"multipart/form-data": form, **kinds}}},
    )(predictions)

    def openapi() -> dict:
        """The description, with what the first model says of a sample, which is judged when this is asked for."""
        if app.openapi_schema is None:
            sample = sample_paths()[-1]
            judged = {**predictors[first].predict(sample).to_dict(), "path": sample.name}
            answer = {
                "predictions": [{name: value for name, value in judged.items() if value is not None}],
                "notice": RESEARCH_USE_ONLY,
            }
            described = FastAPI.openapi(app)["paths"]["/v1/predictions"]["post"]["responses"]["200"]
            described["content"]["application/json"]["example"] = answer
        return app.openapi_schema

    app.openapi = openapi


async def _unless_gone(request: Request, work: asyncio.Future) -> object:
    """The result of work, unless the client goes before it is there; its body must have been read.

    Raises:
        ClientDisconnect: it has gone, and the work is cancelled.
    """
    gone = asyncio.ensure_future(request.receive())
    work.add_done_callback(lambda done: done.cancelled() or done.exception())  # that nobody may wait for
    try:
        done, _ = await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        if work not in done:
            raise ClientDisconnect
        return work.result()
    finally:
        gone.cancel()
        work.cancel()


async def _heatmap(
    scorer: Scorer, predictor: Predictor, upload: Upload, prediction: Prediction, form: str | None
) -> dict | None:
    if form is None or prediction.gradcam is None or not prediction.judged:
        return None
    heatmap = {"label": prediction.label, "method": GRAD_CAM, "values": None, "png": None}
    if form == "png":
        picture = await asyncio.wrap_future(scorer.draw(predictor, upload.data, prediction))
        return heatmap | {"png": base64.b64encode(picture).decode()}
    return heatmap | {
        "values": np.round(prediction.gradcam[label_index(prediction.label)].astype(np.float64), 6).tolist()
    }


def _add_models(app: FastAPI, predictors: Mapping[str, Predictor]) -> None:
    @app.get("/v1/models")
    def models() -> dict:
        """What can judge, the first one by default, with its figures on held-out patients."""
        return {"models": [_summary(name, predictor) for name, predictor in predictors.items()]}

    @app.get("/v1/models/{name}")
    def model(name: str = InPath(examples=list(predictors))) -> dict:
        """The card of a model: everything that its file says of itself."""
        if name not in predictors:
            raise HTTPException(404, f"expected a model among {', '.join(predictors)}, received {name[:80]!r}")
        return {**_summary(name, predictors[name]), "contract": predictors[name].bundle.contract}


def _summary(name: str, predictor: Predictor) -> dict:
    bundle = predictor.bundle
    return {
        "name": name,
        "sha256": bundle.sha256,
        "labels": list(LABELS),
        "input": list(bundle.spec.shape),
        "operating_points": predictor.operating_points,
        "threshold": predictor.threshold,
        "prevalence": predictor.prevalence,
        "heatmap": bundle.has_gradcam,
        "metrics": bundle.contract.get("metrics"),
    }


def _add_page(app: FastAPI, capacity: Capacity) -> None:
    """The page for people, the bundled samples, and pictures of files that a browser cannot show."""
    app.mount(PAGE_PATH, StaticFiles(directory=_PAGE))

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return FileResponse(_PAGE / "index.html")

    by_name = {path.name: path for path in sample_paths()}

    @app.get("/v1/samples")
    def samples() -> dict:
        """Names of the bundled radiographs."""
        return {"samples": list(by_name)}

    @app.get("/v1/samples/{name}", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
    def sample(name: str = InPath(examples=list(by_name)[:1])) -> Response:
        """One of them."""
        if name not in by_name:
            raise HTTPException(404, f"expected the name of a sample, see /v1/samples, received {name[:80]!r}")
        return FileResponse(by_name[name], media_type="image/jpeg")

    body = {"required": True, "content": {"application/octet-stream": _BINARY, "application/dicom": _BINARY}}

    @app.post(
        "/v1/renderings",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}},
        openapi_extra={"requestBody": body},
    )
    async def rendering(request: Request) -> Response:
        """A radiograph at its full size as it is read, as PNG: for DICOM files, which browsers cannot show."""
        with Admission(capacity) as inside:
            uploads = read_uploads("application/octet-stream", request.stream(), inside.reserve_bytes)
            (data,) = [upload.data async for upload in uploads]
            inside.admit_image()
            picture = await _unless_gone(request, asyncio.wrap_future(app.state.scorer.render(data)))
            inside.reserve_bytes(len(picture))
        return inside.release_after_sending(Response(picture, media_type="image/png"))


def _add_health(app: FastAPI, capacity: Capacity, metrics: Metrics) -> None:
    @app.get("/healthz")
    def healthz() -> dict:
        """The process answers."""
        return {"status": "ok"}

    @app.get("/readyz", responses={503: {"model": Problem}})
    def readyz() -> Response:
        """There is room for an image."""
        Admission(capacity)
        return JSONResponse({"status": "ok"})

    @app.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
    def prometheus() -> Response:
        """Counters for Prometheus."""
        return Response(generate_latest(metrics.registry), media_type=CONTENT_TYPE_LATEST)


def _add_errors(app: FastAPI) -> None:
    @app.exception_handler(PneumoscopeError)
    def ours(request: Request, error: PneumoscopeError) -> Response:
        headers = {"retry-after": "1"} if error.http_status == 503 else None
        return problem_response(error.http_status, str(error), headers)

    @app.exception_handler(ClientDisconnect)
    def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # that nobody reads

    @app.exception_handler(HTTPException)
    def of_the_protocol(request: Request, error: HTTPException) -> Response:
        detail = error.detail
        if detail == HTTPStatus(error.status_code).phrase:  # the framework's own: 404 and 405
            detail = "expected a path and method of this service, received another: see /openapi.json"
        return problem_response(error.status_code, detail, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    def of_a_parameter(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        return problem_response(
            400, f"expected another {first['loc'][-1]}: {first['msg'][:1].lower()}{first['msg'][1:]}"
        )

    @app.exception_handler(Exception)
    def unexpected(request: Request, error: Exception) -> Response:
        return problem_response(500, "something went wrong here, and the log of the service says what")
