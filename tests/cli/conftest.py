"""The command, run in the process of the tests."""

import io
import sys

import pytest

from pneumoscope import cli


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run the command in this process: ``code, out, err = run("predict", path)``."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments, stdin=""):
        monkeypatch.setattr(sys, "argv", ["pneumoscope", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        code = 0
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
        return code, *capsys.readouterr()

    return call
