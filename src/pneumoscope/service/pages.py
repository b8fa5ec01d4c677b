"""The routes of the page for people: its files, the bundled samples, and pictures that a browser cannot decode."""

import asyncio
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi import Path as InPath
from starlette.exceptions import HTTPException
from starlette.responses import FileResponse
from starlette.staticfiles import StaticFiles

from pneumoscope.samples import sample_paths
from pneumoscope.service.capacity import Admission, Capacity
from pneumoscope.service.guard import PAGE_PATH
from pneumoscope.service.schemas import BINARY, Samples
from pneumoscope.service.scoring import wait_while_connected
from pneumoscope.service.uploads import read_uploads

_PAGE = Path(__file__).parent / "page"


def add_pages(app: FastAPI, capacity: Capacity) -> None:
    """Add the routes."""
    app.mount(PAGE_PATH, StaticFiles(directory=_PAGE))

    @app.get("/", include_in_schema=False)
    def page() -> Response:
        return FileResponse(_PAGE / "index.html")

    _add_samples(app)
    _add_renderings(app, capacity)


def _add_samples(app: FastAPI) -> None:
    by_name = {path.name: path for path in sample_paths()}

    @app.get("/v1/samples", response_model=Samples)
    def samples() -> dict[str, Any]:
        """Names of the bundled radiographs."""
        return {"samples": list(by_name)}

    @app.get("/v1/samples/{name}", response_class=Response, responses={200: {"content": {"image/jpeg": {}}}})
    def sample(name: str = InPath(examples=list(by_name)[:1])) -> Response:
        """A bundled radiograph."""
        if name not in by_name:
            raise HTTPException(404, f"expected the name of a sample, see /v1/samples, received {name[:80]!r}")
        return FileResponse(by_name[name], media_type="image/jpeg")


def _add_renderings(app: FastAPI, capacity: Capacity) -> None:
    body = {"required": True, "content": {"application/octet-stream": BINARY, "application/dicom": BINARY}}

    @app.post(
        "/v1/renderings",
        response_class=Response,
        responses={200: {"content": {"image/png": {}}}},
        openapi_extra={"requestBody": body},
    )
    async def rendering(request: Request) -> Response:
        """A radiograph as PNG, at full size, with the gray values that are judged.

        It is for files that a browser cannot show, such as DICOM.
        """
        with Admission(capacity) as admission:
            uploads = read_uploads("application/octet-stream", request.stream(), admission.reserve_bytes)
            (data,) = [upload.data async for upload in uploads]
            admission.admit_image()
            picture = await wait_while_connected(request, asyncio.wrap_future(app.state.scorer.render(data)))
            admission.reserve_bytes(len(picture))
        return admission.release_after_sending(Response(picture, media_type="image/png"))
