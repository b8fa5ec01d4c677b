"""The page, the numbers and the metrics of a node."""

import json
import urllib.request

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pneumoscope.errors import UsageError
from pneumoscope.pacs import Node, serve_status
from pneumoscope.pacs.destinations import DicomDestination
from pneumoscope.pacs.queue import RECEIVED


@pytest.fixture
def node(predictor, tmp_path):
    """A node that does not run, with one dead and two waiting images."""
    node = Node(predictor, tmp_path / "queue", DicomDestination("ARCHIVE", "127.0.0.1", 1, "PNEUMOSCOPE"))
    for number in range(3):
        node.queue.accept(b"x" * 1000, f"1.2.{number}", "SENDER")
    node.queue.mark_failed(node.queue.take(RECEIVED)[0], "no <good>", final=True)
    yield node
    node.queue.close()


def _get(address):
    with urllib.request.urlopen(address, timeout=10) as answer:
        return answer.read().decode()


def test_the_state_is_shown_as_page_json_and_metrics(node):
    with serve_status(node, 0) as address:
        page, state, metrics = (_get(address + path) for path in ("", "status", "metrics"))
        assert _get(address + "healthz") == '{"status":"ok"}'
    assert "no &lt;good&gt;" in page
    assert "Research use only" in page
    assert json.loads(state)["images"] == {"received": 2, "judged": 0, "delivered": 0, "dead": 1}
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(metrics)
        for sample in family.samples
    }
    assert values["pneumoscope_node_images", "received"] == 2
    assert values["pneumoscope_node_images", "dead"] == 1
    assert values["pneumoscope_node_waiting_bytes",] == 3000
    assert values["pneumoscope_node_accepted_total",] == 0


def test_a_destination_that_was_not_tried_is_not_called_reachable(node):
    with serve_status(node, 0) as address:
        page, state, metrics = (_get(address + path) for path in ("", "status", "metrics"))
        assert "not tried yet" in page
        assert json.loads(state)["destination_tried"] is False
        assert "destination_reachable" not in metrics
        node.sender.has_tried = True
        assert "can be reached" in _get(address)
        assert "pneumoscope_node_destination_reachable 1.0" in _get(address + "metrics")
        node.sender.problem = "it is away"
        assert "it is away" in _get(address)
        assert "pneumoscope_node_destination_reachable 0.0" in _get(address + "metrics")


def test_the_state_names_no_image(node):
    with serve_status(node, 0) as address:
        assert "1.2.0" not in _get(address) + _get(address + "status") + _get(address + "metrics")


def test_a_port_that_is_taken_gives_a_sentence(node):
    with serve_status(node, 0) as address, pytest.raises(UsageError, match="expected to listen on"):
        serve_status(node, int(address.rsplit(":")[-1].strip("/"))).__enter__()
