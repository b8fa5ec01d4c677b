"""Docstrings as Markdown for the API pages: Sphinx roles, examples and literal blocks; an extension of Griffe.

zensical.toml names it. Griffe reads the docstrings for mkdocstrings.
"""

import re
import textwrap

import griffe

ROLE = re.compile(r":[a-z]+:`~?(?:[\w.]*\.)?([\w.]+)`")
EXAMPLE = re.compile(r"^( *)>>> .*(?:\n(?! *$).*)*", re.MULTILINE)


class DocstringMarkdown(griffe.Extension):
    """Rewrites the docstring of every object after Griffe has read it."""

    def on_instance(self, *, obj: griffe.Object, **_: object) -> None:
        """Called for each module, class, function and attribute."""
        if obj.docstring:
            obj.docstring.value = to_markdown(obj.docstring.value)


def to_markdown(text: str) -> str:
    """Roles become code, examples become fenced blocks, ``::`` becomes a colon.

    >>> to_markdown("See :class:`~pneumoscope.data.Manifest`.")
    'See `Manifest`.'
    """
    text = ROLE.sub(r"`\1`", text)
    text = re.sub(r"::$", ":", text, flags=re.MULTILINE)
    return EXAMPLE.sub(_fenced, text)


def _fenced(match: re.Match) -> str:
    indent, example = match[1], match[0]
    return textwrap.indent(f"\n```pycon\n{textwrap.dedent(example)}\n```", indent)
