"""Errors as problem details (RFC 9457), with the sentences of the command line."""

from http import HTTPStatus

from starlette.responses import JSONResponse

#: Media type of an error.
PROBLEM_JSON = "application/problem+json"


def problem_response(
    status: int, detail: str, headers: dict[str, str] | None = None, **members: object
) -> JSONResponse:
    """An error response.

    Args:
        status: of HTTP.
        detail: what was expected, what came, what to do.
        headers: besides those of every answer.
        members: extensions.
    """
    content = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status, "detail": detail, **members}
    return JSONResponse(content, status, headers, media_type=PROBLEM_JSON)
