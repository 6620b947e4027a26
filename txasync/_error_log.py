"""What asyncio's exception handler is told, told to ``twisted.logger`` too."""

from __future__ import annotations

from typing import Any

from twisted.logger import Logger, LogLevel
from twisted.python.failure import Failure

__all__ = ["tell_twisted"]

_log = Logger("asyncio")


def tell_twisted(context: dict[str, Any]) -> None:
    """Log *context*, as a loop's exception handler gets it, as a failure."""
    message = context.get("message") or "unhandled exception in event loop"
    error = context.get("exception") or RuntimeError(message)
    _log.failure(
        "{message}",
        failure=Failure(error, type(error), error.__traceback__),
        # At this level, Twisted prints nothing by itself while no log has been begun: the lines that the logging
        # module prints are then the only ones.
        level=LogLevel.error,
        message=message,
        # Until a log is begun, Twisted keeps events: they must not keep alive what the context names.
        context={name: repr(value) for name, value in context.items()},
    )
