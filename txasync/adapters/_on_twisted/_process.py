"""
The Twisted process protocol that carries one of asyncio's. Its twin is `txasync.adapters._on_asyncio._process`.

==========================================  =======================================================================
Twisted's process calls                     and so asyncio's protocol is called
==========================================  =======================================================================
``connectionMade``                          ``connection_made``
``childDataReceived``                       ``pipe_data_received``
``childConnectionLost``                     ``pipe_connection_lost``
``processExited``                           ``process_exited``
``processEnded``                            ``pipe_connection_lost``, of each pipe of which this was not told
all of these                                ``connection_lost``, after the exit and the ends of all pipes
``resumeProducing`` of a pipe's producer    ``resume_writing``
==========================================  =======================================================================

==========================================  =======================================================================
asyncio's protocol calls                    and so Twisted's process is called
==========================================  =======================================================================
``send_signal``, ``terminate``, ``kill``    ``signalProcess``
``close``                                   ``signalProcess("KILL")``, and all pipes are closed
``get_pipe_transport(fd)`` and its methods  see `_child_pipes`
==========================================  =======================================================================
"""

from __future__ import annotations

import asyncio
import contextvars
import signal
from typing import Any

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

from ...transports import call_protocol, logger
from ...transports._process import WAIT_ENDS_AT_EXIT
from .._exits import as_returncode, as_signal_id
from ._calls import ProtocolCalls
from ._child_pipes import ReadChildPipe, WriteChildPipe, connect_pipes

__all__ = ["AsyncioSubprocessTransport", "TwistedProcessProtocol"]


class TwistedProcessProtocol(ProcessProtocol):
    """
    A Twisted process protocol, for one child: what it is told, *protocol* is told.

    Args:
        protocol: A ``SubprocessProtocol`` of asyncio's, that is not connected yet.
        loop: The loop that *protocol* belongs to. Default: the one that runs when the child is started.
        context: The context in which *protocol* is called. Default: a copy of the present one.

    Attributes:
        protocol: *protocol*.
        asyncio_transport: Its transport, once the child is started.
    """

    asyncio_transport: AsyncioSubprocessTransport | None = None

    def __init__(
        self,
        protocol: asyncio.SubprocessProtocol,
        *,
        loop: asyncio.AbstractEventLoop | None = None,
        context: contextvars.Context | None = None,
    ) -> None:
        self.protocol = protocol
        self._loop = loop
        self._context = context or contextvars.copy_context()

    def connectionMade(self) -> None:
        """The child is started."""
        loop = self._loop or self._running_loop()
        transport = AsyncioSubprocessTransport(self.transport, self.protocol, loop, self._context)
        self.asyncio_transport = transport
        transport.tell("connection_made", transport)

    def _running_loop(self) -> asyncio.AbstractEventLoop:
        try:
            return asyncio.get_running_loop()
        except RuntimeError:
            itransport: Any = self.transport
            itransport.signalProcess("KILL")
            itransport.loseConnection()
            raise RuntimeError(
                f"a child was started for {self.protocol!r}, but no asyncio loop runs here: start it when the reactor "
                f"runs, after txasync.install(), or name the loop that the protocol belongs to (loop=)"
            ) from None

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        """The child has written *data*."""
        if self.asyncio_transport is not None:
            self.asyncio_transport.receive(childFD, data)

    def childConnectionLost(self, childFD: int) -> None:
        """A pipe is closed."""
        if self.asyncio_transport is not None:
            self.asyncio_transport.child_lost(childFD)

    def processExited(self, reason: Failure) -> None:
        """The child has ended."""
        error: Any = reason.value
        if self.asyncio_transport is not None:
            self.asyncio_transport.child_exited(as_returncode(error))

    def processEnded(self, reason: Failure) -> None:
        """The child has ended, and all pipes are closed."""
        if self.asyncio_transport is not None:
            self.asyncio_transport.child_ended()


class AsyncioSubprocessTransport(asyncio.SubprocessTransport):
    """
    An asyncio transport over any process transport of Twisted's.

    Args:
        itransport: Twisted's transport: any ``IProcessTransport``.
        protocol: asyncio's protocol.
        loop: The loop that the protocol belongs to.
        context: The context in which the protocol is called.

    Attributes:
        loop: *loop*.

    Source:
        asyncio, "Transports and Protocols", "Subprocess Transports"; Twisted, ``IProcessTransport``. When the coroutine
        behind ``asyncio.subprocess.Process.wait()`` returns depends on the version of Python, as in asyncio.
    """

    def __init__(
        self,
        itransport: Any,
        protocol: asyncio.BaseProtocol,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
    ) -> None:
        super().__init__()
        self.loop = loop
        self._itransport = itransport
        self._protocol: Any = protocol
        calls = ProtocolCalls(loop, context)
        self._in_context = calls.run
        self._leave_run = calls.leave
        self._closed = self._lost = False
        self._pid: int = itransport.pid
        self._returncode: int | None = None
        self._exit_waiters: list[asyncio.Future[int]] = []
        self._full: set[int] = set()  # the pipes that hold more than their high-water mark
        self._pipes: dict[int, ReadChildPipe | WriteChildPipe] = {}
        self._pipes = connect_pipes(self, itransport)
        self._open = set(self._pipes)

    # What asyncio.SubprocessTransport promises

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_closing(self) -> bool:
        return self._closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._itransport if name == "twisted_transport" else default

    def get_pid(self) -> int:
        return self._pid

    def get_returncode(self) -> int | None:
        return self._returncode

    def get_pipe_transport(self, fd: int) -> ReadChildPipe | WriteChildPipe | None:
        return self._pipes.get(fd)

    def send_signal(self, signal: int) -> None:
        if self._lost:
            raise ProcessLookupError
        try:
            self._itransport.signalProcess(as_signal_id(signal))
        except ProcessExitedAlready:
            pass  # which asyncio minds only when all is over

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for pipe in self._pipes.values():
            pipe.close()
        if self._returncode is None:
            if self.loop.get_debug():
                logger.warning("Close running child process: kill %r", self)
            try:
                self.kill()
            except PermissionError:
                pass  # it runs as somebody else

    def __repr__(self) -> str:
        closed = " closed" if self._closed else ""
        state = "running" if self._returncode is None else f"returncode={self._returncode}"
        return f"<{type(self).__name__}{closed} pid={self._pid} {state} over {self._itransport!r}>"

    async def _wait(self) -> int:
        """The return code, when there is one: what ``asyncio.subprocess.Process.wait()`` calls."""
        if self._returncode is not None:
            return self._returncode
        waiter: asyncio.Future[int] = self.loop.create_future()
        self._exit_waiters.append(waiter)
        try:
            return await waiter
        finally:
            if waiter in self._exit_waiters:
                self._exit_waiters.remove(waiter)

    # What Twisted tells

    def receive(self, fd: int, data: bytes) -> None:
        """The child has written *data*."""
        pipe = self._pipes.get(fd)
        if isinstance(pipe, ReadChildPipe):
            pipe.receive(data)

    def child_lost(self, fd: int) -> None:
        """Twisted has closed a pipe."""
        if fd in self._pipes:
            self._pipes[fd].child_lost()

    def child_exited(self, returncode: int) -> None:
        """The child has ended."""
        if self.loop.get_debug():
            logger.info("%r exited with return code %r", self, returncode)
        self._returncode = returncode
        self._tell_soon("process_exited")
        if WAIT_ENDS_AT_EXIT:
            self._end_waits()
        for pipe in self._pipes.values():
            pipe.child_exited()
        self._finish_if_all_ended()

    def child_ended(self) -> None:
        """The child has ended, and Twisted has no pipe open any more."""
        for fd in list(self._open):
            self.child_lost(fd)

    # What pipes tell

    def hold_up(self, fd: int) -> None:
        """A pipe holds more than its high-water mark."""
        self._full.add(fd)
        if len(self._full) == 1:  # the protocol does not know which pipe it is that is full, nor how many are
            call_protocol(self.loop.call_exception_handler, self, "pause_writing")

    def let_go(self, fd: int) -> None:
        """A pipe that was full is so no more."""
        self._full.discard(fd)
        if not self._full:
            self.tell("resume_writing")

    def pipe_lost(self, fd: int, error: BaseException | None) -> None:
        """A pipe has ended."""
        self._open.discard(fd)
        self._tell_soon("pipe_connection_lost", fd, error)
        if fd in self._full:
            self._full.discard(fd)
            if not self._full and any(isinstance(self._pipes[other], WriteChildPipe) for other in self._open):
                self._tell_soon("resume_writing")
        self._finish_if_all_ended()

    # Calling the protocol

    def tell(self, callback: str, *args: object) -> None:
        """Call the protocol, in its context; what it raises is reported."""
        try:
            self._in_context(call_protocol, self.loop.call_exception_handler, self, callback, *args)
        except (SystemExit, KeyboardInterrupt) as error:
            self._leave_run(error)

    def _tell_soon(self, callback: str, *args: object) -> None:
        # Twisted may tell of the exit before spawnProcess() has returned.
        self.loop.call_soon(self.tell, callback, *args)

    # The end

    def _finish_if_all_ended(self) -> None:
        if self._returncode is not None and not self._open:
            self.loop.call_soon(self._finish)

    def _finish(self) -> None:
        if not self._lost:
            self._lost = True
            self.tell("connection_lost", None)
            self._end_waits()
            self._protocol = None

    def _end_waits(self) -> None:
        assert self._returncode is not None
        for waiter in self._exit_waiters:
            if not waiter.done():
                waiter.set_result(self._returncode)
        self._exit_waiters.clear()
