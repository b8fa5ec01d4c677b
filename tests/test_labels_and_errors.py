"""The class order and the tree of errors, each in one place."""

import inspect
import re

import pytest

from pneumoscope import errors
from pneumoscope.errors import MissingExtra, PneumoscopeError
from pneumoscope.labels import LABELS, NORMAL, PNEUMONIA, POSITIVE, label_index

TREE = [
    item for _, item in inspect.getmembers(errors, inspect.isclass) if issubclass(item, PneumoscopeError)
]  # every class of the module


def test_the_class_order_is_this_one():
    """Shipped models have their columns in this order: to change it is to break them."""
    assert LABELS == (NORMAL, PNEUMONIA) == ("NORMAL", "PNEUMONIA")
    assert LABELS[POSITIVE] == PNEUMONIA
    assert [label_index(label) for label in LABELS] == [0, 1]


@pytest.mark.parametrize("label", ["normal", "Pneumonia", "", None, 0, "bacterial", []])
def test_other_labels_are_errors(label):
    with pytest.raises(ValueError, match="expected one of NORMAL, PNEUMONIA, received"):
        label_index(label)


def test_the_tree_in_the_docstring_is_the_one_in_the_code():
    drawn = {}
    path = {}
    for line in errors.__doc__.splitlines():
        entry = re.match(r"    ([│├└─ ]*)(\w+) +(\d+)  +(\d{3})  ", line)
        if entry:
            depth = len(entry[1]) // 4
            path[depth] = entry[2]
            drawn[entry[2]] = (path.get(depth - 1, "PneumoscopeError"), int(entry[3]), int(entry[4]))
    coded = {item.__name__: (item.__base__.__name__, item.exit_code, item.http_status) for item in TREE}
    del coded["PneumoscopeError"]
    assert drawn == coded


@pytest.mark.parametrize("error", TREE)
def test_every_error_has_an_exit_code_and_a_status(error):
    assert error.exit_code in (1, 2, 130)  # 130: what a shell says of Ctrl-C
    assert 400 <= error.http_status < 600
    assert error.__doc__
    assert issubclass(error, PneumoscopeError)


def test_a_missing_extra_is_one_sentence_with_the_command():
    error = MissingExtra("training", "train", "keras")
    assert str(error) == (
        "training needs the package 'keras', which is not installed: run  pip install 'pneumoscope[train]'"
    )
