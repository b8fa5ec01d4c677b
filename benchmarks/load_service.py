"""Load the service at a share of its capacity for a while: latencies, errors, memory.

    python benchmarks/load_service.py [--minutes 10] [--share 0.8] [IMAGES...]

Starts ``pneumoscope serve`` on a free port. Unloaded latency is that of one client that waits for each answer;
capacity is what eight such clients get together. Then requests of one image each arrive at random (a Poisson process)
at the given share of the capacity, whether or not earlier ones are answered. Prints the figures and writes
``benchmarks/results/load_service.json``. Clients run in this process, on the same cores.
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
import statistics
import subprocess
import sys
import time
from pathlib import Path

from pneumoscope import sample_paths

RESULT = Path(__file__).parent / "results" / "load_service.json"
CLIENTS, WARM_UP = 8, 5.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("images", nargs="*", type=Path, help="JPEG files; the bundled ones by default")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--share", type=float, default=0.8)
    arguments = parser.parse_args()
    paths = arguments.images or sample_paths()
    with service() as (process, port):
        found = asyncio.run(measure(port, [path.read_bytes() for path in paths], arguments, process.pid))
    found |= {"images": len(paths), "mean_bytes": round(statistics.mean(path.stat().st_size for path in paths))}
    found["machine"] = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}"
    for name, value in found.items():
        print(f"{name}: {value}")
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


def resident(pid: int) -> float:
    """Megabytes of memory of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024


class Client:
    """One kept connection."""

    def __init__(self, port: int) -> None:
        self.port, self.streams = port, None

    async def ask(self, image: bytes) -> tuple[int, float]:
        """Status and seconds of one request."""
        began = time.perf_counter()
        if self.streams is None:
            self.streams = await asyncio.open_connection("127.0.0.1", self.port)
        reader, writer = self.streams
        writer.write(
            b"POST /v1/predictions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/jpeg\r\n"
            b"Content-Length: %d\r\n\r\n" % len(image)
        )
        writer.write(image)
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(re.search(rb"content-length: (\d+)", head).group(1)))
        if b"connection: close" in head:
            writer.close()
            self.streams = None
        return int(head[9:12]), time.perf_counter() - began

    def close(self) -> None:
        """Hang up."""
        if self.streams:
            self.streams[1].close()


async def measure(port: int, images: list[bytes], arguments: argparse.Namespace, pid: int) -> dict:
    """All figures."""
    endless = itertools.cycle(images)
    await closed_loop(port, endless, 1, WARM_UP)
    alone = await closed_loop(port, endless, 1, 2 * WARM_UP)
    together = await closed_loop(port, endless, CLIENTS, 4 * WARM_UP)
    capacity = len(together) / (4 * WARM_UP)
    before = resident(pid)
    loaded = await open_loop(port, endless, arguments.share * capacity, 60 * arguments.minutes)
    median = statistics.median(seconds for _, seconds in alone)
    seconds = sorted(seconds for _, seconds in loaded)
    return {
        "unloaded_median_ms": round(1000 * median, 1),
        "capacity_images_per_second": round(capacity, 1),
        "share": arguments.share,
        "minutes": arguments.minutes,
        "requests": len(loaded),
        "errors": sum(status != 200 for status, _ in loaded),
        "median_ms": round(1000 * statistics.median(seconds), 1),
        "p95_ms": round(1000 * seconds[int(0.95 * len(seconds))], 1),
        "p99_ms": round(1000 * seconds[int(0.99 * len(seconds))], 1),
        "p95_over_unloaded_median": round(seconds[int(0.95 * len(seconds))] / median, 2),
        "memory_before_mb": round(before, 1),
        "memory_after_mb": round(resident(pid), 1),
    }


async def closed_loop(port: int, images, clients: int, seconds: float) -> list[tuple[int, float]]:
    """Clients that wait for each answer, for a while."""
    found, ends = [], time.perf_counter() + seconds

    async def one() -> None:
        client = Client(port)
        while time.perf_counter() < ends:
            found.append(await client.ask(next(images)))
        client.close()

    await asyncio.gather(*(one() for _ in range(clients)))
    return found


async def open_loop(port: int, images, rate: float, seconds: float) -> list[tuple[int, float]]:
    """Requests that arrive at random at a rate, each on a connection that is free, or a new one."""
    found, free, tasks, arrivals = [], [], set(), random.Random(0)

    async def one(image: bytes) -> None:
        client = free.pop() if free else Client(port)
        try:
            found.append(await client.ask(image))
            free.append(client)
        except (OSError, asyncio.IncompleteReadError):
            found.append((0, 0.0))

    due, ends = time.perf_counter(), time.perf_counter() + seconds
    while due < ends:
        await asyncio.sleep(max(0.0, due - time.perf_counter()))
        task = asyncio.create_task(one(next(images)))
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        due += arrivals.expovariate(rate)
    await asyncio.gather(*tasks)
    for client in free:
        client.close()
    return found


if __name__ == "__main__":
    main()
