"""Locks: one writer where the file system has locks; elsewhere the work goes on, with a note."""

import csv
import errno
import subprocess
import sys

import pytest
from builders.refusing_kernel import run_with_refusals

from pneumoscope.io.locks import lock_file

NO_LOCKS = [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP]
TRAINING = """
from pathlib import Path
from pneumoscope.training.runs import run_lock
with run_lock(Path("run")):
    print("trains")
"""


@pytest.mark.parametrize("error", NO_LOCKS)
def test_results_are_written_where_there_are_no_locks(samples, tmp_path, error):
    command = ["-m", "pneumoscope", "predict", *map(str, samples[:2]), "--csv", "r.csv"]
    ended = run_with_refusals({"flock": error}, *command, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    (note,) = ended.stderr.splitlines()
    assert note.startswith("note: there are no locks at r.csv (")
    assert "another pneumoscope process" not in ended.stderr
    assert len(list(csv.DictReader((tmp_path / "r.csv").read_text().splitlines()))) == 2


def test_a_training_goes_on_where_there_are_no_locks(tmp_path):
    ended = run_with_refusals({"flock": errno.ENOLCK}, "-c", TRAINING, cwd=tmp_path)
    assert (ended.stdout, ended.returncode) == ("trains\n", 0), ended.stderr
    assert "note: there are no locks at run (" in ended.stderr


def test_another_refusal_is_an_error_of_the_file(samples, tmp_path):
    """No permission is not the same as no locks."""
    command = ["-m", "pneumoscope", "predict", str(samples[0]), "--csv", "r.csv"]
    ended = run_with_refusals({"flock": errno.EPERM}, *command, cwd=tmp_path)
    assert ended.returncode == 2
    assert ended.stderr == "pneumoscope: expected to write results to r.csv: Operation not permitted\n"


def test_a_refused_affinity_leaves_no_trace(samples, tmp_path):
    """Threads are counted, not bound to cores, so a container may forbid the binding."""
    command = ["-m", "pneumoscope", "predict", *map(str, samples[:3]), "--json"]
    ended = run_with_refusals({"sched_setaffinity": errno.EPERM}, *command, cwd=tmp_path)
    plain = subprocess.run([sys.executable, *command], capture_output=True, text=True, check=True)
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, plain.stderr, plain.stdout)


def test_a_held_lock_is_refused_and_one_that_ends_is_waited_for(tmp_path):
    pytest.importorskip("fcntl")
    path = tmp_path / "file"
    holder = "import sys; from pneumoscope.io.locks import lock_file; file = open(sys.argv[1], 'w'); "
    holder += "lock_file(file, sys.argv[1]); print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", holder, str(path)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    with path.open("w") as file:
        with pytest.raises(BlockingIOError):
            lock_file(file, path)
        process.kill()  # a lock ends with its process, however it ends
        lock_file(file, path, wait=True)
    process.communicate()
