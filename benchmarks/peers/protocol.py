"""How a side of ``folder_speed.py`` answers: its versions as JSON, then one timed repeat for each line it reads."""

import json
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version


def settings() -> dict:
    """Read the file that the first argument names: ``files``, ``size``, ``threads``, ``batch`` and ``folder``."""
    with open(sys.argv[1], encoding="utf-8") as file:
        return json.load(file)


def answer(works: dict[str, Callable[[], int]], packages: tuple[str, ...]) -> None:
    """Time a work whenever its name is read. Each work returns the number of its images."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print to standard output, too
    about = {name: version(name) for name in packages} | {"python": platform.python_version()}
    print(json.dumps(about), file=answers, flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        images = works[line.strip()]()
        print(json.dumps(images / (time.perf_counter() - began)), file=answers, flush=True)
