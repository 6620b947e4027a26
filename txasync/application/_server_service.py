"""A service that serves asyncio's protocols on an endpoint of Twisted's."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

from twisted.application.service import Service
from twisted.internet.defer import Deferred, TimeoutError, maybeDeferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from ..adapters._on_twisted import STREAM_LIMIT, ServerFactory, as_server_endpoint
from ..running import install
from ._stream_handlers import ClientConnected, StreamHandlers

__all__ = ["ServerService"]

_log = Logger()

# How long what serves streams has to end when it is cancelled, and then connections to send what was written.
CLOSE_TIMEOUT_S = 5.0

# How long what was aborted has to be gone, which is a matter of a turn or two.
ABORT_TIMEOUT_S = 1.0

# Connections that wait to be accepted are no more than a backlog; a port that cannot accept does not lessen them.
MOST_ACCEPTS = 1000

# One that needs no descriptor, which the process may have run out of.
_Selector: type[selectors.BaseSelector] = getattr(selectors, "PollSelector", selectors.SelectSelector)


class ServerService(Service):
    """
    Serves asyncio's protocols on an endpoint of Twisted's.

    It listens from ``privilegedStartService()`` on, before privileges are shed, or else from ``startService()`` on;
    when it is stopped, nothing of it remains: no port, no connection, no task of a connection. If it is started again
    before that, it listens when the stop is done.

    Args:
        endpoint: An ``IStreamServerEndpoint``, or the description of one, such as ``"tcp:8080"``.
        protocol_factory: Called without arguments for each connection; makes a ``Protocol`` or a ``BufferedProtocol``.
        graceful_s: How many seconds connections have to end by themselves when the service is stopped, before they are
            closed. Default: none.
        reactor: The reactor that listens. Default: the process's.

    Raises:
        TypeError: *endpoint* is neither, or *protocol_factory* cannot be called.
        ValueError: The description says nothing that Twisted knows.
        OSError: A file that it names cannot be read.

    Attributes:
        port: The ``IListeningPort``, while it listens; else None.

    Context:
        The reactor's thread; the service may be made before the reactor runs, and before twistd forks.

    Source:
        Twisted, ``IService``, ``StreamServerEndpointService``; asyncio, "Creating network servers".
    """

    port: Any = None
    _listening: Deferred[None] | None = None
    _stopping: Deferred[None] | None = None
    _awaited: tuple[Callable[[], object], Deferred[None]] | None = None
    _is_paused = False

    def __init__(
        self,
        endpoint: Any,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        *,
        graceful_s: float = 0.0,
        reactor: Any = None,
    ) -> None:
        if not callable(protocol_factory):
            raise TypeError(f"ServerService takes a callable that makes asyncio protocols, got {protocol_factory!r}")
        if reactor is None:
            from twisted.internet import reactor
        self._reactor = reactor
        self._endpoint = as_server_endpoint(endpoint, reactor)
        self._factory = ServerFactory(protocol_factory)
        self._factory.none_left = self._something_has_ended
        self._handlers: StreamHandlers | None = None
        self._graceful_s = graceful_s

    @classmethod
    def for_streams(
        cls,
        endpoint: Any,
        client_connected_cb: ClientConnected,
        *,
        limit: int = STREAM_LIMIT,
        graceful_s: float = 0.0,
        reactor: Any = None,
    ) -> ServerService:
        """
        Make a service of asyncio's streams: ``asyncio.start_server()``, as a service.

        Args:
            endpoint: As for the class.
            client_connected_cb: Called in a task, with a reader and a writer, for each connection; a coroutine
                function, or a function. If it fails, the loop's exception handler is told, and the connection is
                closed. When the service is stopped, the tasks are waited for, and those that last too long are
                cancelled before their connections are closed.
            limit: How much a reader buffers, in bytes, before it pauses reading: twice this.
            graceful_s: As for the class.
            reactor: As for the class.

        Raises:
            Exception: As the class.

        Context:
            As the class.

        Source:
            asyncio, "Streams".
        """
        handlers = StreamHandlers(client_connected_cb, limit)
        service = cls(endpoint, handlers, graceful_s=graceful_s, reactor=reactor)
        service._handlers = handlers
        handlers.one_ended = service._something_has_ended
        return service

    # The beginning

    def privilegedStartService(self) -> None:
        """
        Listen, with the privileges that the process has yet.

        Raises:
            twisted.internet.error.CannotListenError: The endpoint refuses at once.
            OSError: As well, before it comes to that: a lock file of a UNIX socket cannot be made.
        """
        Service.privilegedStartService(self)
        self._listen()

    def startService(self) -> Deferred[None]:
        """
        Listen, unless it does; and serve when the reactor runs.

        Returns:
            A Deferred that fires with None when it listens, or when the service was stopped before; or fails with what
            kept the endpoint from it.

        Raises:
            twisted.internet.error.CannotListenError: The endpoint refuses at once.
            OSError: As well, before it comes to that: a lock file of a UNIX socket cannot be made.
        """
        listening = self._listen()
        Service.startService(self)
        self._reactor.callWhenRunning(self._install_loop)
        return _end_of(listening)

    def _install_loop(self) -> None:
        if self.running:
            install(self._reactor)

    def _listen(self) -> Deferred[None]:
        if self._listening is not None:
            return self._listening
        if self._stopping is None:
            listening = self._endpoint.listen(self._factory)
        else:
            listening = _end_of(self._stopping).addCallback(lambda ended: self._endpoint.listen(self._factory))
        self._listening = listening
        refusals: list[Failure] = []

        def refuse(failure: Failure) -> Failure | None:
            if self._listening is not listening:
                return None  # the service was stopped, which is why
            self._listening = None
            refusals.append(failure)
            return failure

        listening.addCallback(self._has_port).addErrback(refuse)
        if refusals:
            listening.addErrback(lambda failure: None)
            refusals[0].raiseException()
        return listening  # type: ignore[no-any-return]  # an endpoint's Deferred

    def _has_port(self, port: Any) -> None:
        self.port = port
        if self._is_paused:
            self.pause()

    def pause(self) -> None:
        """Accept nobody until `resume`: the kernel lets clients wait. Ports without descriptors cannot do so."""
        self._is_paused = True
        if hasattr(self.port, "stopReading"):
            self.port.stopReading()

    def resume(self) -> None:
        """Accept connections again."""
        self._is_paused = False
        if hasattr(self.port, "startReading"):
            self.port.startReading()

    @property
    def protocols(self) -> list[asyncio.BaseProtocol]:
        """What *protocol_factory* has made for the connections that there are; over TLS, before the handshake, too."""
        return [connection.protocol for connection in self._factory.connections]

    # The end

    def stopService(self) -> Deferred[None]:
        """
        Stop listening, let connections end by themselves for a while, then close them.

        Who has connected before is served: connections that wait to be accepted are accepted first, unless the service
        is paused. What has not ended some seconds after it was closed, or cancelled, is aborted; a task that does not
        heed that is logged.

        Returns:
            A Deferred that fires with None when there is neither a port nor a connection any more.
        """
        Service.stopService(self)
        listening, self._listening = self._listening, None
        stopping = self._stopping
        if stopping is None:
            stopping = self._stopping = Deferred.fromCoroutine(self._stop(listening))
            stopping.addBoth(self._has_stopped)
        elif listening is not None:
            listening.cancel()  # it waits for the stop
        return _end_of(stopping)

    def _has_stopped(self, result: Any) -> Any:
        self._stopping = None
        return result

    async def _stop(self, listening: Deferred[None] | None) -> None:
        if listening is not None:
            await self._stop_listening(listening)
        if await self._until(self._is_idle, self._graceful_s):
            return
        deadline = self._reactor.seconds() + CLOSE_TIMEOUT_S
        if self._handlers is not None:
            self._handlers.cancel()
            await self._until(lambda: not self._running_handlers(), CLOSE_TIMEOUT_S)
        for connection in list(self._factory.connections):
            connection.close()
        if not await self._until(self._is_idle, deadline - self._reactor.seconds()):
            self.abort_connections()
            await self._until(self._is_idle, ABORT_TIMEOUT_S)
        for task in self._running_handlers():
            _log.error("{task!r} of {service!r} does not end, though it was cancelled", task=task, service=self)

    async def _stop_listening(self, listening: Deferred[None]) -> None:
        if self.port is None:
            listening.cancel()
            await listening
        port, self.port = self.port, None
        if port is None:
            return
        if not self._is_paused:
            # Once more right before the socket is closed, which Twisted does a turn after it is asked for it.
            self._reactor.callLater(0, _accept_all, port)
            _accept_all(port)
        try:
            # That of StandardIOEndpoint is no port, but its one connection.
            await maybeDeferred(getattr(port, "stopListening", lambda: None))
        except Exception:
            # Such as a UNIX socket's file that is gone already: then Twisted does not come to close the socket. The
            # connections are to be ended all the same.
            _log.failure("{port!r} could not stop listening", port=port)
            if hasattr(port, "socket"):
                port.socket.close()

    def abort_connections(self) -> None:
        """Abort the connections, whatever is unsent, and cancel what serves streams on them."""
        if self._handlers is not None:
            self._handlers.cancel()
        for connection in list(self._factory.connections):
            connection.abort()

    # What the end waits for

    async def _until(self, condition: Callable[[], object], seconds: float) -> bool:
        """Wait until *condition* holds, as it may when something has ended; False if it does not in so many seconds."""
        if condition():
            return True
        if seconds <= 0:
            return False
        awaited: Deferred[None] = Deferred()
        awaited.addTimeout(seconds, self._reactor)
        self._awaited = condition, awaited
        try:
            await awaited
        except TimeoutError:
            return False
        finally:
            self._awaited = None
        return True

    def _something_has_ended(self) -> None:
        if self._awaited is not None and not self._awaited[1].called and self._awaited[0]():
            self._awaited[1].callback(None)

    def _is_idle(self) -> bool:
        return not self._factory.connections and not self._running_handlers()

    def _running_handlers(self) -> set[asyncio.Task[None]]:
        return set() if self._handlers is None else self._handlers.tasks


def _end_of(deferred: Deferred[None]) -> Deferred[None]:
    """A Deferred of the caller's own, which fires as *deferred* does, and tells the caller alone of its failure."""
    end: Deferred[None] = Deferred()
    deferred.addCallbacks(end.callback, end.errback)
    return end


def _accept_all(port: Any) -> None:
    """
    Accept the connections that wait in the queue of *port*'s socket, if there is a loop to serve them.

    When the socket is closed, the kernel resets them, though their clients know them for established.
    """
    if not hasattr(port, "doRead") or port.fileno() < 0 or asyncio.events._get_running_loop() is None:
        return
    with _Selector() as selector:
        selector.register(port.fileno(), selectors.EVENT_READ)
        for _ in range(MOST_ACCEPTS):
            if not selector.select(0):
                break
            port.doRead()
