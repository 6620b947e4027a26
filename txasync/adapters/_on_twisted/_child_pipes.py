"""
The pipes to a child that Twisted has started, as asyncio's pipe transports. Made for `_process`.

How Twisted closes its side of one:

==================================  ===================================================================================
what there is                       how it is closed
==================================  ===================================================================================
``Process.pipes[fd]``, which reads  ``loseConnection()``
``Process.pipes[fd]``, which        ``connectionLost()``, when all was written: its ``loseConnection()`` waits until the
writes                              child reads, even if nothing is left
``PTYProcess``, one descriptor for  each direction stops; when both have, ``connectionLost()``
both directions
anything else                       ``closeChildFD(fd)``, as ``IProcessTransport`` has it; without flow control
==================================  ===================================================================================
"""

from __future__ import annotations

import asyncio
import collections
import errno
import functools
import os
import select
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IPullProducer, IReadWriteDescriptor
from twisted.internet.process import ProcessWriter
from twisted.python.failure import Failure
from zope.interface import implementer

from ...transports import WRITES_DROPPED_IN_SILENCE, BytesLike, WriteFlow, as_bytes_like, logger

if TYPE_CHECKING:
    from ._process import AsyncioSubprocessTransport

__all__ = ["ChildPipe", "ReadChildPipe", "WriteChildPipe", "connect_pipes"]

STDIN, STDOUT, STDERR = range(3)


class ChildPipe(asyncio.BaseTransport):
    """
    What both kinds have in common. What is told of a pipe, the protocol of the child is told.

    Args:
        process: The transport of the child.
        fd: The number of the descriptor in the child.
        below: What Twisted has for it.
        end: Closes it; `child_lost` is to be called when that is done.
    """

    def __init__(self, process: AsyncioSubprocessTransport, fd: int, below: Any, end: Callable[[], object]) -> None:
        super().__init__()
        self._process = process
        self._fd = fd
        self._below = below
        self._end = end
        self._closing = self._lost = False

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._process.get_protocol()

    def is_closing(self) -> bool:
        return self._closing

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._below if name == "twisted_transport" else default

    def __repr__(self) -> str:
        state = "closed" if self._lost else "closing" if self._closing else "open"
        return f"<{type(self).__name__} {state} fd={self._fd} of the child>"

    def child_exited(self) -> None:
        """The child has ended; others may have the other side of the pipe still."""

    def _lose(self, error: BaseException | None) -> None:
        if not self._lost:
            self._lost = self._closing = True
            self._process.pipe_lost(self._fd, error)


class ReadChildPipe(ChildPipe, asyncio.ReadTransport):
    """
    A pipe from the child. Nothing is delivered while it is paused: what comes all the same waits.

    Source:
        asyncio, "Transports and Protocols", "Read-only Transports".
    """

    def __init__(self, process: AsyncioSubprocessTransport, fd: int, below: Any, end: Callable[[], object]) -> None:
        super().__init__(process, fd, below, end)
        self._paused = self._at_end = False
        self._reads = True  # nothing stands in the way of what comes
        self._waiting: collections.deque[bytes] = collections.deque()

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        if self.is_reading():
            self._paused = True
            self._reads = False
            self._ask("pauseProducing")

    def resume_reading(self) -> None:
        if not self._paused or self._closing:
            return
        self._paused = False
        if self._waiting:
            self._process.loop.call_soon(self._deliver_waiting)
        else:
            self._reads = True
        self._ask("resumeProducing")

    def _ask(self, method: str) -> None:
        # The number of a descriptor that is closed may be a stranger's, whom the reactor would read no more.
        if not self._at_end:
            getattr(self._below, method, lambda: None)()

    def receive(self, data: bytes) -> None:
        """Twisted has read *data*."""
        if self._reads:
            self._process.tell("pipe_data_received", self._fd, data)
        elif not self._closing:
            self._waiting.append(data)

    def _deliver_waiting(self) -> None:
        while self._waiting and self.is_reading():
            self._process.tell("pipe_data_received", self._fd, self._waiting.popleft())
        if not self._waiting and not self._closing:
            self._reads = not self._paused
            if self._at_end:
                self._lose(None)

    def child_lost(self) -> None:
        """Twisted's side is closed."""
        self._at_end = True
        if not self._waiting:
            self._lose(None)

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            self._reads = False
            self._waiting.clear()
            if self._at_end:
                self._lose(None)
            else:
                self._end()


class WriteChildPipe(ChildPipe, asyncio.WriteTransport):
    """
    A pipe to the child.

    Args:
        process: The transport of the child.
        fd: The number of the descriptor in the child.
        below: What Twisted has for it.
        end: Closes it, whatever is left to write; `child_lost` is to be called when that is done.
        write: What writes.
        is_told: Whether `drained` is called each time that all was written.
        exited: Called when the child has ended.

    Source:
        asyncio, "Transports and Protocols", "Write-only Transports".
    """

    def __init__(
        self,
        process: AsyncioSubprocessTransport,
        fd: int,
        below: Any,
        end: Callable[[], object],
        write: Callable[[bytes], object],
        *,
        is_told: bool = True,
        exited: Callable[[], object] = lambda: None,
    ) -> None:
        super().__init__(process, fd, below, end)
        self._write = write
        self._exited = exited
        self._flow = WriteFlow()
        self._is_told = is_told
        self._held = 0  # what was written since all was sent
        self._ending = False
        self._dropped = 0

    def write(self, data: BytesLike) -> None:
        chunk = bytes(as_bytes_like(data))
        if not chunk:
            return
        if self._closing:
            if self._dropped >= WRITES_DROPPED_IN_SILENCE:
                logger.warning("pipe closed by peer or os.write(pipe, data) raised exception.")
            self._dropped += 1
            return
        if self._is_told:
            self._held += len(chunk)
        self._write(chunk)
        self._pause_if_full()

    # The water marks

    def get_write_buffer_size(self) -> int:
        return self._held

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._flow.low, self._flow.high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._flow.set_marks(high, low)
        self._pause_if_full()

    def _pause_if_full(self) -> None:
        if not self._ending and self._flow.must_pause(self._held):
            self._process.hold_up(self._fd)

    def drained(self) -> None:
        """Twisted has written all."""
        self._held = 0
        if self._flow.must_resume(0):
            self._process.let_go(self._fd)  # which may write, or close
        if self._closing and not self._held:
            self._finish()

    # The end

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.close()

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._held:
                self._finish()

    def abort(self) -> None:
        if not self._lost:
            self._closing = True
            self._held = 0
            self._finish()

    def _finish(self) -> None:
        if not self._ending:
            self._ending = True
            self._end()

    def child_exited(self) -> None:
        self._exited()

    def child_lost(self) -> None:
        """Twisted's side is closed."""
        self._ending = True
        self._lose(BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE)) if self._held else None)


def connect_pipes(process: AsyncioSubprocessTransport, itransport: Any) -> dict[int, ReadChildPipe | WriteChildPipe]:
    """The pipes of *itransport*, any ``IProcessTransport``, by their numbers in the child."""
    pipes = getattr(itransport, "pipes", None)
    if isinstance(pipes, Mapping):
        return {fd: _connect(process, fd, descriptor) for fd, descriptor in pipes.items()}
    if IReadWriteDescriptor.providedBy(itransport):
        return _Terminal(process, itransport).ends

    def end(fd: int) -> Callable[[], object]:
        return functools.partial(itransport.closeChildFD, fd)

    write = functools.partial(itransport.writeToChild, STDIN)
    return {
        STDIN: WriteChildPipe(process, STDIN, itransport, end(STDIN), write, is_told=False),
        STDOUT: ReadChildPipe(process, STDOUT, None, end(STDOUT)),
        STDERR: ReadChildPipe(process, STDERR, None, end(STDERR)),
    }


def _connect(process: AsyncioSubprocessTransport, fd: int, descriptor: Any) -> ReadChildPipe | WriteChildPipe:
    """The pipe that is *descriptor*, one of ``Process.pipes``."""
    if not isinstance(descriptor, ProcessWriter):
        return ReadChildPipe(process, fd, descriptor, descriptor.loseConnection)
    end = functools.partial(_close, process.loop, descriptor)
    pipe = WriteChildPipe(process, fd, descriptor, end, descriptor.write)
    descriptor.registerProducer(_DrainListener(descriptor, pipe.drained), False)
    return pipe


class _Terminal:
    """The two directions of a ``PTYProcess``, whose one descriptor is closed when both are done with."""

    def __init__(self, process: AsyncioSubprocessTransport, itransport: Any) -> None:
        self._loop = process.loop
        self._itransport = itransport
        self._input = WriteChildPipe(
            process, STDIN, itransport, self._end_input, itransport.write, exited=self._child_exited
        )
        self._output = ReadChildPipe(process, STDOUT, itransport, self._end_output)
        self.ends: dict[int, ReadChildPipe | WriteChildPipe] = {STDIN: self._input, STDOUT: self._output}
        self._open = {STDIN, STDOUT}
        self._child_runs = True
        self._kept = -1
        itransport.registerProducer(_DrainListener(itransport, self._input.drained, self._lose), False)

    def _end_input(self) -> None:
        if self._itransport.connected:
            # What nobody reads would be in the way of what is left to read: to write it is an error, and the end.
            self._itransport.stopWriting()
        self._end(STDIN)

    def _end_output(self) -> None:
        if self._itransport.connected:
            self._itransport.stopReading()
        self._end(STDOUT)

    def _end(self, fd: int) -> None:
        self._open.discard(fd)
        self._loop.call_soon(self.ends[fd].child_lost)
        if not self._open and self._itransport.connected:
            _close(self._loop, self._itransport)

    def _lose(self) -> None:
        """Twisted is about to close the descriptor."""
        # A child may close the terminal a moment before it exits. If nobody had our side open then, it would be sent
        # SIGHUP in that moment.
        if self._child_runs and _is_hung_up(self._itransport.fileno()):
            self._kept = os.dup(self._itransport.fileno())
        for end in self.ends.values():
            end.child_lost()

    def _child_exited(self) -> None:
        self._child_runs = False
        self._input.abort()
        self._let_go()

    def _let_go(self) -> None:
        if self._kept >= 0:
            os.close(self._kept)
            self._kept = -1

    __del__ = _let_go


def _is_hung_up(fd: int) -> bool:
    """Whether nobody has the other side of the terminal open."""
    poll = select.poll()
    poll.register(fd, 0)
    return any(event & select.POLLHUP for _, event in poll.poll(0))


@implementer(IPullProducer)
class _DrainListener:
    """
    What Twisted asks for more each time that *descriptor* has written all.

    Args:
        descriptor: Where it is registered.
        drained: Called then.
        lost: Called when the descriptor is about to be closed.
    """

    def __init__(
        self, descriptor: Any, drained: Callable[[], object], lost: Callable[[], object] = lambda: None
    ) -> None:
        self._descriptor = descriptor
        self._drained = drained
        self._lost = lost

    def resumeProducing(self) -> None:
        if self._descriptor.disconnecting:
            # Somebody has closed it by Twisted's own methods, and it would stay open for our sake.
            self._descriptor.unregisterProducer()
        self._drained()

    def stopProducing(self) -> None:
        self._lost()


def _close(loop: asyncio.AbstractEventLoop, descriptor: Any) -> None:
    """Have *descriptor* closed soon, whatever it holds, as ``abortConnection()`` of Twisted's sockets does it."""
    descriptor.stopReading()
    descriptor.stopWriting()
    loop.call_soon(_lose, descriptor)


def _lose(descriptor: Any) -> None:
    if descriptor.connected:
        descriptor.connectionLost(Failure(ConnectionDone()))
