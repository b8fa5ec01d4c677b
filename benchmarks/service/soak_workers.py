"""Keep several workers of the service busy for minutes: do their metrics add up, and does their memory stay the same?

    python benchmarks/service/soak_workers.py [--server gunicorn] [--workers 4] [--minutes 10]

The workers are processes of gunicorn (install it beside pneumoscope: ``pip install gunicorn uvicorn-worker``) or of
uvicorn. They share the folder ``PROMETHEUS_MULTIPROC_DIR``. As many clients as workers send bundled radiographs, each
request over a connection of its own, so that any worker may take it. At the end ``/metrics`` must show exactly the
images that were answered, whichever worker is asked. The memory of all workers is printed for each tenth of the time.
The exit code is 1 if a request failed or the metrics do not add up.
"""

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import psutil

from pneumoscope import sample_paths

APPLICATION = """
from pneumoscope import load
from pneumoscope.service.app import create_app

def make():
    return create_app({"mobilenet": load(threads=1)})
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", choices=("gunicorn", "uvicorn"), default="uvicorn")
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--minutes", type=float, default=10)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, socket.create_server(("127.0.0.1", 0)) as free:
        folder, port = Path(name), free.getsockname()[1]
        (folder / "service.py").write_text(APPLICATION, encoding="utf-8")
        (folder / "metrics").mkdir()
        free.close()
        environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(folder / "metrics")}
        command = [sys.executable, "-m", *_server(arguments.server, arguments.workers, port)]
        with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.DEVNULL) as process:
            try:
                right = _soak(process, f"http://127.0.0.1:{port}", arguments.workers, 60 * arguments.minutes)
            finally:
                process.send_signal(signal.SIGTERM)
    sys.exit(0 if right else 1)


def _server(name: str, workers: int, port: int) -> list[str]:
    if name == "uvicorn":
        options = ["--factory", "--log-level", "error", "--workers", str(workers), "--port", str(port)]
        return ["uvicorn", "service:make", *options]
    options = ["--worker-class", "uvicorn_worker.UvicornWorker", "--log-level", "error", "--workers", str(workers)]
    return ["gunicorn", "service:make()", *options, "--bind", f"127.0.0.1:{port}"]


def _soak(process: subprocess.Popen, address: str, workers: int, seconds: float) -> bool:
    """Load the workers, print their memory, compare the metrics; returns whether all is right."""
    _wait_for(address, process, workers)
    ends, answered, failed = time.monotonic() + seconds, [0] * workers, []
    contents = [path.read_bytes() for path in sample_paths()]

    def send(number: int) -> None:
        while time.monotonic() < ends:
            data = contents[answered[number] % len(contents)]
            try:
                answer = httpx.post(f"{address}/v1/predictions", content=data, timeout=60)
                if answer.status_code != 200:
                    failed.append(str(answer.status_code))
                    continue
            except httpx.HTTPError as error:
                failed.append(type(error).__name__)
                continue
            answered[number] += 1

    threads = [threading.Thread(target=send, args=(number,)) for number in range(workers)]
    for thread in threads:
        thread.start()
    for tenth in range(11):
        time.sleep(max(0.0, ends - seconds + tenth * seconds / 10 - time.monotonic()))
        children = psutil.Process(process.pid).children(recursive=True)
        memory = [round(child.memory_info().rss / 2**20) for child in children if _is_worker(child)]
        print(f"{10 * tenth:3d} %: {sum(answered)} images, memory of the workers {sorted(memory)} MB", flush=True)
    for thread in threads:
        thread.join()
    shown = {_images(httpx.get(f"{address}/metrics").text) for _ in range(4 * workers)}
    print(f"{sum(answered)} images answered, {len(failed)} requests failed {failed[:3]}; /metrics: {sorted(shown)}")
    return not failed and shown == {float(sum(answered))}


def _wait_for(address: str, process: subprocess.Popen, workers: int) -> None:
    while sum(map(_is_worker, psutil.Process(process.pid).children(recursive=True))) < workers:
        time.sleep(0.2)
    while True:
        try:
            httpx.get(f"{address}/readyz")
            return
        except httpx.ConnectError:
            time.sleep(0.2)


def _is_worker(process: psutil.Process) -> bool:
    """Whether a child serves; Python's own helper of spawned processes does not."""
    return "resource_tracker" not in " ".join(process.cmdline())


def _images(metrics: str) -> float:
    return sum(float(value) for value in re.findall(r"^pneumoscope_images_total\{.*\} (\S+)$", metrics, re.MULTILINE))


if __name__ == "__main__":
    main()
