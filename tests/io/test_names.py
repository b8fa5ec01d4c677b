"""File names in tables: valid text, and back."""

import os
import random

import pytest

from pneumoscope.io.names import decode_name, encode_cell, encode_name, printable

FORMULAS = ["=cmd", "+1", "-1", "@SUM(A1)", "\tcmd", "\rcmd", "a;=cmd", "\uff1dcmd", "\uff0b1", "\uff0d1", "\uff20a"]


def random_name(source: random.Random) -> str:
    """From bytes that a file name may have, those with a meaning here more often than others."""
    pieces = [
        b"\\",
        b"x",
        b"5c",
        b"ff",
        b"=",
        b"-",
        b";",
        b"\n",
        b"\r",
        b"\t",
        b"\x1b[31m",
        b"\xff",
        b"\xc3",
        b"\xc3\xa9",
        b"a",
        b'"',
        b",",
    ]
    return os.fsdecode(b"".join(source.choices(pieces, k=source.randrange(9))))


@pytest.mark.parametrize("encode", [encode_name, encode_cell])
def test_every_name_comes_back(encode):
    source = random.Random(0)
    names = {random_name(source) for _ in range(20_000)}
    encoded = {encode(name) for name in names}
    assert {decode_name(text) for text in encoded} == names
    assert len(encoded) == len(names)
    assert all(text.encode() for text in encoded if text)  # valid UTF-8


@pytest.mark.parametrize("name", FORMULAS)
def test_no_cell_is_a_formula(name):
    cell = encode_cell(name)
    assert cell[0] == "\\" or cell.startswith("a;\\")
    assert decode_name(cell) == name


def test_a_cell_is_one_line_without_control_characters():
    cell = encode_cell("".join(map(chr, range(0x300))) + "\u2028\u2029")
    assert len(cell.splitlines()) == 1
    assert cell.isprintable() or {c for c in cell if not c.isprintable()} <= {"\xa0", "\xad"}


def test_ordinary_names_stay_as_they_are():
    for name in ("a b.png", "r\u00f6ntgen/\u80ba.dcm", "C:\\scans\\x1.png", "s3://bucket/a=1/b.png"):
        assert encode_cell(name) == encode_name(name) == name
    assert encode_name("=cmd\n") == "=cmd\n"  # JSON and Parquet have no formulas


def test_half_a_pair_of_utf_16_is_written_too():
    assert encode_name("a\ud800").encode()


def test_a_terminal_gets_no_control_characters():
    assert printable("a\x1b[31m\nb\udcff \u80ba") == "a\ufffd[31m\ufffdb\ufffd \u80ba"
