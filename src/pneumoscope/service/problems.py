"""Errors as problem details (RFC 9457), with the same sentences as the command line."""

from http import HTTPStatus

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response

from pneumoscope.errors import PneumoscopeError

#: Media type of an error.
PROBLEM_JSON = "application/problem+json"


def problem_response(
    status: int, code: str, detail: str, headers: dict[str, str] | None = None, **members: object
) -> JSONResponse:
    """An error response.

    Args:
        status: HTTP status.
        code: of :data:`pneumoscope.errors.CODES`.
        detail: what was expected, what came, what to do.
        headers: added to those of every answer.
        members: more fields of the problem.
    """
    title = HTTPStatus(status).phrase
    content = {"type": "about:blank", "title": title, "status": status, "detail": detail, "code": code, **members}
    return JSONResponse(content, status, headers, media_type=PROBLEM_JSON)


def add_error_handlers(app: FastAPI) -> None:
    """Answer every error of the application with a problem."""

    @app.exception_handler(PneumoscopeError)
    def answer_own_error(request: Request, error: PneumoscopeError) -> Response:
        headers = {"retry-after": "1"} if error.http_status == 503 else None
        return problem_response(error.http_status, error.code, str(error), headers)

    @app.exception_handler(ClientDisconnect)
    def answer_disconnect(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=400)  # nobody reads it

    @app.exception_handler(HTTPException)
    def answer_http_error(request: Request, error: HTTPException) -> Response:
        detail = error.detail
        if detail == HTTPStatus(error.status_code).phrase:  # the framework's own errors: 404 and 405
            detail = "expected a path and method of this service, received another: see /openapi.json"
        code = {404: "not_found", 405: "method_not_allowed"}.get(error.status_code, "failed")
        return problem_response(error.status_code, code, detail, dict(error.headers or {}))

    @app.exception_handler(RequestValidationError)
    def answer_wrong_parameter(request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        message = f"{first['msg'][:1].lower()}{first['msg'][1:]}"
        return problem_response(400, "wrong_parameter", f"expected another {first['loc'][-1]}: {message}")

    @app.exception_handler(Exception)
    def answer_unexpected_error(request: Request, error: Exception) -> Response:
        return problem_response(
            500, "internal_error", "something went wrong here, and the log of the service says what"
        )
