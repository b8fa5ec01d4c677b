"""Build the site of the documents in site/html, strictly: a broken link or a page outside the navigation is an error.

    python tools/build_site.py                 # or: make docs-site

Collects README.md, docs/ and every file that they link to in site/source, at the same relative places, so that the
links of the repository work on the site. A notebook becomes a page with its stored outputs. Each package gets a page
with the API from its docstrings. Then runs Zensical with ``--strict`` (extra ``docs``). The navigation is in
zensical.toml.
"""

import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

sys.path.insert(0, str(Path(__file__).parent))  # also when a test loads this
from notebook_page import write_notebook_page
from packages import PACKAGES, plain, read_docstring

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "site"
SOURCE, SITE = BUILD / "source", BUILD / "html"
PACKAGE = ROOT / "src" / "pneumoscope"
LINK = re.compile(r"(!?\[[^\]]*\]\()([^)\s#]+)([^)]*\))")
FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
#: A tag that loads something from another server when the page opens.
FOREIGN = re.compile(
    r"""<(?:script|img|iframe)\b[^>]*?\bsrc=["']?((?:https?:)?//[^"'> ]+)"""
    r"""|<link\b(?=[^>]*rel=["']?(?:stylesheet|preconnect|preload|icon))[^>]*?\bhref=["']?((?:https?:)?//[^"'> ]+)"""
)


def main() -> None:
    """Collect the pages, check the navigation, build, check what the pages load."""
    shutil.rmtree(SOURCE, ignore_errors=True)
    shutil.rmtree(SITE, ignore_errors=True)
    SOURCE.mkdir(parents=True)
    (BUILD / ".gitignore").write_text("*\n", encoding="utf-8")
    collect(read_navigation())
    write_api_pages()
    if problems := [*check_navigation(read_navigation())]:
        sys.exit("\n".join(problems))
    command = [sys.executable, "-m", "zensical", "build", "--strict", "--clean", "--config-file", "zensical.toml"]
    code = subprocess.run(command, cwd=ROOT).returncode
    shutil.rmtree(ROOT / ".cache", ignore_errors=True)  # of Zensical; --clean would not use it again
    if code:
        sys.exit(code)
    if loaded := sorted(foreign_requests()):
        sys.exit(f"expected a site that loads its own files only, it loads {', '.join(loaded)}: see zensical.toml")
    print(f"{SITE.relative_to(ROOT)}/index.html")


def read_navigation() -> list[str]:
    """Files in the navigation of zensical.toml, relative to the source of the site."""

    def files(entries: list) -> Iterator[str]:
        for entry in entries:
            for value in entry.values():
                yield from [value] if isinstance(value, str) else files(value)

    return list(files(tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))["project"]["nav"]))


def collect(navigation: list[str]) -> None:
    """Copy the pages and what they link to; README.md is the page index.md."""
    waiting = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
    waiting += [ROOT / name for name in navigation if (ROOT / name).is_file()]
    seen: set[Path] = set()
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        place = SOURCE / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".ipynb":
            write_notebook_page(path, place.with_suffix(".md"))
            continue
        if path.suffix != ".md":
            shutil.copy(path, place)
            continue
        text = path.read_text(encoding="utf-8")
        waiting += [target for target in linked_files(path, text) if target.is_file() and target.is_relative_to(ROOT)]
        if path == ROOT / "README.md":
            place = SOURCE / "index.md"
        place.write_text(_for_the_site(path, text), encoding="utf-8")


def linked_files(page: Path, text: str) -> list[Path]:
    """Where the relative links of a page lead, code blocks left out; the place may be empty."""
    targets = [target for _, target, _ in LINK.findall(FENCE.sub("", text)) if "://" not in target]
    return [(page.parent / unquote(target)).resolve() for target in targets]


def _for_the_site(page: Path, text: str) -> str:
    """Links to README.md at the top lead to index.md, links to notebooks lead to their pages."""

    def rewrite(match: re.Match) -> str:
        start, target, end = match.groups()
        if "://" not in target:
            target = re.sub(r"\.ipynb$", ".md", target)
            if (page.parent / target).resolve() == ROOT / "README.md":
                target = target.removesuffix("README.md") + "index.md"
        return f"{start}{target}{end}"

    return LINK.sub(rewrite, text)


def write_api_pages() -> None:
    """``api/index.md`` with the public names, and a page for each package with all its files."""
    folder = SOURCE / "api"
    folder.mkdir()
    import pneumoscope

    names = sorted(name for name in pneumoscope.__all__ if callable(getattr(pneumoscope, name)))
    objects = [getattr(pneumoscope, name) for name in names]
    lines = ["# Public names", "", "Only these names are stable. They are imported from `pneumoscope` itself.", ""]
    lines += [f"::: {each.__module__}.{each.__qualname__}\n" for each in objects]
    (folder / "index.md").write_text("\n".join(lines), encoding="utf-8")
    for name in PACKAGES:
        if "/" in name or name == "samples":
            continue
        lines = [f"# pneumoscope.{name}", "", plain(read_docstring(PACKAGE / name / "__init__.py")), ""]
        for path in sorted((PACKAGE / name).rglob("*.py")):
            if path.name != "__init__.py":
                module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
                lines.append(f"::: {module}\n")
        (folder / f"{name}.md").write_text("\n".join(lines), encoding="utf-8")


def check_navigation(navigation: list[str]) -> Iterator[str]:
    """A sentence for each page that is missing, or that no entry leads to."""
    pages = {path.relative_to(SOURCE).as_posix() for path in SOURCE.rglob("*.md")}
    for name in sorted(set(navigation) - pages):
        yield f"expected the page {name}, which is in the navigation of zensical.toml: write it, or remove the entry"
    for name in sorted(pages - set(navigation)):
        yield f"expected {name} in the navigation of zensical.toml: add it, or remove the links to it"


def foreign_requests() -> set[str]:
    """Addresses of other servers from which a built page loads scripts, styles, fonts or pictures."""
    found = (FOREIGN.findall(page.read_text(encoding="utf-8")) for page in SITE.rglob("*.html"))
    return {source or reference for page in found for source, reference in page}


if __name__ == "__main__":
    main()
