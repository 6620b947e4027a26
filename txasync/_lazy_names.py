"""Names that a package imports when they are first asked for, so that it costs those nothing who ask for others."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

__all__ = ["lazy_names"]


def lazy_names(
    package: str, homes: Mapping[str, Iterable[str]], modules: Iterable[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """
    Make the ``__getattr__`` and the ``__dir__`` of a package.

    A name is looked for once, and is an ordinary attribute of the package from then on. For type checkers the package
    imports the same names where ``TYPE_CHECKING`` is true, and hides these two from them: to a checker, a module with a
    ``__getattr__`` has every name.

    Args:
        package: Its ``__name__``.
        homes: For each module of the package, as ``".module"``, the names that are imported from there.
        modules: Public modules of the package, which are attributes of it without having been imported.

    Source:
        PEP 562.
    """
    home_of = {name: home for home, names in homes.items() for name in names}
    submodules = frozenset(modules)
    namespace = vars(sys.modules[package])

    def __getattr__(name: str) -> Any:
        if name in submodules:
            return importlib.import_module(f".{name}", package)
        if name not in home_of:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        found = namespace[name] = getattr(importlib.import_module(home_of[name], package), name)
        return found

    def __dir__() -> list[str]:
        return sorted({*namespace, *home_of, *submodules})

    return __getattr__, __dir__
