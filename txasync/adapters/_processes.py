"""The converters of process protocols, from either world to the other."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IProcessProtocol

from ._on_asyncio import AsyncioSubprocessProtocol
from ._on_twisted import TwistedProcessProtocol

__all__ = ["as_asyncio_subprocess_protocol", "as_twisted_process_protocol"]


def as_twisted_process_protocol(
    protocol: asyncio.SubprocessProtocol | Callable[[], asyncio.SubprocessProtocol],
    *,
    loop: asyncio.AbstractEventLoop | None = None,
) -> TwistedProcessProtocol:
    """
    Return a Twisted process protocol that carries one of asyncio's: for ``reactor.spawnProcess()``.

    Args:
        protocol: A ``SubprocessProtocol`` that is not connected yet, or what makes one.
        loop: The loop that it belongs to. Default: the one that runs when the child is started.

    Returns:
        An ``IProcessProtocol``, for one child. The protocol of asyncio's is its ``protocol``, and is made and called in
        a copy of the present context. It is connected when ``spawnProcess()`` returns: then its transport, an
        ``asyncio.SubprocessTransport``, is the ``asyncio_transport``, of which ``asyncio.subprocess.Process`` can be
        made. Each pipe of ``childFDs`` has a pipe transport; with ``usePTY``, 0 writes to the terminal, and 1 reads.
        Twisted's transport is ``get_extra_info("twisted_transport")``.

    Raises:
        TypeError: *protocol* is, or makes, no asyncio protocol for children.

    Context:
        The thread of the reactor that will start the child, in which *loop* runs.

    Source:
        Twisted, ``IProcessProtocol``; asyncio, "Subprocess Protocols".
    """
    context = contextvars.copy_context()
    made: Any = protocol
    if isinstance(protocol, type) or (callable(protocol) and not _is_asyncios(protocol)):
        made = context.run(protocol)
    if not _is_asyncios(made):
        raise TypeError(f"an asyncio SubprocessProtocol, or what makes one, was expected, got {made!r}")
    return TwistedProcessProtocol(made, loop=loop, context=context)


def as_asyncio_subprocess_protocol(process_protocol: Any) -> AsyncioSubprocessProtocol:
    """
    Return an asyncio protocol that carries one of Twisted's: for ``subprocess_exec()`` and ``spawn_pty()`` of any loop.

    Args:
        process_protocol: An ``IProcessProtocol``.

    Returns:
        A ``SubprocessProtocol``, for one child: ``loop.subprocess_exec(lambda: protocol, ...)``.

    Raises:
        TypeError: *process_protocol* is no process protocol of Twisted's.

    Context:
        The loop's thread. No reactor is needed.

    Source:
        asyncio, "Subprocess Protocols"; Twisted, ``IProcessProtocol``.
    """
    if not IProcessProtocol.providedBy(process_protocol):
        raise TypeError(
            f"as_asyncio_subprocess_protocol() takes an IProcessProtocol of Twisted's, got {process_protocol!r}"
        )
    return AsyncioSubprocessProtocol(process_protocol)


def _is_asyncios(protocol: Any) -> bool:
    return hasattr(protocol, "connection_made") and hasattr(protocol, "pipe_data_received")
