"""Which files each group of pictures is made from, and whether these have changed since.

``docs/images/sources.json`` holds the SHA-256 of every picture and of every source. ``tests/project/test_docs.py``
compares it with the files, so that a picture of an old model or of an old page is noticed.
"""

import hashlib
import json
from pathlib import Path

ROOT = Path(__file__).parents[1]
RECORD = ROOT / "docs" / "images" / "sources.json"
MODELS = "src/pneumoscope/zoo/*.onnx"
SAMPLES = "src/pneumoscope/samples/*/*.jpeg"
#: Patterns of the sources of each group, and of what is made from them.
SOURCES: dict[str, tuple[str, ...]] = {
    "overlay": ("src/pneumoscope/zoo/mobilenet.onnx", "src/pneumoscope/samples/PNEUMONIA/person541_bacteria_2275.jpeg"),
    "page": ("src/pneumoscope/service/page/*", MODELS, SAMPLES),
}
PICTURES: dict[str, tuple[str, ...]] = {
    "overlay": ("docs/images/overlay.jpg",),
    "page": ("docs/images/page*.jpg",),
}


def record(group: str) -> None:
    """Note that the pictures of a group were made from the sources as they are now."""
    known = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    known[group] = state(group)
    RECORD.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def state(group: str) -> dict[str, dict[str, str]]:
    """SHA-256 of the sources and of the pictures of a group, by path."""
    return {"pictures": _hashes(PICTURES[group]), "sources": _hashes(SOURCES[group])}


def changes(group: str) -> list[str]:
    """Files that were added, changed or removed since the pictures were made."""
    known = json.loads(RECORD.read_text(encoding="utf-8")).get(group, {"pictures": {}, "sources": {}})
    now = state(group)
    return sorted(
        path
        for kind in ("pictures", "sources")
        for path in known[kind].keys() | now[kind].keys()
        if known[kind].get(path) != now[kind].get(path)
    )


def _hashes(patterns: tuple[str, ...]) -> dict[str, str]:
    paths = sorted({path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()})
    return {path.relative_to(ROOT).as_posix(): hashlib.sha256(_content(path)).hexdigest() for path in paths}


def _content(path: Path) -> bytes:
    """The bytes of a file; a text file without the line ends that Git adds on Windows."""
    data = path.read_bytes()
    return data if b"\0" in data else data.replace(b"\r\n", b"\n")
