"""The documents are true: generated pages are current, Python runs, commands exist, links lead somewhere."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
import typer.main

from pneumoscope.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").glob("*.md")])
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def _blocks(language):
    return [
        pytest.param(body, id=f"{page.name}-{number}")
        for page in PAGES
        for number, (kind, body) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")))
        if kind == language
    ]


def _generator():
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_pages_are_current():
    for path, text in _generator().pages().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is out of date: run  make docs"


@pytest.mark.parametrize("code", _blocks("python"))
def test_python_in_the_documents_runs(code, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "document", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out


@pytest.mark.parametrize("code", _blocks("toml"))
def test_recipes_in_the_documents_are_recipes(code, tmp_path):
    from pneumoscope.recipe import read_recipe

    path = tmp_path / "recipe.toml"
    path.write_text(code)
    assert read_recipe(path).name


SERVE = "src/pneumoscope/serve.py"  # where the paths of the service are


@pytest.mark.parametrize("code", _blocks("sh"))
def test_commands_in_the_documents_exist(code):
    """Each ``pneumoscope`` line is parsed by the program itself, up to running it."""
    found = 0
    for line in code.splitlines():
        for part in line.split("|"):
            words = shlex.split(part, comments=True)
            if words[:1] == ["pneumoscope"]:
                found += 1
                _parse(typer.main.get_command(app), words[1:])
            elif words[:1] == ["curl"]:
                found += 1
                address = next(word for word in words if ":8000/" in word)
                assert f'"/{address.split(":8000/")[1].split("?")[0]}"' in (ROOT / SERVE).read_text()
            elif words[:1] == ["make"]:
                found += 1
                assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found or "pip install" in code


def _parse(command, words):
    words = words[: words.index(">")] if ">" in words else words
    context = command.make_context("pneumoscope", list(words))
    while hasattr(command, "commands"):
        name = (context._protected_args + context.args)[0] if hasattr(context, "_protected_args") else context.args[0]
        words = words[words.index(name) + 1 :]
        command = command.commands[name]
        context = command.make_context(name, list(words), parent=context)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize(
    "module", ["labels", "images", "preprocess", "datasets", "splits", "recipe", "runs", "predict", "bundle", "explain",
               "samples", "metrics", "bootstrap", "export", "fetch", "sources", "remote", "results", "cli.output"]
)  # fmt: skip
def test_examples_in_docstrings_run(module):
    import doctest

    imported = importlib.import_module(f"pneumoscope.{module}")
    assert doctest.testmod(imported, optionflags=doctest.ELLIPSIS).failed == 0
