"""Exports of a package that are imported on first use, so that importing the package stays cheap."""

from collections.abc import Callable, Mapping
from importlib import import_module


def lazy_exports(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """The ``__getattr__`` of a package that imports each of its names from the module that defines it.

    Reference: PEP 562, module ``__getattr__``.

    Args:
        package: its ``__name__``.
        modules: name -> module that defines it, relative to the package.

    Returns:
        A function that returns the object of a name, and raises AttributeError for a name that is not in ``modules``.

    >>> lazy_exports("pneumoscope", {"LABELS": "labels"})("LABELS")
    ('NORMAL', 'PNEUMONIA')
    """

    def load_export(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(f"{package}.{modules[name]}"), name)

    return load_export
