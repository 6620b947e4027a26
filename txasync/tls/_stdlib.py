"""TLS by the standard library: on a socket where that is possible, else in memory."""

from __future__ import annotations

import errno
import functools
import os
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

from ._engine import Engine, HandshakeInfo, Wire

__all__ = ["StdlibEngine", "stdlib_engine"]

# Somebody may have put another class in its place, as truststore does.
_STDLIB_CONTEXT: Any = next(base for base in ssl.SSLContext.__mro__ if base.__module__ == "ssl")

# Past the property of that class, which makes a member of an enumeration of each value, ten times as dear.
_OPTIONS: Any = _STDLIB_CONTEXT.__base__.options

_IGNORE_UNEXPECTED_EOF = int(getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0))

_changing_options = threading.Lock()


def stdlib_engine(
    context: ssl.SSLContext, server_side: bool, server_hostname: str | None, sock: socket.socket | None
) -> StdlibEngine:
    """
    An engine on *sock*, or in memory where there is none, or where *context* brings a way of its own.

    Args:
        context: The caller's.
        server_side: Whether this end is the server.
        server_hostname: Whom a client wants to talk to: for SNI, and for the check of *context*.
        sock: A connected, not blocking socket, if the bytes are to go there.
    """
    if sock is not None and isinstance(sock, socket.socket) and _stands_on_sockets(context):
        return _on_socket(context, server_side, server_hostname, sock)
    return _in_memory(context, server_side, server_hostname)


def _stands_on_sockets(context: ssl.SSLContext) -> bool:
    # What a wrap_bio() of somebody else's does, such as asking the system whom to trust, must be done.
    wrap_bio = getattr(context.wrap_bio, "__func__", None)
    return (
        wrap_bio is _STDLIB_CONTEXT.wrap_bio
        and context.sslobject_class is ssl.SSLObject
        and hasattr(context, "_wrap_socket")
    )


def _on_socket(
    context: ssl.SSLContext, server_side: bool, server_hostname: str | None, sock: socket.socket
) -> StdlibEngine:
    # OpenSSL 3 takes the end of TCP without close_notify for a failure: it answers with an alert, and refuses to send
    # the rest. In memory it never learns of that end. Only contexts have options; so this one has one more, shortly.
    with _changing_options:
        before = _OPTIONS.__get__(context)
        _OPTIONS.__set__(context, before | _IGNORE_UNEXPECTED_EOF)
        try:
            ssl_object = SocketSSLObject.on_socket(context, sock, server_side, server_hostname)
        finally:
            _OPTIONS.__set__(context, before)
    return StdlibEngine(ssl_object, None)


def _in_memory(context: ssl.SSLContext, server_side: bool, server_hostname: str | None) -> StdlibEngine:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    ssl_object = context.wrap_bio(incoming, outgoing, server_side=server_side, server_hostname=server_hostname)
    return StdlibEngine(
        ssl_object, Wire(incoming.write, outgoing.read), lambda: incoming.pending or ssl_object.pending()
    )


@functools.cache
def _wrap_bio_wants_a_name() -> bool:
    """Whether this Python refuses to make an object that is to check a name, and is given none: later releases do."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
    except ValueError:
        return True
    return False


class SocketSSLObject(ssl.SSLObject):
    """
    An ``ssl.SSLObject`` whose bytes come from a socket and go there.

    To users it tells what any other does. Reading and writing is the transport's business; and when the transport is
    lost, the descriptor may be somebody else's, so nothing touches it any more.
    """

    _connected = True

    @classmethod
    def on_socket(
        cls, context: ssl.SSLContext, sock: socket.socket, server_side: bool, server_hostname: str | None
    ) -> SocketSSLObject:
        """Begin TLS on *sock*, as ``SSLContext.wrap_bio`` does in memory, with its errors."""
        if context.check_hostname and not server_hostname and _wrap_bio_wants_a_name():
            raise ValueError("check_hostname requires server_hostname")
        self = cls.__new__(cls)
        name = server_hostname.encode("idna").decode("ascii") if isinstance(server_hostname, str) else server_hostname
        self._sslobj = context._wrap_socket(sock, server_side, name, owner=self)  # type: ignore[attr-defined]
        return self

    def disconnect(self) -> None:
        """Refuse, from now on, whatever would touch the socket."""
        self._connected = False

    def _check_connected(self) -> None:
        if not self._connected:
            raise ValueError("the connection of this ssl_object is lost: it can neither read nor write any more")

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        self._check_connected()
        return super().read(len, buffer)

    def write(self, data: Any) -> int:
        self._check_connected()
        return super().write(data)

    def do_handshake(self) -> None:
        self._check_connected()
        super().do_handshake()

    def unwrap(self) -> None:
        self._check_connected()
        super().unwrap()


PASSED_BY = ("do_handshake", "read", "write", "pending", "cipher", "compression", "selected_alpn_protocol", "version")


def _has_usual_methods(ssl_object: ssl.SSLObject) -> bool:
    kind = type(ssl_object)
    return kind is SocketSSLObject or all(getattr(kind, name) is getattr(ssl.SSLObject, name) for name in PASSED_BY)


class StdlibEngine(Engine):
    """
    TLS by an ``ssl.SSLObject``.

    Args:
        ssl_object: In its first state.
        wire: Its memory; None if it stands on a socket.
        pending: Tells whether there is something to read in hand. Default: what *ssl_object* tells, which does not know
            what is in its memory.
    """

    __slots__ = ("_context", "_inner", "_pending", "_ssl_object", "_wire")

    want_read = ssl.SSLWantReadError
    want_write = ssl.SSLWantWriteError

    def __init__(self, ssl_object: ssl.SSLObject, wire: Wire | None, pending: Callable[[], int] | None = None) -> None:
        self._ssl_object = ssl_object
        self._context = ssl_object.context
        self._wire = wire
        # Past the methods of ssl_object, which cost a call each and add nothing, unless they are somebody else's.
        self._inner: Any = ssl_object._sslobj if _has_usual_methods(ssl_object) else ssl_object  # type: ignore[attr-defined]
        self._pending: Callable[[], int] = pending or self._inner.pending

    @property
    def wire(self) -> Wire | None:
        return self._wire

    @property
    def read(self) -> Callable[[int], bytes]:
        read: Callable[[int], bytes] = self._inner.read
        return read

    @property
    def pending(self) -> Callable[[], int]:
        return self._pending

    @property
    def write(self) -> Callable[[bytes | memoryview], int]:
        write: Callable[[bytes | memoryview], int] = self._inner.write
        return write

    def read_into(self, buffer: memoryview) -> int:
        received: int = self._inner.read(len(buffer), buffer)
        return received

    def do_handshake(self) -> None:
        self._inner.do_handshake()

    def check_peer(self) -> None:
        """The handshake has checked it, as the context says."""

    def shut_down(self) -> None:
        self._ssl_object.unwrap()

    def explained(self, error: Exception) -> Exception:
        # Up to 3.12.2, ssl takes every failure of the socket for its end (python/cpython#115627). OpenSSL 3 has a
        # reason for a true one.
        has_no_reason = isinstance(error, ssl.SSLEOFError) and error.reason is None
        if has_no_reason and self._wire is None and ssl.OPENSSL_VERSION_INFO >= (3,):
            return ConnectionResetError(errno.ECONNRESET, os.strerror(errno.ECONNRESET))
        return error

    def handshake_info(self) -> HandshakeInfo:
        inner = self._inner
        return HandshakeInfo(inner.cipher(), inner.compression(), inner.selected_alpn_protocol(), inner.version())

    @property
    def context(self) -> ssl.SSLContext:
        return self._context

    @property
    def ssl_object(self) -> ssl.SSLObject:
        return self._ssl_object

    def peer_certificate(self) -> dict[str, Any] | None:
        return self._ssl_object.getpeercert()

    def peer_certificate_der(self) -> bytes | None:
        return self._ssl_object.getpeercert(binary_form=True)

    def disconnect(self) -> None:
        if isinstance(self._ssl_object, SocketSSLObject):
            self._ssl_object.disconnect()
