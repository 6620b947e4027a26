"""
The asyncio subprocess protocol that carries one of Twisted's. Its twin is `txasync.adapters._on_twisted._process`.

==========================================  =======================================================================
asyncio's transport calls                   and so Twisted's protocol is called
==========================================  =======================================================================
``connection_made``                         ``makeConnection``
``pipe_data_received``                      ``childDataReceived``; what that raises is the end of the pipe
``pipe_connection_lost``                    ``childConnectionLost``
``process_exited``                          ``processExited``
``connection_lost``                         ``processEnded``
``pause_writing``, ``resume_writing``       nothing: it is the producer of standard input that is asked
==========================================  =======================================================================

==========================================  =======================================================================
Twisted's protocol calls                    and so asyncio's transport is called
==========================================  =======================================================================
``signalProcess``                           ``send_signal``
``write``, ``writeToChild``,                ``write``, ``close`` of ``get_pipe_transport(0)``: see `_child_input`
``closeStdin``, those of ``IConsumer``
``closeStdout``, ``closeStderr``            ``close`` of ``get_pipe_transport(1)``, of ``get_pipe_transport(2)``
``pauseProducing``, ``resumeProducing``     ``pause_reading``, ``resume_reading`` of both
==========================================  =======================================================================

Nothing that the child writes is delivered while it is paused: asyncio's transport may have read it already, and then it
waits, and the end of its pipe waits behind it.
"""

from __future__ import annotations

import asyncio
import collections
from collections.abc import Iterable
from typing import Any

from twisted.internet.error import ProcessExitedAlready
from twisted.internet.interfaces import IConsumer, IProcessTransport
from twisted.python.failure import Failure
from zope.interface import implementer

from ...transports import report
from .._exits import UNKNOWN_RETURNCODE, as_exit_reason, as_signal_number, as_status
from ._child_input import ChildInput

__all__ = ["AsyncioSubprocessProtocol", "TwistedProcessTransport"]

STDIN, STDOUT, STDERR = range(3)


class AsyncioSubprocessProtocol(asyncio.SubprocessProtocol):
    """
    An asyncio protocol, for a child of any loop: what it is told, *protocol* is told.

    Args:
        protocol: Any ``IProcessProtocol``.

    Attributes:
        protocol: *protocol*.
    """

    _transport: Any
    _itransport: TwistedProcessTransport

    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol
        self._paused = self._over = False
        # What has not been delivered of each pipe, and the pipes whose end has not.
        self._waiting: dict[int, collections.deque[bytes]] = {STDOUT: collections.deque(), STDERR: collections.deque()}
        self._ends_waiting: set[int] = set()

    def connection_made(self, transport: Any) -> None:
        """The child is started."""
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._itransport = TwistedProcessTransport(transport, self)
        # The pipes of which no end was told.
        self._open = {fd for fd in (STDIN, STDOUT, STDERR) if transport.get_pipe_transport(fd) is not None}
        self._tell("makeConnection", self._itransport)

    # What comes from the child

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        """The child has written *data*."""
        if self._paused or self._waiting[fd]:
            if self._itransport.is_open(fd):
                self._waiting[fd].append(data)
        else:
            self._receive(fd, data)

    def pipe_connection_lost(self, fd: int, exc: BaseException | None) -> None:
        """A pipe has ended."""
        if fd not in self._open:
            return
        self._open.discard(fd)
        if self._waiting.get(fd):
            self._ends_waiting.add(fd)
        else:
            self._lose(fd)

    def _receive(self, fd: int, data: bytes) -> None:
        if self._itransport.is_open(fd) and not self._tell("childDataReceived", fd, data):
            self._itransport.closeChildFD(fd)

    def _lose(self, fd: int) -> None:
        self._itransport.forget(fd)
        self._tell("childConnectionLost", fd)

    def pause(self) -> None:
        """Deliver nothing until `resume`."""
        self._paused = True

    def resume(self) -> None:
        """Deliver what waits, soon."""
        self._paused = False
        self._loop.call_soon(self._deliver_waiting)

    def drop(self, fd: int) -> None:
        """Deliver nothing any more from a pipe that is closed on our side."""
        if fd in self._waiting:
            self._waiting[fd].clear()
            self._loop.call_soon(self._deliver_waiting)

    def _deliver_waiting(self) -> None:
        for fd, waiting in self._waiting.items():
            while waiting and not self._paused:
                self._receive(fd, waiting.popleft())
            if not waiting and fd in self._ends_waiting:
                self._ends_waiting.discard(fd)
                self._lose(fd)
        self._end_if_over()

    # The end

    def process_exited(self) -> None:
        """The child has ended."""
        self._itransport.returncode = self._returncode()
        self._tell("processExited", Failure(as_exit_reason(self._itransport.returncode)))

    def connection_lost(self, exc: BaseException | None) -> None:
        """The child has ended, and so have all pipes."""
        if self._open or self._itransport.returncode is None:
            # Of a child that dies at once, uvloop (0.23) may tell this first; what is missing is on its way.
            self._loop.call_soon(self._end)
        else:
            self._end()

    def _end(self) -> None:
        for fd in sorted(self._open):
            self.pipe_connection_lost(fd, None)
        self._over = True
        self._end_if_over()

    def _end_if_over(self) -> None:
        if self._over and not self._ends_waiting:
            self._over = False
            self._tell("processEnded", Failure(as_exit_reason(self._returncode())))
            # asyncio's transports want to be closed; this one has nothing left but that.
            self._transport.close()

    def _returncode(self) -> int:
        returncode: int | None = self._transport.get_returncode()
        return UNKNOWN_RETURNCODE if returncode is None else returncode

    # What asyncio's transport holds for the child

    def pause_writing(self) -> None:
        """It is more than the high-water mark."""
        self._itransport.hold_up()

    def resume_writing(self) -> None:
        """It is no more than the low-water mark."""
        self._itransport.let_go()

    def _tell(self, callback: str, *args: object) -> bool:
        """Call Twisted's protocol; whether it has not raised anything, which would be reported."""
        try:
            getattr(self.protocol, callback)(*args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self.report(error, f"protocol.{callback}() failed")
            return False
        return True

    def report(self, error: BaseException, message: str) -> None:
        """Have the loop's exception handler hear of *error*."""
        report(self._loop.call_exception_handler, self._transport, error, message)


@implementer(IProcessTransport, IConsumer)
class TwistedProcessTransport:
    """
    A Twisted process transport over any subprocess transport of asyncio's, of any loop.

    Args:
        transport: asyncio's transport.
        carrier: Whoever tells this object what happens there.

    Attributes:
        proto: Twisted's protocol.
        returncode: The return code, from just before ``processExited()`` on.

    Source:
        Twisted, ``IProcessTransport``, ``IConsumer``, and ``process.Process``, which has more than that.
    """

    returncode: int | None = None

    def __init__(self, transport: Any, carrier: AsyncioSubprocessProtocol) -> None:
        self.proto = carrier.protocol
        self._transport = transport
        self._carrier = carrier
        self._pid: int = transport.get_pid()
        pipes = {fd: transport.get_pipe_transport(fd) for fd in (STDIN, STDOUT, STDERR)}
        stdin = pipes.pop(STDIN)
        loop = asyncio.get_running_loop()
        self._stdin = None if stdin is None else ChildInput(stdin, loop, self._producer_failed)
        self._outputs: dict[int, Any] = {fd: pipe for fd, pipe in pipes.items() if pipe is not None}

    def __repr__(self) -> str:
        return f"<{type(self).__name__} pid={self.pid} status={self.status} over {self._transport!r}>"

    # IProcessTransport

    @property
    def pid(self) -> int | None:
        """The number of the child; None after its exit."""
        return self._pid if self.returncode is None else None

    @property
    def status(self) -> int:
        """How the child has ended, as ``os.wait()`` has it; -1 before."""
        return -1 if self.returncode is None else as_status(self.returncode)

    def closeStdin(self) -> None:
        """Close standard input when all was written, and the registered producer, if any, is unregistered."""
        self.closeChildFD(STDIN)

    def closeStdout(self) -> None:
        """Close standard output."""
        self.closeChildFD(STDOUT)

    def closeStderr(self) -> None:
        """Close standard error."""
        self.closeChildFD(STDERR)

    def closeChildFD(self, descriptor: int) -> None:
        """Close a pipe, by its number in the child. One that is closed, or is no pipe, is left alone."""
        if descriptor == STDIN and self._stdin is not None:
            self._stdin.loseConnection()
        elif descriptor in self._outputs:
            self._outputs.pop(descriptor).close()
            self._carrier.drop(descriptor)

    def writeToChild(self, childFD: int, data: bytes) -> None:
        """
        Send *data* to the child.

        Raises:
            KeyError: *childFD* is no pipe that we write to, or it is closed.
        """
        if childFD != STDIN or self._stdin is None:
            raise KeyError(childFD)
        self._stdin.write(data)

    def signalProcess(self, signalID: str | int) -> None:
        """
        Send a signal to the child.

        Args:
            signalID: A number, or "HUP", "STOP", "INT", "KILL" or "TERM".

        Raises:
            ProcessExitedAlready: It has ended.
            OSError: The signal cannot be sent.
        """
        if self.returncode is not None:
            raise ProcessExitedAlready
        try:
            self._transport.send_signal(as_signal_number(signalID))
        except ProcessLookupError:
            raise ProcessExitedAlready from None

    # ITransport: standard input, where there is one

    def write(self, data: bytes) -> None:
        """Send *data* to the child. It is lost if there is no standard input."""
        if self._stdin is not None:
            self._stdin.write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Send what is in *data*, likewise."""
        if self._stdin is not None:
            self._stdin.write(b"".join(data))

    def loseConnection(self) -> None:
        """Close all pipes."""
        self.closeStdin()
        self.closeStderr()
        self.closeStdout()

    def getPeer(self) -> Any:
        """A child has no address, as with Twisted's."""
        raise NotImplementedError

    def getHost(self) -> Any:
        """A child has no address, as with Twisted's."""
        raise NotImplementedError

    # IConsumer

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Let *producer* write to standard input; if there is none, it is stopped."""
        if self._stdin is not None:
            self._stdin.registerProducer(producer, streaming)
        else:
            producer.stopProducing()

    def unregisterProducer(self) -> None:
        """There is no producer any more."""
        if self._stdin is not None:
            self._stdin.unregisterProducer()

    def _producer_failed(self, error: BaseException) -> None:
        self._carrier.report(error, "the producer of standard input failed")
        if self._stdin is not None:
            self._stdin.fail()

    # What a producer has, and Twisted's process as well

    def pauseProducing(self) -> None:
        """Read no more, of any pipe, until `resumeProducing`."""
        self._carrier.pause()
        for pipe in self._outputs.values():
            pipe.pause_reading()

    def resumeProducing(self) -> None:
        """Read on."""
        for pipe in self._outputs.values():
            pipe.resume_reading()
        self._carrier.resume()

    # What the carrier tells

    def is_open(self, fd: int) -> bool:
        """Whether a pipe from the child is neither closed nor at its end."""
        return fd in self._outputs

    def forget(self, fd: int) -> None:
        """A pipe has ended."""
        self._outputs.pop(fd, None)
        if fd == STDIN and self._stdin is not None:
            stdin, self._stdin = self._stdin, None
            stdin.lose()

    def hold_up(self) -> None:
        """Standard input holds more than its high-water mark."""
        if self._stdin is not None:
            self._stdin.hold_up()

    def let_go(self) -> None:
        """Standard input holds no more than its low-water mark."""
        if self._stdin is not None:
            self._stdin.let_go()
