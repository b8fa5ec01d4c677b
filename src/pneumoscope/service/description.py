"""The description of the service for programs (OpenAPI): a real example, the form of every error, and the token."""

from typing import Any

from fastapi import FastAPI

from pneumoscope import RESEARCH_USE_ONLY
from pneumoscope.inference.predict import Predictor
from pneumoscope.samples import sample_paths
from pneumoscope.service.guard import OPEN_PATHS
from pneumoscope.service.problems import PROBLEM_JSON
from pneumoscope.service.schemas import Problem

_SCHEME = "token"
#: Statuses of errors that every path can have, and what they mean. Some programs do not know the range 4XX.
_STATUSES = {
    400: "A wrong parameter or form", 401: "No token, or a wrong one", 403: "Sent by a page of another origin",
    404: "No such path, model or sample", 408: "The request took too long to arrive", 413: "Too large",
    421: "Another host name", 422: "The only image cannot be judged", 500: "An error of the service",
    503: "Full, too slow, or about to end",
}  # fmt: skip
#: For routes: their errors are added with the rest of the description.
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": Problem, "description": meaning} for status, meaning in _STATUSES.items()
}


def add_description(app: FastAPI, predictor: Predictor, needs_token: bool) -> None:
    """Complete the description that FastAPI makes of the routes. A sample is judged when it is first asked for."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            description = FastAPI.openapi(app)
            _add_example(description, predictor)
            _give_errors_their_type(description)
            _add_token(description, needs_token)
        assert app.openapi_schema is not None  # FastAPI keeps what it returns
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way that FastAPI documents


def _add_example(description: dict[str, Any], predictor: Predictor) -> None:
    sample = sample_paths()[-1]
    row = {**predictor.predict(sample).to_dict(), "path": sample.name}
    answer = {
        "predictions": [{name: value for name, value in row.items() if value is not None}],
        "notice": RESEARCH_USE_ONLY,
    }
    response = description["paths"]["/v1/predictions"]["post"]["responses"]["200"]
    response["content"]["application/json"]["example"] = answer


def _give_errors_their_type(description: dict[str, Any]) -> None:
    """FastAPI lists the schema of an error under the type of the route's good answer."""
    problem = {PROBLEM_JSON: {"schema": {"$ref": "#/components/schemas/Problem"}}}
    for methods in description["paths"].values():
        for operation in methods.values():
            for status, response in operation["responses"].items():
                if status[0] in "45":
                    response["content"] = problem


def _add_token(description: dict[str, Any], needs_token: bool) -> None:
    scheme = {"type": "http", "scheme": "bearer", "description": "The token that the service was started with."}
    description["components"]["securitySchemes"] = {_SCHEME: scheme}
    # An empty requirement means that the token may be left out.
    description["security"] = [{_SCHEME: []}] if needs_token else [{}, {_SCHEME: []}]
    for path in OPEN_PATHS:
        for operation in description["paths"].get(path, {}).values():
            operation["security"] = []
