"""The real command ``serve``: signals, errors, tokens, and what it leaves on disk and in the log."""

import contextlib
import json
import os
import re
import resource
import signal
import socket
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from builders.image_files import encode, with_profile_name
from builders.serving import POST, TOKEN, connected, files_of, form_of

from pneumoscope import load
from pneumoscope.errors import UsageError
from pneumoscope.inference.bundle import ZOO
from pneumoscope.radiographs.images import read_radiograph
from pneumoscope.service.app import create_app
from pneumoscope.service.server import Server


@contextlib.contextmanager
def command(*options, **process_options):
    """The real command on a free port: its process and a client."""
    arguments = [sys.executable, "-m", "pneumoscope", "serve", "--port", "0", *map(str, options)]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, **pipes, **process_options) as process:
        try:
            first_line = process.stderr.readline()
            address = re.search(r"http://\S+:\d+", first_line)
            assert address, first_line + process.stderr.read()
            with httpx.Client(base_url=address.group(), timeout=60) as client:
                yield process, client
        finally:
            process.kill()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 0)])
def test_a_signal_stops_it_after_the_accepted_requests_are_answered(samples, number, code):
    with command("--model", "mobilenet") as (process, client):
        head = (
            "POST /v1/predictions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"
            f"Content-Length: {samples[9].stat().st_size}\r\n\r\n"
        ).encode()
        data = samples[9].read_bytes()
        with socket.create_connection((client.base_url.host, client.base_url.port), timeout=30) as half:
            half.sendall(head + data[:1000])
            assert client.get("/healthz").status_code == 200  # so the service has seen the half request above
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
    assert "expected --log none or json" in refused("--log", "xml")
    assert "expected --root-path as the path" in refused("--root-path", "chest")
    assert "do not begin with /v1" in refused("--root-path", "/v1/chest")
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


def open_files(pid):
    """The names of the files that a process has open; one that it closes meanwhile is left out."""
    opened = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            opened.append(os.readlink(link))
    return opened


def test_nothing_of_a_request_reaches_disk_or_log(samples, tmp_path):
    """With a secret file name and a bad file, the temporary folder stays empty, and nothing is logged."""
    os.makedirs(tmp_path / "tmp")
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(tmp_path / "tmp")
    try:
        with command("--model", "mobilenet") as (process, client):
            secret = ("files", ("Jane-Doe-1957.jpeg", samples[0].read_bytes() * 10))
            hostile = with_profile_name(encode(read_radiograph(samples[0]).pixels, "PNG"), b"JANE\x1b[31m")
            assert client.post("/v1/predictions?heatmap=png", content=hostile).status_code == 200
            kind, body = form_of([samples[0]] * 20)
            with connected(client) as half:
                half.sendall(POST % (b"", kind, len(body)) + body[:-1000])
                assert client.post("/v1/predictions", files=[secret, secret]).status_code == 200
                assert client.post("/v1/predictions?model=Jane-Doe", files=[secret]).status_code == 400
                opened = open_files(process.pid)
                assert any(name.startswith("socket:") for name in opened)
                assert not [name for name in opened if name.startswith("/") and "/dev/" not in name]
            assert list((tmp_path / "tmp").iterdir()) == []
            process.send_signal(signal.SIGTERM)
            process.wait(15)
            assert process.stderr.read() == ""
    finally:
        os.environ.pop("TMPDIR") if before is None else os.environ.update(TMPDIR=before)


def test_the_log_as_json_has_what_operators_need_and_no_names(samples):
    hostile = with_profile_name(encode(read_radiograph(samples[0]).pixels, "PNG"), b"JANE\x1b[31m")
    with command("--model", "mobilenet", "--log", "json") as (process, client):
        secret = ("files", ("Jane-Doe-1957.png", hostile))
        assert client.post("/v1/predictions?model=Jane-Doe", files=[secret]).status_code == 400
        assert client.post("/v1/predictions", files=[secret, secret]).status_code == 200
        assert client.get("/Jane-Doe").status_code == 404
        process.send_signal(signal.SIGTERM)
        process.wait(15)
        text = process.stderr.read()
    assert "jane" not in text.lower()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [(line["route"], line["status"]) for line in lines] == [
        ("/v1/predictions", 400), ("/v1/predictions", 200), ("none", 404)
    ]  # fmt: skip
    assert tuple(lines[1]) == (
        "time", "level", "event", "method", "route", "status", "received", "sent", "seconds"
    )  # fmt: skip
    assert lines[1]["received"] > 2 * len(hostile)
    assert lines[1]["sent"] > 500
    assert 0 < lines[1]["seconds"] < 60


def test_a_socket_that_cannot_be_bound_is_a_usage_error():
    with pytest.raises(UsageError, match=r"expected to listen on 192\.0\.2\.1 port 0, the system says"):
        Server(create_app({"mobilenet": load()}), "192.0.2.1", 0, print)


def test_a_model_file_may_change_or_disappear_while_it_is_served(samples, tmp_path):
    file = tmp_path / "mine.onnx"
    file.write_bytes((ZOO / "mobilenet.onnx").read_bytes())
    with command("--model", file) as (_, client):
        before = client.post("/v1/predictions", content=samples[9].read_bytes()).json()
        with file.open("r+b") as changing:  # in place, as a careful program would not do
            changing.truncate(1000)
        assert client.post("/v1/predictions", content=samples[9].read_bytes()).json() == before
        file.unlink()
        assert client.post("/v1/predictions?heatmap=png", content=samples[9].read_bytes()).status_code == 200


def test_a_full_disk_has_no_effect(samples):
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


@pytest.mark.skipif(sys.platform != "linux", reason="systemd is of Linux")
def test_it_tells_systemd_when_it_is_ready_alive_and_stopping(tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(20)
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "400000"}
        with command("--model", "mobilenet", env=environment) as (process, client):
            assert manager.recv(100) == b"READY=1"
            assert client.get("/readyz").status_code == 200
            assert [manager.recv(100) for _ in range(2)] == [b"WATCHDOG=1"] * 2
            process.terminate()
            said = b"WATCHDOG=1"
            while said == b"WATCHDOG=1":
                said = manager.recv(100)
            assert said == b"STOPPING=1"
            assert process.wait(15) == 0


def test_a_manager_that_is_gone_changes_nothing(tmp_path):
    with command("--model", "mobilenet", env={**os.environ, "NOTIFY_SOCKET": str(tmp_path / "gone")}) as (_, client):
        assert client.get("/healthz").status_code == 200
