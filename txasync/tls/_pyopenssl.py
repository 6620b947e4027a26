"""TLS by pyOpenSSL, in memory: that is what Twisted's connection creators give."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import Callable, Sequence
from typing import Any

from OpenSSL import SSL

from ._connection_info import handshake_info, peer_certificate, peer_certificate_der
from ._engine import Engine, HandshakeInfo, Wire
from ._errors import TLSError, TLSVerificationError
from ._records import RecordCounter
from ._verification import Host, chain_refusal, refusal

__all__ = ["PyOpenSSLEngine", "TLSProtocolStandIn"]

# What a record holds at most. Who reads so much reads all of it.
LARGEST_RECORD = 16 * 1024

# What there is to send is mostly less. More than this, and what was written of it is copied once more.
TAKE_SIZE = 128 * 1024


class TLSProtocolStandIn:
    """
    What a connection creator is given as its ``tlsProtocol``: it knows nothing of Twisted's transports.

    It has what Twisted's own creators use of a ``TLSMemoryBIOProtocol``.

    Attributes:
        factory: Itself: the factory, which wraps nothing that names protocols for ALPN.
        wrappedFactory: None.
        failure: The exception that a creator's check of the peer ended with.
        aborted: Whether a creator wants the connection to end.
    """

    wrappedFactory = None

    def __init__(self) -> None:
        self.failure: BaseException | None = None
        self.aborted = False

    @property
    def factory(self) -> TLSProtocolStandIn:
        return self

    def failVerification(self, reason: Any) -> None:
        """The peer is not who it should be: the connection is to fail, for *reason*, a ``Failure``."""
        if self.failure is None:
            self.failure = reason.value
        reason.cleanFailure()  # its frames have the connection

    def abortConnection(self) -> None:
        """End the connection."""
        self.aborted = True


class PyOpenSSLEngine(Engine):
    """
    TLS by an ``OpenSSL.SSL.Connection`` in memory.

    Args:
        connection: In its first state, with its side set, and *stand_in* as its app data.
        stand_in: What its creator was given.
        hosts: Whom the peer's certificate must be for, all of them.
    """

    __slots__ = ("_connection", "_context", "_hosts", "_may_hold", "_records", "_stand_in")

    want_read = SSL.WantReadError
    want_write = SSL.WantWriteError

    def __init__(self, connection: SSL.Connection, stand_in: TLSProtocolStandIn, hosts: Sequence[Host] = ()) -> None:
        self._connection = connection
        self._context = connection.get_context()
        self._stand_in = stand_in
        self._hosts = hosts
        # To ask for what is not there raises an exception, which takes as long as a third of a message. So records are
        # counted on the way in, and it is known whether there may be something on the way out.
        self._records = RecordCounter()
        self._may_hold = True

    # Not kept, as they are methods of this very object.

    @property
    def wire(self) -> Wire:
        return Wire(self._feed, self._take)

    @property
    def read(self) -> Callable[[int], bytes]:
        return self._read

    @property
    def pending(self) -> Callable[[], bool]:
        return self._pending

    @property
    def write(self) -> Callable[[bytes | memoryview], int]:
        return self._write

    def _feed(self, data: bytes) -> None:
        if data:
            self._records.feed(data)
            self._connection.bio_write(data)

    def _take(self) -> bytes:
        if not self._may_hold:
            return b""
        self._may_hold = False
        taken = []
        try:
            while True:
                taken.append(self._connection.bio_read(TAKE_SIZE))
                if len(taken[-1]) < TAKE_SIZE:
                    break
        except SSL.WantReadError:
            pass
        return taken[0] if len(taken) == 1 else b"".join(taken)

    def _read(self, size: int) -> bytes:
        try:
            data = self._connection.recv(size)
        except SSL.ZeroReturnError:
            self._nothing_left()
            return b""
        except SSL.Error:
            self._nothing_left()
            raise
        if len(data) < size or size >= LARGEST_RECORD:
            self._records.count -= 1
        return data

    def read_into(self, buffer: memoryview) -> int:
        try:
            received = self._connection.recv_into(buffer)  # type: ignore[arg-type]
        except SSL.ZeroReturnError:
            self._nothing_left()
            return 0
        except SSL.Error:
            self._nothing_left()
            raise
        if received < len(buffer) or received >= LARGEST_RECORD:
            self._records.count -= 1  # else there may be a part of it left
        return received

    def _nothing_left(self) -> None:
        # What was read on the way, a renegotiation or the like, may have been answered.
        self._may_hold = True
        self._records.count = 0

    def _pending(self) -> bool:
        return self._records.count > 0

    def _write(self, data: bytes | memoryview) -> int:
        self._may_hold = True
        send = self._connection.send
        sent = send(data)
        if sent < len(data):
            # pyOpenSSL's contexts have it that one call makes one record.
            rest = memoryview(data)
            with contextlib.suppress(SSL.WantReadError):
                while sent < len(data):
                    sent += send(rest[sent:])
        return sent

    def do_handshake(self) -> None:
        self._may_hold = True
        try:
            self._connection.do_handshake()
        finally:
            if self._stand_in.aborted:
                raise ConnectionAbortedError("the context's callback ended the connection during the TLS handshake")

    def check_peer(self) -> None:
        if self._stand_in.failure is not None:
            raise self._refusal(self._stand_in.failure) from self._stand_in.failure
        for host in self._hosts:
            host.check(self._connection)

    def shut_down(self) -> None:
        self._may_hold = True
        # The first call sends; the second one looks for the peer's close_notify, and finds anything else an error.
        if not self._connection.shutdown():
            self._connection.shutdown()

    def explained(self, error: Exception) -> Exception:
        if self._stand_in.failure is not None:
            explained: Exception = self._refusal(self._stand_in.failure)
            explained.__cause__ = self._stand_in.failure
            return explained
        if not isinstance(error, SSL.Error):
            return error
        explained = _explanation(self._connection, error)
        explained.__cause__ = error
        return explained

    def _refusal(self, failure: BaseException) -> TLSVerificationError:
        return refusal(failure, self._hosts[-1].name if self._hosts else None)

    def handshake_info(self) -> HandshakeInfo:
        return handshake_info(self._connection)

    @property
    def context(self) -> SSL.Context:
        return self._context

    @property
    def ssl_object(self) -> SSL.Connection:
        return self._connection

    def peer_certificate(self) -> dict[str, Any] | None:
        return peer_certificate(self._connection)

    def peer_certificate_der(self) -> bytes | None:
        return peer_certificate_der(self._connection)

    def disconnect(self) -> None:
        """There is no socket."""


def _explanation(connection: SSL.Connection, error: SSL.Error) -> OSError:
    if isinstance(error, SSL.ZeroReturnError):
        return ssl.SSLZeroReturnError(ssl.SSLErrorNumber.SSL_ERROR_ZERO_RETURN, "the peer has ended TLS")
    reasons = [reason for _library, _function, reason in error.args[0]] if error.args else []
    if "certificate verify failed" in reasons:
        return chain_refusal(connection)
    return TLSError("; ".join(reasons) or "TLS failed, and OpenSSL does not say why")
