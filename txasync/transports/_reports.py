"""What a transport tells the loop's exception handler."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

__all__ = ["call_protocol", "report"]

ExceptionHandler = Callable[[dict[str, Any]], None]


def report(handler: ExceptionHandler, transport: asyncio.BaseTransport, error: BaseException, message: str) -> None:
    """Have *handler*, a loop's ``call_exception_handler``, hear of *error*, in asyncio's terms."""
    handler({"message": message, "exception": error, "transport": transport, "protocol": transport.get_protocol()})


def call_protocol(handler: ExceptionHandler, transport: asyncio.BaseTransport, callback: str, *args: object) -> None:
    """Call method *callback* of *transport*'s protocol with *args*; what it raises is reported to *handler*."""
    try:
        getattr(transport.get_protocol(), callback)(*args)
    except (SystemExit, KeyboardInterrupt):
        raise
    except BaseException as error:
        report(handler, transport, error, f"protocol.{callback}() failed")
