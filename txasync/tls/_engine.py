"""
What a TLS transport asks of the library that does the cryptography: the standard library's ``ssl``, or pyOpenSSL.

An engine is one connection's. Where it stands on the socket itself, it reads and writes there; elsewhere the transport
carries the encrypted bytes, which go in and out by the engine's `Wire`.
"""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import Any, NamedTuple

__all__ = ["Engine", "HandshakeInfo", "Wire"]


class Wire(NamedTuple):
    """Both ends of an engine that has no socket."""

    feed: Callable[[bytes], object]
    """Takes encrypted bytes that came from the peer."""
    take: Callable[[], bytes]
    """Gives the encrypted bytes that are to be sent, perhaps none."""


class HandshakeInfo(NamedTuple):
    """What a handshake has settled."""

    cipher: tuple[str, str, int] | None
    compression: str | None
    alpn_protocol: str | None
    tls_version: str | None


class Engine(abc.ABC):
    """
    The cryptography of one connection.

    An operation that cannot go on raises *want_read* or *want_write*; the transport calls it again, with the same
    arguments, when there is more to read, or room to write. Any other error is `explained` before anybody sees it.

    Attributes:
        want_read: Raised where more bytes of the peer are needed.
        want_write: Raised where the socket takes no more.
    """

    __slots__ = ()

    want_read: type[Exception]
    want_write: type[Exception]

    @property
    @abc.abstractmethod
    def wire(self) -> Wire | None:
        """Where encrypted bytes come and go; None if that is a socket of the engine's."""

    @property
    @abc.abstractmethod
    def read(self) -> Callable[[int], bytes]:
        """What takes a size in bytes, and returns at most as many; ``b""`` after the peer's close_notify."""

    @property
    @abc.abstractmethod
    def pending(self) -> Callable[[], int | bool]:
        """What tells whether something to read may be in hand, which reading finds out."""

    @property
    @abc.abstractmethod
    def write(self) -> Callable[[bytes | memoryview], int]:
        """
        What takes bytes, and returns how many of them were encrypted.

        After *want_write* it must be given the same bytes again, and perhaps more.
        """

    @abc.abstractmethod
    def read_into(self, buffer: memoryview) -> int:
        """Fill *buffer* as far as possible; 0 after the peer's close_notify."""

    @abc.abstractmethod
    def do_handshake(self) -> None:
        """Go on with the handshake."""

    @abc.abstractmethod
    def check_peer(self) -> None:
        """
        Check what the handshake itself does not, now that it is done.

        Raises:
            TLSVerificationError: The peer is not who it should be.
        """

    @abc.abstractmethod
    def shut_down(self) -> None:
        """Send close_notify, if that is not done yet; *want_read* until the peer's has come."""

    @abc.abstractmethod
    def explained(self, error: Exception) -> Exception:
        """
        What *error*, raised by an operation, is to the transport and its users.

        Returns:
            An ``ssl.SSLEOFError`` if the socket is at its end; else an ``OSError``, or *error* itself.
        """

    @abc.abstractmethod
    def handshake_info(self) -> HandshakeInfo:
        """What the handshake has settled, now that it is done."""

    @property
    @abc.abstractmethod
    def context(self) -> Any:
        """``get_extra_info("sslcontext")``."""

    @property
    @abc.abstractmethod
    def ssl_object(self) -> Any:
        """``get_extra_info("ssl_object")``."""

    @abc.abstractmethod
    def peer_certificate(self) -> dict[str, Any] | None:
        """The peer's certificate as ``ssl.SSLSocket.getpeercert()`` gives it."""

    @abc.abstractmethod
    def peer_certificate_der(self) -> bytes | None:
        """The peer's certificate in its binary form."""

    @abc.abstractmethod
    def disconnect(self) -> None:
        """The socket is about to be closed: do nothing with it from now on."""
