"""The download from Kaggle, with the real client and a stand-in for the server."""

import base64
import hashlib
import io
import json
import socket
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from builders.collections import with_macos_leftovers

from pneumoscope.data.fetch import fetch
from pneumoscope.data.kaggle import KAGGLE_SET
from pneumoscope.errors import DatasetError, MissingExtra


class Kaggle(ThreadingHTTPServer):
    """Answers the two calls of ``kagglehub.dataset_download``, and serves the archive that the second points to."""

    def __init__(self, archive: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.archive = archive
        self.status = 200  # of the calls
        self.cut_after: int | None = None  # bytes of the archive after which the connection is closed, once
        self.seen: list[tuple[str, str | None, str | None]] = []  # (path, Range, Authorization)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Answers(BaseHTTPRequestHandler):
    server: Kaggle

    def do_POST(self) -> None:
        self._note()
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.status != 200:
            self._json(self.server.status, {"code": self.server.status, "message": "no"})
        elif self.path == "/v1/datasets.DatasetApiService/GetDataset":
            self._json(200, {"currentVersionNumber": 2})
        elif self.path == "/v1/datasets.DatasetApiService/DownloadDataset":
            self.send_response(302)
            self.send_header("Location", self.server.address + "/storage/archive.zip")
            self.send_header("Content-Length", "0")
            self.end_headers()
        else:
            self._json(404, {"code": 404, "message": "unknown call"})

    def do_GET(self) -> None:
        self._note()
        whole, start = self.server.archive, 0
        if self.headers["Range"]:
            start = int(self.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        body = whole[start:]
        self.send_response(206 if start else 200)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Type", "application/zip")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("x-goog-hash", "md5=" + base64.b64encode(hashlib.md5(whole).digest()).decode())
        self.end_headers()
        if self.server.cut_after is not None:
            body, self.server.cut_after = body[: self.server.cut_after], None
        try:
            self.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            # kagglehub asks for the whole archive, then closes and asks for the part that it lacks.
            self.close_connection = True

    def _json(self, status: int, content: dict) -> None:
        body = json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _note(self) -> None:
        self.server.seen.append((self.path, self.headers["Range"], self.headers["Authorization"]))

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def kaggle_home(tmp_path, monkeypatch) -> Path:
    """kagglehub with an empty home, without credentials, and with no server but the stand-in."""
    pytest.importorskip("kagglehub", reason="downloading needs the extra train")
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN", "KAGGLE_API_ENVIRONMENT"):
        monkeypatch.delenv(name, raising=False)
    for name in ("KAGGLE_KERNEL_RUN_TYPE", "KAGGLE_DATA_PROXY_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path / "home" / ".kaggle"))
    monkeypatch.setenv("KAGGLEHUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("NO_PROXY", "*")
    return tmp_path / "home"


@pytest.fixture
def kaggle(kaggle_home, layout, monkeypatch):
    memory = io.BytesIO()
    with zipfile.ZipFile(memory, "w") as archive:
        for name, data in with_macos_leftovers(layout).items():
            archive.writestr(name, data)
    with Kaggle(memory.getvalue()) as server:  # closing waits for the threads that answer
        _send_to(server.address, monkeypatch)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _send_to(address: str, monkeypatch) -> None:
    from kagglesdk import kaggle_env  # its own setting KAGGLE_API_ENVIRONMENT has only fixed ports

    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, address)


def test_kaggle_download(tmp_path, layout, kaggle, counted, capfd):
    result = fetch(tmp_path / "out")
    assert (len(result.manifest), result.refused, result.count_errors) == (len(layout), [], [])
    folder = tmp_path / "cache" / "datasets" / KAGGLE_SET / "versions" / "2"
    assert {record.path for record in result.manifest.records} == {str(folder / name) for name in layout}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["manifest.csv"]
    assert capfd.readouterr().out == ""
    before = [path for path, _, _ in kaggle.seen]
    assert before.count("/storage/archive.zip") == 1
    assert fetch(tmp_path / "out").manifest == result.manifest
    assert [path for path, _, _ in kaggle.seen].count("/storage/archive.zip") == 1  # from the cache


def test_kaggle_download_continues_after_an_interruption(tmp_path, layout, kaggle, counted):
    kaggle.cut_after = len(kaggle.archive) // 2
    with pytest.raises(
        DatasetError, match=r"the transfer was interrupted .*: run the same command again.*--from FILE\.zip"
    ):
        fetch(tmp_path / "out")
    (partial,) = (tmp_path / "cache").rglob("*.archive")
    size = partial.stat().st_size
    assert 0 < size <= len(kaggle.archive) // 2
    result = fetch(tmp_path / "out")
    assert ("/storage/archive.zip", f"bytes={size}-", None) in kaggle.seen
    assert (len(result.manifest), result.refused, result.count_errors) == (len(layout), [], [])


def test_a_damaged_download_is_not_kept(tmp_path, layout, kaggle, counted):
    whole, kaggle.archive = kaggle.archive, kaggle.archive[: len(kaggle.archive) // 2]
    with pytest.raises(DatasetError, match=r"received a damaged one, which was deleted: run the same command again"):
        fetch(tmp_path / "out")
    kaggle.archive = whole
    assert len(fetch(tmp_path / "out").manifest) == len(layout)


def test_kaggle_credentials_are_sent(tmp_path, kaggle, counted, monkeypatch):
    monkeypatch.setenv("KAGGLE_USERNAME", "someone")
    monkeypatch.setenv("KAGGLE_KEY", "secret")
    fetch(tmp_path / "out")
    assert {sent for path, _, sent in kaggle.seen if path.startswith("/v1/")} == {"Basic c29tZW9uZTpzZWNyZXQ="}


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials(tmp_path, kaggle, status):
    kaggle.status = status
    message = rf"received HTTP {status}: .*kaggle\.json.*KAGGLE_USERNAME and KAGGLE_KEY.*TOKEN.*--from FILE\.zip$"
    with pytest.raises(DatasetError, match=message) as caught:
        fetch(tmp_path / "out")
    assert "\n" not in str(caught.value)


def test_a_malformed_credentials_file(tmp_path, kaggle_home):
    (kaggle_home / ".kaggle").mkdir(parents=True)
    (kaggle_home / ".kaggle" / "kaggle.json").write_text('{"username": ')
    with pytest.raises(DatasetError, match=r"^expected valid Kaggle credentials, .*kaggle\.json: create an API token"):
        fetch(tmp_path / "out")


@pytest.mark.parametrize(("status", "message"), [(404, "received HTTP 404"), (503, "received HTTP 503: try later")])
def test_other_answers_of_kaggle(tmp_path, kaggle, status, message):
    kaggle.status = status
    with pytest.raises(DatasetError, match=message + r".*--from FILE\.zip$"):
        fetch(tmp_path / "out")


def test_no_answer_of_kaggle(tmp_path, kaggle_home, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as closed_server:
        port = closed_server.getsockname()[1]
    _send_to(f"http://127.0.0.1:{port}", monkeypatch)
    with pytest.raises(
        DatasetError, match=r"could not connect \(ConnectionError\): check the network.*--from FILE\.zip"
    ):
        fetch(tmp_path / "out")


def test_without_kagglehub(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(MissingExtra, match=r"downloading from Kaggle needs .*'kagglehub'.*pneumoscope\[train\]"):
        fetch(tmp_path / "out")
