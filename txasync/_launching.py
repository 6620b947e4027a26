"""
Running a program so that it cannot tell that another one, `python -m txasync`, began the process.

The program gets a ``__main__`` module of its own, which stays in ``sys.modules`` to the end, for the threads and
``atexit`` callbacks that outlive it and for what pickles its classes. (``runpy.run_path`` and ``runpy.run_module``
take theirs away when the program's last line has run.)

An uncaught exception goes up through us, so that the interpreter does what it does then: prints it, sets the exit
code, dies of SIGINT if it is a KeyboardInterrupt. Only the traceback loses its first entries, which are ours.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import io
import os
import pkgutil
import runpy
import sys
from collections.abc import Callable
from types import ModuleType, TracebackType
from typing import Any, NoReturn

__all__ = ["run_module", "run_path"]

_run_module_as_main: Callable[..., Any] = vars(runpy)["_run_module_as_main"]


def run_path(path: str, arguments: list[str]) -> None:
    """
    Do what ``python path arguments...`` does.

    Args:
        path: A script, a compiled script (``.pyc``), or a directory or zip file with a ``__main__.py``.
        arguments: What ``sys.argv[1:]`` is to be.

    Raises:
        BaseException: What the program raises.
        SystemExit: *path* cannot be opened (2) or holds no ``__main__.py`` (1); this has been told.

    Source:
        The Python manual, "Command line and environment", "Interface options".
    """
    full_path = _as_python_spells_it(path)
    sys.argv = [path, *arguments]
    if pkgutil.get_importer(full_path) is None:
        _run_file(full_path)
    else:
        _run_main_of(full_path)


def run_module(name: str, arguments: list[str]) -> None:
    """
    Do what ``python -m name arguments...`` does.

    Raises:
        BaseException: What the program raises.
        SystemExit: There is no module *name*, or it cannot be run (1).

    Source:
        The Python manual, "Command line and environment", "Interface options".
    """
    # Until the module is found; then it is the module's path.
    sys.argv = ["-m", *arguments]
    _new_main_module()
    _call(_run_module_as_main, name)


def _run_main_of(full_path: str) -> None:
    """Run ``__main__.py`` of a directory or zip file."""
    if _has_safe_path():
        sys.path.insert(0, full_path)
    else:
        sys.path[0] = full_path
    _new_main_module()
    _call(_run_module_as_main, "__main__", False)


def _run_file(full_path: str) -> None:
    if not _has_safe_path():
        sys.path[0] = os.path.dirname(os.path.realpath(full_path))
    source = _read(full_path)
    main = _new_main_module()
    main.__file__ = full_path
    if full_path.endswith(".pyc"):
        compiled = importlib.machinery.SourcelessFileLoader("__main__", full_path)
        main.__loader__ = compiled
        code = _call(compiled.get_code, "__main__")
    else:
        main.__loader__ = importlib.machinery.SourceFileLoader("__main__", full_path)
        code = _call(compile, source, full_path, "exec", dont_inherit=True)
    _call(exec, code, main.__dict__)


def _read(full_path: str) -> bytes:
    try:
        with io.open_code(full_path) as file:
            return file.read()
    except OSError as error:
        _exit_without_file(full_path, error)


def _exit_without_file(full_path: str, error: OSError) -> NoReturn:
    # In the interpreter's own words.
    message = f"{sys.orig_argv[0]}: can't open file {full_path!r}: [Errno {error.errno}] {error.strerror}"
    print(message, file=sys.stderr)
    raise SystemExit(2)


def _as_python_spells_it(path: str) -> str:
    """*path* made absolute, and not otherwise changed: it is seen in ``__file__`` and in tracebacks."""
    return os.path.join(os.getcwd(), path)


def _has_safe_path() -> bool:
    """Whether ``sys.path`` begins with no directory of the program: ``python -P`` or ``-I``."""
    return bool(getattr(sys.flags, "safe_path", sys.flags.isolated))


def _new_main_module() -> ModuleType:
    """Put a ``__main__`` in place of ours, with what is in one before a script begins."""
    main = ModuleType("__main__")
    main.__dict__["__builtins__"] = builtins
    if sys.version_info < (3, 15):
        main.__dict__["__cached__"] = None
    if sys.version_info < (3, 14):
        main.__dict__["__annotations__"] = {}
    sys.modules["__main__"] = main
    return main


def _call(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
    """Call *function*, and let an exception be shown as if the interpreter itself had called it."""
    try:
        return function(*arguments, **keywords)
    except SystemExit:
        raise
    except BaseException as error:
        sys.excepthook = _trimming(sys.excepthook, _without_machinery(error.__traceback__))
        raise


def _without_machinery(traceback: TracebackType | None) -> TracebackType | None:
    """*traceback*, which begins with `_call`, without what is between that and the program."""
    assert traceback is not None
    runpys = runpy.run_module.__code__.co_filename
    entry = traceback.tb_next
    while entry is not None and entry.tb_frame.f_code.co_filename == runpys:
        entry = entry.tb_next
    return entry


def _trimming(
    hook: Callable[[type[BaseException], BaseException, TracebackType | None], Any], trimmed: TracebackType | None
) -> Callable[[type[BaseException], BaseException, TracebackType | None], Any]:
    """A ``sys.excepthook`` for one call: *hook*, given the traceback *trimmed*."""

    def excepthook(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        sys.excepthook = hook
        sys.last_traceback = trimmed
        hook(kind, error.with_traceback(trimmed), trimmed)

    return excepthook
