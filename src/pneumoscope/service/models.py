"""The routes below ``/v1/models``: which models there are, and what their files say."""

from collections.abc import Mapping
from typing import Any

from fastapi import FastAPI
from fastapi import Path as InPath
from starlette.exceptions import HTTPException

from pneumoscope.inference.predict import Predictor
from pneumoscope.labels import LABELS
from pneumoscope.service.schemas import ModelCard, Models


def add_models(app: FastAPI, predictors: Mapping[str, Predictor]) -> None:
    """Add the routes."""

    @app.get("/v1/models", response_model=Models)
    def models() -> dict[str, Any]:
        """The models, the default one first, with their metrics on held-out patients."""
        return {"models": [_summary(name, predictor) for name, predictor in predictors.items()]}

    @app.get("/v1/models/{name}", response_model=ModelCard)
    def model(name: str = InPath(examples=list(predictors))) -> dict[str, Any]:
        """The card of a model: all metadata of its file."""
        if name not in predictors:
            raise HTTPException(404, f"expected a model among {', '.join(predictors)}, received {name[:80]!r}")
        return {**_summary(name, predictors[name]), "contract": predictors[name].bundle.contract}


def _summary(name: str, predictor: Predictor) -> dict[str, Any]:
    bundle = predictor.bundle
    return {
        "name": name,
        "sha256": bundle.sha256,
        "labels": list(LABELS),
        "input": list(bundle.spec.shape),
        "operating_points": predictor.operating_points,
        "threshold": predictor.threshold,
        "prevalence": predictor.prevalence,
        "heatmap": bundle.has_maps,
        "metrics": bundle.contract.get("metrics"),
    }
