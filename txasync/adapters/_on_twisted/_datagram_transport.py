"""
The asyncio datagram transport that stands on a Twisted port. Its twin is
`txasync.adapters._on_asyncio._datagram_transport`.

==================================================  ==========================================================
asyncio's protocol calls                            and so Twisted's port is called
==================================================  ==========================================================
``sendto``                                          ``write``
``pause_reading``, ``resume_reading``               ``pauseProducing``, ``resumeProducing``, if it has them
``close``                                           ``stopListening``, when nothing waits to be sent any more
``abort``                                           ``stopListening``
==================================================  ==========================================================

What the kernel does not take at once waits here. A port does not tell when there is room; so it is a duplicate of its
socket that is watched for that. UNIX ports of Twisted's drop it, and do not tell that either.
"""

from __future__ import annotations

import asyncio
import collections
import contextvars
import errno
import logging
import os
import sys
from typing import Any

from twisted.internet.error import InvalidAddressError, MessageLengthError
from twisted.internet.interfaces import IUNIXDatagramConnectedTransport

from ...transports import WRITES_DROPPED_IN_SILENCE, BytesLike, WriteFlow, as_bytes_like, call_protocol, report
from .._errors import as_asyncio_error
from ._calls import ProtocolCalls
from ._datagram_port import as_gaierror, extra_info, in_full, take_whole_datagrams
from ._port_reader import PortReader

__all__ = ["AsyncioDatagramTransport"]

logger = logging.getLogger("asyncio")

# From Python 3.13 on an empty datagram is sent, and each one in the buffer counts for some bytes more than it has.
SENDS_EMPTY = sys.version_info >= (3, 13)
HEADER_SIZE = 8 if SENDS_EMPTY else 0

# For ports without a socket. A network card of 1 Gbit/s sends some hundred datagrams in this time.
RETRY_DELAY_S = 0.005


class AsyncioDatagramTransport(asyncio.DatagramTransport):
    """
    An asyncio datagram transport over any UDP or UNIX port of Twisted's.

    Args:
        itransport: Twisted's port: any ``IUDPTransport``, or one for UNIX datagrams. If it has a ``maxPacketSize``,
            that is raised to what asyncio's own transports receive.
        protocol: asyncio's protocol.
        loop: The loop that the protocol belongs to.
        context: The context in which the protocol is called.
        remote_addr: What *itransport* was connected to.

    Source:
        asyncio, "Transports and Protocols", "Datagram Transports"; Twisted, ``IUDPTransport``.
    """

    __slots__ = (
        "__weakref__",
        "_address",
        "_begun",
        "_buffer",
        "_buffered",
        "_closing",
        "_dropped",
        "_ending",
        "_in_context",
        "_leave_run",
        "_error",
        "_flow",
        "_info",
        "_inside",
        "_itransport",
        "_loop",
        "_lost",
        "_paused",
        "_peername",
        "_protocol",
        "_reader",
        "_refusal",
        "_retry",
        "_room",
        "_sending",
        "_takes_no_address",
        "_waiting",
    )

    def __init__(
        self,
        itransport: Any,
        protocol: asyncio.BaseProtocol,
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context,
        remote_addr: tuple[Any, ...] | None = None,
    ) -> None:
        super().__init__()
        self._itransport = itransport
        self._protocol: Any = protocol
        self._loop = loop
        calls = ProtocolCalls(loop, context)
        self._in_context = calls.run
        self._leave_run = calls.leave
        self._takes_no_address = IUNIXDatagramConnectedTransport.providedBy(itransport)
        self._info = extra_info(itransport)
        if self._info["peername"] is None and remote_addr is not None:
            self._info["peername"] = in_full(remote_addr)
        self._peername: Any = self._info["peername"]
        # As asyncio: the one peer, if that was asked for; a socket that came connected does not mind any address.
        self._address: Any = self._peername if remote_addr is not None else None
        self._flow = WriteFlow()
        self._buffer: collections.deque[tuple[bytes, Any]] = collections.deque()
        self._buffered = self._dropped = 0
        self._room: int | None = None  # a duplicate of the port's descriptor, while it is watched
        self._retry: asyncio.TimerHandle | None = None
        # Callbacks that have not been made: the names and the arguments.
        self._waiting: collections.deque[tuple[Any, ...]] = collections.deque()
        self._error: BaseException | None = None
        self._refusal: OSError | None = None
        self._begun = self._paused = self._closing = self._ending = self._lost = False
        self._inside = self._sending = False
        take_whole_datagrams(itransport)
        # Whom to ask not to read for a while.
        self._reader: Any = itransport
        if self._peername is not None and PortReader.is_for(itransport):
            self._reader = PortReader(itransport, self.fail_to_receive)

    # What asyncio.BaseTransport promises

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_closing(self) -> bool:
        return self._closing

    def is_lost(self) -> bool:
        """Whether ``connection_lost()`` has been called."""
        return self._lost

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._info.get(name, default)

    def __repr__(self) -> str:
        state = "closed" if self._lost else "closing" if self._closing else "open"
        return f"<{type(self).__name__} {state} over {self._itransport!r}>"

    def begin(self) -> None:
        """Call ``connection_made()``."""
        if not self._lost:
            self._begun = True
            self._call("connection_made", self)
            self._deliver_waiting()

    # Reading

    def is_reading(self) -> bool:
        return not self._closing and not self._paused

    def pause_reading(self) -> None:
        if self.is_reading():
            self._paused = True
            self._ask_reader("pauseProducing")

    def resume_reading(self) -> None:
        if self._paused and not self._closing:
            self._paused = False
            self._ask_reader("resumeProducing")
            self._loop.call_soon(self._deliver_waiting)

    def _ask_reader(self, method: str) -> None:
        ask = getattr(self._reader, method, None)
        if ask is not None:
            ask()

    def receive(self, data: bytes, addr: Any) -> None:
        """Twisted's port has received *data*."""
        self._happen("datagram_received", data, self._in_full(addr))

    def _in_full(self, addr: Any) -> Any:
        """The address that asyncio would tell: Twisted's ports leave out some of it, or all."""
        if addr is None:
            return self._peername
        peername = self._peername
        return peername if peername and addr == peername[:2] else in_full(addr, self._info["sockname"])

    def refuse(self) -> None:
        """The kernel has told Twisted's port that nobody is there; perhaps it has done so now that it was to send."""
        error = ConnectionRefusedError(errno.ECONNREFUSED, os.strerror(errno.ECONNREFUSED))
        if self._sending:
            self._refusal = error
        else:
            self.fail_to_receive(error)

    def fail_to_receive(self, error: OSError) -> None:
        """The socket has an error, instead of a datagram."""
        self._happen("error_received", error)

    def _happen(self, callback: str, *args: Any) -> None:
        # A port of Twisted's reads on for a while after it was stopped.
        if self._closing:
            return
        if self._paused or self._waiting or not self._begun:
            self._waiting.append((callback, *args))
        else:
            self._call(callback, *args)

    def _deliver_waiting(self) -> None:
        while self._waiting and self.is_reading():
            self._call(*self._waiting.popleft())

    def _call(self, callback: str, *args: Any) -> None:
        """Call the protocol; what it raises is reported, and the flow goes on."""
        try:
            self._in_context(call_protocol, self._loop.call_exception_handler, self, callback, *args)
        except (SystemExit, KeyboardInterrupt) as error:
            self._leave_run(error)

    # Writing

    def sendto(self, data: BytesLike, addr: Any = None) -> None:
        chunk = bytes(as_bytes_like(data))
        if not chunk and not SENDS_EMPTY:
            return
        if self._address:
            if addr not in (None, self._address):
                raise ValueError(f"Invalid address: must be None or {self._address}")
            addr = self._address
        if self._ending and (self._address or self._lost):
            self._drop_write()
            return
        if not self._buffer:
            try:
                self._send(chunk, addr)
                return
            except (BlockingIOError, InterruptedError):
                self._wait_for_room()
            except OSError as error:
                self._protocol.error_received(error)
                return
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:  # an address that is none
                self._fail(error)
                return
        self._buffer.append((chunk, addr))
        self._buffered += len(chunk) + HEADER_SIZE
        if self._flow.must_pause(self._buffered):
            call_protocol(self._loop.call_exception_handler, self, "pause_writing")

    def _drop_write(self) -> None:
        self._dropped += 1
        if self._dropped >= WRITES_DROPPED_IN_SILENCE:
            logger.warning("socket.send() raised exception.")

    def _send(self, chunk: bytes, address: Any) -> None:
        """Have Twisted's port send *chunk*; raise what a socket would."""
        self._sending = True
        try:
            if self._takes_no_address:
                self._itransport.write(chunk)
            else:
                self._itransport.write(chunk, None if self._peername else self._checked(address))
        except MessageLengthError as error:
            raise as_asyncio_error(error) from error
        except InvalidAddressError as error:
            raise as_gaierror(error) from error
        except AssertionError as error:
            raise TypeError(f"sendto() cannot send to {address!r} by {self._itransport!r}") from error
        finally:
            self._sending = False
            refusal, self._refusal = self._refusal, None
        if refusal is not None:
            raise refusal

    def _checked(self, address: Any) -> Any:
        # Twisted's ports look at the host first, whatever the rest is.
        is_ip = isinstance(self._info["sockname"], tuple)
        if is_ip and address is not None and not (isinstance(address, tuple) and len(address) > 1):
            raise TypeError(f"sendto() takes an address like (host, port), got {address!r}")
        return address

    def _wait_for_room(self) -> None:
        try:
            self._room = os.dup(self._info["socket"].fileno())
        except (KeyError, OSError):  # there is no socket, or no descriptor left
            self._retry = self._loop.call_later(RETRY_DELAY_S, self._retry_now)
        else:
            self._loop.add_writer(self._room, self._in_context, self._send_buffered)

    def _retry_now(self) -> None:
        self._retry = None
        self._in_context(self._send_buffered)
        if self._buffer and not self._ending:
            self._wait_for_room()

    def _wait_no_longer(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        room, self._room = self._room, None
        if room is not None:
            self._loop.remove_writer(room)
            os.close(room)

    def _send_buffered(self) -> None:
        buffer = self._buffer
        while buffer and not self._ending:
            chunk, address = buffer[0]
            error = None
            try:
                self._send(chunk, address)
            except (BlockingIOError, InterruptedError):
                break
            except OSError as refused:
                error = refused
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as failure:
                self._fail(failure)
                return
            buffer.popleft()
            self._buffered -= len(chunk) + HEADER_SIZE
            if error is not None:
                call_protocol(self._loop.call_exception_handler, self, "error_received", error)
        if self._ending:
            return
        if self._flow.must_resume(self._buffered):
            call_protocol(self._loop.call_exception_handler, self, "resume_writing")  # which may send, or close
        if not buffer and not self._ending:
            self._wait_no_longer()
            if self._closing:
                self._end(None)

    def get_write_buffer_size(self) -> int:
        return self._buffered

    def get_write_buffer_limits(self) -> tuple[int, int]:
        return self._flow.low, self._flow.high

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self._flow.set_marks(high, low)
        if self._flow.must_pause(self._buffered):
            call_protocol(self._loop.call_exception_handler, self, "pause_writing")

    # The end

    def close(self) -> None:
        if self._closing:
            return
        self._closing = True
        self._waiting.clear()
        if not self._buffer:
            self._end(None)

    def abort(self) -> None:
        self._force_close(None)

    def _fail(self, error: BaseException) -> None:
        report(self._loop.call_exception_handler, self, error, "Fatal write error on datagram transport")
        self._force_close(error)

    def _force_close(self, error: BaseException | None) -> None:
        if not self._ending:
            self._forget_all()
            self._end(error)

    def _forget_all(self) -> None:
        self._closing = True
        self._waiting.clear()
        self._buffer.clear()
        self._buffered = 0
        self._wait_no_longer()

    def _end(self, error: BaseException | None) -> None:
        self._ending = True
        self._error = error
        self._stop_reader()
        self._inside = True
        try:
            self._itransport.stopListening()
        finally:
            self._inside = False

    def _stop_reader(self) -> None:
        if isinstance(self._reader, PortReader):
            self._reader.stop()

    def lose(self) -> None:
        """Twisted's port is gone."""
        self._forget_all()
        self._stop_reader()
        self._ending = True
        if self._inside:
            self._loop.call_soon(self._lose)
        else:
            self._lose()

    def _lose(self) -> None:
        self._lost = True
        if self._begun:
            self._call("connection_lost", self._error)
        self._protocol = None
