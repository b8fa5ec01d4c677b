"""A node whose destination, disk or files fail: its threads go on, and say what happened."""

import contextlib
import dataclasses
import gc
import http.server
import io
import json
import shutil
import signal
import socket
import sqlite3
import ssl
import subprocess
import sys
import threading
import time

import pydicom
import pytest
from builders.dicom_files import ELEMENTS_OF_STUDY, SECRET, dicom_file
from pynetdicom import AE

from pneumoscope import read_radiograph
from pneumoscope.pacs.destinations import RESULT_CLASSES, DicomDestination, Unreachable, parse_destination
from pneumoscope.pacs.node import Node
from pneumoscope.pacs.queue import DEAD, DELIVERED, JUDGED, Queue

# pynetdicom leaves the socket of an association that cannot be opened to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning")


@pytest.fixture(scope="module")
def small(samples):
    """Makes small radiographs, each another instance."""
    pixels = read_radiograph(samples[9]).pixels[::4, ::4].copy()
    return lambda **elements: dicom_file(pixels, **{**ELEMENTS_OF_STUDY, **elements})


@pytest.fixture
def make_node(predictor, tmp_path):
    """Makes a node for a destination, and stops it at the end; ``put`` gives it an image without a peer."""
    nodes = []

    def make(destination, **options):
        node = Node(predictor, tmp_path / "queue", destination, workers=1, **{"kinds": ("SR",), **options})
        node.sender._pauses = 0.05, 0.2
        nodes.append(node)
        return node

    yield make
    for node in nodes:
        node.stop()
    gc.collect()


def _put(node, data):
    node.queue.accept(data, str(pydicom.dcmread(io.BytesIO(data)).SOPInstanceUID), "MODALITY")


def _wait_for(condition, seconds=15):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)


class Shelf:
    """A destination in this process, which keeps bytes; ``fail`` is called before each result, with its bytes."""

    def __init__(self, fail=lambda data: None):
        self.received, self.fail = [], fail

    @contextlib.contextmanager
    def connect(self):
        yield self

    def store(self, path):
        data = path.read_bytes()
        self.fail(data)
        self.received.append(data)


def test_a_destination_whose_name_is_not_known_is_asked_again(make_node, small, caplog):
    node = make_node(DicomDestination("ORTHANC", "no-such-host.invalid", 104, "PNEUMOSCOPE"))
    node.start("127.0.0.1", 0)
    _put(node, small())
    _wait_for(lambda: caplog.text.count("the name no-such-host.invalid is not known") >= 2)
    assert "no-such-host.invalid" in node.sender.problem
    assert node.sender._thread.is_alive()
    assert node.queue.counts()[JUDGED] == 1


class _Answer(http.server.BaseHTTPRequestHandler):
    """A web server that answers everything with one status and one body."""

    status, body = 404, b""

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.send_response(self.status)
        self.send_header("Content-Type", "application/dicom+json")
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        self.wfile.write(self.body)

    do_GET = do_POST

    def log_message(self, *arguments):
        pass


@pytest.fixture
def web_server():
    """Starts a server that answers so; returns its address with a name and a password."""
    servers = []

    def start(status, body=b""):
        handler = type("Handler", (_Answer,), {"status": status, "body": body})
        servers.append(http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[-1].serve_forever).start()
        return f"http://jane:secret@127.0.0.1:{servers[-1].server_address[1]}/dicom-web"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize("status", [401, 403, 404, 503])
def test_a_web_address_that_is_wrong_or_closed_is_a_fault_of_the_destination(
    make_node, small, caplog, web_server, status
):
    node = make_node(parse_destination(web_server(status), "PNEUMOSCOPE"))
    node.start("127.0.0.1", 0)
    _put(node, small())
    _wait_for(lambda: caplog.text.count(f"HTTP {status} at http://127.0.0.1:") >= 6)
    assert node.queue.counts()[JUDGED] == 1
    assert f"HTTP {status}" in node.sender.problem
    assert node.queue.images(JUDGED)[0].attempts == 0
    assert "secret" not in caplog.text


def test_an_image_that_becomes_dead_is_said_without_its_uid(make_node, small, caplog, web_server):
    node = make_node(parse_destination(web_server(400), "PNEUMOSCOPE"))
    node.start("127.0.0.1", 0)
    _put(node, small())
    _wait_for(lambda: node.queue.counts()[DEAD] == 1)
    assert caplog.text.count("image 1 is dead: the destination of results: it answers with HTTP 400") == 1
    assert node.queue.images()[0].sop_instance_uid not in caplog.text


def test_a_web_server_that_has_the_result_already_counts_as_delivered(make_node, small, web_server):
    body = json.dumps({"00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": [0x0111]}}]}})
    node = make_node(parse_destination(web_server(202, body.encode()), "PNEUMOSCOPE"))
    node.start("127.0.0.1", 0)
    _put(node, small())
    _wait_for(lambda: node.queue.counts()[DELIVERED] == 1)


def test_a_question_to_a_web_server_that_fails_says_status_and_address(make_node, web_server):
    node = make_node(Shelf())
    node.poll(web_server(401))
    _wait_for(lambda: node.poller.problem)
    assert "the DICOMweb server: it answers with HTTP 401 at http://127.0.0.1:" in node.poller.problem
    assert "secret" not in node.poller.problem
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    node.poller.stop()
    node.poll(f"http://127.0.0.1:{port}/dicom-web")
    _wait_for(lambda: node.poller.problem)
    assert f"it cannot be reached at http://127.0.0.1:{port}/dicom-web" in node.poller.problem


def _problem_of(destination):
    with pytest.raises(Unreachable) as raised, destination.connect():
        pass
    return str(raised.value)


def test_a_failed_association_says_why():
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    destination = DicomDestination("ARCHIVE", "127.0.0.1", port, "PNEUMOSCOPE", timeout=5)
    assert _problem_of(destination) == f"it cannot be reached at 127.0.0.1:{port} (Connection refused)"
    assert "TLS" not in _problem_of(destination)

    archive = AE("OTHER")
    archive.add_supported_context(RESULT_CLASSES[0])
    archive.require_called_aet = True
    server = archive.start_server(("127.0.0.1", 0), block=False)
    destination = dataclasses.replace(destination, port=server.socket.getsockname()[1])
    problem = _problem_of(destination)
    assert "rejects the association, rejected permanent: Called AE title not recognised" in problem
    assert "it was called ARCHIVE, by PNEUMOSCOPE" in problem
    plain = ssl.create_default_context()
    assert "TLS failed" in _problem_of(dataclasses.replace(destination, tls=plain))
    archive.shutdown()

    with socket.create_server(("127.0.0.1", 0)) as listening:
        destination = dataclasses.replace(destination, port=listening.getsockname()[1])
        thread = threading.Thread(target=lambda: listening.accept()[0].close())
        thread.start()
        problem = _problem_of(destination)
        thread.join()
    assert "was cut off, or nothing answered" in problem
    assert "TLS" in problem


def test_an_archive_that_takes_no_kind_of_result_is_said():
    archive = AE("ARCHIVE")
    archive.add_supported_context("1.2.840.10008.1.1")
    server = archive.start_server(("127.0.0.1", 0), block=False)
    destination = DicomDestination("ARCHIVE", "127.0.0.1", server.socket.getsockname()[1], "PNEUMOSCOPE", timeout=5)
    assert "takes none of the kinds of results" in _problem_of(destination)
    archive.shutdown()


@pytest.fixture
def silent_port():
    """A port that answers to no request for a connection: its waiting room is full."""
    with contextlib.ExitStack() as opened:
        listening = opened.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(4):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@pytest.mark.parametrize("form", ["ARCHIVE@127.0.0.1:{}", "http://127.0.0.1:{}/dicom-web"])
def test_a_node_ends_soon_while_its_destination_does_not_answer(small, tmp_path, silent_port, form):
    queue = Queue(tmp_path / "queue", "model a")
    queue.accept(small(), "1.2.3", "MODALITY")
    queue.close()
    address = form.format(silent_port)
    command = [sys.executable, "-m", "pneumoscope", "node", "--reply-to", address, "--port", "0", "--queue", "queue"]
    if address.startswith("http"):
        command += ["--poll", address]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert "listens on" in process.stderr.readline()
    looking = Queue(tmp_path / "queue", "", exclusive=False)
    _wait_for(lambda: looking.counts()[JUDGED] == 1)
    time.sleep(1)  # it connects
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    assert time.monotonic() - begin < 5
    assert process.stderr.read() == "stopping; what was accepted stays in the queue\n"
    process.stderr.close()
    assert looking.counts()[JUDGED] == 1
    looking.close()


def test_an_unexpected_error_of_a_connection_does_not_end_the_sender(make_node, small, caplog):
    shelf, failures = Shelf(), [KeyError(SECRET), ValueError(SECRET)]
    connect = shelf.connect

    def connect_at_the_third_time():
        if failures:
            raise failures.pop()
        return connect()

    shelf.connect = connect_at_the_third_time
    node = make_node(shelf)
    node.start("127.0.0.1", 0)
    _put(node, small())
    _wait_for(lambda: node.queue.counts()[DELIVERED] == 1)
    assert "an error of this program: ValueError in test_faults.py" in caplog.text
    assert "KeyError" in caplog.text
    assert SECRET not in caplog.text
    _wait_for(lambda: node.sender.problem == "")


def test_a_result_that_cannot_be_sent_is_dead_with_the_reason_and_the_others_go_on(make_node, small, caplog):
    first, second = small(AccessionNumber="first"), small()

    def fail(data):
        if b"first" in data:
            raise KeyError(SECRET)

    node = make_node(Shelf(fail))
    node.start("127.0.0.1", 0)
    _put(node, first)
    _put(node, second)
    _wait_for(lambda: node.queue.counts()[DEAD] == node.queue.counts()[DELIVERED] == 1)
    assert "an error of this program: KeyError in test_faults.py" in node.queue.images(DEAD)[0].reason
    assert SECRET not in caplog.text


def test_a_disk_that_fails_costs_no_attempt(make_node, small, caplog):
    failures = [OSError(5, "Input/output error")] * 7

    def fail(data):
        if failures:
            raise failures.pop()

    node = make_node(Shelf(fail))
    node.start("127.0.0.1", 0)
    _put(node, small())
    _wait_for(lambda: node.queue.counts()[DELIVERED] == 1)
    assert "OSError" in caplog.text


def test_an_error_while_judging_is_noted_and_the_image_is_dead_with_the_reason(make_node, small, caplog, monkeypatch):
    def fail(*arguments):
        raise KeyError(SECRET)

    monkeypatch.setattr("pneumoscope.pacs.judging.make_results", fail)
    node = make_node(Shelf())
    node.start("127.0.0.1", 0)
    _put(node, small())
    _wait_for(lambda: node.queue.counts()[DEAD] == 1)
    assert "KeyError in test_faults.py" in node.queue.images(DEAD)[0].reason
    assert SECRET not in caplog.text


@pytest.mark.parametrize("name", ["take", "mark_judged"])
def test_a_database_that_fails_for_a_while_ends_no_thread(make_node, small, caplog, monkeypatch, name):
    node = make_node(Shelf())
    work, failures = getattr(node.queue, name), [sqlite3.OperationalError("disk I/O error")] * 3

    def fail_at_first(*arguments):
        if failures:
            raise failures.pop()
        return work(*arguments)

    monkeypatch.setattr(node.queue, name, fail_at_first)
    monkeypatch.setattr("pneumoscope.pacs.judging.POLL", 0.05)
    node.start("127.0.0.1", 0)
    _put(node, small())
    _wait_for(lambda: node.queue.counts()[DELIVERED] == 1)
    assert "OperationalError" in caplog.text


def test_an_image_whose_file_is_gone_is_dead(make_node, small):
    node = make_node(Shelf())
    _put(node, small())
    shutil.rmtree(node.queue.folder / "received")
    node.start("127.0.0.1", 0)
    _wait_for(lambda: node.queue.counts()[DEAD] == 1)
    assert "its file is not in the queue any more" in node.queue.images(DEAD)[0].reason
