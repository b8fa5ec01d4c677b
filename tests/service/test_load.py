"""The service under load: limits, slow and disconnected clients, and how it stops. Over real sockets."""

import socket
import threading
import time

from builders.serving import POST, connected, files_of, form_of, problem_of, serving, wait_until

from pneumoscope import load
from pneumoscope.service.capacity import Capacity
from pneumoscope.service.server import HeaderTimeoutProtocol


def test_a_full_service_refuses_at_once_and_accepts_again_later(samples):
    limits = Capacity(max_images=3)
    with serving(capacity=limits) as client:
        limits.acquire(images=3)
        began = time.perf_counter()
        answer = client.post("/v1/predictions", files=files_of(samples[0]))
        assert time.perf_counter() - began < 5
        assert "try again in a second" in problem_of(answer, 503)
        assert answer.headers["retry-after"] == "1"
        assert "the service is full" in problem_of(client.get("/readyz"), 503)
        assert client.get("/healthz").status_code == 200
        limits.release(images=3)
        assert client.post("/v1/predictions", files=files_of(*samples[:3])).status_code == 200
        assert "at most 3 files" in problem_of(client.post("/v1/predictions", files=files_of(*samples[:4])), 400)
        assert (limits.images, limits.bytes) == (0, 0)


def test_bytes_are_limited_too(samples):
    limits = Capacity(max_bytes=1_000_000)
    with serving(capacity=limits) as client:
        assert client.post("/v1/predictions", content=bytes(900_000)).status_code == 422
        assert "at most 1 MB a request" in problem_of(client.post("/v1/predictions", content=bytes(1_100_000)), 413)
        limits.acquire(size=500_000)
        assert "the service is full" in problem_of(client.post("/v1/predictions", content=bytes(900_000)), 503)
        limits.release(size=500_000)
        assert (limits.images, limits.bytes) == (0, 0)


def test_a_slow_request_gets_a_sentence_and_frees_its_capacity(samples):
    limits = Capacity()
    with serving(capacity=limits, timeout=0.5) as client:
        with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as slow:
            slow.sendall(
                b"POST /v1/predictions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\n"
                b"Content-Length: 1000\r\n\r\nabc"
            )
            answer = b""
            while part := slow.recv(65536):
                answer += part
        assert answer.startswith(b"HTTP/1.1 408")
        assert b"within 0.5 seconds, it took longer" in answer
        assert (limits.images, limits.bytes) == (0, 0)


def test_a_connection_without_headers_is_closed(client, monkeypatch):
    monkeypatch.setattr("pneumoscope.service.server.HEADERS_TIMEOUT", 0.3)
    for sent in (b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "):
        with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as slow:
            slow.sendall(sent)
            assert slow.recv(1000) == b""


def test_a_client_that_disconnects_during_upload_frees_its_capacity(samples):
    limits = Capacity()
    with serving(capacity=limits, timeout=300) as client:
        kind, body = form_of(samples)
        for _ in range(5):
            with connected(client) as client_socket:
                client_socket.sendall(POST % (b"", kind, len(body)) + body[:-1000])
                wait_until(lambda: limits.images >= 1)
            wait_until(lambda: (limits.images, limits.bytes) == (0, 0))
        assert client.post("/v1/predictions", files=files_of(samples[0])).status_code == 200


def test_a_client_that_disconnects_before_its_answer_frees_its_capacity(samples):
    limits = Capacity()
    with serving(capacity=limits, timeout=300) as client:
        kind, body = form_of(samples * 2)
        with connected(client) as client_socket:
            client_socket.sendall(POST % (b"?model=reference-lstm", kind, len(body)) + body)
            wait_until(lambda: limits.images >= 1)
        wait_until(lambda: (limits.images, limits.bytes) == (0, 0))


def test_requests_without_their_bodies_take_no_capacity(samples):
    limits = Capacity(max_images=2)
    with serving(capacity=limits, timeout=300) as client:
        idle = [connected(client) for _ in range(8)]
        for one in idle:
            one.sendall(POST % (b"", b"image/png", 1000))
        assert client.post("/v1/predictions", files=files_of(samples[0])).status_code == 200
        for one in idle:
            one.close()


def test_an_answer_counts_until_the_client_has_read_it(samples):
    limits = Capacity()
    with serving(capacity=limits, timeout=5.0) as client:
        kind, body = form_of(samples[9:13])
        with connected(client, receive_buffer=4096) as slow:
            slow.sendall(POST % (b"?heatmap=png", kind, len(body)) + body)
            slow.recv(100)
            assert limits.bytes > 1_000_000
            wait_until(lambda: (limits.images, limits.bytes) == (0, 0))


def test_a_client_that_sends_on_after_an_early_answer_is_disconnected(client, monkeypatch):
    monkeypatch.setattr("pneumoscope.service.server.LINGER", 0.3)
    with connected(client) as sender:
        sender.sendall(b"POST /v1/predictions HTTP/1.1\r\nHost: attacker.example\r\nContent-Length: 100000000\r\n\r\n")
        answer = b""
        while part := sender.recv(65536):
            answer += part
            sender.sendall(b"a")
        assert answer.startswith(b"HTTP/1.1 421")
        assert b"connection: close" in answer
        wait_until(lambda: not _accepts_bytes(sender))


def _accepts_bytes(connection) -> bool:
    try:
        connection.sendall(bytes(1000))
    except OSError:
        return False
    return True


def test_more_clients_than_the_limit_are_disconnected(samples, monkeypatch):
    monkeypatch.setattr("pneumoscope.service.server.MAX_CONNECTIONS", 3)
    with serving(predictors={"mobilenet": load()}) as client:
        assert client.get("/healthz").status_code == 200
        others = [connected(client) for _ in range(5)]
        closed = 0
        for other in others[2:]:
            try:
                closed += other.recv(1) == b""
            except ConnectionResetError:
                closed += 1
        assert closed == 3
        assert client.get("/healthz").status_code == 200
        for other in others:
            other.close()


def test_an_answer_does_not_wait_for_an_acknowledgement(samples, monkeypatch):
    """Head and body are two segments. By default the second waits for the acknowledgement of the first, up to 40 ms."""
    options, connection_made_before = [], HeaderTimeoutProtocol.connection_made

    def connection_made(self, transport):
        connection_made_before(self, transport)
        options.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(HeaderTimeoutProtocol, "connection_made", connection_made)
    with serving(predictors={"mobilenet": load()}) as client:
        assert client.get("/healthz").status_code == 200
    assert set(options) == {1}


def test_bytes_that_are_not_http_get_an_answer_or_a_closed_connection(client):
    for sent in (
        b"\x16\x03\x01\x02\x00\x01",
        b"GET / HTTP/9\r\n\r\n",
        b"GET /\xff HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\n" * 50_000,
    ):
        with connected(client) as odd:
            odd.sendall(sent)
            odd.shutdown(socket.SHUT_WR)
            answer = odd.recv(65536)
            assert answer == b"" or answer.startswith(b"HTTP/1.1 4")
    with connected(client) as odd:
        odd.sendall(b"POST /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n")
        assert odd.recv(65536).startswith(b"HTTP/1.1 405")
        odd.sendall(b"ZZ\r\n")
        while odd.recv(65536):
            pass
    assert client.get("/healthz").status_code == 200


def test_stopping_does_not_wait_for_a_client_that_sends_nothing(samples, monkeypatch, caplog):
    monkeypatch.setattr("pneumoscope.service.server.GRACE", 1)
    with serving(predictors={"mobilenet": load()}) as client:
        stuck = connected(client)
        stuck.sendall(POST % (b"", b"image/png", 1000) + b"a")
        assert client.get("/healthz").status_code == 200
    answer = b""
    while part := stuck.recv(65536):
        answer += part
    stuck.close()
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"the service ends" in answer
    assert b"x-frame-options" in answer


def test_an_error_of_the_runtime_fails_only_its_own_images(samples, caplog):
    """The answer is a problem of status 500 that does not quote the error; the log does."""
    broken = load("reference-lstm")
    session, failing = broken.bundle.session, threading.Event()

    class Session:
        def run(self, *arguments):
            if failing.is_set():
                raise RuntimeError("of the inside")
            return session.run(*arguments)

        def get_inputs(self):
            return session.get_inputs()

    object.__setattr__(broken.bundle, "session", Session())
    with serving(predictors={"mobilenet": load(), "broken": broken}) as client:
        failing.set()
        answer = client.post("/v1/predictions?model=broken", files=files_of(samples[0]))
        assert problem_of(answer, 500).startswith("expected the model reference-lstm to run, it failed")
        assert client.post("/v1/predictions", files=files_of(samples[0])).status_code == 200
        assert "of the inside" in caplog.text
        failing.clear()
        assert client.post("/v1/predictions?model=broken", files=files_of(samples[0])).status_code == 200
