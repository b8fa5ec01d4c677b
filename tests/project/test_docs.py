"""The documents are true: generated pages are current, Python runs, commands exist, links lead somewhere."""

import importlib.util
import re
import shlex

import pytest
import typer.main
from builders import ROOT
from builders.command_lines import parse_command

from pneumoscope.cli import app

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
    from pneumoscope.training.recipe import read_recipe

    path = tmp_path / "recipe.toml"
    path.write_text(code)
    assert read_recipe(path).name


SERVE = "src/pneumoscope/service/app.py"  # where the paths of the service are


@pytest.mark.parametrize("code", _blocks("sh"))
def test_commands_in_the_documents_exist(code):
    """Each ``pneumoscope`` line is parsed by the program itself, up to running it."""
    found = 0
    for line in code.splitlines():
        for part in line.split("|"):
            words = shlex.split(part, comments=True)
            if words[:1] == ["pneumoscope"]:
                found += 1
                parse_command(typer.main.get_command(app), words[1:])
            elif words[:1] == ["curl"]:
                found += 1
                address = next(word for word in words if ":8000/" in word)
                assert f'"/{address.split(":8000/")[1].split("?")[0]}"' in (ROOT / SERVE).read_text()
            elif words[:1] == ["make"]:
                found += 1
                assert re.search(rf"^{words[1]}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert found or "pip install" in code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


PACKAGE = ROOT / "src" / "pneumoscope"
WITH_EXAMPLES = sorted(path for path in PACKAGE.rglob("*.py") if ">>> " in path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_examples_in_docstrings_run(path):
    import doctest

    name = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.ELLIPSIS)
    assert result.failed == 0
    assert result.attempted
