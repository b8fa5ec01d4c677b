"""A node whose destination, disk or files fail: its threads go on, and say what happened."""

import contextlib
import io
import shutil
import sqlite3
import time

import pydicom
import pytest
from builders.dicom_files import ELEMENTS_OF_STUDY, SECRET, dicom_file

from pneumoscope import read_radiograph
from pneumoscope.pacs.destinations import DicomDestination
from pneumoscope.pacs.node import Node
from pneumoscope.pacs.queue import DEAD, DELIVERED, JUDGED


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
    assert "its file is not in the queue" in node.queue.images(DEAD)[0].reason
