"""What contributors rely on: the chores, the checks before a commit, the public CI, and the files that name others."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from builders import ROOT
from click.testing import CliRunner

import pneumoscope

TOOLS = Path(sys.executable).parent
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
PAGES = [ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "experiments/README.md", "benchmarks/README.md")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def run(*command: object) -> None:
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def check_schema(name: str, path: Path) -> None:
    """Check a file against one of the schemas that check-jsonschema ships."""
    from check_jsonschema import main

    result = CliRunner().invoke(main, ["--builtin-schema", f"vendor.{name}", str(path)])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_file_is_valid(path):
    """By the published schema of such files, then by zizmor, which finds unsafe ones."""
    check_schema("github-workflows", path)
    run(TOOLS / "zizmor", "--offline", "--no-progress", "--config", ROOT / ".github" / "zizmor.yml", path)


def test_the_public_ci_runs_make_test_on_every_system_and_python():
    jobs = yaml.safe_load((ROOT / ".github" / "workflows" / "test.yml").read_text(encoding="utf-8"))["jobs"]
    prefix = "Programming Language :: Python :: "
    versions = [name.removeprefix(prefix) for name in PROJECT["classifiers"] if name.startswith(prefix)]
    for job in jobs.values():
        assert job["strategy"]["matrix"]["python"] == versions == ["3.11", "3.12", "3.13"]
        assert {"run": "make test"} in job["steps"]
    assert jobs["linux"]["runs-on"] == "ubuntu-latest"
    assert jobs["desktop"]["strategy"]["matrix"]["os"] == ["macos-latest", "windows-latest"]


def test_the_hooks_before_a_commit_are_valid():
    run(TOOLS / "pre-commit", "validate-config", ".pre-commit-config.yaml")
    repositories = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    hooks = {hook["id"] for repository in repositories for hook in repository["hooks"]}
    assert {"ruff-format", "ruff-check", "mypy", "notebook-outputs", "check-added-large-files"} <= hooks


def test_the_citation_is_that_of_this_version():
    check_schema("citation-file-format", ROOT / "CITATION.cff")
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["version"] == pneumoscope.__version__
    assert citation["license"] == PROJECT["license"]
    assert [author["name"] for author in citation["authors"]] == [author["name"] for author in PROJECT["authors"]]
    assert citation["keywords"] == PROJECT["keywords"]


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.yml")), ids=lambda path: path.stem
)
def test_issue_templates_are_valid_and_want_no_patient_data(path):
    check_schema("github-issue-config" if path.stem == "config" else "github-issue-forms", path)
    assert path.stem == "config" or "no patient data" in path.read_text(encoding="utf-8").lower()


def test_every_chore_has_a_sentence_under_a_heading():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    phony = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[1].split()
    assert re.findall(r"^([a-z-]+):.*## \S", makefile, re.MULTILINE) == phony
    assert makefile.index("##@ ") < makefile.index("demo: ")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_paths_and_links_of_a_page_exist(page):
    text = page.read_text(encoding="utf-8")
    folders = "src|tests|docs|tools|benchmarks|experiments|deploy|requirements|notebooks|.github"
    paths = re.findall(rf"(?<![\w/.])((?:{folders})/[\w./-]*\w)(?![\w*])", re.sub(r"\]\([^)]*\)", "]", text))
    for path in paths:
        assert "NAME" in path or "PACKAGE" in path or (ROOT / path).exists(), f"{page.name} names {path}"
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", text):
        assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_chores_in_contributing_exist():
    chores = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    used = re.findall(r"(?:`|^)make ([a-z-]+)", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"lint", "test", "docs"} <= set(used) <= set(chores)


def test_the_walk_ends_at_the_verdict():
    """Three files in CONTRIBUTING.md, and one line in the last of them."""
    walk = (
        (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").partition("## From the README")[2].partition("\n## ")[0]
    )
    files = re.findall(r"^\d\. `([^`]+)`", walk, re.MULTILINE)
    assert len(files) == 3
    marked = [path for path in (ROOT / "src").rglob("*.py") if "THE VERDICT" in path.read_text(encoding="utf-8")]
    assert marked == [ROOT / files[-1]]
    assert re.search(r"# THE VERDICT.*\n\s+label = PNEUMONIA if", marked[0].read_text(encoding="utf-8"))


@pytest.mark.parametrize("lock", ["core", "all"])
def test_a_lock_pins_every_package_with_hashes_and_names_no_index(lock):
    text = (ROOT / "requirements" / f"{lock}.txt").read_text(encoding="utf-8")
    assert "://" not in text
    assert "--index-url" not in text
    blocks = re.split(r"\n(?=[a-z0-9])", re.sub(r"^(#.*\n|\s*\n)+", "", text))
    assert all(re.match(r"[\w.-]+==\S+", block) and "--hash=sha256:" in block for block in blocks)
    groups = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"].values() if lock == "all" else [])]
    locked = {block.split("==")[0] for block in blocks}
    assert {re.match(r"[\w.-]+", each)[0].lower() for group in groups for each in group} <= locked
