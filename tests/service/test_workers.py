"""Several processes behind one address: whichever answers, the metrics are the sum."""

import os
import re
import signal
import subprocess
import sys
import time

import httpx
from builders.serving import files_of

APPLICATION = """
from pneumoscope import load
from pneumoscope.service.app import create_app

def make():
    return create_app({"mobilenet": load()})
"""
WORKERS, REQUESTS = 2, 12


def metric(text: str, name: str) -> float:
    """The sum over all labels."""
    return sum(float(value) for value in re.findall(rf"^{name}(?:\{{.*\}})? (\S+)$", text, re.MULTILINE))


def test_the_metrics_of_several_workers_are_their_sum(samples, tmp_path):
    (tmp_path / "service.py").write_text(APPLICATION)
    (tmp_path / "metrics").mkdir()
    command = [sys.executable, "-m", "uvicorn", "--factory", "service:make", "--workers", str(WORKERS), "--port", "0"]
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path / "metrics")}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            lines = iter(process.stderr.readline, "")
            address = next(found.group() for line in lines if (found := re.search(r"http://\S+:\d+", line)))
            ends = time.monotonic() + 60
            seen = set()
            while len(seen) < WORKERS and time.monotonic() < ends:  # until every worker has started
                line = process.stderr.readline()
                seen |= set(re.findall(r"Started server process \[(\d+)\]", line))
            for _ in range(REQUESTS):  # a connection each, which either worker may accept
                answer = httpx.post(f"{address}/v1/predictions", files=files_of(samples[9]), timeout=60)
                assert answer.status_code == 200
            for _ in range(4):
                text = httpx.get(f"{address}/metrics").text
                assert metric(text, "pneumoscope_images_total") == REQUESTS
                assert metric(text, "pneumoscope_images_inside") == 0
            files = {path.name for path in (tmp_path / "metrics").iterdir()}
            assert len({re.search(r"_(\d+)\.db", name).group(1) for name in files}) == WORKERS
        finally:
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
