import base64
import hashlib
import io
import json
import socket
import stat
import sys
import threading
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from pneumoscope.data import fetch as fetch_module
from pneumoscope.data.fetch import KAGGLE_SET, fetch
from pneumoscope.data.manifest import KAGGLE_COUNTS, read_manifest
from pneumoscope.errors import DatasetError, MissingExtra

TRAIN_NORMAL = "chest_xray/train/NORMAL/"


@pytest.fixture(scope="session")
def layout(samples) -> dict[str, bytes]:
    """Names in the archive -> files: one normal and two pneumonia radiographs in each official split."""
    normal = [path for path in samples if path.parent.name == "NORMAL"]
    pneumonia = [path for path in samples if path.parent.name == "PNEUMONIA"]
    files = {}
    for number, split in enumerate(("train", "val", "test")):
        for path in (normal[number], *pneumonia[2 * number : 2 * number + 2]):
            files[f"chest_xray/{split}/{path.parent.name}/{path.name}"] = path.read_bytes()
    return files


@pytest.fixture
def counted(monkeypatch):
    """The layout passes for complete."""
    counts = {(split, label): 1 if label == "NORMAL" else 2 for split, label in KAGGLE_COUNTS}
    monkeypatch.setattr(fetch_module, "KAGGLE_COUNTS", counts)


def write_zip(path: Path, files: dict, method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return path


def write_folder(folder: Path, files: dict) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def first(layout: dict) -> str:
    return next(name for name in layout if name.startswith(TRAIN_NORMAL))


def images(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix == ".jpeg"}


def everything(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def with_macos_leftovers(layout: dict) -> dict[str, bytes]:
    """As Kaggle ships it: a second copy, ._ files and .DS_Store."""
    copy = {name.replace("chest_xray/", "chest_xray/chest_xray/", 1): data for name, data in layout.items()}
    leftovers = {
        "chest_xray/__MACOSX/" + name.replace("IM-", "._IM-").replace("person", "._person"): b"\0\5\x16\7"
        for name in layout
    }
    stores = {"chest_xray/.DS_Store": b"\0", "chest_xray/train/NORMAL/.DS_Store": b"\0"}
    return {**layout, **copy, **leftovers, **stores}


# --- a folder ---------------------------------------------------------------------------------------------------------


def test_a_folder_is_used_in_place(tmp_path, layout, counted):
    source = write_folder(tmp_path / "download", with_macos_leftovers(layout))
    before = everything(source)
    result = fetch(tmp_path / "data", source)
    assert result.refused == []
    assert result.count_errors == []
    assert result.manifest_path == tmp_path / "data" / "manifest.csv"
    assert {record.path for record in result.manifest.records} == {str(source / name) for name in layout}
    assert everything(source) == before
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["manifest.csv"]


def test_a_manifest_beside_its_images_is_relative_and_can_be_made_again(tmp_path, layout):
    data = write_folder(tmp_path, layout)
    first_time, second_time = fetch(data, data), fetch(data, data)
    assert {record.path for record in first_time.manifest.records} == set(layout)
    assert second_time.manifest == first_time.manifest == read_manifest(data / "manifest.csv")


def test_the_manifest_of_a_folder_elsewhere_reads_back(tmp_path, layout, monkeypatch):
    write_folder(tmp_path / "download", layout)
    monkeypatch.chdir(tmp_path)
    result = fetch("data", "download/../download")
    again = read_manifest(result.manifest_path)
    assert again == result.manifest
    assert all(again.path(record).is_file() for record in again.records)


def test_label_folders_alone_are_not_counted(tmp_path, samples_folder):
    result = fetch(tmp_path, samples_folder)
    assert (len(result.manifest), result.refused, result.count_errors) == (24, [], [])


def test_two_data_folders_side_by_side_are_ambiguous(tmp_path, layout):
    name = first(layout)
    write_folder(tmp_path / "in", {f"{place}/NORMAL/x.jpeg": layout[name] for place in "ab"})
    write_zip(tmp_path / "in.zip", {f"{place}/NORMAL/x.jpeg": layout[name] for place in "ab"})
    for source in ("in", "in.zip"):
        with pytest.raises(DatasetError, match=r"one folder with train.*found 2 \(.*a, .*b\): name one"):
            fetch(tmp_path / "out", tmp_path / source)


@pytest.mark.parametrize("name", ["nothing.zip", "nothing"])
def test_a_source_that_is_not_there(tmp_path, name):
    with pytest.raises(DatasetError, match=r"found nothing at .*nothing.*: check the path"):
        fetch(tmp_path / "out", tmp_path / name)


def test_an_empty_folder(tmp_path):
    with pytest.raises(DatasetError, match=r"expected folders NORMAL and PNEUMONIA .* found none"):
        fetch(tmp_path / "out", tmp_path)


def test_an_out_that_is_a_file(tmp_path, samples_folder):
    (tmp_path / "out").write_text("")
    with pytest.raises(DatasetError, match=r"expected to read and write .*out, the system says File exists"):
        fetch(tmp_path / "out", samples_folder)


# --- counts -----------------------------------------------------------------------------------------------------------


def test_counts_that_differ_are_said_one_by_one(tmp_path, layout):
    partial = {name: data for name, data in layout.items() if "/test/NORMAL/" not in name}
    result = fetch(tmp_path / "out", write_folder(tmp_path / "in", partial))
    assert len(result.count_errors) == len(KAGGLE_COUNTS)
    assert "expected 234 NORMAL images in test, found 0: fetch a complete copy" in result.count_errors
    assert len(read_manifest(result.manifest_path)) == 8


def test_too_many_images_are_said(tmp_path, layout, monkeypatch):
    monkeypatch.setattr(fetch_module, "KAGGLE_COUNTS", {("val", "PNEUMONIA"): 1})
    result = fetch(tmp_path / "out", write_folder(tmp_path / "in", layout))
    assert result.count_errors == [
        "expected 1 PNEUMONIA images in val, found 2: this is not the Kaggle set alone"
    ]  # fmt: skip


# --- a zip ------------------------------------------------------------------------------------------------------------


def test_a_zip_with_a_second_copy_and_macos_leftovers(tmp_path, layout, counted):
    result = fetch(tmp_path / "out", write_zip(tmp_path / "a.zip", with_macos_leftovers(layout)))
    assert result.refused == []
    assert result.count_errors == []
    expected = {name.removeprefix("chest_xray/") for name in layout}
    assert {record.path for record in result.manifest.records} == expected
    assert images(tmp_path / "out") == expected
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"train", "val", "test", "manifest.csv"}
    assert result.manifest == read_manifest(result.manifest_path)


def test_an_image_only_in_the_second_copy_is_not_lost_unseen(tmp_path, layout):
    files = with_macos_leftovers(layout)
    del files[first(layout)]
    result = fetch(tmp_path / "out", write_zip(tmp_path / "a.zip", files))
    assert [refused.path for refused in result.refused] == [first(layout).replace("chest_xray/", "chest_xray/" * 2, 1)]


@pytest.mark.parametrize(
    "name",
    [
        "../evil.jpeg",
        "chest_xray/train/NORMAL/../../../../evil.jpeg",
        "/evil.jpeg",
        "C:/train/NORMAL/evil.jpeg",
        "chest_xray\\train\\NORMAL\\evil.jpeg",
        "chest_xray/train/NORMAL/..\\..\\evil.jpeg",
    ],
)
def test_a_member_that_points_outside_is_refused_by_name(tmp_path, layout, name, counted):
    path = write_zip(tmp_path / "a.zip", {name: layout[first(layout)], **layout})
    result = fetch(tmp_path / "deep" / "out", path)
    assert [(refused.path, "outside" in refused.reason) for refused in result.refused] == [(name, True)]
    assert result.count_errors == []
    assert images(tmp_path) == {"deep/out/" + member.removeprefix("chest_xray/") for member in layout}


def test_a_symbolic_link_is_refused_by_name(tmp_path, layout):
    link = zipfile.ZipInfo(TRAIN_NORMAL + "link.jpeg")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    path = write_zip(tmp_path / "a.zip", layout)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(link, "/etc/passwd")
    result = fetch(tmp_path / "out", path)
    assert [(refused.path, refused.reason) for refused in result.refused] == [
        (link.filename, "expected a file, this is a symbolic link")
    ]
    assert len(result.manifest) == len(layout)


def test_a_member_with_a_password_or_another_compression_is_refused_by_name(tmp_path, layout):
    path = write_zip(tmp_path / "a.zip", layout)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(TRAIN_NORMAL + "bz.jpeg", b"0" * 100, zipfile.ZIP_BZIP2)
        archive.writestr(TRAIN_NORMAL + "locked.jpeg", b"0" * 100)
    data = bytearray(path.read_bytes())
    data[data.rfind(b"PK\1\2") + 8] |= 1  # the encryption bit of the last member in the list
    path.write_bytes(data)
    reasons = {refused.path: refused.reason for refused in fetch(tmp_path / "out", path).refused}
    assert "compressed another way" in reasons[TRAIN_NORMAL + "bz.jpeg"]
    assert "encrypted" in reasons[TRAIN_NORMAL + "locked.jpeg"]


def test_the_same_name_twice(tmp_path, layout):
    path = write_zip(tmp_path / "a.zip", layout)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(first(layout), b"other")
    result = fetch(tmp_path / "out", path)
    assert [refused.path for refused in result.refused] == [first(layout)]
    assert len(result.manifest) == len(layout)


def test_a_truncated_zip(tmp_path, layout):
    path = write_zip(tmp_path / "a.zip", layout)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(DatasetError, match=r"^expected a whole zip file, .*a\.zip is cut off .*: download it again$"):
        fetch(tmp_path / "out", path)


@pytest.mark.parametrize("content", [b"", b"path,label\n", b"<html>sign in</html>" * 50])
def test_something_else_named_zip(tmp_path, content):
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(DatasetError, match=r"^expected a folder or a zip file, .*a\.zip is neither: check the path$"):
        fetch(tmp_path / "out", tmp_path / "a.zip")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_corrupted_member_is_refused_by_name(tmp_path, layout, method):
    name = first(layout)
    path = write_zip(tmp_path / "a.zip", layout, method)
    with zipfile.ZipFile(path) as archive:
        middle = archive.getinfo(name).header_offset + archive.getinfo(name).compress_size // 2
    data = bytearray(path.read_bytes())
    data[middle] ^= 0xFF
    path.write_bytes(data)
    result = fetch(tmp_path / "out", path)
    assert [(refused.path, "damaged in the archive" in refused.reason) for refused in result.refused] == [(name, True)]
    assert len(result.manifest) == len(layout) - 1
    assert len(images(tmp_path / "out")) == len(layout) - 1


def test_members_that_are_no_images_are_refused_by_name(tmp_path, layout):
    extra = {
        TRAIN_NORMAL + "text.jpeg": b"not a radiograph",
        TRAIN_NORMAL + "notes.txt": b"seen",
        "chest_xray/README.md": b"read me",
    }
    result = fetch(tmp_path / "out", write_zip(tmp_path / "a.zip", {**layout, **extra}))
    reasons = {refused.path: refused.reason for refused in result.refused}
    assert set(reasons) == set(extra)
    assert "expected a JPEG, PNG or DICOM image" in reasons[TRAIN_NORMAL + "text.jpeg"]
    assert "lies elsewhere" in reasons["chest_xray/README.md"]
    assert len(images(tmp_path / "out")) == len(layout)


def test_a_truncated_jpeg_is_refused_by_name(tmp_path, layout):
    name = first(layout)
    files = {**layout, name: layout[name][:-5000]}
    result = fetch(tmp_path / "out", write_zip(tmp_path / "a.zip", files))
    assert [Path(refused.path).name for refused in result.refused] == [Path(name).name]
    assert "cut off" in result.refused[0].reason
    assert len(result.manifest) == len(layout) - 1


def test_a_zip_without_label_folders(tmp_path):
    with pytest.raises(DatasetError, match=r"found none to extract \(1 members were refused, the first: a\.txt: "):
        fetch(tmp_path / "out", write_zip(tmp_path / "a.zip", {"a.txt": b"text"}))


def test_another_data_set_is_not_mixed_in(tmp_path, layout, samples_folder):
    write_folder(tmp_path / "out", {"PNEUMONIA/mine.jpeg": layout[first(layout)]})
    with pytest.raises(DatasetError, match=r"found PNEUMONIA/mine\.jpeg: name an empty folder"):
        fetch(tmp_path / "out", write_zip(tmp_path / "a.zip", layout))


# --- bombs ------------------------------------------------------------------------------------------------------------


def test_a_member_that_inflates_too_far_is_refused_by_name(tmp_path, layout, monkeypatch):
    monkeypatch.setattr(fetch_module, "MAX_BYTES", 2_000_000)
    bomb = TRAIN_NORMAL + "bomb.jpeg"
    path = write_zip(tmp_path / "a.zip", {**layout, bomb: b"\xff\xd8\xff" + bytes(2_000_000)})
    result = fetch(tmp_path / "out", path)
    assert [refused.path for refused in result.refused] == [bomb]
    assert result.refused[0].reason == "expected at most 2,000,000 bytes, this inflates to 2,000,003"
    assert len(result.manifest) == len(layout)


def test_a_bomb_that_lies_about_its_size_is_not_inflated(tmp_path, layout, monkeypatch):
    bomb = TRAIN_NORMAL + "bomb.jpeg"
    path = write_zip(tmp_path / "a.zip", {**layout, bomb: b"\xff\xd8\xff" + bytes(30_000_000)})
    path.write_bytes(path.read_bytes().replace((30_000_003).to_bytes(4, "little"), (1000).to_bytes(4, "little")))
    read = []
    monkeypatch.setattr(zipfile.ZipExtFile, "read", _recording(zipfile.ZipExtFile.read, read))
    result = fetch(tmp_path / "out", path)
    assert [(refused.path, "damaged" in refused.reason) for refused in result.refused] == [(bomb, True)]
    assert 1001 in read  # the bound that was passed on to the inflater
    assert len(result.manifest) == len(layout)


def _recording(read, bounds: list):
    def wrapper(self, n=-1):
        bounds.append(n)
        return read(self, n)

    return wrapper


def test_an_archive_that_inflates_too_far_is_refused_whole(tmp_path, layout, monkeypatch):
    path = write_zip(tmp_path / "a.zip", layout)
    monkeypatch.setattr(fetch_module, "MAX_TOTAL", 100_000)
    with pytest.raises(DatasetError, match=r"at most 0\.0001 GB of images"):
        fetch(tmp_path / "out", path)
    monkeypatch.setattr(fetch_module, "MAX_MEMBERS", 5)
    with pytest.raises(DatasetError, match=r"at most 5 members in .*a\.zip, found 9"):
        fetch(tmp_path / "out", path)
    assert list((tmp_path / "out").iterdir()) == []


# --- interrupted ------------------------------------------------------------------------------------------------------


def test_an_interrupted_extraction_goes_on(tmp_path, layout, counted):
    path, out = write_zip(tmp_path / "a.zip", layout), tmp_path / "out"

    def interrupted(items):
        for number, item in enumerate(items):
            if number == 4:
                raise KeyboardInterrupt
            yield item

    with pytest.raises(KeyboardInterrupt):
        fetch(out, path, progress=interrupted)
    kept = {name: time for name, time in everything(out).items() if name.endswith(".jpeg")}
    assert len(kept) == 4
    spoilt = Path(next(iter(kept)))  # same size, other content: extracted again
    spoilt.write_bytes(bytes(spoilt.stat().st_size))
    result = fetch(out, path)
    after = everything(out)
    assert {name: after[name] for name in kept if name != str(spoilt)} == {
        name: time for name, time in kept.items() if name != str(spoilt)
    }
    assert (len(result.manifest), result.refused, result.count_errors) == (len(layout), [], [])


def test_a_file_that_cannot_be_written_leaves_nothing_half_done(tmp_path, layout, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device", "somewhere")

    monkeypatch.setattr(fetch_module.os, "replace", full)
    with pytest.raises(DatasetError, match=r"read and write somewhere, the system says No space left on device: .*"):
        fetch(tmp_path / "out", write_zip(tmp_path / "a.zip", layout))
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


# --- Kaggle: the real client against a stand-in for its server --------------------------------------------------------


class Kaggle(ThreadingHTTPServer):
    """Answers the two calls of ``kagglehub.dataset_download``, and the storage that the second points to."""

    def __init__(self, archive: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Answers)
        self.archive = archive
        self.status = 200  # of the calls
        self.cut_after: int | None = None  # bytes of the archive after which the connection breaks off, once
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
        except (
            BrokenPipeError,
            ConnectionResetError,
        ):  # kagglehub asks for the whole, then again for the part it lacks
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
    """kagglehub with an empty home, no credentials, and no other place to go than the stand-in."""
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
    with Kaggle(memory.getvalue()) as server:  # closing it waits for the threads of its answers
        _send_to(server.address, monkeypatch)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _send_to(address: str, monkeypatch) -> None:
    from kagglesdk import kaggle_env  # its own switch KAGGLE_API_ENVIRONMENT knows only fixed ports

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


def test_kaggle_download_goes_on_after_a_cut(tmp_path, layout, kaggle, counted):
    kaggle.cut_after = len(kaggle.archive) // 2
    with pytest.raises(DatasetError, match=r"the transfer broke off .*: run the same command again.*--from FILE\.zip"):
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


@pytest.mark.parametrize(("status", "said"), [(404, "received HTTP 404"), (503, "received HTTP 503: try later")])
def test_other_answers_of_kaggle(tmp_path, kaggle, status, said):
    kaggle.status = status
    with pytest.raises(DatasetError, match=said + r".*--from FILE\.zip$"):
        fetch(tmp_path / "out")


def test_nobody_answers(tmp_path, kaggle_home, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    _send_to(f"http://127.0.0.1:{port}", monkeypatch)
    with pytest.raises(
        DatasetError, match=r"could not connect \(ConnectionError\): check the network.*--from FILE\.zip"
    ):
        fetch(tmp_path / "out")


def test_without_kagglehub(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(MissingExtra, match=r"downloading from Kaggle needs .*'kagglehub'.*pneumoscope\[train\]"):
        fetch(tmp_path / "out")
