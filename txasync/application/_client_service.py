"""A service that keeps one of asyncio's protocols connected by an endpoint of Twisted's."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from typing import Any

from twisted.application.internet import backoffPolicy
from twisted.internet.defer import CancelledError, Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..adapters._on_twisted import AsyncioTransport, as_client_endpoint, establish
from ..bridge import as_future
from ._services import TaskService

__all__ = ["ClientService"]

_log = Logger()

# How long a connection that is closed has to send what was written.
CLOSE_TIMEOUT_S = 5.0

# How long one that was aborted has to be gone, which is a matter of a turn or two.
ABORT_TIMEOUT_S = 1.0


class ClientService(TaskService):
    """
    Keeps a protocol of asyncio's connected by an endpoint of Twisted's: after a loss, or a failure, it connects again.

    Twisted's own ``ClientService`` does so for protocols of Twisted's. This one takes a connection for one when
    asyncio's protocol has it: over TLS, after the handshake. Why a connection failed is logged, with its traceback if
    it was not the network's fault.

    Args:
        endpoint: An ``IStreamClientEndpoint``, or the description of one, such as ``"tls:example.com:443"``.
        protocol_factory: Called without arguments for each connection; makes a ``Protocol`` or a ``BufferedProtocol``.
        retry_policy: Called with the number of failures in a row, of which a loss is the first; returns how many
            seconds to wait then. Default: ``twisted.application.internet.backoffPolicy()``.
        prepare: Called with each protocol when it is connected, before anybody gets it: a coroutine function, a
            function that returns a Deferred, or a function. If it fails, the connection has; if that is lost, it is
            cancelled.
        reactor: The reactor that connects. Default: the process's.

    Raises:
        TypeError: *endpoint* is neither, or *protocol_factory* cannot be called.
        ValueError: The description says nothing that Twisted knows.

    Context:
        The reactor's thread; the service may be made before the reactor runs, and before twistd forks.

    Source:
        Twisted, ``twisted.application.internet.ClientService``; asyncio, "Protocols".
    """

    def __init__(
        self,
        endpoint: Any,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *,
        retry_policy: Callable[[int], float] | None = None,
        prepare: Callable[[Any], object] | None = None,
        reactor: Any = None,
    ) -> None:
        if not callable(protocol_factory):
            raise TypeError(f"ClientService takes a callable that makes asyncio protocols, got {protocol_factory!r}")
        if reactor is None:
            from twisted.internet import reactor
        super().__init__(self._stay_connected, reactor=reactor)
        self._endpoint = as_client_endpoint(endpoint, reactor)
        self._shown = endpoint if isinstance(endpoint, str) else repr(endpoint)
        self._protocol_factory = protocol_factory
        self._retry_policy = retry_policy or backoffPolicy()
        self._prepare = prepare
        self._protocol: asyncio.BaseProtocol | None = None
        self._waiters: dict[Deferred[Any], int | None] = {}

    def whenConnected(self, failAfterFailures: int | None = None) -> Deferred[Any]:
        """
        Return the protocol that is connected, or the next one.

        Args:
            failAfterFailures: After how many failures, from now on, to give up. Default: never.

        Returns:
            A Deferred that fires with one of *protocol_factory*'s protocols; or fails with the last failure, or with
            ``twisted.internet.defer.CancelledError`` when the service is stopped, or was.

        Context:
            The reactor's thread, before the service is started or after.

        Source:
            Twisted, ``twisted.application.internet.ClientService.whenConnected``.
        """
        was_started = self._started is not None
        if was_started and (not self.running or (self._task is not None and self._task.done())):
            return fail(CancelledError())
        if self._protocol is not None:
            return succeed(self._protocol)
        waiter: Deferred[Any] = Deferred(self._forget)
        self._waiters[waiter] = failAfterFailures
        return waiter

    def stopService(self) -> Deferred[None]:
        """
        Close the connection, and connect no more.

        What was written is sent, if the peer takes it within some seconds.

        Returns:
            A Deferred that fires with None when the connection is lost.
        """
        stopped = super().stopService()
        self._protocol = None
        self._tell_waiters(lambda waiter: waiter.errback(CancelledError()))
        return stopped

    async def _stay_connected(self) -> None:
        failures = 0
        try:
            while True:
                connection = _Connection(self._protocol_factory)
                try:
                    protocol = await connection.open(self._endpoint, self._reactor, self._prepare)
                except Exception as error:
                    failures += 1
                    self._tell_of_a_failure(error)
                else:
                    await self._until_lost(connection, protocol)
                    failures = 1
                await self._wait(failures)
        except BaseException as error:
            reason = CancelledError() if isinstance(error, asyncio.CancelledError) else error
            if (
                asyncio.current_task() is self._task
            ):  # else the service was stopped, and who waits now, waits for the next
                self._tell_waiters(lambda waiter: waiter.errback(Failure(reason)))
            raise

    async def _until_lost(self, connection: _Connection, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol
        try:
            self._tell_waiters(lambda waiter: waiter.callback(protocol))
            await asyncio.wait([connection.lost])
        finally:
            self._protocol = None
            await connection.close()

    async def _wait(self, failures: int) -> None:
        delay_s = self._retry_policy(failures)
        _log.info(
            "connecting {endpoint} again in {delay_s:.1f} seconds, after failure {failures} in a row",
            endpoint=self._shown,
            delay_s=delay_s,
            failures=failures,
        )
        await asyncio.sleep(delay_s)

    # Who waits

    def _tell_of_a_failure(self, error: Exception) -> None:
        if isinstance(error, OSError):
            _log.info("{endpoint} cannot be connected: {error!r}", endpoint=self._shown, error=error)
        else:
            _log.failure(
                "{endpoint!r} cannot be connected",
                Failure(error, type(error), error.__traceback__),
                endpoint=self._endpoint,
            )
        given_up = [waiter for waiter, chances in self._waiters.items() if chances is not None and chances <= 1]
        self._waiters = {
            waiter: None if chances is None else chances - 1
            for waiter, chances in self._waiters.items()
            if waiter not in given_up
        }
        for waiter in given_up:
            if not waiter.called:
                waiter.errback(error)

    def _tell_waiters(self, tell: Callable[[Deferred[Any]], None]) -> None:
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            # What is told to the one may cancel another.
            if not waiter.called:
                tell(waiter)

    def _forget(self, waiter: Deferred[Any]) -> None:
        self._waiters.pop(waiter, None)


class _Connection:
    """
    An attempt to connect, and what comes of it, which is to be left only when nothing of it is open.

    Args:
        protocol_factory: As of `ClientService`.

    Attributes:
        lost: Done when the connection is lost.
    """

    def __init__(self, protocol_factory: Callable[[], asyncio.BaseProtocol]) -> None:
        self._protocol_factory = protocol_factory
        self._transport: AsyncioTransport | None = None
        self._is_open = False
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def open(self, endpoint: Any, reactor: Any, prepare: Callable[[Any], object] | None) -> asyncio.BaseProtocol:
        """Connect, and return the protocol when it is prepared."""
        try:
            protocol: asyncio.BaseProtocol = await _result_of(self._establish(endpoint, reactor))
            preparing = None if prepare is None else prepare(protocol)
            if isinstance(preparing, Deferred):
                preparing = as_future(preparing)
            if inspect.isawaitable(preparing):
                await _result_of(preparing, unless=self.lost)
            if self.lost.done():
                raise ConnectionResetError("the connection was lost while it was prepared")
        except BaseException:
            await self._abort()
            raise
        return protocol

    async def _establish(self, endpoint: Any, reactor: Any) -> Any:
        self._transport = await establish(endpoint, self._make_protocol, reactor=reactor, lost=self._is_lost)
        return self._transport.get_protocol()

    def _make_protocol(self) -> asyncio.BaseProtocol:
        protocol = self._protocol_factory()
        # Twisted asks for a protocol when the connection is there.
        self._is_open = True
        return protocol

    def _is_lost(self, iprotocol: object) -> None:
        self._is_open = False
        if not self.lost.done():
            self.lost.set_result(None)

    async def close(self) -> None:
        """Close the connection, if it is open, and wait until it is lost."""
        if self._is_open and self._transport is not None:
            self._transport.close()
            try:
                await asyncio.wait([self.lost], timeout=CLOSE_TIMEOUT_S)
            finally:
                await self._abort()

    async def _abort(self) -> None:
        """Abort the connection, if it is open, or is being aborted already; and wait until it is lost."""
        if self._is_open:
            if self._transport is not None:
                self._transport.abort()
            await asyncio.wait([self.lost], timeout=ABORT_TIMEOUT_S)


async def _result_of(awaitable: Awaitable[Any], *, unless: asyncio.Future[None] | None = None) -> Any:
    """
    What *awaitable* returns; it is cancelled when the present task is, or when *unless* is done before it.

    If somebody else cancels it, that is a failure: the present task was not cancelled.
    """
    task = asyncio.ensure_future(awaitable)
    try:
        await asyncio.wait([task] if unless is None else [task, unless], return_when=asyncio.FIRST_COMPLETED)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])
    if not task.cancelled():
        return task.result()
    if unless is not None and unless.done():
        return None
    raise ConnectionAbortedError("the connection was cancelled before it could be used")
