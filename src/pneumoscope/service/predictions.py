"""The route ``/v1/predictions``: images of a request -> predictions, with heatmaps if asked for."""

import asyncio
import base64
import contextlib
import functools
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from fastapi import FastAPI, Query, Request, Response
from starlette.responses import JSONResponse

from pneumoscope import RESEARCH_USE_ONLY
from pneumoscope.errors import ImageError, UsageError
from pneumoscope.inference.explain import class_map
from pneumoscope.inference.predict import Predictor, parse_threshold
from pneumoscope.inference.prediction import Prediction
from pneumoscope.service.capacity import Admission, Capacity
from pneumoscope.service.metrics import Metrics
from pneumoscope.service.problems import problem_response
from pneumoscope.service.schemas import BINARY, Predictions
from pneumoscope.service.scoring import Scorer, wait_while_connected
from pneumoscope.service.uploads import MAX_FILE_BYTES, MAX_FILES, Upload, read_uploads

#: Files of one request whose overlays are drawn; an overlay has some megabytes.
MAX_DRAWN = 8

_FILES = {
    "type": "array",
    "minItems": 1,
    "maxItems": MAX_FILES,
    "items": {**BINARY["schema"], "description": f"at most {MAX_FILE_BYTES // 10**6} MB"},
}
# ``files`` is not required: each part is taken for an image, whatever its field is called, so that none is lost.
_FORM = {"schema": {"type": "object", "minProperties": 1, "properties": {"files": _FILES}}}
_RAW_TYPES = ("image/jpeg", "image/png", "application/dicom", "application/octet-stream")
_CONTENT = {"multipart/form-data": _FORM, **{media_type: BINARY for media_type in _RAW_TYPES}}


def add_predictions(app: FastAPI, predictors: Mapping[str, Predictor], capacity: Capacity, metrics: Metrics) -> None:
    """Add the route."""
    default = next(iter(predictors))
    predictor_at = _remember_predictors(predictors)

    @app.post(
        "/v1/predictions",
        response_model=Predictions,
        openapi_extra={"requestBody": {"required": True, "content": _CONTENT}},
    )
    async def predictions(
        request: Request,
        model: str = Query(default, description="name, see /v1/models", examples=[default]),
        threshold: str | None = Query(
            None, description="operating point: a probability, or the name of one of the model's", examples=["0.5"]
        ),
        prevalence: float | None = Query(None, description="share of pneumonia among the patients", examples=[0.1]),
        heatmap: Literal["json", "png"] | None = Query(
            None, description="map of the evidence as numbers, or as a picture"
        ),
    ) -> Response:
        """Judge one or more radiographs, sent as files of a form, or one as the body.

        If the request has one image and it cannot be judged, the answer is a problem with status 422. Among several
        images it is an entry that gives the reason.
        """
        predictor = predictor_at(model, threshold, prevalence)
        scorer: Scorer = app.state.scorer
        with Admission(capacity) as admission:
            uploads, results = await _judge_uploads(request, scorer, predictor, admission, draw=heatmap == "png")
            heatmaps = [
                await _make_heatmap(scorer, predictor, *pair, heatmap) for pair in zip(uploads, results, strict=True)
            ]
            for prediction in results:
                metrics.images.labels(prediction.model, prediction.status).inc()
            answer = _make_answer(results, heatmaps)
            admission.reserve_bytes(len(answer.body))
        return admission.release_after_sending(answer)


def _remember_predictors(
    predictors: Mapping[str, Predictor],
) -> Callable[[str, str | None, float | None], Predictor]:
    """A function from model, threshold and prevalence to a predictor; it keeps those made last."""

    @functools.lru_cache(maxsize=64)
    def predictor_at(model: str, threshold: str | None, prevalence: float | None) -> Predictor:
        if model not in predictors:
            raise UsageError(f"expected a model among {', '.join(predictors)}, received {model[:80]!r}")
        if threshold is None and prevalence is None:
            return predictors[model]
        return predictors[model].at(parse_threshold(threshold), prevalence)

    return predictor_at


async def _judge_uploads(
    request: Request, scorer: Scorer, predictor: Predictor, admission: Admission, draw: bool
) -> tuple[list[Upload], list[Prediction]]:
    """Judge each file of a request as soon as it has arrived.

    Returns:
        The files, whose bytes are kept only if overlays are to be drawn, and their predictions.
    """
    uploads: list[Upload] = []
    waiting: list[asyncio.Future[Prediction]] = []
    content_type = request.headers.get("content-type", "")
    with contextlib.ExitStack() as cancelling:  # on an error, or where the client is gone
        async for upload in read_uploads(content_type, request.stream(), admission.reserve_bytes):
            if draw and len(uploads) == MAX_DRAWN:
                raise UsageError(
                    f"expected at most {MAX_DRAWN} files a request with heatmap=png, received more: send them in "
                    "parts, or ask for heatmap=json",
                    code="too_many_files",
                )
            admission.admit_image()
            waiting.append(asyncio.wrap_future(scorer.submit(predictor, upload.data, upload.name)))
            cancelling.callback(waiting[-1].cancel)
            uploads.append(upload if draw else replace(upload, data=b""))
        return uploads, await wait_while_connected(request, asyncio.gather(*waiting))


async def _make_heatmap(
    scorer: Scorer, predictor: Predictor, upload: Upload, prediction: Prediction, form: str | None
) -> dict[str, Any] | None:
    """The heatmap as it is sent; None if there is none."""
    found = class_map(prediction, prediction.label) if form is not None and prediction.label is not None else None
    if found is None:
        return None
    values, method = found
    heatmap = {"label": prediction.label, "method": method, "values": None, "lungs": None, "png": None}
    if form == "png":
        picture = await asyncio.wrap_future(scorer.draw(predictor, upload.data, prediction))
        return heatmap | {"png": base64.b64encode(picture).decode()}
    lungs = None if prediction.lungs is None else np.round(prediction.lungs.astype(np.float64), 3).tolist()
    return heatmap | {"values": np.round(values.astype(np.float64), 6).tolist(), "lungs": lungs}


def _make_answer(results: list[Prediction], heatmaps: list[dict[str, Any] | None]) -> Response:
    rows = [{**prediction.to_dict(), "heatmap": heatmap} for prediction, heatmap in zip(results, heatmaps, strict=True)]
    if len(results) == 1 and not results[0].judged:
        return problem_response(ImageError.http_status, results[0].code, results[0].reason, prediction=rows[0])
    return JSONResponse({"predictions": rows, "notice": RESEARCH_USE_ONLY})
