"""How a request finds its route: HEAD, and the path of a proxy, tried with nginx."""

import asyncio
import re
import shutil
import socket
import subprocess
import time

import httpx
import pytest
from builders.serving import files_of, problem_of, serving
from fastapi import FastAPI

from pneumoscope import load
from pneumoscope.service.app import create_app
from pneumoscope.service.guard import SECURITY_HEADERS

NGINX = shutil.which("nginx", path="/usr/sbin:/usr/bin")


@pytest.fixture(scope="module")
def behind():
    """A service that a proxy offers below /chest."""
    with serving(predictors={"mobilenet": load()}, root_path="/chest") as client:
        yield client


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/page/app.js",
        "/healthz",
        "/readyz",
        "/metrics",
        "/v1/models",
        "/v1/models/mobilenet",
        "/v1/samples",
        "/openapi.json",
        "/nothing",
    ],
)
def test_head_is_get_without_the_body(client, path):
    got, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (got.status_code, b"")
    moving = {"date", "content-length"} if path == "/metrics" else {"date"}
    assert {k: v for k, v in head.headers.items() if k not in moving} == {
        k: v for k, v in got.headers.items() if k not in moving
    }
    assert client.get("/healthz").status_code == 200  # the connection is still in order


def test_head_where_there_is_no_get(client):
    assert client.head("/v1/predictions").status_code == 405
    assert client.put("/healthz").status_code == 405
    assert problem_of(client.put("/healthz"), 405)


def check_below_chest(client, samples, base="/chest", headers=None):
    page = client.get(f"{base}/", headers=headers)
    assert page.status_code == 200
    links = re.findall(r'(?:href|src)="([^"]+)"', page.text)
    assert len(links) == 3
    for link in links:
        found = client.get(httpx.URL(f"{client.base_url}{base}/").join(link), headers=headers)
        assert found.status_code == 200, link
        assert not re.search(r'["\'`]/(v1|page)/', found.text)
    description = client.get(f"{base}/openapi.json", headers=headers).json()
    assert description["servers"] == [{"url": "/chest"}]
    answer = client.post(f"{base}/v1/predictions", files=files_of(samples[9]), headers=headers)
    assert answer.json()["predictions"][0]["label"] == "PNEUMONIA"


@pytest.mark.parametrize("base", ["/chest", ""])
def test_the_proxy_may_pass_its_path_on_or_cut_it_off(behind, samples, base):
    check_below_chest(behind, samples, base)


def mounted(app) -> FastAPI:
    """Another application, with this one below /chest."""
    outer = FastAPI(redirect_slashes=False)
    outer.mount("/chest", app)
    return outer


def test_another_application_may_mount_it(samples):
    """It gets no lifespan of its own there."""
    with serving(mounted, predictors={"mobilenet": load()}) as client:
        check_below_chest(client, samples)
        for name in ("healthz", "readyz", "metrics"):
            assert client.head(f"/chest/{name}", headers={"Host": "10.0.0.7:8000"}).status_code == 200


@pytest.mark.parametrize("wrap", [lambda app: app, mounted])
def test_it_answers_without_a_server(samples, wrap):
    app = wrap(create_app({"mobilenet": load()}))
    base = "/chest" if isinstance(app, FastAPI) else ""

    async def ask():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
            ready = await client.get(f"{base}/readyz")
            answer = await client.post(f"{base}/v1/predictions", files=files_of(samples[9]))
            return ready, answer.json()["predictions"][0]

    for _ in range(2):  # another event loop does not matter
        ready, found = asyncio.run(ask())
        assert ready.status_code == 200
        assert found["probability"] == load().predict(samples[9]).probability


def test_the_path_without_its_slash_leads_to_the_page(behind):
    moved = behind.get("/chest")
    assert (moved.status_code, moved.headers["location"]) == (308, "/chest/")
    assert SECURITY_HEADERS.items() <= dict(moved.headers).items()
    assert behind.get("/chestnut").status_code == 404
    assert 'route="/v1/models"' in (behind.get("/v1/models") and behind.get("/metrics")).text


@pytest.mark.skipif(not NGINX, reason="needs nginx, see requirements/debian.txt")
@pytest.mark.parametrize("cut_off", ["/", ""])
def test_below_a_path_of_nginx(behind, samples, tmp_path, cut_off):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    address = str(behind.base_url).rstrip("/")
    paths = "".join(f"{kind}_temp_path {tmp_path};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    unbuffered = "proxy_request_buffering off; proxy_buffering off; proxy_http_version 1.1; client_max_body_size 30m;"
    location = f"location /chest/ {{ proxy_pass {address}{cut_off}; proxy_set_header Host $http_host; {unbuffered} }}"
    server = f"server {{ listen 127.0.0.1:{port}; access_log off; {location} }}"
    config = tmp_path / "nginx.conf"
    config.write_text(f"pid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\nhttp {{\n{paths}{server}\n}}\n")
    with subprocess.Popen([NGINX, "-p", tmp_path, "-c", config, "-e", "stderr", "-g", "daemon off;"]) as nginx:
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as outside:
                ends = time.monotonic() + 30
                while True:
                    try:
                        outside.get("/chest/healthz")
                        break
                    except httpx.ConnectError:
                        assert time.monotonic() < ends
                check_below_chest(outside, samples)
        finally:
            nginx.terminate()
