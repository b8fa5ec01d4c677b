"""Load the service with a share of its capacity: latencies, errors and memory, beside the same model in Gradio.

    python benchmarks/service/load_service.py [--minutes 10] [--share 0.8] [--gradio-python PYTHON] [IMAGES...]

The script starts ``pneumoscope serve`` on a free port and measures:

1. The unloaded latency: one client that waits for each answer.
2. The capacity: eight such clients for ten seconds. Of nine such windows the slowest counts, because a queue grows
   whenever the machine is slow.
3. The load: requests of one image each that arrive at random (a Poisson process) at the given share of the capacity,
   whether or not earlier ones are answered. Latencies are also listed by minute, with the share of processor time that
   other guests of the same host took (``steal`` in /proc/stat).
4. The same rate, evenly spaced, for a fifth of the time. The difference to 3 is the time that requests wait because
   several came together.
5. Twice the capacity for twenty seconds: refusals must come at once.

With ``--gradio-python`` steps 1 to 5 are repeated for peers/gradio_service.py, over Gradio's own HTTP interface, at the
same share of its own capacity, for a fifth of the time. Gradio is not a dependency of this project and needs an
environment of its own, with this project installed as well::

    python -m venv /tmp/gradio && /tmp/gradio/bin/pip install gradio && /tmp/gradio/bin/pip install .

The script prints the figures and writes ``benchmarks/results/load_service.json``. The clients run in this process, on
the same cores as the service.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform
import random
import re
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from pneumoscope import sample_paths

BENCHMARKS = Path(__file__).parents[1]
RESULT = BENCHMARKS / "results" / "load_service.json"
GRADIO = BENCHMARKS / "peers" / "gradio_service.py"
CLIENTS, WARM_UP = 8, 5.0
WINDOWS, WINDOW = 9, 10.0  # seconds
KEPT = 4.0  # seconds to keep an idle connection; the service closes it after five


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", type=Path, help="JPEG files; the bundled ones by default")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--share", type=float, default=0.8)
    parser.add_argument("--gradio-python", metavar="PYTHON", help="interpreter of an environment with gradio")
    arguments = parser.parse_args()
    paths = arguments.images or sample_paths()
    images = [path.read_bytes() for path in paths]
    cores = len(os.sched_getaffinity(0))
    machine = f"{platform.machine()}, {cores} cores, Python {platform.python_version()}"
    content = {
        "machine": machine,
        "cores": cores,
        "load_before": round(os.getloadavg()[0], 2),
        "images": len(paths),
        "mean_bytes": round(statistics.mean(map(len, images))),
    }
    with service() as (process, port):
        load = measure(lambda: Client(port), images, arguments.share, arguments.minutes, process.pid)
        content["pneumoscope"] = asyncio.run(load)
    if arguments.gradio_python:
        with gradio_service(arguments.gradio_python) as (process, port):
            load = measure(lambda: GradioClient(port), images, arguments.share, arguments.minutes / 5, process.pid)
            content["gradio"] = asyncio.run(load)
    print(json.dumps(content, indent=1))
    RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


@contextlib.contextmanager
def service():
    """Start the real command on a free port; yield its process and the port."""
    command = [sys.executable, "-m", "pneumoscope", "serve", "--model", "mobilenet", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, int(re.search(r":(\d+)", process.stderr.readline()).group(1))
        finally:
            process.terminate()


@contextlib.contextmanager
def gradio_service(python: str):
    """Start the peer on a free port; yield its process and the port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {**os.environ, "PORT": str(port)}
    with subprocess.Popen([python, GRADIO], env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            process.stdout.readline()
            yield process, port
        finally:
            process.terminate()


def resident(pid: int) -> float:
    """Megabytes of memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


class Answer(NamedTuple):
    """Status (0 if no answer came), seconds that it took, and seconds from the start of the load to the request."""

    status: int
    seconds: float
    asked: float = 0.0


class Client:
    """A connection that stays open. Each image is the body of a request."""

    def __init__(self, port: int) -> None:
        self.port, self.streams, self.kept_until = port, None, 0.0

    async def ask(self, image: bytes) -> int:
        """Status of the answer for one image."""
        return (await self.send("POST /v1/predictions", image, "image/jpeg"))[0]

    async def send(self, target: str, body: bytes, kind: str) -> tuple[int, bytes]:
        """Status and body of one answer."""
        if self.streams and (self.streams[0].at_eof() or time.monotonic() > self.kept_until):
            self.close()  # the server has closed it, or soon will
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        writer.write(
            f"{target} HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\nContent-Type: {kind}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
        )
        writer.write(body)
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = re.search(rb"content-length: (\d+)", head)
        answer = await (reader.readexactly(int(length.group(1))) if length else _chunks(reader))
        self.kept_until = time.monotonic() + KEPT
        if b"connection: close" in head:
            self.close()
        return int(head[9:12]), answer

    def close(self) -> None:
        """Close the connection."""
        if self.streams:
            self.streams[1].close()
            self.streams = None


class GradioClient(Client):
    """The three requests that Gradio needs for an image: upload, call, result."""

    async def ask(self, image: bytes) -> int:
        """Status of the answer for one image: 200, or 500 if the last of the three reports an error."""
        form = (
            b'--b\r\nContent-Disposition: form-data; name="files"; filename="a.jpeg"\r\n\r\n' + image + b"\r\n--b--\r\n"
        )
        _, uploaded = await self.send("POST /gradio_api/upload", form, "multipart/form-data; boundary=b")
        file = {"path": json.loads(uploaded)[0], "meta": {"_type": "gradio.FileData"}}
        call = json.dumps({"data": [file]}).encode()
        _, called = await self.send("POST /gradio_api/call/predict", call, "application/json")
        event = json.loads(called)["event_id"]
        _, result = await self.send(f"GET /gradio_api/call/predict/{event}", b"", "application/json")
        return 200 if b"event: complete" in result else 500


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    """Read a body that is sent in chunks."""
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return body


async def timed(client: Client, image: bytes, asked: float = 0.0) -> Answer:
    """Send an image and time the answer."""
    began = time.perf_counter()
    try:
        status = await client.ask(image)
    except (OSError, asyncio.IncompleteReadError, LookupError, ValueError):
        client.close()
        status = 0
    return Answer(status, time.perf_counter() - began, asked)


async def measure(client, images: list[bytes], share: float, minutes: float, pid: int) -> dict:
    """All figures of a service. ``client()`` opens a connection to it."""
    endless = itertools.cycle(images)
    await closed_loop(client, endless, 1, WARM_UP)
    alone = await closed_loop(client, endless, 1, 2 * WARM_UP)
    windows = [await throughput(client, endless) for _ in range(WINDOWS)]
    capacity = min(windows)
    rate = share * capacity
    await open_loop(client, endless, rate, 4 * WARM_UP)  # memory that is allocated once for this load is allocated here
    before = resident(pid)
    loaded, stolen = await asyncio.gather(open_loop(client, endless, rate, 60 * minutes), stolen_by_minute(minutes))
    after = resident(pid)
    even = await open_loop(client, endless, rate, 12 * minutes, even=True)
    overloaded = await open_loop(client, endless, 2 * capacity, 4 * WARM_UP)
    median = statistics.median(answer.seconds for answer in alone)
    return {
        "unloaded_median_ms": round(1000 * median, 1),
        "capacity_images_per_second": round(capacity, 1),
        "capacity_by_window": [round(each, 1) for each in windows],
        "share": share,
        "minutes": minutes,
        **_figures(loaded, median),
        "by_minute": _by_minute(loaded, stolen),
        "evenly_spaced": _figures(even, median),
        "memory_before_mb": round(before, 1),
        "memory_after_mb": round(after, 1),
        "at_twice_the_capacity": _by_status(overloaded),
        "memory_after_overload_mb": round(resident(pid), 1),
    }


async def throughput(client, images) -> float:
    """Answers a second of clients that each wait for their answer."""
    began = time.perf_counter()
    answers = await closed_loop(client, images, CLIENTS, WINDOW)
    return len(answers) / (time.perf_counter() - began)


def _figures(answers: list[Answer], unloaded_median: float) -> dict[str, float]:
    latencies = _latencies(answers)
    return {
        "requests": len(answers),
        "errors": sum(answer.status != 200 for answer in answers),
        **latencies,
        "p95_over_unloaded_median": round(latencies["p95_ms"] / 1000 / unloaded_median, 2),
    }


def _by_minute(answers: list[Answer], stolen: list[float]) -> list[dict]:
    return [
        {"requests": len(some), **_latencies(some), "stolen": share_stolen}
        for minute, share_stolen in enumerate(stolen)
        if (some := [answer for answer in answers if minute <= answer.asked / 60 < minute + 1])
    ]


def _by_status(answers: list[Answer]) -> dict[str, dict]:
    names = {200: "judged", 503: "refused", 0: "no answer"}
    return {
        names.get(status, str(status)): {"requests": len(some), **_latencies(some)}
        for status in sorted({answer.status for answer in answers})
        if (some := [answer for answer in answers if answer.status == status])
    }


async def stolen_by_minute(minutes: float) -> list[float]:
    """Share of processor time that other guests took, for each minute. The last minute may be shorter."""
    shares, left = [], 60 * minutes
    while left > 0:
        stolen, ticks = _ticks()
        await asyncio.sleep(min(60, left))
        left -= 60
        stolen_then, ticks_then = _ticks()
        shares.append(round((stolen_then - stolen) / max(1, ticks_then - ticks), 4))
    return shares


def _ticks() -> tuple[int, int]:
    """Stolen ticks and all ticks since the machine started (proc_stat(5))."""
    ticks = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return ticks[7], sum(ticks)


def _latencies(answers: list[Answer]) -> dict[str, float]:
    seconds = sorted(answer.seconds for answer in answers)
    points = {"median_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
    return {name: round(1000 * seconds[int(share * len(seconds))], 1) for name, share in points.items()}


async def closed_loop(connect, images, clients: int, seconds: float) -> list[Answer]:
    """Clients that wait for each answer, for some seconds."""
    answers, ends = [], time.perf_counter() + seconds

    async def run_client() -> None:
        client = connect()
        while time.perf_counter() < ends:
            answers.append(await timed(client, next(images)))
        client.close()

    await asyncio.gather(*(run_client() for _ in range(clients)))
    return answers


async def open_loop(connect, images, rate: float, seconds: float, even: bool = False) -> list[Answer]:
    """Requests that arrive at a rate, at random or evenly, each on a free connection or a new one."""
    answers, free, tasks, arrivals = [], [], set(), random.Random(0)

    async def send(image: bytes) -> None:
        client = free.pop() if free else connect()
        answers.append(await timed(client, image, time.perf_counter() - began))
        free.append(client)

    began = due = time.perf_counter()
    ends = began + seconds
    while due < ends:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(send(next(images)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        due += 1 / rate if even else arrivals.expovariate(rate)
    await asyncio.gather(*tasks)
    for client in free:
        client.close()
    return answers


if __name__ == "__main__":
    main()
