"""``node`` and ``node queue``: what they refuse, and what they show of a queue."""

import socket
import sys

import pytest

from pneumoscope.cli.node import _parse_peers
from pneumoscope.pacs.queue import RECEIVED, Queue


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "expected --reply-to"),
        (["--reply-to", "ORTHANC"], "expected AET@HOST:PORT"),
        (["--reply-to", "ORTHANC@host:99999"], "expected AET@HOST:PORT"),
        (["--reply-to", "A" * 17 + "@host:104"], "expected AET@HOST:PORT"),
        (["--result", "PDF"], "expected --result SR, SC, PR"),
        (["--ae-title", "A" * 17], "expected an AE title"),
        (["--host", "0.0.0.0"], "expected --allow AET"),
        (
            ["--commitment", "--reply-to", "http://pacs/dicom-web"],
            "AET@HOST:PORT with --commitment",
        ),
        (["--study", "1.2.3"], "expected --poll with --study"),
        (["--study", "DOE", "--poll", "http://pacs/"], "expected --study with a StudyInstanceUID"),
        (["--poll-days", "1"], "expected --poll with --poll-days"),
        (["--poll-seconds", "9"], "expected --poll with --poll-seconds"),
        (["--allow", "A@no-such-host.invalid"], "the name no-such-host.invalid is not known"),
        (["--poll", "pacs"], "expected --poll as the http(s)://... address"),
        (["--allow", "@host"], "expected --allow AET or AET@ADDRESS"),
        (["--tls-key", "key.pem"], "expected --tls-certificate, --tls-key and --tls-ca together"),
        (
            ["--tls-certificate", "c.pem", "--tls-key", "k.pem", "--tls-ca", "a.pem"],
            "with --tls-certificate, there is none at c.pem",
        ),
        (["--host", "192.0.2.1", "--allow", "A"], "expected to listen on 192.0.2.1"),
    ],
)
def test_wrong_options_give_a_sentence(run, arguments, sentence):
    reply = [] if "--reply-to" in arguments or not arguments else ["--reply-to", "ORTHANC@127.0.0.1:4242"]
    code, _, err = run("node", *reply, *arguments)
    assert code == 2
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("missing", ["c.pem", "k.pem", "a.pem"])
def test_a_tls_file_that_is_missing_or_none_is_named(run, tmp_path, missing):
    files = {"--tls-certificate": "c.pem", "--tls-key": "k.pem", "--tls-ca": "a.pem"}
    for name in {*files.values()} - {missing}:
        (tmp_path / name).write_text("x")
    words = [word for pair in files.items() for word in pair]
    code, _, err = run("node", "--reply-to", "ORTHANC@127.0.0.1:4242", *words)
    assert (code, err.count("\n")) == (2, 1)
    assert f"there is none at {missing}" in err
    (tmp_path / missing).write_text("x")
    assert "a.pem, they cannot be used" in run("node", "--reply-to", "ORTHANC@127.0.0.1:4242", *words)[2]


def test_the_help_says_what_states_are_and_how_to_answer_again(run):
    text = " ".join(run("node", "queue", "list", "--help")[1].split())
    assert "delivered: the destination has them" in text
    assert "answered again when it is sent again" in " ".join(run("node", "queue", "purge", "--help")[1].split())


def test_a_host_name_on_the_list_stands_for_its_addresses():
    peers = _parse_peers("MODALITY@localhost")
    assert {peer.aet for peer in peers} == {"MODALITY"}
    assert "127.0.0.1" in {peer.host for peer in peers}
    assert [peer.host for peer in _parse_peers("A@0:0:0::1")] == ["::1"]
    assert [peer.host for peer in _parse_peers("A")] == [None]


def test_a_page_that_cannot_be_served_is_said_before_the_node_listens(run, monkeypatch):
    reply = ["--reply-to", "ORTHANC@127.0.0.1:4242", "--port", "0"]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        code, _, err = run("node", *reply, "--status-port", taken.getsockname()[1])
    assert code == 2
    assert "expected to listen on 127.0.0.1" in err
    assert err.count("\n") == 1
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "pneumoscope.pacs.status", raising=False)
    code, _, err = run("node", *reply, "--status-port", "0")
    assert code == 2
    assert "--status-port needs the package 'uvicorn'" in err
    assert err.count("\n") == 1


@pytest.fixture
def queue(tmp_path):
    queue = Queue(tmp_path / "pneumoscope-node", "model")
    for number in range(3):
        queue.accept(b"x" * 500_000, f"1.2.{number}", "MODALITY")
    queue.mark_failed(queue.take(RECEIVED)[0], "no good", final=True)
    yield queue
    queue.close()


def test_a_queue_is_listed_counted_and_mended_while_a_node_works_on_it(run, queue):
    code, out, _ = run("node", "queue", "list")
    assert (code, out.splitlines()[0]) == (0, "3 images")
    assert "no good" in out
    assert "1 images" in run("node", "queue", "list", "--state", "dead")[1]
    assert run("node", "queue", "stats")[1].split() == [
        "received", "2", "judged", "0", "delivered", "0", "dead", "1", "waiting", "1.5", "MB",
    ]  # fmt: skip
    assert run("node", "queue", "retry", "2")[::2] == (1, "1 of the ids are no dead images with a file\n")
    assert run("node", "queue", "retry")[:2] == (0, "1 images wait again\n")
    assert queue.counts()[RECEIVED] == 3
    assert run("node", "queue", "purge", "dead")[:2] == (0, "0 images forgotten\n")


def test_the_queue_may_be_named_before_or_after_the_subcommand(run, queue, tmp_path):
    other = Queue(tmp_path / "other", "model")
    other.close()
    for words in (["--queue", "other", "queue", "stats"], ["queue", "stats", "--queue", "other"],
                  ["--queue", "nowhere", "queue", "stats", "--queue", "other"]):  # fmt: skip
        code, out, _ = run("node", *words)
        assert (code, out.split()[:2]) == (0, ["received", "0"])
    assert run("node", "--queue", "other", "queue", "purge", "dead")[1] == "0 images forgotten\n"
    assert queue.counts()["dead"] == 1
    assert run("node", "--queue", "other", "queue", "retry")[1] == "0 images wait again\n"
    assert run("node", "--queue", "other", "queue", "list")[1].splitlines()[0] == "0 images"


def test_other_options_of_the_node_are_refused_before_a_subcommand(run, queue):
    code, _, err = run("node", "--port", "104", "--queue", "other", "queue", "stats")
    assert code == 2
    assert "expected no option of node but --queue with queue, received --port: leave it out" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["list", "--state", "lost"], "expected --state received, judged, delivered, dead"),
        (["purge", "received"], "expected delivered or dead to purge"),
        (["stats", "--queue", "elsewhere"], "expected the queue of a node in elsewhere"),
    ],
)
def test_wrong_requests_to_a_queue_give_a_sentence(run, queue, arguments, sentence):
    code, _, err = run("node", "queue", *arguments)
    assert code == 2
    assert sentence in err
