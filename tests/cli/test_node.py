"""``node`` and ``node queue``: what they refuse, and what they show of a queue."""

import pytest

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
        (["--poll", "pacs"], "expected --poll as the http(s)://... address"),
        (["--allow", "@host"], "expected --allow AET or AET@ADDRESS"),
        (["--tls-key", "key.pem"], "expected --tls-certificate, --tls-key and --tls-ca together"),
        (["--tls-certificate", "c.pem", "--tls-key", "k.pem", "--tls-ca", "a.pem"], "expected PEM files for TLS"),
        (["--host", "192.0.2.1", "--allow", "A"], "expected to listen on 192.0.2.1"),
    ],
)
def test_wrong_options_give_a_sentence(run, arguments, sentence):
    reply = [] if "--reply-to" in arguments or not arguments else ["--reply-to", "ORTHANC@127.0.0.1:4242"]
    code, _, err = run("node", *reply, *arguments)
    assert code == 2
    assert sentence in err
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
