"""Sending a file by reading and writing it, where the kernel cannot."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Protocol, runtime_checkable

from ._services import LoopServices

__all__ = ["CopyTarget", "copy_file"]

BLOCK_SIZE = 16 * 1024


@runtime_checkable
class CopyTarget(Protocol):
    """What a transport has to have: asyncio's methods, and two that tell how it is."""

    def write(self, data: Any) -> None: ...
    def is_closing(self) -> bool: ...
    def is_reading(self) -> bool: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...
    def get_protocol(self) -> asyncio.BaseProtocol: ...

    def is_writing_paused(self) -> bool:
        """Whether the protocol was asked to pause writing, and not yet to resume."""
        ...

    def is_lost(self) -> bool:
        """Whether ``connection_lost()`` has been called."""
        ...


async def copy_file(
    services: LoopServices,
    transport: CopyTarget,
    file: Any,
    offset: int,
    count: int | None,
    in_thread: Callable[..., Awaitable[int]],
) -> int:
    """
    Send *count* bytes of *file* over *transport*, or all, from *offset* on; nothing is read meanwhile.

    Args:
        services: The loop.
        transport: The transport.
        file: A file object, open in binary mode.
        offset: Where to begin, in bytes.
        count: How many bytes to send at most; None for all.
        in_thread: Calls what it is given in a thread.

    Returns:
        How many bytes were sent; the file stands behind them.

    Raises:
        ConnectionError: The connection was lost.
    """
    if hasattr(file, "seek"):
        file.seek(offset)
    buffer = memoryview(bytearray(BLOCK_SIZE))
    sent = 0
    stand_in = _StandIn(services, transport)
    try:
        while count is None or sent < count:
            room = BLOCK_SIZE if count is None else min(BLOCK_SIZE, count - sent)
            read = await in_thread(file.readinto, buffer[:room])
            if not read:
                break
            transport.write(buffer[:read])
            await stand_in.drained()
            sent += read
        return sent
    finally:
        if sent and hasattr(file, "seek"):
            file.seek(offset + sent)
        stand_in.leave()


class _StandIn(asyncio.Protocol):
    """Takes the place of a transport's protocol, to hear when to pause and to resume writing."""

    def __init__(self, services: LoopServices, transport: CopyTarget) -> None:
        self._services = services
        self._transport = transport
        self._protocol: Any = transport.get_protocol()
        self._was_reading = transport.is_reading()
        self._was_paused = transport.is_writing_paused()
        self._may_write: asyncio.Future[None] | None = None
        transport.pause_reading()
        transport.set_protocol(self)
        if self._was_paused:
            self.pause_writing()

    async def drained(self) -> None:
        if self._transport.is_closing():
            raise ConnectionError("Connection closed by peer")
        if self._may_write is not None:
            await self._may_write

    def pause_writing(self) -> None:
        self._may_write = self._services.create_future()

    def resume_writing(self) -> None:
        may_write, self._may_write = self._may_write, None
        if may_write is not None and not may_write.done():
            may_write.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        may_write, self._may_write = self._may_write, None
        if may_write is not None and not may_write.done():
            may_write.set_exception(exc or ConnectionError("Connection is closed by peer"))
        self._protocol.connection_lost(exc)

    def leave(self) -> None:
        """Put the protocol back, and tell it what has changed since."""
        if self._transport.is_lost():
            return
        self._transport.set_protocol(self._protocol)
        if self._was_reading:
            self._transport.resume_reading()
        is_paused = self._transport.is_writing_paused()
        if self._was_paused and not is_paused:
            self._protocol.resume_writing()
        elif is_paused and not self._was_paused:
            self._protocol.pause_writing()
