"""The queue of a node: what was accepted is on disk, is worked on once, and survives the process."""

import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pneumoscope.errors import Busy, UsageError
from pneumoscope.pacs.queue import DEAD, DELIVERED, JUDGED, RECEIVED, Queue


@pytest.fixture
def queue(tmp_path):
    queue = Queue(tmp_path / "queue", "model a")
    yield queue
    queue.close()


def _files(queue):
    return sorted(path.name for path in queue.folder.glob("*/*"))


def _in_threads(number, work):
    threads = [threading.Thread(target=work) for _ in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_an_image_goes_through_the_states_and_leaves_no_file(queue):
    assert queue.accept(b"one", "1.2", "SENDER")
    (image,) = queue.take(RECEIVED)
    assert image.path.read_bytes() == b"one"
    queue.mark_judged(image, {"SR": b"report", "SC": b"picture"})
    (image,) = queue.take(JUDGED)
    contents = {kind: path.read_bytes() for kind, path in queue.results_of(image).items()}
    assert contents == {"SR": b"report", "SC": b"picture"}
    queue.mark_delivered(image)
    assert queue.counts() == {RECEIVED: 0, JUDGED: 0, DELIVERED: 1, DEAD: 0}
    assert _files(queue) == []
    assert queue.waiting_bytes() == 0


def test_a_copy_is_accepted_once(queue):
    assert queue.accept(b"one", "1.2", "SENDER")
    assert not queue.accept(b"one", "1.2", "OTHER")
    (image,) = queue.take(RECEIVED)
    queue.mark_judged(image, {"SR": b"report"})
    queue.mark_delivered(image)
    assert not queue.accept(b"one", "1.2", "SENDER")
    assert _files(queue) == []


def test_copies_at_the_same_time_are_accepted_once(queue):
    barrier, taken = threading.Barrier(8), []

    def send():
        barrier.wait()
        taken.append(queue.accept(b"one", "1.2", "SENDER"))

    _in_threads(8, send)
    assert sorted(taken) == [False] * 7 + [True]
    assert len(_files(queue)) == 1


def test_an_image_is_taken_by_one_thread(queue):
    for number in range(40):
        queue.accept(b"x", f"1.{number}", "SENDER")
    seen = []

    def work():
        while images := queue.take(RECEIVED):
            seen.extend(image.id for image in images)

    _in_threads(4, work)
    assert sorted(seen) == sorted(set(seen))
    assert len(seen) == 40


def test_images_are_taken_in_the_order_of_arrival(queue):
    for number in range(5):
        queue.accept(b"x", f"1.{number}", "SENDER")
    assert [image.sop_instance_uid for image in queue.take(RECEIVED, 3)] == ["1.0", "1.1", "1.2"]
    assert [image.sop_instance_uid for image in queue.take(RECEIVED, 3)] == ["1.3", "1.4"]


def test_a_dead_image_keeps_its_reason_and_gets_another_chance(queue):
    queue.accept(b"one", "1.2", "SENDER")
    (image,) = queue.take(RECEIVED)
    queue.mark_failed(image, "no good", final=True)
    (dead,) = queue.images(DEAD)
    assert (dead.reason, dead.attempts) == ("no good", 1)
    assert queue.retry([99]) == 0
    assert queue.retry() == 1
    (again,) = queue.take(RECEIVED)
    assert (again.id, again.reason, again.attempts) == (image.id, "", 0)


def test_a_dead_image_that_comes_again_is_judged_again(queue):
    queue.accept(b"one", "1.2", "SENDER")
    queue.mark_failed(queue.take(RECEIVED)[0], "no good", final=True)
    assert queue.accept(b"two", "1.2", "SENDER")
    (image,) = queue.take(RECEIVED)
    assert image.path.read_bytes() == b"two"
    assert len(_files(queue)) == 1


def test_a_dead_answer_is_sent_again_without_being_judged_again(queue):
    queue.accept(b"one", "1.2", "SENDER")
    queue.mark_judged(queue.take(RECEIVED)[0], {"SR": b"report"})
    queue.mark_failed(queue.take(JUDGED)[0], "refused", final=True)
    assert queue.retry() == 1
    assert queue.counts()[JUDGED] == 1


def test_purged_images_are_forgotten(queue):
    queue.accept(b"one", "1.2", "SENDER")
    with pytest.raises(UsageError, match="others still wait"):
        queue.purge(RECEIVED)
    queue.mark_failed(queue.take(RECEIVED)[0], "no good", final=True)
    assert queue.purge(DEAD) == 1
    assert _files(queue) == []
    assert queue.accept(b"one", "1.2", "SENDER")


def test_a_full_quota_refuses_and_keeps_what_is_there(tmp_path):
    queue = Queue(tmp_path, "model a", quota=10)
    assert queue.accept(b"12345678", "1.2", "SENDER")
    with pytest.raises(Busy):
        queue.accept(b"123", "1.3", "SENDER")
    assert queue.counts()[RECEIVED] == 1
    queue.close()


def test_room_for_results_is_left_on_the_disk(tmp_path):
    """Otherwise a disk full of images could take no result, and no image would ever be deleted."""
    free = shutil.disk_usage(tmp_path).free
    queue = Queue(tmp_path, "model a", reserve=free + 10**12)
    with pytest.raises(Busy, match="room on the disk"):
        queue.accept(b"x", "1.2", "SENDER")
    assert queue.counts()[RECEIVED] == 0
    queue.close()


def test_a_second_node_on_the_same_folder_is_refused_and_a_command_may_look(queue):
    with pytest.raises(UsageError, match="another node works on it"):
        Queue(queue.folder, "model a")
    queue.accept(b"one", "1.2", "SENDER")
    looking = Queue(queue.folder, "", exclusive=False)
    assert looking.counts()[RECEIVED] == 1
    looking.close()


def test_another_model_judges_what_the_one_before_left_and_answers_copies_anew(tmp_path):
    first = Queue(tmp_path, "model a")
    first.accept(b"one", "1.1", "SENDER")
    first.accept(b"two", "1.2", "SENDER")
    image = first.take(RECEIVED)[0]
    first.mark_judged(image, {"SR": b"report"})
    first.mark_delivered(image)
    first.close()
    second = Queue(tmp_path, "model b")
    assert [image.sop_instance_uid for image in second.take(RECEIVED, 9)] == ["1.2"]
    assert not second.accept(b"two", "1.2", "SENDER")
    assert second.accept(b"one", "1.1", "SENDER")
    second.close()


def test_files_without_a_row_are_deleted_when_a_node_starts(queue):
    queue.accept(b"one", "1.2", "SENDER")
    (queue.folder / "received" / "0123.dcm").write_bytes(b"half")
    (queue.folder / "results" / "77.SR.dcm").write_bytes(b"of nobody")
    queue.close()
    again = Queue(queue.folder, "model a")
    assert len(_files(again)) == 1
    assert again.take(RECEIVED)[0].path.read_bytes() == b"one"
    again.close()


def test_an_image_that_was_taken_when_the_process_ended_is_taken_again(queue):
    queue.accept(b"one", "1.2", "SENDER")
    queue.take(RECEIVED)
    queue.close()
    again = Queue(queue.folder, "model a")
    assert len(again.take(RECEIVED)) == 1
    again.close()


def test_a_folder_that_cannot_be_used_gives_a_sentence(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError, match="expected a folder for the queue"):
        Queue(tmp_path / "file" / "queue", "model a")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_what_was_accepted_survives_a_kill_at_any_moment(tmp_path):
    """A process accepts images and prints the UID of each after it was accepted; it is killed again and again."""
    program = (
        "import sys, pathlib, itertools\n"
        "from pneumoscope.pacs.queue import Queue\n"
        "queue = Queue(pathlib.Path('queue'), 'model a')\n"
        "for number in itertools.count():\n"
        "    queue.accept(b'%d' % number, f'1.{sys.argv[1]}.{number}', 'SENDER')\n"
        "    print(f'1.{sys.argv[1]}.{number}', flush=True)\n"
    )
    told = []
    for turn in range(4):
        command = [sys.executable, "-c", program, str(turn)]
        with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, text=True) as process:
            told += [process.stdout.readline().strip() for _ in range(7)]
            os.kill(process.pid, signal.SIGKILL)
            told += [line.strip() for line in process.stdout if line.endswith("\n")]
    queue = Queue(Path(tmp_path / "queue"), "model a")
    images = {image.sop_instance_uid: image for image in queue.images()}
    assert len(told) >= 28
    assert set(told) <= set(images)
    for image in images.values():
        assert image.path.read_bytes() == image.sop_instance_uid.split(".")[2].encode()
    queue.close()


def _accept_until_it_fails(queue):
    for number in range(2000):
        queue.accept(b"x", f"1.{number}", "SENDER")


def test_an_image_that_the_database_cannot_note_leaves_no_file(queue):
    pages = queue._database.execute("PRAGMA page_count").fetchone()[0]
    queue._database.execute(f"PRAGMA max_page_count = {pages + 1}")  # as a full disk
    with pytest.raises(sqlite3.OperationalError, match="full"):
        _accept_until_it_fails(queue)
    assert len(_files(queue)) == queue.counts()[RECEIVED] > 0
