"""Twisted's errors that say that something was cancelled without being a CancelledError."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import HostnameEndpoint, TCP4ClientEndpoint
from twisted.internet.error import DNSLookupError
from twisted.internet.interfaces import IHostnameResolver, IResolutionReceiver
from twisted.internet.protocol import Factory
from twisted.python.failure import Failure
from twisted.web.client import Agent
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from txasync import as_future

from ..conftest import Reports, Runner
from .cancelling import cancelled_cancellers, cancelled_while_waiting_for, outcome_of, started

# One kind of reactor, and one poller: the bridge knows nothing of how a reactor polls.
pytestmark = pytest.mark.parametrize(("reactor", "poller_factory"), [("epoll", "own")], indirect=True)


def test_gather_results_fails_with_a_cancellation(run: Runner) -> None:
    """The ``FirstError`` of a cancelled ``gatherResults`` is a cancellation, to the task that was cancelled."""

    async def main() -> None:
        deferreds, cancelled = cancelled_cancellers(3)
        got = await cancelled_while_waiting_for(defer.gatherResults(deferreds, consumeErrors=True))
        assert type(got) is asyncio.CancelledError
        assert cancelled == deferreds

    run(main)


def test_the_first_error_of_gather_results_is_not_always_one(run: Runner) -> None:
    """A canceller's ordinary error is the coroutine's, also if ``gatherResults`` has wrapped it."""

    async def main() -> None:
        failing: Deferred[Any] = Deferred(lambda deferred: deferred.errback(KeyError()))
        got = await cancelled_while_waiting_for(defer.gatherResults([failing], consumeErrors=True))
        assert isinstance(got, defer.FirstError) and got.subFailure.check(KeyError)

    run(main)


@implementer(IAgentEndpointFactory)
class OneEndpoint:
    """An endpoint for every URI. Twisted's own factory makes some that import the process's reactor."""

    def __init__(self, endpoint: TCP4ClientEndpoint) -> None:
        self._endpoint = endpoint

    def endpointForURI(self, uri: object) -> TCP4ClientEndpoint:
        return self._endpoint


def test_an_http_request_fails_with_a_cancellation(run: Runner) -> None:
    """Twisted's HTTP client says ``ResponseNeverReceived``, because of a cancellation, and closes the connection."""

    async def main() -> None:
        asked, closed = asyncio.Event(), asyncio.Event()

        async def never_answers(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"\r\n\r\n")
            asked.set()
            await outcome_of(reader.read())
            writer.close()
            closed.set()

        server = await asyncio.start_server(never_answers, "127.0.0.1", 0)
        endpoint = TCP4ClientEndpoint(run.reactor, "127.0.0.1", server.sockets[0].getsockname()[1])
        agent = Agent.usingEndpointFactory(run.reactor, OneEndpoint(endpoint))
        task = await started(outcome_of(agent.request(b"GET", b"http://127.0.0.1/")))
        await asked.wait()
        task.cancel()
        assert type(await task) is asyncio.CancelledError
        await closed.wait()
        server.close()

    run(main)


def test_an_attempt_to_connect_fails_with_a_cancellation(run: Runner) -> None:
    """Twisted's endpoints say ``ConnectingCancelledError``."""

    async def main() -> object:
        with contextlib.ExitStack() as sockets:
            full = sockets.enter_context(socket.socket())
            full.bind(("127.0.0.1", 0))
            full.listen(0)
            for _ in range(4):  # more than wait to be accepted; then the kernel answers no one
                client = sockets.enter_context(socket.socket())
                client.setblocking(False)
                client.connect_ex(full.getsockname())
            endpoint = TCP4ClientEndpoint(run.reactor, *full.getsockname())
            return await cancelled_while_waiting_for(endpoint.connect(Factory()))

    assert type(run(main)) is asyncio.CancelledError


@implementer(IHostnameResolver)
class SlowResolver:
    """A resolver that is asked for a name, and answers when the test tells it to."""

    def resolveHostName(self, resolutionReceiver: IResolutionReceiver, *args: Any, **keywords: Any) -> Any:
        self._receiver: Any = resolutionReceiver

    def answer(self, *addresses: IPv4Address) -> None:
        """That these are all there are."""
        for address in addresses:
            self._receiver.addressResolved(address)
        self._receiver.resolutionComplete()
        del self._receiver


def looking_up(run: Runner) -> tuple[Deferred[Any], SlowResolver]:
    """An endpoint's connection to a name, which it is still looking up."""
    resolver = SlowResolver()
    run.reactor.installNameResolver(resolver)
    return HostnameEndpoint(run.reactor, "name.example", 1).connect(Factory()), resolver


def test_an_attempt_to_connect_to_a_name_fails_with_a_cancellation(run: Runner) -> None:
    """Twisted's endpoint says that it could not find the name; an address that is found later does not matter."""

    async def main() -> None:
        connecting, resolver = looking_up(run)
        assert type(await cancelled_while_waiting_for(connecting)) is asyncio.CancelledError
        resolver.answer(IPv4Address("TCP", "127.0.0.1", 1))

    run(main)


def test_the_future_of_an_attempt_to_connect_to_a_name_is_cancelled(run: Runner) -> None:
    """Nobody reports that the name was not found; a group of them is no different."""

    async def main() -> None:
        group = defer.gatherResults([looking_up(run)[0] for _ in range(2)], consumeErrors=True)
        for connecting in looking_up(run)[0], group:
            future = as_future(connecting)
            future.cancel()
            await asyncio.sleep(0)
            assert future.cancelled() and isinstance(connecting.result, Failure)

    run(main)


@pytest.mark.parametrize("waited_for", [lambda deferred: deferred, as_future], ids=["deferred", "future"])
def test_a_name_that_is_not_found_is_no_cancellation(waited_for: Any, run: Runner, reports: Reports) -> None:
    """It is an error, and Twisted reports it if it comes after a cancellation that was not heeded."""

    async def stubborn(waiting: Deferred[Any], connecting: Deferred[Any]) -> None:
        with contextlib.suppress(defer.CancelledError):
            await waiting
        await connecting

    async def main() -> None:
        connecting, resolver = looking_up(run)
        task = await started(outcome_of(waited_for(connecting)))
        resolver.answer()
        assert isinstance(await task, DNSLookupError)

        connecting, resolver = looking_up(run)
        deferred = Deferred.fromCoroutine(stubborn(Deferred(), connecting))
        assert type(await cancelled_while_waiting_for(waited_for(deferred))) is asyncio.CancelledError
        resolver.answer()

    run(main)
    gc.collect()
    assert [report.type for report in reports.twisted] == [DNSLookupError]
    reports.clear()
