"""The class order and the exception tree."""

import inspect
import pickle
import re
from pathlib import Path

import pytest
from builders import ROOT

from pneumoscope import errors
from pneumoscope.errors import MissingExtra, PneumoscopeError
from pneumoscope.labels import LABELS, NORMAL, PNEUMONIA, POSITIVE, label_index

PACKAGE = Path(errors.__file__).parent
TREE = [
    item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, PneumoscopeError)
]  # every class of the module


def test_the_class_order_is_fixed():
    """The columns of the shipped models are in this order. A change would break them."""
    assert LABELS == (NORMAL, PNEUMONIA) == ("NORMAL", "PNEUMONIA")
    assert LABELS[POSITIVE] == PNEUMONIA
    assert [label_index(label) for label in LABELS] == [0, 1]


@pytest.mark.parametrize("label", ["normal", "Pneumonia", "", None, 0, "bacterial", []])
def test_other_labels_raise_an_error(label):
    with pytest.raises(ValueError, match="expected one of NORMAL, PNEUMONIA, received"):
        label_index(label)


def test_the_docstring_draws_the_tree_of_the_code():
    documented = {}
    path = {}
    for line in errors.__doc__.splitlines():
        entry = re.match(r"    ([│├└─ ]*)(\w+) +(\d+)  +(\d{3})  ", line)
        if entry:
            depth = len(entry[1]) // 4
            path[depth] = entry[2]
            documented[entry[2]] = (path.get(depth - 1, "PneumoscopeError"), int(entry[3]), int(entry[4]))
    actual = {item.__name__: (item.__base__.__name__, item.exit_code, item.http_status) for item in TREE}
    del actual["PneumoscopeError"]
    assert documented == actual


@pytest.mark.parametrize("error", TREE)
def test_every_error_has_an_exit_code_and_a_status(error):
    assert error.exit_code in (1, 2, 130)  # 130: the exit code of a shell after Ctrl-C
    assert 400 <= error.http_status < 600
    assert error.__doc__
    assert issubclass(error, PneumoscopeError)
    assert error.code in errors.CODES


def test_an_error_may_have_a_finer_code_which_survives_pickling():
    error = errors.RefusedImage("expected contrast", code="blank")
    copy = pickle.loads(pickle.dumps(error))
    assert (str(copy), copy.code, errors.RefusedImage.code) == ("expected contrast", "blank", "unsuitable")


def test_every_code_of_the_code_is_listed():
    used = set(re.findall(r'\bcode="(\w+)"', "".join(path.read_text() for path in PACKAGE.rglob("*.py"))))
    assert used <= set(errors.CODES)
    reference = (ROOT / "docs" / "reference.md").read_text()
    assert [code for code, when in errors.CODES.items() if f"| `{code}` | {when} |" not in reference] == []


def test_every_listed_code_is_used():
    """As a text outside of the list, or as the code of a class of errors."""
    listing = Path(errors.__file__)
    others = "".join(path.read_text() for path in PACKAGE.rglob("*.py") if path != listing)
    own = listing.read_text()
    assert [code for code in errors.CODES if f'"{code}"' not in others and f'code = "{code}"' not in own] == []


def test_a_missing_extra_is_explained_with_the_command():
    error = MissingExtra("training", "train", "keras")
    assert str(error) == (
        "training needs the package 'keras', which is not installed: run  pip install 'pneumoscope[train]'"
    )
