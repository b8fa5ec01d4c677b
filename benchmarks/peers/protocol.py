"""How a side of ``folder_speed.py`` speaks: what it is as JSON, then one timed repeat for each line it is sent."""

import json
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version


def settings() -> dict:
    """``files``, ``size``, ``threads``, ``batch`` and ``folder``, where the network lies; the first argument's file."""
    with open(sys.argv[1], encoding="utf-8") as file:
        return json.load(file)


def answer(works: dict[str, Callable[[], int]], packages: tuple[str, ...]) -> None:
    """Time a piece of work whenever its name comes in; each returns how many images it answered for."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries print what they like
    about = {name: version(name) for name in packages} | {"python": platform.python_version()}
    print(json.dumps(about), file=answers, flush=True)
    for line in sys.stdin:
        began = time.perf_counter()
        images = works[line.strip()]()
        print(json.dumps(images / (time.perf_counter() - began)), file=answers, flush=True)
