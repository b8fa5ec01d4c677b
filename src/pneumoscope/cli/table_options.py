"""The options that say how to read labelled data, for every command that takes ``--data``."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer

from pneumoscope.cli.options import PATH_COLUMN, ROOT

if TYPE_CHECKING:
    from pneumoscope.data.manifest import TableOptions

_Returned = TypeVar("_Returned")


def with_table_options(command: Callable[..., _Returned]) -> Callable[..., _Returned]:
    """Give a command the options that say how to read labelled data. The command receives them as ``table``.

    With ``--dry-run`` the command only says what it would read. Typer reads the options of a command from the signature
    of its function, so this makes a function with another signature.
    """

    def run(**arguments: Any) -> _Returned:
        values = {name: arguments.pop(name) for name in _TABLE_OPTIONS}
        table = _table_options(values)
        if values["dry_run"] and arguments["data"]:
            from pneumoscope.cli.datasets import show_data

            show_data(arguments["data"], table)
            raise typer.Exit
        return command(**arguments, table=table)

    signature = inspect.signature(command)
    own = [
        parameter.replace(kind=parameter.KEYWORD_ONLY)
        for parameter in signature.parameters.values()
        if parameter.name != "table"
    ]
    added = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=option, annotation=kind)
        for name, (kind, option) in _TABLE_OPTIONS.items()
    ]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__signature__ = signature.replace(parameters=[*own, *added])  # type: ignore[attr-defined]  # as above
    return run


def _table_options(values: dict[str, Any]) -> "TableOptions":
    from pneumoscope.data.class_names import ClassNames
    from pneumoscope.data.manifest import TableOptions

    return TableOptions(
        path_column=values["path_column"],
        label_column=values["label_column"],
        patient_column=values["patient_column"],
        subgroups=tuple(values["subgroup"] or ()),
        names=ClassNames(tuple(values["positive"] or ()), tuple(values["negative"] or ())),
        root=values["root"],
    )


_TABLE_OPTIONS: dict[str, tuple[Any, Any]] = {
    "path_column": (str | None, PATH_COLUMN),
    "label_column": (str | None, typer.Option(None, metavar="NAME", help="Column of a table with the labels.")),
    "patient_column": (str | None, typer.Option(None, metavar="NAME", help="Column of a table with the patients.")),
    "subgroup": (
        list[str] | None,
        typer.Option(
            None, metavar="NAME", help="Column of a table with groups to measure apart, beside age, sex and view."
        ),
    ),
    "positive": (
        list[str] | None,
        typer.Option(
            None,
            metavar="NAME",
            help="What pneumonia is called, in the label column or as a folder; may be given several times.",
        ),
    ),
    "negative": (
        list[str] | None,
        typer.Option(
            None,
            metavar="NAME",
            help="What normal is called. With both, images with other labels are left out and counted.",
        ),
    ),
    "root": (Path | None, ROOT),
    "dry_run": (bool, typer.Option(False, help="Only say what would be read, and how it was understood.")),
}
