"""Which files this program wrote itself, and may therefore replace."""

import os
import re
from pathlib import Path

_HEAD = 2**16  # bytes that are searched for a mark

# What each kind of file begins with.
_MARKS = {
    "csv": rb"path,[^\n]*\bmodel_sha256\b",
    "jsonl": rb'\{"path": [^\n]*"model_sha256"',
    "html": rb"(?is)<!doctype html>.*<title>pneumoscope:",
    "png": rb"(?s).{37}tEXtpneumoscope",
    "jpg": rb"(?s)\xff\xd8\xff\xfe..pneumoscope",
    "dcm": rb"(?s).{128}DICM.{,400}PNEUMOSCOPE_",
    "manifest": rb"path,label,sublabel,patient,group,split",
    "split": rb'\s*\{\s*"fingerprint"',
    "report": rb'\s*\{\s*"schema"',
}


def may_replace(path: Path, kind: str) -> bool:
    """Whether a path can be written to without losing a file that somebody else made.

    Args:
        path: of the file to write.
        kind: ``csv``, ``jsonl``, ``html``, ``png``, ``jpg`` or ``dcm`` (results), ``manifest``, ``split``, ``report``.

    Returns:
        True if nothing is there, or something that is no regular file (such as ``/dev/stdout``), or an empty file, or a
        file that this program wrote.
    """
    if not os.path.isfile(path):
        return True
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:  # the write itself will say why
        return True
    return not head or re.match(_MARKS[kind], head) is not None
