"""Send thousands of hostile files to a running service: which answers, how fast, and how much memory.

    python benchmarks/service/fuzz_service.py [--files 2000] [--seed 0]

The script starts ``pneumoscope serve`` on a free port. Four clients send the files of tests/builders/mutations.py,
made from bundled radiographs, and as many DICOM files of tests/builders/hostile_dicom.py, one in each request.
Between them it sends an intact radiograph, whose answer must not change. The script prints the answers by mutation and
writes ``benchmarks/results/fuzz_service.json``. Its exit code is 1 after a status of 500 or above, a connection that
ended without an answer, or another answer for the intact radiograph.
"""

import argparse
import collections
import concurrent.futures
import json
import sys
import time
from pathlib import Path

import httpx
from load_service import resident, service

from pneumoscope import sample_paths

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "tests"))
from builders.hostile_dicom import hostile_files
from builders.mutations import mutated_files

RESULT = ROOT / "benchmarks" / "results" / "fuzz_service.json"
CLIENTS, PAUSE = 4, 100  # PAUSE: hostile files between two intact radiographs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2000, help="of each of the two builders")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    paths = sample_paths()
    hostile = [
        *mutated_files(paths[::4], arguments.files, arguments.seed),
        *hostile_files(arguments.files, arguments.seed),
    ]
    with service() as (process, port), httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        answers, intact, memory = _attack(client, hostile, paths[0].read_bytes(), process.pid)
    content = {
        "files": len(hostile),
        "seed": arguments.seed,
        "answers": dict(sorted(collections.Counter(status for _, status, _ in answers).items())),
        "errors_of_the_server": sum(status == "none" or status >= "500" for _, status, _ in answers),
        "sound_radiograph_unchanged": all(answer == intact[0] for answer in intact),
        "slowest_seconds": round(max(seconds for _, _, seconds in answers), 2),
        "memory_mb": {
            when: round(memory[int(share * (len(memory) - 1))], 1)
            for when, share in (("before", 0), ("at a quarter", 0.25), ("at the half", 0.5), ("after", 1))
        },
        "by_mutation": _by_mutation(answers),
    }
    for name, value in content.items():
        print(f"{name}: {json.dumps(value, indent=1) if isinstance(value, dict) else value}")
    RESULT.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if not content["errors_of_the_server"] and content["sound_radiograph_unchanged"] else 1)


def _attack(client: httpx.Client, hostile: list[tuple[str, bytes]], intact: bytes, pid: int) -> tuple[list, list, list]:
    """Answers to the hostile files; the answers to the intact radiograph and the memory in MB, before and between."""

    def check() -> None:
        bodies.append(client.post("/v1/predictions", content=intact).json())
        memory.append(resident(pid))

    answers, bodies, memory = [], [], []
    check()
    for start in range(0, len(hostile), PAUSE):
        answers += _send(client, hostile[start : start + PAUSE])
        check()
    return answers, bodies, memory


def _send(client: httpx.Client, files: list[tuple[str, bytes]]) -> list[tuple[str, str, float]]:
    """Mutation, status ("none" if no answer came) and seconds of each file."""

    def ask(file: tuple[str, bytes]) -> tuple[str, str, float]:
        began = time.perf_counter()
        try:
            status = str(client.post("/v1/predictions", content=file[1]).status_code)
        except httpx.HTTPError:
            status = "none"
        return file[0], status, time.perf_counter() - began

    with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(ask, files))


def _by_mutation(answers: list[tuple[str, str, float]]) -> dict[str, dict[str, int]]:
    counts: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for name, status, _ in answers:
        counts[name][status] += 1
    return {name: dict(sorted(by_status.items())) for name, by_status in counts.items()}


if __name__ == "__main__":
    main()
