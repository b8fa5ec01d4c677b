"""Load the service at a share of its capacity for a while: latencies, errors, memory; beside the same model in Gradio.

    python benchmarks/service/load_service.py [--minutes 10] [--share 0.8] [--gradio-python PYTHON] [IMAGES...]

Starts ``pneumoscope serve`` on a free port. Unloaded latency is that of one client that waits for each answer;
capacity is what eight such clients get together for ten seconds, the least of nine such windows: a queue fills in the
machine's slow moments. Then requests of one image each arrive at random (a Poisson process) at the given share of the
capacity, whether or not earlier ones are answered; the latencies are told by the minute too, beside the share of the
processors' time that other guests of the same host took (``steal`` of /proc/stat). Then for a fifth of the time evenly
spaced at the same rate, which shows what of the latency is waiting behind others that came together; and for twenty
seconds at twice the capacity, where refusals must come at once. With ``--gradio-python`` the same is done for
peers/gradio_service.py, over Gradio's own HTTP interface, at the same share of its own capacity for a fifth of the
time. Gradio is no dependency of this project and has an environment of its own, which the sources here are read into::

    python -m venv /tmp/gradio && /tmp/gradio/bin/pip install gradio && /tmp/gradio/bin/pip install .

Prints the figures and writes ``benchmarks/results/load_service.json``. Clients run in this process, on the same cores.
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

RESULT = Path(__file__).parent / "results" / "load_service.json"
GRADIO = Path(__file__).parent / "peers" / "gradio_service.py"
CLIENTS, WARM_UP = 8, 5.0
WINDOWS, WINDOW = 9, 10.0
KEPT = 4.0  # seconds; the service closes an idle connection after five, and a request may cross that on its way


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
    found = {
        "machine": machine,
        "cores": cores,
        "load_before": round(os.getloadavg()[0], 2),
        "images": len(paths),
        "mean_bytes": round(statistics.mean(map(len, images))),
    }
    with service() as (process, port):
        load = measure(lambda: Client(port), images, arguments.share, arguments.minutes, process.pid)
        found["pneumoscope"] = asyncio.run(load)
    if arguments.gradio_python:
        with gradio_service(arguments.gradio_python) as (process, port):
            load = measure(lambda: GradioClient(port), images, arguments.share, arguments.minutes / 5, process.pid)
            found["gradio"] = asyncio.run(load)
    print(json.dumps(found, indent=1))
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


@contextlib.contextmanager
def service():
    """The real command on a free port: its process and the port."""
    command = [sys.executable, "-m", "pneumoscope", "serve", "--model", "mobilenet", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process, int(re.search(r":(\d+)", process.stderr.readline()).group(1))
        finally:
            process.terminate()


@contextlib.contextmanager
def gradio_service(python: str):
    """The peer on a free port: its process and the port."""
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
    """Status, 0 without an answer; seconds it took; seconds from the beginning of the load to the question."""

    status: int
    seconds: float
    asked: float = 0.0


class Client:
    """One kept connection, on which images are sent as bodies."""

    def __init__(self, port: int) -> None:
        self.port, self.streams, self.kept_until = port, None, 0.0

    async def ask(self, image: bytes) -> int:
        """Status of the answer for one image."""
        return (await self.send("POST /v1/predictions", image, "image/jpeg"))[0]

    async def send(self, target: str, body: bytes, kind: str) -> tuple[int, bytes]:
        """Status and body of one answer."""
        if self.streams and (self.streams[0].at_eof() or time.monotonic() > self.kept_until):
            self.close()  # kept for long, and closed by the other side, or about to be
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
        """Hang up."""
        if self.streams:
            self.streams[1].close()
            self.streams = None


class GradioClient(Client):
    """The three requests that Gradio wants for an image: upload, call, result."""

    async def ask(self, image: bytes) -> int:
        """Status of the answer for one image: 200, or 500 where the last of the three says so."""
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
    """A body of unknown length, in chunks."""
    body = b""
    while size := int(await reader.readline(), 16):
        body += (await reader.readexactly(size + 2))[:-2]
    await reader.readline()
    return body


async def timed(client: Client, image: bytes, asked: float = 0.0) -> Answer:
    """The answer for an image."""
    began = time.perf_counter()
    try:
        status = await client.ask(image)
    except (OSError, asyncio.IncompleteReadError, LookupError, ValueError):
        client.close()
        status = 0
    return Answer(status, time.perf_counter() - began, asked)


async def measure(client, images: list[bytes], share: float, minutes: float, pid: int) -> dict:
    """All figures of a service; ``client()`` makes a connection to it."""
    endless = itertools.cycle(images)
    await closed_loop(client, endless, 1, WARM_UP)
    alone = await closed_loop(client, endless, 1, 2 * WARM_UP)
    windows = []
    for _ in range(WINDOWS):
        began = time.perf_counter()
        answers = await closed_loop(client, endless, CLIENTS, WINDOW)
        windows.append(len(answers) / (time.perf_counter() - began))
    capacity = min(windows)
    await open_loop(client, endless, share * capacity, 4 * WARM_UP)  # what this load needs once, it keeps
    before = resident(pid)
    loaded, stolen = await asyncio.gather(
        open_loop(client, endless, share * capacity, 60 * minutes), stolen_by_minute(minutes)
    )
    after = resident(pid)
    even = await open_loop(client, endless, share * capacity, 12 * minutes, even=True)
    overloaded = await open_loop(client, endless, 2 * capacity, 4 * WARM_UP)
    median = statistics.median(answer.seconds for answer in alone)
    figures, evenly = _latencies(loaded), _latencies(even)
    return {
        "unloaded_median_ms": round(1000 * median, 1),
        "capacity_images_per_second": round(capacity, 1),
        "capacity_by_window": [round(each, 1) for each in windows],
        "share": share,
        "minutes": minutes,
        "requests": len(loaded),
        "errors": sum(answer.status != 200 for answer in loaded),
        **figures,
        "p95_over_unloaded_median": round(figures["p95_ms"] / 1000 / median, 2),
        "by_minute": [
            {"requests": len(some), **_latencies(some), "stolen": share_stolen}
            for minute, share_stolen in enumerate(stolen)
            if (some := [answer for answer in loaded if minute <= answer.asked / 60 < minute + 1])
        ],
        "evenly_spaced": {
            "requests": len(even),
            "errors": sum(answer.status != 200 for answer in even),
            **evenly,
            "p95_over_unloaded_median": round(evenly["p95_ms"] / 1000 / median, 2),
        },
        "memory_before_mb": round(before, 1),
        "memory_after_mb": round(after, 1),
        "at_twice_the_capacity": {
            {200: "judged", 503: "refused", 0: "no answer"}.get(kind, str(kind)): {
                "requests": len(some),
                **_latencies(some),
            }
            for kind in sorted({answer.status for answer in overloaded})
            if (some := [answer for answer in overloaded if answer.status == kind])
        },
        "memory_after_overload_mb": round(resident(pid), 1),
    }


async def stolen_by_minute(minutes: float) -> list[float]:
    """The share of each minute that other guests had the processors, the last one shorter."""
    found, left = [], 60 * minutes
    while left > 0:
        stolen, ticks = _ticks()
        await asyncio.sleep(min(60, left))
        left -= 60
        stolen_then, ticks_then = _ticks()
        found.append(round((stolen_then - stolen) / max(1, ticks_then - ticks), 4))
    return found


def _ticks() -> tuple[int, int]:
    """Stolen and all ticks since the machine began (proc_stat(5))."""
    ticks = [int(each) for each in Path("/proc/stat").read_text().splitlines()[0].split()[1:9]]
    return ticks[7], sum(ticks)


def _latencies(answers: list[Answer]) -> dict[str, float]:
    seconds = sorted(answer.seconds for answer in answers)
    points = {"median_ms": 0.5, "p95_ms": 0.95, "p99_ms": 0.99}
    return {name: round(1000 * seconds[int(share * len(seconds))], 1) for name, share in points.items()}


async def closed_loop(connect, images, clients: int, seconds: float) -> list[Answer]:
    """Clients that wait for each answer, for a while."""
    found, ends = [], time.perf_counter() + seconds

    async def one() -> None:
        client = connect()
        while time.perf_counter() < ends:
            found.append(await timed(client, next(images)))
        client.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    return found


async def open_loop(connect, images, rate: float, seconds: float, even: bool = False) -> list[Answer]:
    """Requests that arrive at a rate, at random or evenly, each on a connection that is free, or a new one."""
    found, free, tasks, arrivals = [], [], set(), random.Random(0)

    async def one(image: bytes) -> None:
        client = free.pop() if free else connect()
        found.append(await timed(client, image, time.perf_counter() - began))
        free.append(client)

    began = due = time.perf_counter()
    ends = began + seconds
    while due < ends:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(next(images)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        due += 1 / rate if even else arrivals.expovariate(rate)
    await asyncio.gather(*tasks)
    for client in free:
        client.close()
    return found


if __name__ == "__main__":
    main()
