"""
Twisted's endpoints, made of asyncio's connections and servers. Its twin is `txasync.adapters._on_twisted._endpoints`.

What is connected, or listens, is the loop's; Twisted's protocols stand on it by `AsyncioProtocol`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Any

from twisted.internet.address import HostnameAddress
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import CannotListenError, ConnectingCancelledError, NoProtocol
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.python.failure import Failure
from zope.interface import implementer

from ...bridge import as_deferred
from .._addresses import NoAddress, as_iaddress
from .._errors import as_twisted_error
from ._port import LoopListeningPort
from ._protocol import AsyncioProtocol

__all__ = ["LoopClientEndpoint", "LoopServerEndpoint"]


class _LoopEndpoint:
    """What endpoints of both sides have: where they are, and what else the loop's methods take."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        host: Any = None,
        port: Any = None,
        *,
        path: Any = None,
        **options: Any,
    ) -> None:
        self._loop = loop
        self._host = host
        self._port = port
        self._path = path
        self._options = options

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {_address(self._host, self._port, self._path)} by {self._loop!r}>"


@implementer(IStreamClientEndpoint)
class LoopClientEndpoint(_LoopEndpoint):
    """
    Connects Twisted's protocols by a loop's ``create_connection()``: with all that that can do.

    Args:
        loop: The loop, of any kind.
        host: As for ``create_connection()``.
        port: Likewise.
        path: Instead: that of a UNIX socket, for ``create_unix_connection()``.
        options: What else these take: ``ssl=``, ``sock=``, ``happy_eyeballs_delay=``, ``local_addr=``...

    Source:
        Twisted, ``IStreamClientEndpoint``; asyncio, "Opening network connections".
    """

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """
        Connect a protocol of *protocolFactory*.

        Returns:
            A Deferred that fires with the protocol, which is connected; over TLS, the handshake is done. If it is
            cancelled, nothing stays open, a ``sock=`` neither, and it fails with ``ConnectingCancelledError``.
            Other failures are what Twisted's own endpoints fail with, with asyncio's error as their ``__cause__``.

        Context:
            The loop's thread; the loop may be started later.
        """
        attempt = _ConnectAttempt(protocolFactory)
        address = _address(self._host, self._port, self._path)
        working = as_deferred(self._connect(attempt), loop=self._loop)
        return _Pending(working, attempt, ConnectingCancelledError(address), self._options.get("sock"))

    async def _connect(self, attempt: _ConnectAttempt) -> Any:
        attempt.start()
        try:
            if self._path is None:
                connected = await self._loop.create_connection(
                    lambda: attempt.carrier, self._host, self._port, **self._options
                )
            else:
                connected = await self._loop.create_unix_connection(
                    lambda: attempt.carrier, self._path, **self._options
                )
        except BaseException as error:
            attempt.give_up()
            if attempt.error is not None:
                raise attempt.error
            translated = as_twisted_error(error)
            raise translated from translated.__cause__
        attempt.transport = connected[0]
        if attempt.error is not None:
            raise attempt.error
        return attempt.carrier.protocol


class _Attempt:
    """
    What a task does.

    Attributes:
        is_begun: Whether asyncio has been asked for it.
        is_built: Whether there is a connection, for which the factory was asked to build its protocol.
        is_given_up: Whether nobody waits any more; the factory does not hear of a connection that comes all the same.
        give_up: Called if nobody wants what it has come to.
    """

    give_up: Callable[[], object]

    def __init__(self) -> None:
        self.is_begun = self.is_built = self.is_given_up = False


class _ConnectAttempt(_Attempt):
    """
    One connection that is to be: *factory* is started and stopped once for it, and builds one protocol at most.

    Attributes:
        carrier: asyncio's protocol, which carries that of *factory*.
        error: Why *factory* has built no protocol.
        transport: asyncio's transport, once it is connected.
    """

    def __init__(self, factory: Any) -> None:
        super().__init__()
        self._factory = factory
        self._needs_stop = False
        self.carrier = AsyncioProtocol(self._build_protocol, is_client=True, lost=self._stop)
        self.error: BaseException | None = None
        self.transport: asyncio.Transport | None = None

    def start(self) -> None:
        """There begins an attempt."""
        self._factory.doStart()
        self.is_begun = self._needs_stop = True

    def give_up(self) -> None:
        """Abort the connection, if there is one, or see to it that there will be none."""
        self.is_given_up = True
        if self.transport is not None:
            self.transport.abort()
        elif not self.is_built:
            self._stop()

    def _stop(self) -> None:
        if self._needs_stop:
            self._needs_stop = False
            self._factory.doStop()

    def _build_protocol(self, address: Any) -> Any:
        if self.is_given_up:
            return None
        self.is_built = True
        try:
            protocol = self._factory.buildProtocol(address)
        except BaseException as error:
            self.error = error
            return None
        if protocol is None:
            self.error = NoProtocol()
        return protocol


class _Pending(Deferred[Any]):
    """
    Fires as *working* does, which comes from a task; but once it was cancelled it fails, even if that was too late.

    The end of the task is waited for, which may take some rounds of the loop.

    Args:
        working: The task's Deferred.
        attempt: What the task does. A connection whose protocol is built already is not cancelled, but given up when
            the task has ended: uvloop would not tell that protocol of the end.
        cancelled: What it fails with when it was cancelled.
        sock: What the endpoint was given as ``sock=``.
    """

    def __init__(self, working: Deferred[Any], attempt: _Attempt, cancelled: Exception, sock: Any) -> None:
        super().__init__()
        self._working: Deferred[Any] | None = working
        self._attempt = attempt
        self._cancelled = cancelled
        self._sock = sock
        self._is_cancelled = False
        working.addCallbacks(self._succeeded, self._failed)

    def cancel(self) -> None:
        if self._working is None:
            super().cancel()
        elif not self._is_cancelled:
            self._is_cancelled = True
            if not self._attempt.is_built:
                self._attempt.is_given_up = True
                self._working.cancel()

    def _succeeded(self, result: Any) -> None:
        self._working = None
        if not self._is_cancelled:
            self.callback(result)
            return
        self._attempt.give_up()
        self.errback(self._cancelled)

    def _failed(self, failure: Failure) -> None:
        self._working = None
        if not self._attempt.is_begun and self._sock is not None:
            self._sock.close()  # as asyncio would have, had the task come to its first step
        is_cancelled = self._is_cancelled or failure.check(CancelledError)
        self.errback(self._cancelled if is_cancelled else failure)


@implementer(IStreamServerEndpoint)
class LoopServerEndpoint(_LoopEndpoint):
    """
    Serves Twisted's protocols by a loop's ``create_server()``: with all that that can do.

    Args:
        loop: The loop, of any kind.
        host: As for ``create_server()``.
        port: Likewise.
        path: Instead: that of a UNIX socket, for ``create_unix_server()``.
        options: What else these take: ``ssl=``, ``sock=``, ``backlog=``, ``reuse_port=``...

    Source:
        Twisted, ``IStreamServerEndpoint``; asyncio, "Creating network servers".
    """

    def listen(self, protocolFactory: Any) -> Deferred[IListeningPort]:
        """
        Listen for connections to protocols of *protocolFactory*.

        Returns:
            A Deferred that fires with an ``IListeningPort``, or fails with ``CannotListenError``. If it is cancelled,
            nothing listens.

        Context:
            The loop's thread; the loop may be started later, and it is then that the address is bound.
        """
        attempt = _Attempt()
        working = as_deferred(self._listen(attempt, protocolFactory), loop=self._loop)
        return _Pending(working, attempt, CancelledError(), self._options.get("sock"))

    async def _listen(self, attempt: _Attempt, factory: Any) -> LoopListeningPort:
        def carrier() -> AsyncioProtocol:
            return AsyncioProtocol(factory.buildProtocol)

        options = self._options | {"start_serving": False}
        attempt.is_begun = True
        try:
            if self._path is None:
                server = await self._loop.create_server(carrier, self._host, self._port, **options)
            else:
                server = await self._loop.create_unix_server(carrier, self._path, **options)
        except OSError as error:
            if self._path is None:
                raise CannotListenError(self._host, self._port, error) from error
            raise CannotListenError(None, self._path, error) from error
        try:
            factory.doStart()
        except BaseException:
            server.close()
            raise
        port = LoopListeningPort(server, factory)
        attempt.give_up = port.stopListening
        try:
            await server.start_serving()
        except BaseException:
            port.stopListening()
            raise
        return port


def _address(host: Any, port: Any, path: Any) -> Any:
    """Where an endpoint of these arguments connects to or listens."""
    if path is not None:
        return as_iaddress(os.fspath(path))
    if host is None or port is None:
        return NoAddress()
    if isinstance(host, bytes):
        return HostnameAddress(host, port)
    try:
        return HostnameAddress(str(host).encode("idna"), port)
    except UnicodeError:  # whoever connects will be told
        return HostnameAddress(str(host).encode(errors="replace"), port)
