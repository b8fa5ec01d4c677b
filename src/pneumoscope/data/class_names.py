"""What collections call the two classes, in folder names and in tables."""

import re
from dataclasses import dataclass

from pneumoscope.errors import UsageError
from pneumoscope.labels import BACTERIAL, LABELS, NORMAL, PNEUMONIA, VIRAL

#: Usual names of the classes, in small letters, with spaces for ``_`` and ``-``; for folders and for cells of a table.
USUAL_NAMES = {
    "normal": NORMAL,
    "no finding": NORMAL,
    "no findings": NORMAL,
    "no pneumonia": NORMAL,
    "healthy": NORMAL,
    "pneumonia": PNEUMONIA,
    "bacterial pneumonia": PNEUMONIA,
    "viral pneumonia": PNEUMONIA,
    "pneumonia bacteria": PNEUMONIA,
    "pneumonia virus": PNEUMONIA,
}
#: More names that mean a class in a table, where the column says what is meant.
USUAL_VALUES = {
    **USUAL_NAMES,
    "0": NORMAL, "0.0": NORMAL, "0,0": NORMAL, "false": NORMAL, "no": NORMAL, "negative": NORMAL,
    "1": PNEUMONIA, "1.0": PNEUMONIA, "1,0": PNEUMONIA, "true": PNEUMONIA, "yes": PNEUMONIA, "positive": PNEUMONIA,
}  # fmt: skip
_SUBLABELS = {"bacteria": BACTERIAL, "bacterial": BACTERIAL, "virus": VIRAL, "viral": VIRAL}


@dataclass(frozen=True)
class ClassNames:
    """Names of the classes in a collection.

    With names for both classes, other names are left out, and counted. Otherwise the usual names count as well.

    Attributes:
        positive: names of pneumonia, as the user gives them.
        negative: names of normal.
    """

    positive: tuple[str, ...] = ()
    negative: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        both = {_simplify(name) for name in self.positive} & {_simplify(name) for name in self.negative}
        if both:
            raise UsageError(f"expected different names for --positive and --negative, received {min(both)!r} for both")

    @property
    def leaves_others_out(self) -> bool:
        """Whether other names are left out and not an error."""
        return bool(self.positive and self.negative)

    def label_of_folder(self, name: str) -> str | None:
        """The label that a folder name means; None if it means none."""
        return self._find(name, USUAL_NAMES)

    def label_of_value(self, value: str) -> str | None:
        """The label that a cell of a table means; None if it means none."""
        return self._find(value, USUAL_VALUES)

    def _find(self, name: str, usual: dict[str, str]) -> str | None:
        simple = _simplify(name)
        for names, label in ((self.negative, NORMAL), (self.positive, PNEUMONIA)):
            if simple in map(_simplify, names):
                return label
        return None if self.leaves_others_out else usual.get(simple)


def sublabel_of_name(name: str) -> str:
    """Bacterial or viral, from the name of a folder or class; ``""`` if it does not say.

    >>> sublabel_of_name("Viral Pneumonia"), sublabel_of_name("bacteria"), sublabel_of_name("NORMAL")
    ('viral', 'bacterial', '')
    """
    words = [word for word in _simplify(name).split() if word != "pneumonia"]
    return _SUBLABELS.get(words[0], "") if len(words) == 1 else ""


def describe_classes() -> str:
    """The two classes, for messages."""
    return " and ".join(LABELS)


def _simplify(name: str) -> str:
    """A name without case, and with one space for each run of spaces, ``_`` and ``-``; a sign before a number stays.

    >>> _simplify("No_Finding "), _simplify("-1.0")
    ('no finding', '-1.0')
    """
    return re.sub(r"(?<=[^\s_-])[\s_-]+", " ", name.strip().casefold()).strip()
