"""
The pipe to a child of an asyncio loop, as Twisted's consumer. Made for `_process`.

A push producer is asked to pause as soon as asyncio's transport holds more than its high-water mark, and to resume when
it holds no more than the low-water mark; a pull producer is asked for more while it holds less than the former.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

__all__ = ["ChildInput"]


class ChildInput:
    """
    What ``abstract.FileDescriptor`` is to a consumer's users.

    Args:
        pipe: asyncio's ``WriteTransport``.
        loop: The loop.
        failed: Told what a producer has raised, which is the end of the pipe.

    Attributes:
        producer: The producer that is registered, or None.
        streamingProducer: Whether that is a push producer.
        disconnecting: Whether the pipe is to be closed.

    Source:
        Twisted, ``IConsumer``.
    """

    producer: Any = None
    streamingProducer = False
    disconnecting = False

    _takes = True  # what is written goes to the pipe
    _full = False  # which holds more than its high-water mark
    _is_paused = False  # the push producer was asked to pause
    _has_written = False  # since the pull producer was asked last

    def __init__(self, pipe: Any, loop: asyncio.AbstractEventLoop, failed: Callable[[BaseException], None]) -> None:
        self._pipe = pipe
        self._loop = loop
        self._failed = failed

    def write(self, data: bytes) -> None:
        """
        Send *data*. What is written after the end is dropped.

        Raises:
            TypeError: *data* is not ``bytes``, as with Twisted's pipes.
        """
        if not isinstance(data, bytes):
            raise TypeError(f"Twisted's transports write bytes, got {type(data).__name__}: encode or copy it first")
        if not (data and self._takes):
            return
        self._pipe.write(data)
        if self.producer is None:
            return
        if not self.streamingProducer:
            self._pull_soon()
        elif self._full:
            # Each time, as somebody else may have resumed it.
            self._is_paused = True
            self.producer.pauseProducing()

    def loseConnection(self) -> None:
        """Close the pipe when all was sent, and the registered producer, if any, is unregistered."""
        if not self.disconnecting:
            self.disconnecting = True
            self._close_soon()

    def _close_soon(self) -> None:
        # What Twisted's users write in the same turn is sent.
        self._loop.call_soon(self._close)

    def _close(self) -> None:
        if self.producer is None and self._takes:
            self._takes = False
            self._pipe.close()

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Let *producer* write as asyncio's water marks have it.

        Raises:
            RuntimeError: There is one already.
        """
        if self.producer is not None:
            raise RuntimeError(
                f"Cannot register producer {producer!r}, because producer {self.producer!r} was never unregistered."
            )
        if not self._takes:
            producer.stopProducing()
            return
        self.producer = producer
        self.streamingProducer = streaming
        self._is_paused = self._has_written = False
        if not streaming:
            producer.resumeProducing()

    def unregisterProducer(self) -> None:
        """There is no producer any more; a pipe that has waited for this to close does."""
        self.producer = None
        if self.disconnecting:
            self._close_soon()

    def _pull_soon(self) -> None:
        # A pull producer that was asked may write later, and several times; then it is asked again, if there is room.
        if not self._has_written:
            self._has_written = True
            self._loop.call_soon(self._pull)

    def _pull(self) -> None:
        if self._has_written and self.producer is not None and not (self.streamingProducer or self._full):
            self._has_written = False
            self._call(self.producer.resumeProducing)

    def _call(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._failed(error)

    # What is told from below

    def hold_up(self) -> None:
        """asyncio's transport holds more than its high-water mark. It is in a write that it says so."""
        self._full = True

    def let_go(self) -> None:
        """asyncio's transport holds no more than its low-water mark."""
        self._full = False
        if self.producer is None:
            return
        if not self.streamingProducer:
            self._loop.call_soon(self._pull)
        elif self._is_paused:
            self._is_paused = False
            self._call(self.producer.resumeProducing)

    def fail(self) -> None:
        """End at once."""
        if self._takes:
            self._takes = False
            if not self._pipe.is_closing():
                self._pipe.abort()

    def lose(self) -> None:
        """The pipe is closed."""
        self._takes = False
        producer, self.producer = self.producer, None
        if producer is not None:
            self._call(producer.stopProducing)
