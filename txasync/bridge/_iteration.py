"""Streams of chunks: a producer's as an asynchronous iterator, and an asynchronous iterator's as a producer."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections import deque
from collections.abc import AsyncIterable
from types import TracebackType
from typing import Any

from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.python.failure import Failure
from zope.interface import implementer

from ._failures import cancellation_requests, error_of

__all__ = ["AsyncConsumer", "produce"]


@implementer(IConsumer)
class AsyncConsumer:
    """
    A consumer that is an asynchronous iterator of what a producer writes to it.

    It ends when the producer unregisters, or with `finish`. A push producer is paused while too much has been written
    that was not asked for; a pull producer is asked for each chunk. Leave a loop over it before its end by
    ``async with``, or call `aclose`: that stops the producer.

    Args:
        high_water_bytes: Above this, the producer is paused.
        low_water_bytes: At or below this, it may go on. Default: a quarter of *high_water_bytes*.

    Raises:
        ValueError: Not 0 <= *low_water_bytes* <= *high_water_bytes*.

    Context:
        The reactor's thread; one task at a time iterates.

    Source:
        Twisted, ``IConsumer`` and ``IPushProducer``; PEP 492, "Asynchronous iterators".
    """

    def __init__(self, high_water_bytes: int = 65536, low_water_bytes: int | None = None) -> None:
        if low_water_bytes is None:
            low_water_bytes = high_water_bytes // 4
        if not 0 <= low_water_bytes <= high_water_bytes:
            raise ValueError(
                f"low_water_bytes must be from 0 to high_water_bytes, got {low_water_bytes} and {high_water_bytes}"
            )
        self._high = high_water_bytes
        self._low = low_water_bytes
        self._chunks: deque[bytes] = deque()
        self._size = 0
        self._producer: Any = None
        self._streaming = False
        self._paused = False
        self._finished = False
        self._error: BaseException | None = None
        self._waiter: asyncio.Future[None] | None = None

    # IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """
        Take what *producer* writes.

        Args:
            producer: An ``IPushProducer`` if *streaming*, else an ``IPullProducer``.
            streaming: Which of the two.

        Raises:
            RuntimeError: There is a producer already.

        Source:
            Twisted, ``IConsumer``.
        """
        if self._producer is not None:
            raise RuntimeError(f"{self!r} has a producer already, {self._producer!r}, which was not unregistered")
        if self._finished:
            producer.stopProducing()
            return
        self._producer = producer
        self._streaming = streaming
        self._paused = False
        self._ask_for_more()

    def unregisterProducer(self) -> None:
        """
        Let the producer go: the iteration ends after what it has written.

        Source:
            Twisted, ``IConsumer``.
        """
        self._producer = None
        self.finish()

    def write(self, data: bytes) -> None:
        """
        Add *data* to what is iterated over. Nothing is kept that comes after the end.

        Source:
            Twisted, ``IConsumer``.
        """
        if self._finished:
            return
        self._wake()  # by nothing, too: a pull producer is to be asked again
        if not data:
            return
        self._chunks.append(data)
        self._size += len(data)
        if self._size > self._high and self._streaming and not self._paused and self._producer is not None:
            self._paused = True
            self._producer.pauseProducing()

    def finish(self, reason: Failure | BaseException | None = None) -> None:
        """
        End the iteration after what was written.

        Args:
            reason: What the iteration raises at its end, say a protocol's connection that was lost.
        """
        if self._finished:
            return
        self._finished = True
        self._error = error_of(reason) if isinstance(reason, Failure) else reason
        self._wake()

    # The iterator

    def __aiter__(self) -> AsyncConsumer:
        return self

    async def __anext__(self) -> bytes:
        while not self._chunks:
            if self._finished:
                error, self._error = self._error, None
                try:
                    if error is not None:
                        raise error
                finally:
                    del error
                raise StopAsyncIteration
            await self._written()
        chunk = self._chunks.popleft()
        self._size -= len(chunk)
        if self._paused and self._size <= self._low and self._producer is not None and not self._finished:
            self._paused = False
            self._producer.resumeProducing()
        return chunk

    async def _written(self) -> None:
        if self._waiter is not None:
            raise RuntimeError(f"{self!r} is iterated over by another task already")
        self._waiter = asyncio.get_running_loop().create_future()
        try:
            self._ask_for_more()
            await self._waiter
        finally:
            self._waiter = None

    def _ask_for_more(self) -> None:
        """Ask a pull producer, if the iteration waits."""
        if self._waiter is not None and self._producer is not None and not self._streaming:
            self._producer.resumeProducing()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def aclose(self) -> None:
        """Want no more: forget what was written, and stop the producer."""
        self._finished = True
        self._error = None
        self._chunks.clear()
        self._size = 0
        self._wake()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()

    async def __aenter__(self) -> AsyncConsumer:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


async def produce(chunks: AsyncIterable[bytes], consumer: Any) -> None:
    """
    Write what *chunks* yields to *consumer*, no faster than that takes it.

    It is registered as a push producer, and unregistered at the end, whatever that was.

    Args:
        chunks: An asynchronous iterable; a generator is closed at the end.
        consumer: An ``IConsumer``: a transport, a ``twisted.web`` request.

    Raises:
        ConnectionResetError: *consumer* has stopped its producer: a transport does so when its connection is lost.
        Exception: What *chunks* raised.

    Context:
        A task in the reactor's thread.

    Source:
        Twisted, ``IConsumer`` and ``IPushProducer``; PEP 525.
    """
    producer = _IterationProducer()
    consumer.registerProducer(producer, True)
    try:
        async with contextlib.AsyncExitStack() as closing:
            if hasattr(chunks, "aclose"):
                closing.push_async_callback(chunks.aclose)
            await producer.run(chunks, consumer)
    finally:
        if not producer.stopped:  # a consumer that stops its producer has let it go
            consumer.unregisterProducer()


@implementer(IPushProducer)
class _IterationProducer:
    """
    Asks an asynchronous iterable for chunks as long as its consumer takes them.

    Attributes:
        stopped: Whether the consumer wants no more.
    """

    def __init__(self) -> None:
        self.stopped = False
        self._iteration = _Interruptible()
        self._writing = asyncio.Event()
        self._writing.set()

    def pauseProducing(self) -> None:
        self._writing.clear()

    def resumeProducing(self) -> None:
        self._writing.set()

    def stopProducing(self) -> None:
        if not self.stopped:
            self.stopped = True
            self._iteration.interrupt()

    async def run(self, chunks: AsyncIterable[bytes], consumer: Any) -> None:
        """Write the chunks."""
        async with self._iteration:
            if not self.stopped:
                async for chunk in chunks:
                    consumer.write(chunk)
                    if self.stopped:
                        break
                    await self._writing.wait()
        if self.stopped:
            raise ConnectionResetError("the consumer wants no more: its connection is lost, or was closed")


class _Interruptible:
    """What a task does in it can be ended by others; that is not taken for a cancellation of the task."""

    def __init__(self) -> None:
        self._task: Any = None
        self._interrupted = False
        self._requests = 0

    async def __aenter__(self) -> None:
        self._task = asyncio.current_task()
        self._requests = cancellation_requests(self._task)

    def interrupt(self) -> None:
        """End what the task does, if it waits; it is to look by itself otherwise."""
        if self._task is not None and self._task is not asyncio.current_task():
            self._interrupted = True
            self._task.cancel()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> bool:
        task, self._task = self._task, None
        if not self._interrupted:
            return False
        if sys.version_info >= (3, 11):
            task.uncancel()
        elif not isinstance(error, asyncio.CancelledError):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0)  # if it is yet to come, then here
        return isinstance(error, asyncio.CancelledError) and cancellation_requests(task) <= self._requests
