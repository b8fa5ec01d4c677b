"""The service over real sockets: its answers, its limits, what it turns away, and how it ends."""

import base64
import concurrent.futures
import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from builders.serving import serving

from pneumoscope import load
from pneumoscope.errors import UsageError
from pneumoscope.inference.bundle import ZOO
from pneumoscope.inference.prediction import FIELDS
from pneumoscope.service.app import create_app
from pneumoscope.service.capacity import Capacity
from pneumoscope.service.guard import SECURITY_HEADERS
from pneumoscope.service.scoring import Scorer
from pneumoscope.service.server import HeaderTimeoutProtocol, Server
from pneumoscope.service.uploads import MAX_FILE_BYTES, MAX_FILES

TOKEN = "a-token-of-some-length"


@pytest.fixture(scope="module")
def client():
    with serving() as client:
        yield client


def files_of(*paths):
    return [("files", (Path(path).name, Path(path).read_bytes())) for path in paths]


def problem_of(response, status) -> str:
    """The sentence of a problem, whose form is checked."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    found = response.json()
    assert (found["type"], found["status"]) == ("about:blank", status)
    assert found["title"]
    return found["detail"]


# What it answers -----------------------------------------------------------------------------------------


def test_the_answer_is_that_of_the_command_line(client, samples):
    chosen = [samples[0], samples[9], samples[17]]
    answer = client.post("/v1/predictions", files=files_of(*chosen)).json()
    expected = [
        one.to_dict() | {"path": path.name} for one, path in zip(load().predict_many(chosen), chosen, strict=True)
    ]
    for found, wanted in zip(answer["predictions"], expected, strict=True):
        assert tuple(found) == (*FIELDS, "heatmap")
        assert found["probability"] == pytest.approx(wanted["probability"], abs=1e-6)
        assert found["bacterial"] == pytest.approx(wanted["bacterial"], abs=1e-5)
        assert {**found, "probability": 0, "bacterial": 0} == {
            **wanted,
            "probability": 0,
            "bacterial": 0,
            "heatmap": None,
        }
    assert answer["notice"] == "Research use only, not a medical device."


@pytest.mark.parametrize("kind", ["image/jpeg", "application/octet-stream", ""])
def test_an_image_may_be_the_body(client, samples, kind):
    headers = {"content-type": kind} if kind else {}
    (found,) = client.post("/v1/predictions", content=samples[9].read_bytes(), headers=headers).json()["predictions"]
    assert (found["path"], found["label"]) == ("body", "PNEUMONIA")


def test_heatmaps_as_numbers_and_drawn(client, samples):
    expected = load().predict(samples[9])
    (found,) = client.post("/v1/predictions?heatmap=json", files=files_of(samples[9])).json()["predictions"]
    assert (found["heatmap"]["label"], found["heatmap"]["method"]) == ("PNEUMONIA", "Grad-CAM")
    np.testing.assert_allclose(found["heatmap"]["values"], expected.gradcam[1], atol=1e-5)
    (found,) = client.post("/v1/predictions?heatmap=png", files=files_of(samples[9])).json()["predictions"]
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(found["heatmap"]["png"]), np.uint8), cv2.IMREAD_COLOR)
    radiograph = cv2.imread(str(samples[9]), cv2.IMREAD_GRAYSCALE)
    assert picture.shape[0] > radiograph.shape[0]
    assert np.ptp(picture.astype(int), axis=2).max() > 100  # in colour
    answer = client.post("/v1/predictions?heatmap=png&model=reference-lstm", files=files_of(samples[9])).json()
    assert answer["predictions"][0]["heatmap"] is None


def test_operating_point_and_prevalence_of_a_request(client, samples):
    def ask(query):
        (found,) = client.post(f"/v1/predictions{query}", files=files_of(samples[0])).json()["predictions"]
        return found

    points = client.get("/v1/models/mobilenet").json()["operating_points"]
    assert ask("?threshold=screening")["threshold"] == points["screening"]
    assert ask("?threshold=0.01")["threshold"] == 0.01
    expected = load(prevalence=0.05).predict(samples[0])
    found = ask("?prevalence=0.05")
    assert found["probability"] == pytest.approx(expected.probability, abs=1e-6)
    assert (found["threshold"], found["prevalence"]) == (expected.threshold, 0.05)


def test_what_a_request_does_not_say_stays_as_the_service_was_started(samples):
    started = load(threshold="screening", prevalence=0.05)
    with serving(predictors={"mobilenet": started}) as client:
        for query, expected in (
            ("", started),
            ("?threshold=0.3", load(threshold=0.3, prevalence=0.05)),
            ("?prevalence=0.5", load(threshold="screening", prevalence=0.5)),
        ):
            (found,) = client.post(f"/v1/predictions{query}", files=files_of(samples[0])).json()["predictions"]
            wanted = expected.predict(samples[0])
            assert found["probability"] == pytest.approx(wanted.probability, abs=1e-6)
            assert (found["threshold"], found["prevalence"]) == (wanted.threshold, wanted.prevalence)
        card = client.get("/v1/models/mobilenet").json()
        assert (card["threshold"], card["prevalence"]) == (started.threshold, 0.05)
        assert card["operating_points"]["screening"] == started.threshold


def test_one_bad_file_among_many_is_an_entry_alone_it_is_a_problem(client, samples):
    bad = ("files", ("notes.txt", b"no image"))
    answer = client.post("/v1/predictions", files=[*files_of(samples[0]), bad, *files_of(samples[9])])
    assert answer.status_code == 200
    assert [one["label"] for one in answer.json()["predictions"]] == ["NORMAL", None, "PNEUMONIA"]
    alone = client.post("/v1/predictions", files=[bad])
    assert (
        problem_of(alone, 422)
        == "expected a JPEG, PNG or DICOM image, received something else: convert it to PNG or JPEG"
    )
    assert alone.json()["prediction"]["path"] == "notes.txt"
    blank = cv2.imencode(".png", np.full((100, 100), 128, np.uint8))[1].tobytes()
    assert client.post("/v1/predictions", content=blank).json()["prediction"]["status"] == "rejected"


def test_models_and_their_cards(client):
    listed = client.get("/v1/models").json()["models"]
    assert [model["name"] for model in listed] == ["mobilenet", "reference-lstm"]
    assert [model["heatmap"] for model in listed] == [True, False]
    card = client.get("/v1/models/mobilenet").json()
    assert card["contract"] == json.loads(json.dumps(load().bundle.contract))
    assert 0.9 < card["metrics"]["roc_auc"]["value"] <= 1
    assert "received 'other'" in problem_of(client.get("/v1/models/other"), 404)


def test_the_api_describes_itself(client):
    found = client.get("/openapi.json").json()
    service = {"/v1/predictions", "/v1/models", "/v1/models/{name}", "/healthz", "/readyz", "/metrics"}
    assert set(found["paths"]) == service | {"/v1/samples", "/v1/samples/{name}", "/v1/renderings"}
    body = found["paths"]["/v1/predictions"]["post"]["requestBody"]["content"]
    assert {"multipart/form-data", "image/jpeg", "application/dicom"} <= set(body)
    assert "HTTPValidationError" not in found["components"]["schemas"]


def test_the_example_in_the_description_is_a_real_answer(client, samples):
    described = client.get("/openapi.json").json()["paths"]["/v1/predictions"]["post"]
    example = described["responses"]["200"]["content"]["application/json"]["example"]
    sample = next(path for path in samples if path.name == example["predictions"][0]["path"])
    (answer,) = client.post("/v1/predictions", files=files_of(sample)).json()["predictions"]
    assert example["predictions"] == [{name: value for name, value in answer.items() if value is not None}]


def test_health_and_counters(client, samples):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok"}

    def counted():
        text = client.get("/metrics").text
        images = re.findall(r'pneumoscope_images_total\{model="mobilenet",status="\w+"\} (\S+)', text)
        assert 'route="/v1/predictions",status="200"' in text
        assert "pneumoscope_images_inside 0.0" in text
        return sum(map(float, images))

    client.post("/v1/predictions", files=files_of(samples[0]))
    before = counted()
    client.post("/v1/predictions", files=files_of(*samples[:3]))
    assert counted() == before + 3
    assert samples[0].name not in client.get("/metrics").text


def test_many_clients_get_their_own_answers(client, samples):
    expected = {path.name: one.probability for path, one in zip(samples, load().predict_many(samples), strict=True)}

    def ask(path):
        with httpx.Client(base_url=client.base_url, timeout=60) as own:
            return [own.post("/v1/predictions", files=files_of(path)).json()["predictions"][0] for _ in range(3)]

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        for path, answers in zip(samples, pool.map(ask, samples), strict=True):
            for found in answers:
                assert found["path"] == path.name
                assert found["probability"] == pytest.approx(expected[path.name], abs=1e-5)


# What it turns away --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("?model=other", "expected a model among mobilenet, reference-lstm, received 'other'"),
        ("?threshold=2", "expected a threshold from 0 to 1, or default or screening, received 2.0"),
        ("?prevalence=7", "expected a prevalence between 0 and 1, received 7.0"),
        ("?prevalence=much", "expected another prevalence: input should be a valid number"),
        ("?heatmap=gif", "expected another heatmap: input should be 'json' or 'png'"),
    ],
)
def test_wrong_parameters_are_a_sentence(client, samples, query, sentence):
    assert problem_of(client.post(f"/v1/predictions{query}", files=files_of(samples[0])), 400).startswith(sentence)


def test_wrong_bodies_are_a_sentence(client):
    def ask(content, kind):
        return client.post("/v1/predictions", content=content, headers={"content-type": kind})

    form = "multipart/form-data; boundary=x"
    part = b'--x\r\nContent-Disposition: form-data; name="a"; filename="b"\r\n\r\nabc\r\n'
    assert "received an empty body" in problem_of(ask(b"", "image/png"), 400)
    assert "a whole form" in problem_of(ask(part, form), 400)
    assert "at least one file" in problem_of(ask(b"--x--\r\n", form), 400)
    assert "a boundary" in problem_of(ask(b"", "multipart/form-data"), 400)
    assert "RFC 7578" in problem_of(ask(b"nothing of the kind", form), 400)
    assert "at most 256 bytes" in problem_of(ask(part, f"multipart/form-data; boundary={'a' * 300}"), 400)
    field = b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\n' + bytes(2_000_000) + b"\r\n--x--\r\n"
    assert "long fields" in problem_of(ask(field, form), 400)
    assert problem_of(ask(part + b"--x--\r\n", form), 422).startswith("expected a JPEG, PNG or DICOM image")


def test_limits_of_files(client):
    big = bytes(MAX_FILE_BYTES + 1)
    assert "at most 20 MB" in problem_of(client.post("/v1/predictions", content=big), 413)
    assert "at most 20 MB" in problem_of(client.post("/v1/predictions", files=[("f", ("a", big))]), 413)
    many = [("files", (f"{number}", b"x")) for number in range(MAX_FILES + 1)]
    assert f"at most {MAX_FILES} files" in problem_of(client.post("/v1/predictions", files=many), 400)
    assert client.post("/v1/predictions", files=many[1:]).status_code == 200
    assert "at most 8 files" in problem_of(client.post("/v1/predictions?heatmap=png", files=many[:9]), 400)
    assert "pneumoscope_images_inside 0.0" in client.get("/metrics").text  # nothing stays counted


def test_paths_and_methods_of_others(client):
    assert "see /openapi.json" in problem_of(client.get("/nothing"), 404)
    assert "see /openapi.json" in problem_of(client.get("/v1/predictions"), 405)


@pytest.mark.parametrize("path", ["/healthz", "/nothing", "/v1/models"])
def test_every_answer_has_the_security_headers(client, path):
    headers = client.get(path).headers
    assert {name: headers[name] for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert not {"server", "access-control-allow-origin"} & set(headers)


def test_other_hosts_and_origins_are_turned_away(client):
    for host in ("attacker.example", "attacker.example:80", "127.0.0.1.attacker.example", "", "[::1"):
        assert "as host, received another" in problem_of(client.get("/healthz", headers={"host": host}), 421)
    own = str(client.base_url).rstrip("/")
    for origin, status in ((own, 200), ("https://attacker.example", 403), ("null", 403), ("http://[", 403)):
        assert client.get("/healthz", headers={"origin": origin}).status_code == status
    assert "a page's" in problem_of(client.get("/healthz", headers={"sec-fetch-site": "cross-site"}), 403)
    assert (
        client.get("/healthz", headers={"host": own.split("//")[1].replace("127.0.0.1", "localhost")}).status_code
        == 200
    )


def test_the_origin_of_the_page_behind_a_proxy_or_in_capitals(samples):
    with serving(predictors={"mobilenet": load()}, hosts=("box.local", "localhost")) as client:
        for host, origin, status in (
            ("box.local", "https://box.local", 200),
            ("BOX.local", "https://box.local:443", 200),
            ("localhost:80", "http://localhost", 200),
            ("box.local", "https://box.local:8443", 403),
            ("box.local:81", "http://box.local", 403),
        ):
            assert client.get("/healthz", headers={"host": host, "origin": origin}).status_code == status, origin
        link = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "host": "box.local"}
        assert client.get("/", headers=link).status_code == 200
        assert client.get("/v1/models", headers=link).status_code == 403


def test_a_token_is_asked_for_where_there_is_one(samples):
    with serving(token=TOKEN) as client:
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == 200
        for path in ("/v1/models", "/metrics", "/openapi.json", "/nothing"):
            answer = client.get(path)
            assert "Bearer TOKEN" in problem_of(answer, 401)
            assert answer.headers["www-authenticate"] == "Bearer"
        for wrong in (f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", f"Basic {TOKEN}", TOKEN, "Bearer", "Bearer \xe9"):
            headers = {"authorization": wrong.encode("latin-1")}
            assert client.post("/v1/predictions", files=files_of(samples[0]), headers=headers).status_code == 401
        headers = {"authorization": f"Bearer {TOKEN}"}
        assert client.post("/v1/predictions", files=files_of(samples[0]), headers=headers).status_code == 200


# Under load, and at the end ------------------------------------------------------------------------------


def test_a_full_service_refuses_at_once_and_keeps_its_promises(samples):
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


def test_bytes_have_a_bound_too(samples):
    limits = Capacity(max_bytes=1_000_000)
    with serving(capacity=limits) as client:
        assert client.post("/v1/predictions", content=bytes(900_000)).status_code == 422
        assert "at most 1 MB a request" in problem_of(client.post("/v1/predictions", content=bytes(1_100_000)), 413)
        limits.acquire(size=500_000)
        assert "the service is full" in problem_of(client.post("/v1/predictions", content=bytes(900_000)), 503)
        limits.release(size=500_000)
        assert (limits.images, limits.bytes) == (0, 0)


def test_a_slow_request_ends_in_a_sentence_and_leaves_nothing(samples):
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


def test_headers_that_do_not_come_end_the_connection(client, monkeypatch):
    monkeypatch.setattr("pneumoscope.service.server.HEADERS_TIMEOUT", 0.3)
    for sent in (b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "):
        with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as slow:
            slow.sendall(sent)
            assert slow.recv(1000) == b""


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


POST = b"POST /v1/predictions%s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: %s\r\nContent-Length: %d\r\n\r\n"


def form_of(paths) -> tuple[bytes, bytes]:
    """Content type and body."""
    request = httpx.Request("POST", "http://127.0.0.1", files=files_of(*paths))
    return request.headers["content-type"].encode(), request.read()


def test_a_client_that_goes_in_mid_upload_leaves_nothing(samples):
    limits = Capacity()
    with serving(capacity=limits, timeout=300) as client:
        kind, body = form_of(samples)
        for _ in range(5):
            with connected(client) as gone:
                gone.sendall(POST % (b"", kind, len(body)) + body[:-1000])
                wait_until(lambda: limits.images >= 1)
            wait_until(lambda: (limits.images, limits.bytes) == (0, 0))
        assert client.post("/v1/predictions", files=files_of(samples[0])).status_code == 200


def test_a_client_that_goes_before_its_answer_leaves_nothing(samples):
    limits = Capacity()
    with serving(capacity=limits, timeout=300) as client:
        kind, body = form_of(samples * 2)
        with connected(client) as gone:
            gone.sendall(POST % (b"?model=reference-lstm", kind, len(body)) + body)
            wait_until(lambda: limits.images >= 1)
        wait_until(lambda: (limits.images, limits.bytes) == (0, 0))


def test_requests_whose_bodies_do_not_come_take_no_place(samples):
    limits = Capacity(max_images=2)
    with serving(capacity=limits, timeout=300) as client:
        idle = [connected(client) for _ in range(8)]
        for one in idle:
            one.sendall(POST % (b"", b"image/png", 1000))
        assert client.post("/v1/predictions", files=files_of(samples[0])).status_code == 200
        for one in idle:
            one.close()


def test_an_answer_counts_until_it_has_been_taken(samples):
    limits = Capacity()
    with serving(capacity=limits, timeout=5.0) as client:
        kind, body = form_of(samples[9:13])
        with connected(client, receive_buffer=4096) as slow:
            slow.sendall(POST % (b"?heatmap=png", kind, len(body)) + body)
            slow.recv(100)
            assert limits.bytes > 1_000_000
            wait_until(lambda: (limits.images, limits.bytes) == (0, 0))


def test_what_comes_after_an_early_answer_is_dropped_and_then_the_client(client, monkeypatch):
    monkeypatch.setattr("pneumoscope.service.server.LINGER", 0.3)
    with connected(client) as wordy:
        wordy.sendall(b"POST /v1/predictions HTTP/1.1\r\nHost: attacker.example\r\nContent-Length: 100000000\r\n\r\n")
        answer = b""
        while part := wordy.recv(65536):
            answer += part
            wordy.sendall(b"a")
        assert answer.startswith(b"HTTP/1.1 421")
        assert b"connection: close" in answer
        wait_until(lambda: not _takes(wordy))


def _takes(connection) -> bool:
    try:
        connection.sendall(bytes(1000))
    except OSError:
        return False
    return True


def test_more_clients_than_there_is_room_for_are_let_go(samples, monkeypatch):
    monkeypatch.setattr("pneumoscope.service.server.MAX_CONNECTIONS", 3)
    with serving(predictors={"mobilenet": load()}) as client:
        assert client.get("/healthz").status_code == 200
        others = [connected(client) for _ in range(5)]
        gone = 0
        for other in others[2:]:
            try:
                gone += other.recv(1) == b""
            except ConnectionResetError:
                gone += 1
        assert gone == 3
        assert client.get("/healthz").status_code == 200
        for other in others:
            other.close()


def test_an_answer_waits_for_no_acknowledgement(samples, monkeypatch):
    """Head and body are two segments: by default the second would wait, up to 40 ms, for word of the first."""
    found, connected_as_ever = [], HeaderTimeoutProtocol.connection_made

    def connection_made(self, transport):
        connected_as_ever(self, transport)
        found.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))

    monkeypatch.setattr(HeaderTimeoutProtocol, "connection_made", connection_made)
    with serving(predictors={"mobilenet": load()}) as client:
        assert client.get("/healthz").status_code == 200
    assert set(found) == {1}


def test_what_is_no_http_ends_in_an_answer_or_a_closed_connection(client):
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


def test_the_end_does_not_wait_for_a_client_that_sends_nothing(samples, monkeypatch, caplog):
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


def test_an_error_of_the_runtime_fails_its_images_alone(samples, caplog):
    """A model whose session breaks: a problem of status 500 without a word of the inside, which the log has."""
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


def test_each_worker_judges_one_image_and_the_others_wait_in_order(samples):
    """Two at a time, each alone in its forward pass; the rest begin in the order they came; one is cancelled."""
    began, go = [], threading.Semaphore(0)

    class Held:
        bundle = load().bundle
        prepare = load().prepare

        def predict_prepared(self, batch):
            began.append([one.path for one in batch])
            assert go.acquire(timeout=60)
            return load().predict_prepared(batch)

    scorer, held, data = Scorer(workers=2), Held(), [path.read_bytes() for path in samples]
    futures = [scorer.submit(held, one, str(number)) for number, one in enumerate(data)]
    wait_until(lambda: len(began) == 2)
    assert futures[7].cancel()
    for done in range(1, len(data)):
        go.release()
        wait_until(lambda done=done: len(began) == min(2 + done, len(data) - 1))
    assert [one.result(60) for number, one in enumerate(futures) if number != 7] == [
        replace(load().predict(one), path=str(number)) for number, one in enumerate(data) if number != 7
    ]
    names = [str(number) for number in range(len(data)) if number != 7]
    assert sorted(began[:2]) == [["0"], ["1"]]
    assert began[2:] == [[name] for name in names[2:]]
    scorer.close()


def test_a_cancelled_image_is_let_go_of_at_once(samples):
    """Its bytes wait for a decoder no longer; the bound on bytes would not hold."""
    go = threading.Event()

    class Held:
        bundle = load().bundle

        def prepare(self, data):
            go.wait(60)
            return load().prepare(data)

        def predict_prepared(self, batch):
            return load().predict_prepared(batch)

    scorer, data = Scorer(workers=1), bytearray(samples[0].read_bytes())
    first = scorer.submit(Held(), bytes(data), "first")
    before = sys.getrefcount(data)
    second = scorer.submit(Held(), data, "second")
    assert sys.getrefcount(data) > before
    second.cancel()
    assert sys.getrefcount(data) == before
    prediction = load().predict(samples[0])
    for begin in (lambda: scorer.render(data), lambda: scorer.draw(load(), data, prediction)):
        waiting = begin()
        assert sys.getrefcount(data) > before
        waiting.cancel()
        assert sys.getrefcount(data) == before
    go.set()
    assert first.result(60).judged
    scorer.close()


# The command ---------------------------------------------------------------------------------------------


@contextlib.contextmanager
def command(*options, **process_options):
    """The real command on a free port: its process and a client."""
    arguments = [sys.executable, "-m", "pneumoscope", "serve", "--port", "0", *map(str, options)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, **pipes, **process_options) as process:
        try:
            said = process.stderr.readline()
            address = re.search(r"http://\S+:\d+", said)
            assert address, said + process.stderr.read()
            with httpx.Client(base_url=address.group(), timeout=60) as client:
                yield process, client
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 0)])
def test_a_signal_ends_it_once_what_was_accepted_is_answered(samples, number, code):
    with command("--model", "mobilenet") as (process, client):
        head = (
            "POST /v1/predictions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"
            f"Content-Length: {samples[9].stat().st_size}\r\n\r\n"
        ).encode()
        data = samples[9].read_bytes()
        with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as half:
            half.sendall(head + data[:1000])
            assert client.get("/healthz").status_code == 200  # the half of a request above has been seen
            process.send_signal(number)
            half.sendall(data[1000:])
            answer = b""
            while part := half.recv(65536):
                answer += part
        assert b'"label":"PNEUMONIA"' in answer
        assert process.wait(15) == code
        assert process.stderr.read() == ""


def test_the_command_says_what_is_wrong(tmp_path):
    def refused(*options):
        done = subprocess.run(
            [sys.executable, "-m", "pneumoscope", "serve", *options], capture_output=True, text=True, timeout=60
        )
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        return done.stderr

    short = tmp_path / "token"
    short.write_text("short\n")
    assert "expected a token where others can reach the service at 0.0.0.0" in refused("--host", "0.0.0.0")
    assert "at least 16 plain characters" in refused("--token-file", str(short))
    assert "it cannot be read" in refused("--token-file", str(tmp_path / "missing"))
    assert "received both" in refused("--token", TOKEN, "--token-file", str(short))
    assert "received two of one" in refused("--model", "mobilenet", "--model", "mobilenet")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        assert "Address already in use: choose another --port" in refused("--port", str(taken.getsockname()[1]))


def test_a_token_file_and_another_address(samples, tmp_path):
    file = tmp_path / "token"
    file.write_text(f"{TOKEN}\n")
    with command("--model", "mobilenet", "--host", "0.0.0.0", "--allow-host", "box.local", "--token-file", file) as (
        _,
        client,
    ):
        headers = {"authorization": f"Bearer {TOKEN}", "host": "box.local"}
        assert client.get("/v1/models", headers=headers).status_code == 200
        assert client.get("/v1/models", headers={**headers, "host": "other.local"}).status_code == 421
        assert client.get("/v1/models", headers={"host": "box.local"}).status_code == 401


def test_nothing_of_a_request_reaches_disk_or_log(samples, tmp_path):
    """A secret file name and a bad file: the temporary folder stays empty and the log silent."""
    os.makedirs(tmp_path / "tmp")
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(tmp_path / "tmp")
    try:
        with command("--model", "mobilenet") as (process, client):
            secret = ("files", ("Jane-Doe-1957.jpeg", samples[0].read_bytes() * 10))
            kind, body = form_of([samples[0]] * 20)
            half = connected(client)
            half.sendall(POST % (b"", kind, len(body)) + body[:-1000])
            assert client.post("/v1/predictions", files=[secret, secret]).status_code == 200
            assert client.post("/v1/predictions?model=Jane-Doe", files=[secret]).status_code == 400
            opened = [os.readlink(link) for link in Path(f"/proc/{process.pid}/fd").iterdir()]
            assert not [name for name in opened if name.startswith("/") and "/dev/" not in name]
            half.close()
            assert list((tmp_path / "tmp").iterdir()) == []
            process.send_signal(signal.SIGTERM)
            process.wait(15)
            assert process.stderr.read() == ""
    finally:
        os.environ.pop("TMPDIR") if before is None else os.environ.update(TMPDIR=before)


def test_a_socket_that_cannot_be_bound_is_a_usage_error():
    with pytest.raises(UsageError, match=r"expected to listen on 192\.0\.2\.1 port 0, the system says"):
        Server(create_app({"mobilenet": load()}), "192.0.2.1", 0, print)


def test_a_model_file_that_changes_or_goes_changes_nothing(samples, tmp_path):
    file = tmp_path / "mine.onnx"
    file.write_bytes((ZOO / "mobilenet.onnx").read_bytes())
    with command("--model", file) as (_, client):
        before = client.post("/v1/predictions", content=samples[9].read_bytes()).json()
        with file.open("r+b") as changing:  # in place, as no careful program writes
            changing.truncate(1000)
        assert client.post("/v1/predictions", content=samples[9].read_bytes()).json() == before
        file.unlink()
        assert client.post("/v1/predictions?heatmap=png", content=samples[9].read_bytes()).status_code == 200


def test_a_full_disk_changes_nothing(samples):
    """No byte can be written to any file, as on a full disk."""

    def full():
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    with command("--model", "mobilenet", preexec_fn=full) as (process, client):
        answer = client.post("/v1/predictions?heatmap=png", files=files_of(*samples[:8]))
        assert [one["status"] for one in answer.json()["predictions"]].count("error") == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0


def test_a_killed_process_frees_its_address_at_once(samples):
    with command("--model", "mobilenet") as (process, client):
        port = client.base_url.port
        waiting = connected(client)
        waiting.sendall(POST % (b"", b"image/jpeg", 10_000) + samples[0].read_bytes()[:5000])
        process.kill()
        process.wait(15)
        with waiting, contextlib.suppress(ConnectionResetError):
            assert waiting.recv(1) == b""
    with command("--model", "mobilenet", "--port", port) as (_, client):
        assert client.base_url.port == port
        assert client.get("/readyz").status_code == 200
