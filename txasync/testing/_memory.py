"""
A loop on a fake reactor, with a clock that tests advance and a network in memory: no real sleep, no socket.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from twisted.internet import error as twisted_error

from .. import _loops
from .._shutdown import cancel_tasks
from ._memory_loop import MemoryEventLoop
from ._memory_reactor import Connector, MemoryNetworkReactor, Port
from ._memory_transport import MemoryPeer

__all__ = ["MemoryNetwork", "MemoryPeer", "memory_loop"]

_T = TypeVar("_T")

# How long tasks have to end when they are cancelled at the end of the block, in seconds of the loop's.
END_TIME_LIMIT_S = 86400.0


@contextmanager
def memory_loop() -> Iterator[MemoryNetwork]:
    """
    Have, in a ``with`` block, a running loop whose time stands still and whose connections are in memory.

    At the end of the block all connections are broken, tasks cancelled and awaited, and the loop is closed. What it had
    to end is told by a ``ResourceWarning``, unless the block ends by an exception.

    Returns:
        What the block controls all this by.

    Raises:
        RuntimeError: A loop runs here already.

    Context:
        Any thread in which no loop runs. In the block, ``asyncio.get_running_loop()`` is the loop, also outside of its
        callbacks.

    Source:
        Twisted, ``twisted.internet.testing.MemoryReactorClock``.
    """
    running = asyncio.events._get_running_loop()
    if running is not None:
        raise RuntimeError(
            f"memory_loop() cannot be used while {running!r} runs in this thread: use it in a function that is not "
            f"async, and give what is async to its run()"
        )
    reactor = MemoryNetworkReactor()
    network = MemoryNetwork(reactor, MemoryEventLoop(reactor))
    _loops.remember(network.loop, reactor)
    failed = True
    try:
        yield network
        failed = False
    finally:
        left = network._end()
        if left and not failed:
            warnings.warn(f"memory_loop() had to end {', '.join(left)}", ResourceWarning, stacklevel=3)


class MemoryNetwork:
    """
    What `memory_loop` gives: time, and the other ends of connections.

    The loop's ``create_connection()`` and ``create_server()``, and so ``asyncio.open_connection()`` and
    ``asyncio.start_server()``, and the like for UNIX, make connections of this network; so do the reactor's
    ``connectTCP()``, ``listenTCP()``, ``connectUNIX()`` and ``listenUNIX()``, and so Twisted's endpoints. A client of
    the program's is connected by itself to a server of the program's at ``localhost``, a loopback address or the
    address that it listens on. Any other waits until the test has called `accept` or `refuse`. To a server, the test
    itself may `connect`.

    Names need not exist: each is given an address. What is to run in a thread, as by ``asyncio.to_thread()``, runs at
    once in this one. There are no datagrams, child processes or sockets here, and TLS only by ``start_tls()``.

    Attributes:
        loop: The loop, which runs.
        reactor: Its reactor, a ``MemoryReactorClock``.

    Context:
        The thread of the loop. `advance` and `run` are not for callbacks of the loop.
    """

    def __init__(self, reactor: MemoryNetworkReactor, loop: MemoryEventLoop) -> None:
        self.reactor = reactor
        self.loop = loop

    def __repr__(self) -> str:
        return f"<{type(self).__name__} at {self.reactor.seconds()} s>"

    # Time

    def advance(self, seconds: float = 0.0) -> None:
        """
        Let time pass, and run all that becomes ready and due meanwhile, each thing at its time.

        Args:
            seconds: How much. Default: none, so that only what is ready runs, and what becomes so by that.

        Raises:
            ValueError: *seconds* is negative.
            RuntimeError: This was called by a callback of the loop; or callbacks bring about others without an end.
        """
        if not seconds >= 0:
            raise ValueError(f"time passes forwards: advance() takes seconds >= 0, got {seconds!r}")
        self._check_that_no_task_runs("advance")
        self._wake()
        self.reactor.advance(seconds)

    def run(self, main: Coroutine[Any, Any, _T], *, time_limit: float = 86400.0) -> _T:
        """
        Run *main* in a task to its end, as ``asyncio.run()`` does; where it waits for time to pass, time passes.

        Args:
            main: A coroutine.
            time_limit: How much time may pass, in seconds of the loop's. Default: a day.

        Returns:
            What *main* returns.

        Raises:
            RuntimeError: *main* waits for what never comes, since nothing is to happen any more, or its time is over:
                it has been cancelled. Or as `advance`.
        """
        try:
            self._check_that_no_task_runs("run")
        except RuntimeError:
            main.close()  # it will never be awaited; the error says enough
            raise
        task = self.loop.create_task(main)
        if not self._finish(task, time_limit):
            error = self._never_ends(task, time_limit)
            task.cancel()
            self._finish(task, time_limit)
            raise error
        result: _T = task.result()
        return result

    def _finish(self, task: asyncio.Task[Any], time_limit: float) -> bool:
        """Let time pass until *task* is done. False: there is nothing to wait for any more, or too long."""
        until = self.reactor.seconds() + time_limit
        self._wake()
        while not task.done() and (call := self.reactor.first_call()) is not None and call.getTime() <= until:
            self.reactor.advance(max(0.0, call.getTime() - self.reactor.seconds()))
        return task.done()

    def _never_ends(self, task: asyncio.Task[Any], time_limit: float) -> RuntimeError:
        if self.reactor.first_call() is not None:
            return RuntimeError(f"{task!r} was not done after {time_limit} s of the loop's time")
        return RuntimeError(
            f"{task!r} waits for what never comes: no timer is set and nothing is ready. Clients that wait for "
            f"accept() or refuse(): {self.reactor.connecting}"
        )

    def _wake(self) -> None:
        # What other threads have added does not wake a loop whose reactor waits for nothing.
        self.loop.call_soon(lambda: None)

    def _check_that_no_task_runs(self, method: str) -> None:
        task = asyncio.current_task(self.loop)
        if task is not None:
            raise RuntimeError(f"{method}() was called by {task!r}, which it would have to run: use asyncio.sleep()")

    # The other ends

    def accept(self, to: int | str | None = None) -> MemoryPeer:
        """
        Accept a client of the program's.

        Args:
            to: The port, the host (by name or address) or the path that it connects to. Default: of all clients, the
                one that has waited longest.

        Returns:
            The other end, which the test plays.

        Raises:
            LookupError: No client waits, or none for *to*.
        """
        connector = self._connector(to)
        transport = connector.succeed(self.reactor.client_address(connector.address))
        if transport is None:
            raise LookupError(f"{connector!r} does not want the connection any more")
        peer = MemoryPeer(transport)
        transport.connect(transport.protocol)
        return peer

    def refuse(self, to: int | str | None = None, error: BaseException | None = None) -> None:
        """
        Let a client of the program's fail to connect.

        Args:
            to: As for `accept`.
            error: What it fails with. Default: Twisted's ``ConnectionRefusedError``, for which asyncio has its own.

        Raises:
            LookupError: As `accept`.
        """
        self._connector(to).fail(error or twisted_error.ConnectionRefusedError())

    def connect(self, port: int | str) -> MemoryPeer:
        """
        Connect to a server of the program's.

        Args:
            port: The port, or the path, that it listens on.

        Returns:
            The client, which the test plays.

        Raises:
            ConnectionRefusedError: Nothing listens there, or the server does not want the connection.
        """
        listening = self.reactor.ports.get(port)
        transport = None
        if listening is not None:
            transport = listening.accept(self.reactor.client_address(listening.address))
        if transport is None:
            raise ConnectionRefusedError(f"no server takes a connection to {port!r}; there are: {self._servers()}")
        peer = MemoryPeer(transport)
        transport.connect(transport.protocol)
        return peer

    def _connector(self, to: int | str | None) -> Connector:
        for connector in self.reactor.connecting:
            if to is None or to in connector.destinations:
                return connector
        raise LookupError(
            f"no client connects{'' if to is None else f' to {to!r}'}; there are: {self.reactor.connecting}. What the "
            f"program has begun may want advance() to go on"
        )

    def _servers(self) -> list[Port]:
        return list(self.reactor.ports.values())

    # The end

    def _end(self) -> list[str]:
        """End all that goes on; return what had to be ended."""
        reactor = self.reactor
        things = *self._servers(), *reactor.connecting, *reactor.transports, *asyncio.all_tasks(self.loop)
        left = [repr(thing) for thing in things]
        try:
            self._finish(self.loop.create_task(self._end_tasks()), END_TIME_LIMIT_S)
            for port in self._servers():
                port.stopListening()
            for connector in list(reactor.connecting):
                connector.stopConnecting()
            for transport in list(reactor.transports):
                transport.abortConnection()
            self.advance()
        finally:
            self.loop.close()
        return [*left, *map(str, reactor.getDelayedCalls())]

    async def _end_tasks(self) -> None:
        await cancel_tasks(self.loop, lambda: None)
        await self.loop.shutdown_asyncgens()
