"""
The life of a TLS connection: the handshake, the way to the end, and what is known of it.

=============  ==============================================  =========================================================
state          meaning                                         next
=============  ==============================================  =========================================================
HANDSHAKE      the handshake is going on                       OPEN: it is done; ENDED: it failed, ``close()``
OPEN           the protocol reads and writes                   FLUSHING: ``close()``, the peer's end
FLUSHING       what was written before the end is being sent   SHUTDOWN: all is sent
SHUTDOWN       our close_notify is sent, the peer's awaited    ENDED: it came, or the end of the connection
ENDED          the transport below is closing, or lost         -
=============  ==============================================  =========================================================

``abort()``, an error, and the loss of the transport below lead from any state to ENDED. ``connection_lost()`` is called
when the transport below is lost.
"""

from __future__ import annotations

import asyncio
import enum
import ssl
import warnings
from collections.abc import Callable
from typing import Any

from ..tls import Engine, HandshakeInfo
from ._reports import report
from ._services import LoopServices
from ._socket import logger
from ._time_limits import TimeLimits

__all__ = ["State", "TLSLife"]


class State(enum.Enum):
    """Where a TLS connection is in its life."""

    HANDSHAKE = enum.auto()
    OPEN = enum.auto()
    FLUSHING = enum.auto()
    SHUTDOWN = enum.auto()
    ENDED = enum.auto()


class TLSLife(asyncio.Transport):
    """
    What there is to a TLS transport beside reading and writing.

    Args:
        services: The loop.
        engine: The connection's cryptography.
        protocol: The protocol.
        concluded: Called once: with None after ``connection_made()``, or with the error of the handshake.
        call_connection_made: Whether the protocol is to be told of the connection; else it has been already.
        server_side: Whether this end is the server, which waits for the client's first word.
        handshake_limits: The limits of the time for the handshake.
        shutdown_limits: Those of the time from the end of the connection to the loss of it.
    """

    __slots__ = (
        "__weakref__",
        "_below",
        "_below_ended",
        "_closing",
        "_concluded",
        "_connected",
        "_delivered",
        "_engine",
        "_eof_told",
        "_error",
        "_handshake_info",
        "_handshake_limits",
        "_lost",
        "_peer_certificate",
        "_protocol",
        "_server_side",
        "_services",
        "_shutdown_limits",
        "_state",
    )

    _below: Any
    _protocol: Any

    def __init__(
        self,
        services: LoopServices,
        engine: Engine,
        protocol: asyncio.BaseProtocol,
        concluded: Callable[[BaseException | None], None],
        *,
        call_connection_made: bool,
        server_side: bool,
        handshake_limits: TimeLimits,
        shutdown_limits: TimeLimits,
    ) -> None:
        self._services = services
        self._engine = engine
        self._concluded: Callable[[BaseException | None], None] | None = concluded
        self._connected = not call_connection_made
        self._server_side = server_side
        self._handshake_limits = handshake_limits
        self._shutdown_limits = shutdown_limits
        self._below = None
        self._state = State.HANDSHAKE
        self._error: BaseException | None = None
        self._handshake_info: HandshakeInfo | None = None
        self._peer_certificate: dict[str, Any] = {}
        self._below_ended = self._delivered = self._eof_told = self._closing = self._lost = False
        self.set_protocol(protocol)

    def stand_on(self, below: Any) -> None:
        """Have *below* for the transport below, whose protocol is `below_protocol`."""
        self._below = below

    def below_protocol(self) -> asyncio.BaseProtocol:
        """The protocol of the transport below."""
        raise NotImplementedError

    # What asyncio.BaseTransport promises

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    def is_closing(self) -> bool:
        return self._closing or (self._below is not None and self._below.is_closing())

    def is_lost(self) -> bool:
        """Whether ``connection_lost()`` has been called."""
        return self._lost

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        if name == "sslcontext":
            return self._engine.context
        if self._handshake_info is not None:
            if name in HandshakeInfo._fields:
                return getattr(self._handshake_info, name)
            if name == "ssl_object":
                return self._engine.ssl_object
            if name in ("peercert", "peercert_der"):
                return self._ask_for_peer_certificate(name)
        return default if self._below is None else self._below.get_extra_info(name, default)

    def _ask_for_peer_certificate(self, name: str) -> Any:
        # Few ask, and it takes a tenth of a handshake to tell.
        known = self._peer_certificate
        if name not in known:
            engine = self._engine
            known[name] = engine.peer_certificate() if name == "peercert" else engine.peer_certificate_der()
        return known[name]

    def __repr__(self) -> str:
        state = "closed" if self._lost else self._state.name.lower()
        return f"<{type(self).__name__} {state} over {self._below!r}>"

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if not self._lost:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)

    # How encrypted bytes come and go

    def _push(self) -> None:
        """Hand on what was encrypted."""

    def _wait_for_bytes(self) -> None:
        """Nothing can be done until more comes from the peer."""
        self._push()

    def _wait_for_room(self) -> None:
        """Nothing can be done until more can be sent."""
        raise NotImplementedError

    # The handshake

    def _begin(self) -> None:
        """The transport below is connected."""
        if self._state is State.HANDSHAKE:
            self._handshake_limits.begin(self, self._give_up_handshake)
            if not self._server_side:
                self._go_on_with_handshake()

    def _give_up_handshake(self) -> None:
        if self._state is State.HANDSHAKE:
            seconds = self._handshake_limits.seconds
            text = f"SSL handshake is taking longer than {seconds} seconds: aborting the connection"
            self._fail_handshake(ConnectionAbortedError(text))

    def _go_on_with_handshake(self) -> None:
        engine = self._engine
        try:
            engine.do_handshake()
        except engine.want_read:
            self._wait_for_bytes()
            if self._below_ended:
                self._fail_handshake(_of_handshake(ssl.SSLEOFError()))
        except engine.want_write:
            self._wait_for_room()
        except Exception as error:
            self._push()  # the alert that tells the peer why
            self._fail_handshake(_of_handshake(engine.explained(error)))
        else:
            self._check_peer()

    def _check_peer(self) -> None:
        try:
            self._engine.check_peer()
        except Exception as error:
            self._fail_handshake(error)  # and nothing is pushed that would tell the peer that all is well
        else:
            self._push()
            self._open()

    def _fail_handshake(self, error: BaseException) -> None:
        if self._services.get_debug():
            logger.debug("%r: SSL handshake failed", self, exc_info=error)
        self._end(error)
        self._conclude(error)

    def _conclude(self, error: BaseException | None) -> None:
        concluded, self._concluded = self._concluded, None
        if concluded is not None:
            concluded(error)

    def _open(self) -> None:
        self._handshake_limits.end(self)
        self._state = State.OPEN
        self._handshake_info = self._engine.handshake_info()
        self.set_protocol(self._protocol)
        if not self._connected:
            self._connected = True
            try:
                self._protocol.connection_made(self)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._fail(error, "Fatal error: protocol.connection_made() call failed.")
                return
        self._conclude(None)
        self._opened()

    def _opened(self) -> None:
        """The handshake is done, and everybody has been told."""
        raise NotImplementedError

    # The end

    def close(self) -> None:
        if self._state is State.HANDSHAKE:
            self._end(None)
        elif self._state is State.OPEN:
            self._closing = True
            self._state = State.FLUSHING
            self._shutdown_limits.begin(self, self._give_up_shutdown)
            self._flush()

    def abort(self) -> None:
        self._end(None)

    def _flush(self) -> None:
        """Send what was written before the end, if there is any, and then `_shut_down`."""
        raise NotImplementedError

    def _receive_end(self) -> None:
        """The peer has ended, by close_notify or without it: it is answered, once what there is to send is sent."""
        self._tell_eof()
        self.close()

    def _tell_eof(self) -> None:
        if self._eof_told or self._state is State.ENDED:
            return
        self._eof_told = True
        try:
            keep_open = self._protocol.eof_received()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._fail(error, "Error calling eof_received()")
            return
        if keep_open:
            logger.warning("returning true from eof_received() has no effect when using ssl")

    def _shut_down(self) -> None:
        self._delivered = not self.get_write_buffer_size()
        self._state = State.SHUTDOWN
        self._below.resume_reading()
        self._go_on_with_shutdown()

    def _go_on_with_shutdown(self) -> None:
        engine = self._engine
        try:
            engine.shut_down()
        except engine.want_read:
            self._wait_for_bytes()
            if not self._below_ended:
                return
        except engine.want_write:
            self._wait_for_room()
            return
        except Exception as error:
            explained = engine.explained(error)
            if getattr(explained, "reason", None) == "APPLICATION_DATA_AFTER_CLOSE_NOTIFY":
                self._linger()
                return
            if not (self._eof_told or isinstance(explained, ssl.SSLEOFError | ssl.SSLZeroReturnError)):
                self._fail(explained, "Fatal error on SSL protocol")
                return
        self._push()
        self._tell_eof()
        if self._state is State.SHUTDOWN:
            # The time limit stays: a peer that does not read keeps the transport below from sending the rest.
            self._state = State.ENDED
            self._services.call_soon(self._below.close)

    def _linger(self) -> None:
        """
        The peer, which has not seen our close_notify yet, goes on sending: drop that, until it ends or the time is up.

        OpenSSL takes it for a failure. But to close a socket that has unread data is to reset the connection; and what
        has not reached the peer by then is lost, though ``close()`` promises to deliver it.
        """
        self._push()
        self._state = State.ENDED
        self._below.set_protocol(_Lingering(self))
        try:
            self._below.write_eof()
        except NotImplementedError:
            self._below.close()

    def _give_up_shutdown(self) -> None:
        self._end(TimeoutError("SSL shutdown timed out"))

    def _fail(self, error: BaseException, message: str) -> None:
        """*error* is the end of the connection; one that is not the peer's or the network's is reported as well."""
        if self._state is State.ENDED:
            return
        if not isinstance(error, OSError):
            report(self._services.call_exception_handler, self, error, message)
        elif self._services.get_debug():
            logger.debug("%r: %s", self, message, exc_info=error)
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        """End at once, without a word to the peer."""
        if self._lost:
            return
        self._closing = True
        self._state = State.ENDED
        self._error = self._error or error
        self._stop()
        if self._below is not None:
            self._below.abort()

    def _stop(self) -> None:
        """Nothing is read or written any more."""
        raise NotImplementedError

    def _lose(self, error: BaseException | None) -> None:
        """The transport below is lost."""
        self._handshake_limits.end(self)
        self._shutdown_limits.end(self)
        self._stop()
        self._engine.disconnect()
        own_error, self._error = self._error, None
        if self._eof_told and self._delivered:
            error = None  # it has ended, and has everything: that it does not wait for our goodbye is its affair
        error = own_error or error
        self._state = State.ENDED
        self._closing = self._lost = True
        protocol, self._protocol = self._protocol, None
        self._conclude(error or ConnectionAbortedError("the connection was closed during the TLS handshake"))
        if self._connected:
            protocol.connection_lost(error)


class _Lingering(asyncio.Protocol):
    """The protocol of a transport below whose bytes do not matter any more."""

    def __init__(self, life: TLSLife) -> None:
        self._life = life

    def connection_lost(self, error: Exception | None) -> None:
        self._life._lose(error)


def _of_handshake(error: Exception) -> Exception:
    """*error*, or what asyncio makes of an end in the middle of the handshake."""
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        reset = ConnectionResetError("the peer closed the connection during the TLS handshake")
        reset.__cause__ = error
        return reset
    return error
