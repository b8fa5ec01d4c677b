"""The service over real sockets: its answers, its limits, what it turns away, and how it ends."""

import base64
import concurrent.futures
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest
from serving import serving

from pneumoscope import load
from pneumoscope.errors import UsageError
from pneumoscope.guard import SECURITY_HEADERS
from pneumoscope.listen import Server
from pneumoscope.predict import FIELDS
from pneumoscope.scoring import Load, Scorer
from pneumoscope.serve import create_app
from pneumoscope.uploads import MAX_FILE_BYTES, MAX_FILES

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


def test_one_bad_file_among_many_is_an_entry_alone_it_is_a_problem(client, samples):
    bad = ("files", ("notes.txt", b"no image"))
    answer = client.post("/v1/predictions", files=[*files_of(samples[0]), bad, *files_of(samples[9])])
    assert answer.status_code == 200
    assert [one["status"] for one in answer.json()["predictions"]] == ["ok", "error", "ok"]
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


def test_health_and_counters(client, samples):
    assert client.get("/healthz").json() == {"status": "ok"}
    assert client.get("/readyz").json() == {"status": "ok"}

    def counted():
        text = client.get("/metrics").text
        images = re.search(r'pneumoscope_images_total\{model="mobilenet",status="ok"\} (\S+)', text)
        assert 'route="/v1/predictions",status="200"' in text
        assert "pneumoscope_images_inside 0.0" in text
        return float(images.group(1))

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
    limits = Load(max_images=3)
    with serving(load=limits) as client:
        limits.enter(images=3)
        began = time.perf_counter()
        answer = client.post("/v1/predictions", files=files_of(samples[0]))
        assert time.perf_counter() - began < 5
        assert "try again in a second" in problem_of(answer, 503)
        assert answer.headers["retry-after"] == "1"
        limits.leave(images=3)
        assert client.post("/v1/predictions", files=files_of(*samples[:3])).status_code == 200
        assert client.post("/v1/predictions", files=files_of(*samples[:4])).status_code == 503
        assert (limits.images, limits.bytes) == (0, 0)


def test_bytes_have_a_bound_too(samples):
    limits = Load(max_bytes=1_000_000)
    with serving(load=limits) as client:
        assert client.post("/v1/predictions", content=bytes(900_000)).status_code == 422
        assert client.post("/v1/predictions", content=bytes(1_100_000)).status_code == 503
        assert (limits.images, limits.bytes) == (0, 0)


def test_a_slow_request_ends_in_a_sentence_and_leaves_nothing(samples):
    limits = Load()
    with serving(load=limits, timeout=0.5) as client:
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
    monkeypatch.setattr("pneumoscope.listen.HEADERS_TIMEOUT", 0.3)
    for sent in (b"", b"GET /healthz HT", b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: "):
        with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as slow:
            slow.sendall(sent)
            assert slow.recv(1000) == b""


def test_a_client_that_goes_in_mid_upload_leaves_nothing(samples):
    limits = Load()
    with serving(load=limits) as client:
        for _ in range(5):
            with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as gone:
                gone.sendall(
                    b"POST /v1/predictions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 500000\r\n\r\n"
                    + bytes(100_000)
                )
        assert client.post("/v1/predictions", files=files_of(samples[0])).status_code == 200
        ends = time.monotonic() + 30
        while limits.images and time.monotonic() < ends:
            client.get("/healthz")
        assert (limits.images, limits.bytes) == (0, 0)


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


def test_batches_form_while_the_model_is_busy(samples):
    sizes = []
    scorer = Scorer(on_batch=sizes.append)
    predictor, data = load(), [path.read_bytes() for path in samples]
    futures = [scorer.submit(predictor, one, str(n)) for n, one in enumerate(data * 2)]
    assert [future.result(60).path for future in futures] == [str(n) for n in range(48)]
    cancelled = scorer.submit(predictor, data[0], "gone")
    cancelled.cancel()
    scorer.close()
    assert not scorer.alive
    assert sum(sizes) in (48, 49)
    assert max(sizes) <= 16


# The command ---------------------------------------------------------------------------------------------


@contextmanager
def command(*options):
    """The real command on a free port: its process and a client."""
    arguments = [sys.executable, "-m", "pneumoscope", "serve", "--port", "0", *map(str, options)]
    with subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True) as process:
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
            assert client.post("/v1/predictions", files=[secret, secret]).status_code == 200
            assert client.post("/v1/predictions?model=Jane-Doe", files=[secret]).status_code == 400
            opened = [os.readlink(link) for link in Path(f"/proc/{process.pid}/fd").iterdir() if link.exists()]
            assert not [name for name in opened if name.startswith(str(tmp_path))]
            assert list((tmp_path / "tmp").iterdir()) == []
            process.send_signal(signal.SIGTERM)
            process.wait(15)
            assert process.stderr.read() == ""
    finally:
        os.environ.pop("TMPDIR") if before is None else os.environ.update(TMPDIR=before)


def test_a_socket_that_cannot_be_bound_is_a_usage_error():
    with pytest.raises(UsageError, match=r"expected to listen on 192\.0\.2\.1 port 0, the system says"):
        Server(create_app({"mobilenet": load()}), "192.0.2.1", 0, print)
