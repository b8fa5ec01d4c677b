r"""File names as text that every program can read, and back.

A file name may have bytes that are not UTF-8, and characters that end a line or control a terminal. In results,
``\xNN`` stands for such a byte (two hexadecimal digits, in small letters). A backslash that would read like this is
itself written as ``\x5c``. :func:`decode_name` undoes all of it.
"""

import re
import sys

_ESCAPE = re.compile(rb"\\x([0-9a-f]{2})")
_LOOKS_ESCAPED = re.compile(r"\\(?=x[0-9a-f]{2})")
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029]")
# A spreadsheet takes a cell that begins like this for a formula; some split lines at a semicolon. The last four
# are the wide forms, which count as well where Chinese or Japanese is set.
_FORMULA = re.compile("(?:^|(?<=;))[=+\\-@\uff1d\uff0b\uff0d\uff20]")
_SURROGATE = re.compile("[\ud800-\udfff]")


def encode_name(name: str) -> str:
    r"""A file name without bytes that are not UTF-8.

    >>> encode_name("scan-\udcff.png")
    'scan-\\xff.png'
    """
    name = _LOOKS_ESCAPED.sub(r"\\x5c", name)
    return _SURROGATE.sub(_escape, name)


def encode_cell(text: str) -> str:
    r"""The same for a cell of a table: also one line, no control characters, and no formula for a spreadsheet.

    >>> encode_cell("=cmd")
    '\\x3dcmd'
    """
    return _FORMULA.sub(_escape, _CONTROL.sub(_escape, encode_name(text)))


def decode_name(text: str) -> str:
    r"""The file name that :func:`encode_name` or :func:`encode_cell` wrote.

    >>> decode_name("\\x3dcmd")
    '=cmd'
    """
    if "\\x" not in text:
        return text
    raw = _ESCAPE.sub(lambda escape: bytes.fromhex(escape[1].decode()), _to_bytes(text))
    return raw.decode("utf-8", _ERRORS)


def printable(text: str) -> str:
    """A text without characters that control a terminal or break a line."""
    return "".join(character if character.isprintable() or character == " " else "\ufffd" for character in text)


# How this system writes names that are no valid text: single bytes on POSIX, halves of UTF-16 pairs on Windows.
_ERRORS = sys.getfilesystemencodeerrors()


def _to_bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", _ERRORS)
    except UnicodeEncodeError:  # of the other system
        return text.encode("utf-8", "surrogatepass")


def _escape(match: re.Match[str]) -> str:
    return "".join(f"\\x{byte:02x}" for byte in _to_bytes(match[0]))
