"""A predictor in other processes: pickled, started by spawn, forked."""

import copy
import json
import multiprocessing
import os
import pickle
import shutil
import subprocess
import sys

import joblib
import pytest

from pneumoscope import load
from pneumoscope.errors import BundleError
from pneumoscope.inference.bundle import ZOO

FORK = """
import os, sys, signal
from pneumoscope import load, sample_paths
threads, child = int(sys.argv[1]), sys.argv[2]
sample = sample_paths()[0]
predictor = load(threads=threads)
expected = predictor.predict(sample)
pid = os.fork()
if pid == 0:
    signal.alarm(60)  # a process that waits for ever ends with this signal
    other = load(threads=threads) if child == "load" else predictor
    if child != "nothing":
        assert other.predict(sample) == expected
        assert list(other.predict_many([sample] * 3)) == [expected] * 3
    if child == "delete":
        del predictor, other
    sys.exit(0)  # destroys the sessions, which os._exit would not
print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), predictor.predict(sample) == expected)
"""


def judge(predictor, path):
    return predictor.predict(path)


def test_a_pickled_predictor_keeps_its_settings_and_digits(samples):
    predictor = load(threshold="screening", prevalence=0.1)
    again = pickle.loads(pickle.dumps(predictor))
    assert again.predict(samples[0]) == predictor.predict(samples[0])
    assert (again.threshold, again.prevalence, again.uncertain) == (
        predictor.threshold, predictor.prevalence, predictor.uncertain
    )  # fmt: skip
    assert again.at(threshold="default").threshold == predictor.at(threshold="default").threshold
    assert copy.deepcopy(predictor).predict(samples[0]) == predictor.predict(samples[0])
    assert len(pickle.dumps(predictor)) < 2000, "the file is named, not copied"


def test_the_threads_of_a_pickled_predictor_stay():
    assert pickle.loads(pickle.dumps(load(threads=1))).bundle.threads == 1
    assert pickle.loads(pickle.dumps(load())).bundle.threads == 0


def test_a_model_that_is_unpickled_many_times_is_opened_once():
    data = pickle.dumps(load())
    assert pickle.loads(data).bundle is pickle.loads(data).bundle


def test_a_model_file_that_changed_or_is_gone_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(ZOO / "reference-lstm.onnx", "own.onnx")
    data = pickle.dumps(load("own.onnx"))
    monkeypatch.chdir("/")
    assert pickle.loads(data).bundle.path == tmp_path / "own.onnx"
    shutil.copy(ZOO / "lstm.onnx", tmp_path / "other.onnx")
    moved = pickle.dumps(load(tmp_path / "other.onnx"))
    shutil.copy(ZOO / "mobilenet.onnx", tmp_path / "other.onnx")
    with pytest.raises(BundleError, match=r"other\.onnx as another process opened it, it has changed since"):
        pickle.loads(moved)
    (tmp_path / "other.onnx").unlink()
    with pytest.raises(BundleError, match=r"other.onnx, which another process has open: No such file .*; give every"):
        pickle.loads(moved)


def test_a_spawned_process_judges_with_the_same_digits(samples):
    predictor = load(threads=1)
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        got = pool.starmap(judge, [(predictor, path) for path in samples[:3]])
    assert got == [predictor.predict(path) for path in samples[:3]]


def test_a_worker_of_joblib_judges_with_the_same_digits(samples):
    predictor = load(threads=1)
    got = joblib.Parallel(2)(joblib.delayed(predictor.predict)(path) for path in samples[:4])
    assert got == [predictor.predict(path) for path in samples[:4]]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("threads", [0, 1, 3])
@pytest.mark.parametrize("child", ["nothing", "load", "use", "delete"])
def test_a_forked_process_works_and_ends(threads, child):
    done = subprocess.run(
        [sys.executable, "-c", FORK, str(threads), child], capture_output=True, text=True, timeout=120
    )
    assert done.stdout == "0 True\n", done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_process_says_that_its_model_file_is_gone(tmp_path):
    code = """
import json, os, sys
from pneumoscope import load, sample_paths
from pneumoscope.errors import PneumoscopeError
predictor = load("own.onnx")
os.unlink("own.onnx")
pid = os.fork()
if pid == 0:
    try:
        predictor.predict(sample_paths()[0])
    except PneumoscopeError as error:
        print(json.dumps(str(error)), flush=True)
    sys.exit(0)
os.waitpid(pid, 0)
"""
    shutil.copy(ZOO / "reference-lstm.onnx", tmp_path / "own.onnx")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, cwd=tmp_path)
    assert "which another process has open: No such file" in json.loads(done.stdout)
