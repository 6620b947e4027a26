"""The tasks that serve asyncio's streams, for who has to end them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

__all__ = ["ClientConnected", "StreamHandlers"]

ClientConnected = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None] | None]
"""A function of a reader and a writer, a coroutine function or another, as for ``asyncio.start_server()``."""


class StreamHandlers:
    """
    Makes protocols whose connections a function serves by streams, each in a task.

    asyncio's own protocol would make the tasks, but keep them to itself. As there, from Python 3.12 on, the failure of
    one is told to the loop's exception handler, and closes the connection.

    Args:
        client_connected_cb: As `ClientConnected`.
        limit: The limit of the readers, in bytes.

    Attributes:
        tasks: Those that have not ended.
        one_ended: Called when another one has.
    """

    def __init__(self, client_connected_cb: ClientConnected, limit: int) -> None:
        if not callable(client_connected_cb):
            raise TypeError(f"for_streams() takes a function of a reader and a writer, got {client_connected_cb!r}")
        self._client_connected_cb = client_connected_cb
        self._limit = limit
        # For Twisted's log, which says what starts where.
        self.__name__ = getattr(client_connected_cb, "__name__", type(client_connected_cb).__name__)
        self.tasks: set[asyncio.Task[None]] = set()
        self.one_ended: Callable[[], None] = lambda: None

    def __call__(self) -> asyncio.StreamReaderProtocol:
        """Make the protocol of a connection."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=self._limit, loop=loop)
        return asyncio.StreamReaderProtocol(reader, self._start, loop=loop)

    def cancel(self) -> None:
        """Cancel the tasks."""
        for task in list(self.tasks):
            task.cancel()

    def _start(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # From now on the task is known, even if it is cancelled before it has begun.
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self.tasks.add(task)
        task.add_done_callback(lambda task: self._has_ended(task, writer))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        serving = self._client_connected_cb(reader, writer)
        if serving is not None:
            await serving

    def _has_ended(self, task: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        self.tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None and not isinstance(error, SystemExit | KeyboardInterrupt):
            task.get_loop().call_exception_handler(
                {
                    "message": "Unhandled exception in client_connected_cb",
                    "exception": error,
                    "transport": writer.transport,
                }
            )
        if error is not None or task.cancelled():
            writer.close()
        self.one_ended()
