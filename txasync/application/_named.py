"""What a command line names as ``package.module:name``."""

from __future__ import annotations

import importlib
import os
import sys
import traceback
from typing import Any

__all__ = ["CannotImport", "import_named"]


class CannotImport(Exception):
    """There is no such object. The message is one line and says why."""


def import_named(name: str) -> Any:
    """
    Import the object *name*, ``package.module:name`` or ``package.module:name.attribute``.

    As with ``python -m``, modules are looked for in the current directory, too.

    Raises:
        CannotImport: *name* is of another form, or there is no such module or object, or the module fails.
    """
    module_name, _, path = name.partition(":")
    if not module_name or not path:
        raise CannotImport(f"{name!r} is not of the form module:name, such as package.module:name")
    # The directory itself, not "": a daemon changes to another one.
    if (here := os.getcwd()) not in sys.path:
        sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:
        raise CannotImport(f"cannot import {name!r}: {_in_a_line(error)}") from error
    for attribute in path.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError as error:
            raise CannotImport(f"cannot import {name!r}: {error}") from error
    return found


def _in_a_line(error: Exception) -> str:
    said = " ".join(f"{type(error).__name__}: {error}".split())
    frame = traceback.extract_tb(error.__traceback__)[-1]
    if frame.filename.startswith("<frozen importlib"):
        return said  # the module itself was not found
    return f"{said} ({frame.filename}, line {frame.lineno})"
