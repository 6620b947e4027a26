"""
How a process of twistd's ends: with an exit code, and without a traceback if it could not start.

twistd knows no exit codes: when its reactor has stopped, it removes its pid file, says a last word to its log, and
returns. What is raised by an observer of that last word ends the process as ``sys.exit()`` does.
"""

from __future__ import annotations

import sys
from types import TracebackType
from typing import Any

from twisted.application.app import AppLogger
from twisted.logger import Logger, globalLogPublisher

__all__ = ["CannotStart", "exit_with"]

_log = Logger()


def exit_with(code: int) -> None:
    """
    Let twistd's process exit with *code*, unless it is 0, when its reactor has stopped.

    Context:
        The reactor's thread, once.
    """

    def observe(event: dict[str, Any]) -> None:
        from twisted.internet import reactor

        if isinstance(event.get("log_source"), AppLogger) and not reactor.running:
            raise SystemExit(code)

    if code:
        globalLogPublisher.addObserver(observe)  # type: ignore[arg-type]  # a function provides ILogObserver


class CannotStart(Exception):
    """
    A service cannot be started. Raised out of ``privilegedStartService()``, it ends twistd's process: the message is
    the one line that is printed, and logged.
    """

    def __init__(self, message: str) -> None:
        super().__init__(message)
        # Not "message", which observers of the old kind overwrite.
        _log.error("{reason}", reason=message)
        # twistd raises it again when it has removed its pid file, and nobody catches it.
        sys.excepthook = _print_in_a_line


def _print_in_a_line(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    if isinstance(error, CannotStart) and sys.__stderr__ is not None:
        # Not sys.stderr, which is twistd's log.
        print(f"twistd txasync: {error}", file=sys.__stderr__)
    else:
        sys.__excepthook__(kind, error, traceback)
