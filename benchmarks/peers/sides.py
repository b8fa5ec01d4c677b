"""Processes that are compared: each measures when it is asked, and waits while another one works."""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path


class Side:
    """A process that measures when it is asked, and waits otherwise."""

    def __init__(self, name: str, command: list[str]) -> None:
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}  # processors are compared, not accelerators
        self.name = name
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.about = self._read()

    def ask(self, work: str) -> float:
        """Let the process do one repeat of a work, and return its figure."""
        self.process.stdin.write(work + "\n")
        self.process.stdin.flush()
        return self._read()

    def end(self) -> None:
        self.process.communicate()

    def _read(self) -> object:
        line = self.process.stdout.readline()
        if not line:
            sys.exit(f"the side {self.name!r} ended with code {self.process.wait()}")
        return json.loads(line)


def pin(cores: int) -> None:
    """Keep this process, and every process that it starts, on the first cores."""
    if hasattr(os, "sched_setaffinity"):  # Linux
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:cores])


def cpu() -> str:
    """Name of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.processor())
