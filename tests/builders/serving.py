"""The service in a thread of the tests, on a free port of this machine."""

import threading
from contextlib import contextmanager

import httpx

from pneumoscope import load
from pneumoscope.service.app import create_app
from pneumoscope.service.server import Server


@contextmanager
def serving(**options):
    """The service in a thread; yields a client."""
    options.setdefault("predictors", {"mobilenet": load(), "reference-lstm": load("reference-lstm")})
    ready = threading.Event()
    server = Server(create_app(**options), "127.0.0.1", 0, lambda address: ready.set())
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
