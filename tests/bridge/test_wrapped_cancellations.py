"""Twisted's errors that say that something was cancelled without being a CancelledError."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint
from twisted.internet.protocol import Factory
from twisted.web.client import Agent
from twisted.web.iweb import IAgentEndpointFactory
from zope.interface import implementer

from ..conftest import Runner
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
