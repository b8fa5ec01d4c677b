"""The service in a thread, on a free port of this machine, and requests to it."""

import socket
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import httpx

from pneumoscope import load
from pneumoscope.errors import CODES
from pneumoscope.service.app import create_app
from pneumoscope.service.server import Server

TOKEN = "a-token-of-some-length"
#: Head of a request for predictions: query, content type, length of the body.
POST = b"POST /v1/predictions%s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"


@contextmanager
def serving(wrap=lambda app: app, **options):
    """The service in a thread, as ``wrap`` makes it of the application; yields a client."""
    options.setdefault("predictors", {"mobilenet": load(), "reference-lstm": load("reference-lstm")})
    ready = threading.Event()
    server = Server(wrap(create_app(**options)), "127.0.0.1", 0, lambda address: ready.set())
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        assert ready.wait(30)
        with httpx.Client(base_url=server.address, timeout=60) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


def files_of(*paths):
    return [("files", (Path(path).name, Path(path).read_bytes())) for path in paths]


def form_of(paths) -> tuple[bytes, bytes]:
    """Content type and body."""
    request = httpx.Request("POST", "http://127.0.0.1", files=files_of(*paths))
    return request.headers["content-type"].encode(), request.read()


def problem_of(response, status) -> str:
    """The sentence of a problem, whose form is checked."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    problem = response.json()
    assert (problem["type"], problem["status"]) == ("about:blank", status)
    assert problem["title"]
    assert problem["code"] in CODES
    return problem["detail"]


def connected(client, receive_buffer=None) -> socket.socket:
    """A bare connection to the service."""
    bare = socket.socket()
    if receive_buffer:
        bare.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
    bare.settimeout(30)
    bare.connect((client.base_url.host, client.base_url.port))
    return bare


def wait_until(condition, seconds=10.0):
    ends = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.01)
