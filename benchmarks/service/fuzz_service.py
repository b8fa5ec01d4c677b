"""Send thousands of hostile files to a running service: what it answers, how fast, and what is left in its memory.

    python benchmarks/service/fuzz_service.py [--files 2000] [--seed 0]

Starts ``pneumoscope serve`` on a free port and sends the files of tests/mutations.py, made of bundled radiographs, each
as the body of a request of its own from four clients. Between them a sound radiograph is sent, whose answer must not
change. Prints the answers by mutation and writes ``benchmarks/results/fuzz_service.json``; exits with 1 after an
answer of 500 or above, a connection that ended without one, or another answer for the sound radiograph.
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

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from builders.mutations import mutated_files

RESULT = Path(__file__).parent / "results" / "fuzz_service.json"
CLIENTS, PAUSE = 4, 100  # files between two sound radiographs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    paths = sample_paths()
    hostile = list(mutated_files(paths[::4], arguments.files, arguments.seed))
    with service() as (process, port), httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
        sound = [client.post("/v1/predictions", content=paths[0].read_bytes()).json()]
        memory = [resident(process.pid)]
        answers = []
        for start in range(0, len(hostile), PAUSE):
            answers += _send(client, hostile[start : start + PAUSE])
            sound.append(client.post("/v1/predictions", content=paths[0].read_bytes()).json())
            memory.append(resident(process.pid))
        found = {
            "files": len(hostile),
            "seed": arguments.seed,
            "answers": dict(sorted(collections.Counter(status for _, status, _ in answers).items())),
            "errors_of_the_server": sum(status == "none" or status >= "500" for _, status, _ in answers),
            "sound_radiograph_unchanged": all(answer == sound[0] for answer in sound),
            "slowest_seconds": round(max(seconds for _, _, seconds in answers), 2),
            "memory_mb": {
                when: round(memory[int(share * (len(memory) - 1))], 1)
                for when, share in (("before", 0), ("at a quarter", 0.25), ("at the half", 0.5), ("after", 1))
            },
            "by_mutation": _by_mutation(answers),
        }
    for name, value in found.items():
        print(f"{name}: {json.dumps(value, indent=1) if isinstance(value, dict) else value}")
    RESULT.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    sys.exit(0 if not found["errors_of_the_server"] and found["sound_radiograph_unchanged"] else 1)


def _send(client: httpx.Client, files: list[tuple[str, bytes]]) -> list[tuple[str, str, float]]:
    """Mutation, status ("none" without an answer) and seconds of each."""

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
    found: dict[str, collections.Counter] = collections.defaultdict(collections.Counter)
    for name, status, _ in answers:
        found[name][status] += 1
    return {name: dict(sorted(counts.items())) for name, counts in found.items()}


if __name__ == "__main__":
    main()
