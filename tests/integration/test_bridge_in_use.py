"""The bridge in use: HTTP clients and servers of both worlds, in one coroutine and on one reactor."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import hashlib
import io
import itertools
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from typing import Any

import pytest
from twisted.internet import defer, error
from twisted.internet.defer import Deferred, inlineCallbacks
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.python.failure import Failure
from twisted.web.client import Agent, FileBodyProducer, HTTPConnectionPool
from twisted.web.resource import Resource
from twisted.web.server import NOT_DONE_YET, Request, Site

from txasync import AsyncConsumer, as_deferred, as_future, deferred_coroutine
from txasync.polling import PollerFactory, for_reactor

from ..bridge.streams import Body, all_of, cancelled, install, listening, reserve_descriptor
from ..conftest import Runner, disposable_reactor

aiohttp = pytest.importorskip("aiohttp", reason="aiohttp is not installed")
web = pytest.importorskip("aiohttp.web", reason="aiohttp is not installed")

CHUNK = bytes(range(256)) * 128
HALF_AN_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf"
TIME_LIMIT_S = 0.02

has_scopes = pytest.mark.skipif(sys.version_info < (3, 11), reason="TaskGroup and timeout() are new in Python 3.11")
Fetch = Callable[[str, bytes], Awaitable[str]]
Connect = Callable[[Any], contextlib.AbstractAsyncContextManager[Fetch]]
Serve = Callable[[Any], contextlib.AbstractAsyncContextManager[str]]


@pytest.fixture(autouse=True, scope="module")
def _descriptor_in_reserve() -> None:
    reserve_descriptor()


@pytest.fixture
def reactor() -> Iterator[Any]:
    """One kind of reactor: what differs between them is the concern of other tests."""
    with disposable_reactor("epoll") as reactor:
        yield reactor


@pytest.fixture
def poller_factory() -> PollerFactory:
    """The poller that such a reactor gets."""
    return for_reactor


@pytest.fixture
def run(run: Runner, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Run a coroutine function on the process's reactor."""
    install(run.reactor, monkeypatch)
    return run


# Servers


def answer_to(content: bytes) -> str:
    """What the servers answer when they are sent *content*."""
    return hashlib.sha256(content).hexdigest()


@contextlib.asynccontextmanager
async def serving_by_aiohttp(answer: Callable[[Any], Awaitable[Any]]) -> AsyncIterator[str]:
    """aiohttp's server, which cancels what it does for clients that go; gives its URL."""
    app = web.Application(client_max_size=0)
    app.add_routes([web.route("*", "/", answer)])
    runner = web.AppRunner(app, handler_cancellation=True)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        yield f"http://{host}:{port}/"
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def serving_by_twisted(reactor: Any, resource: Resource) -> AsyncIterator[str]:
    """Twisted's server; gives its URL."""
    async with listening(reactor, Site(resource)) as port:
        yield f"http://127.0.0.1:{port}/"


def aiohttp_echo(reactor: Any) -> contextlib.AbstractAsyncContextManager[str]:
    """An aiohttp server whose handler awaits Deferreds."""

    async def answer(request: Any) -> Any:
        deferred = deferLater(reactor, 0.001, answer_to, await request.read())
        # On Python 3.12 and 3.13, aiohttp makes tasks that begin at once, and these no task factory can make.
        return web.Response(text=await as_future(deferred))

    return serving_by_aiohttp(answer)


def twisted_echo(reactor: Any) -> contextlib.AbstractAsyncContextManager[str]:
    """A twisted.web server whose resource awaits Futures."""

    async def answer(request: Request) -> None:
        assert request.content is not None
        text = await asyncio.sleep(0.001, answer_to(request.content.read()))
        request.write(text.encode())
        request.finish()

    return serving_by_twisted(reactor, Asynchronous(answer))


class Asynchronous(Resource):
    """A resource whose answers are a coroutine function's, as Klein's are; a client that goes away cancels its own."""

    isLeaf = True

    def __init__(self, answer: Callable[[Request], Any]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # Twisted's own is not typed
        self._answer = deferred_coroutine(answer)

    def render(self, request: Request) -> int:
        deferred: Deferred[Any] = self._answer(request)
        request.notifyFinish().addErrback(lambda _: deferred.cancel())
        deferred.addErrback(self._failed, request)
        return NOT_DONE_YET

    def _failed(self, failure: Failure, request: Request) -> None:
        if not failure.check(defer.CancelledError):
            request.setResponseCode(502)
            request.write(type(failure.value).__name__.encode())
            request.finish()


class Silent(Protocol):
    """A server's end of a connection, on which no whole answer comes."""

    transport: Any

    def __init__(self, server: SilentServer) -> None:
        self._server = server

    def connectionMade(self) -> None:
        self._server.open.add(self)

    def dataReceived(self, data: bytes) -> None:
        if self not in self._server.asked:
            self._server.asked.add(self)
            self.transport.write(self._server.beginning)
            self._server.changed.set()

    def connectionLost(self, reason: Failure = Failure(error.ConnectionDone())) -> None:
        self._server.open.discard(self)
        self._server.changed.set()


class SilentServer(Factory):
    """
    A server that never answers, or only begins to.

    Attributes:
        beginning: All that a client is sent.
        asked: The connections that something has come on.
        open: Those that the client has not closed.
    """

    def __init__(self, beginning: bytes) -> None:
        self.beginning = beginning
        self.asked: set[Silent] = set()
        self.open: set[Silent] = set()
        self.changed = asyncio.Event()

    def buildProtocol(self, addr: Any) -> Silent:
        return Silent(self)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until *condition* holds."""
        while not condition():
            self.changed.clear()
            await self.changed.wait()


@contextlib.asynccontextmanager
async def silent(reactor: Any, beginning: bytes = b"") -> AsyncIterator[tuple[SilentServer, str]]:
    """A server that never answers, and its URL; this ends only when all clients have closed their connections."""
    server = SilentServer(beginning)
    async with listening(reactor, server) as port:
        yield server, f"http://127.0.0.1:{port}/"
        await server.until(lambda: not server.open)


# Clients


@contextlib.asynccontextmanager
async def agent(reactor: Any) -> AsyncIterator[Fetch]:
    """Twisted's own client, with connections that are kept."""
    pool = HTTPConnectionPool(reactor)
    client = Agent(reactor, pool=pool)

    async def fetch(url: str, content: bytes = b"") -> str:
        response = await client.request(b"POST", url.encode(), bodyProducer=FileBodyProducer(io.BytesIO(content)))
        consumer = AsyncConsumer()
        response.deliverBody(Body(consumer))
        async with consumer:
            return (await all_of(consumer)).decode()

    yield fetch
    await pool.closeCachedConnections()


@contextlib.asynccontextmanager
async def treq(reactor: Any) -> AsyncIterator[Fetch]:
    """treq, on Twisted's client."""
    pool = HTTPConnectionPool(reactor)
    client = pytest.importorskip("treq").client.HTTPClient(Agent(reactor, pool=pool))

    async def fetch(url: str, content: bytes = b"") -> str:
        response = await client.post(url, data=content)
        return str(await response.text())

    yield fetch
    await pool.closeCachedConnections()


async def fetch_by(session: Any, url: str, content: bytes = b"") -> str:
    """What a server answers to aiohttp's client, in the *session*."""
    async with session.post(url, data=content) as response:
        return str(await response.text())


@pytest.fixture(params=[agent, treq], ids=["agent", "treq"])
def connect(request: pytest.FixtureRequest) -> Connect:
    """Each of Twisted's clients."""
    if request.param is treq:
        pytest.importorskip("treq", reason="treq is not installed")
    chosen: Connect = request.param
    return chosen


with_each_server = pytest.mark.parametrize("serve", [aiohttp_echo, twisted_echo])

CONTENTS = [CHUNK * (number % 3) + str(number).encode() for number in range(10)]
ANSWERS = [answer_to(content) for content in CONTENTS]


# Requests


@with_each_server
def test_twisted_clients_are_awaited_in_tasks(connect: Connect, serve: Serve, run: Runner) -> None:
    """Concurrent requests are answered, over connections that are kept; a refused connection is Twisted's error."""

    async def main() -> None:
        async with connect(run.reactor) as fetch:
            async with serve(run.reactor) as url:
                for _ in range(2):
                    assert await asyncio.gather(*(fetch(url, content) for content in CONTENTS)) == ANSWERS
        async with connect(run.reactor) as fetch:
            with pytest.raises(error.ConnectionRefusedError):
                await fetch(url, b"")

    run(main)


@with_each_server
def test_aiohttp_is_awaited_by_inline_callbacks(serve: Serve, run: Runner) -> None:
    """A generator yields aiohttp's coroutines as Deferreds, and catches aiohttp's errors."""

    @inlineCallbacks
    def one_by_one(session: Any, url: str) -> Generator[Deferred[Any], Any, list[str]]:
        texts = []
        for content in CONTENTS:
            response = yield as_deferred(session.post(url, data=content))
            texts.append((yield as_deferred(response.text())))
        return texts

    @inlineCallbacks
    def refused(session: Any, url: str) -> Generator[Deferred[Any], Any, str]:
        try:
            yield as_deferred(fetch_by(session, url))
        except aiohttp.ClientConnectorError as refusal:
            return type(refusal.os_error).__name__
        return "accepted"

    async def main() -> None:
        async with aiohttp.ClientSession() as session:
            async with serve(run.reactor) as url:
                assert await one_by_one(session, url) == ANSWERS
            assert await refused(session, url) == "ConnectionRefusedError"

    run(main)


@with_each_server
def test_a_deferred_coroutine_is_called_by_inline_callbacks(serve: Serve, run: Runner) -> None:
    """One coroutine asks by both clients; who calls it sees a function that returns a Deferred."""

    @deferred_coroutine
    async def by_both(url: str, content: bytes) -> list[str]:
        async with agent(run.reactor) as fetch, aiohttp.ClientSession() as session:
            return [await fetch(url, content), await fetch_by(session, url, content)]

    @inlineCallbacks
    def caller(url: str) -> Generator[Deferred[Any], Any, list[list[str]]]:
        requests = [by_both(url, content) for content in CONTENTS[:3]]
        texts = yield defer.gatherResults(requests)
        return list(texts)

    async def main() -> None:
        async with serve(run.reactor) as url:
            assert await caller(url) == [[answer, answer] for answer in ANSWERS[:3]]

    run(main)


# A resource that asks another server


def test_a_resource_asks_by_aiohttp(run: Runner) -> None:
    """A resource of twisted.web answers what aiohttp gets for it; an error of aiohttp's is one of its Deferred's."""

    async def main() -> None:
        async with aiohttp.ClientSession() as session:

            async def ask(request: Request) -> None:
                assert request.content is not None
                text = await fetch_by(session, backend, request.content.read())
                request.write(text.encode())
                request.finish()

            async with serving_by_twisted(run.reactor, Asynchronous(ask)) as url:
                async with aiohttp_echo(run.reactor) as backend, agent(run.reactor) as fetch:
                    assert await asyncio.gather(*(fetch(url, content) for content in CONTENTS)) == ANSWERS
                async with session.post(url) as response:
                    assert (response.status, await response.text()) == (502, "ClientConnectorError")

    run(main)


@pytest.mark.parametrize("client", ["agent", "aiohttp"])
def test_a_client_that_goes_away_cancels_what_is_done_for_it(client: str, run: Runner) -> None:
    """The resource's coroutine is cancelled, its own request with it, and so is the handler of the server behind."""

    async def main() -> None:
        events: asyncio.Queue[str] = asyncio.Queue()

        async def never(request: Any) -> Any:
            events.put_nowait("handler began")
            try:
                await as_future(Deferred())
            finally:
                events.put_nowait("handler ended")

        async with aiohttp.ClientSession() as session, serving_by_aiohttp(never) as backend:

            async def ask(request: Request) -> None:
                try:
                    await fetch_by(session, backend)
                except asyncio.CancelledError:
                    events.put_nowait("resource was cancelled")
                    raise

            async with serving_by_twisted(run.reactor, Asynchronous(ask)) as url, agent(run.reactor) as fetch:
                going = asyncio.ensure_future(fetch(url, b"") if client == "agent" else fetch_by(session, url))
                assert await events.get() == "handler began"
                assert await cancelled(going)
                assert await events.get() == "resource was cancelled"
                assert await events.get() == "handler ended"

    run(main)


# Groups


async def all_together(requests: list[Any], kind: str) -> None:
    """Wait for all *requests*, in a TaskGroup or by ``asyncio.gather``."""
    if kind == "gather":
        await asyncio.gather(*requests)
        return
    async with asyncio.TaskGroup() as group:
        for request in requests:
            group.create_task(request)


@pytest.mark.parametrize("kind", ["gather", pytest.param("group", marks=has_scopes)])
def test_a_group_of_both_kinds_of_request_is_cancelled_half_way(kind: str, run: Runner) -> None:
    """Of requests by both clients some are answered, some never, some in part: all connections are closed."""

    async def main() -> None:
        answered: asyncio.Queue[str] = asyncio.Queue()

        async with (
            silent(run.reactor) as (mute, mute_url),
            silent(run.reactor, HALF_AN_ANSWER) as (slow, slow_url),
            aiohttp_echo(run.reactor) as url,
            aiohttp.ClientSession() as session,
            agent(run.reactor) as by_agent,
        ):

            async def request(fetch: Fetch, url: str) -> None:
                answered.put_nowait(await fetch(url, b"content"))

            clients: list[Fetch] = [by_agent, functools.partial(fetch_by, session)]
            kinds = itertools.product(clients, [url, mute_url, slow_url], range(5))
            requests = [request(fetch, each) for fetch, each, _ in kinds]
            together = asyncio.ensure_future(all_together(requests, kind))
            for _ in range(10):
                assert await answered.get() == answer_to(b"content")
            for server in mute, slow:
                await server.until(lambda: len(server.asked) == 10)
            assert await cancelled(together)
            assert answered.empty()

    run(main)


@has_scopes
def test_a_request_that_fails_ends_the_others_of_its_group(run: Runner) -> None:
    """The error of one, by either client, is the only one that the group raises."""

    async def main() -> None:
        async with aiohttp_echo(run.reactor) as closed_url:
            pass
        async with silent(run.reactor) as (mute, url), aiohttp.ClientSession() as session:
            async with agent(run.reactor) as fetch:
                by_aiohttp = functools.partial(fetch_by, session)

                async def fails(fetch: Fetch) -> None:
                    await mute.until(lambda: len(mute.open & mute.asked) == 4)
                    await fetch(closed_url, b"")

                for failing, expected in (fetch, error.ConnectionRefusedError), (by_aiohttp, aiohttp.ClientError):
                    requests = [each(url, b"") for each in (fetch, by_aiohttp) for _ in range(2)]
                    with pytest.raises(BaseExceptionGroup) as raised:  # noqa: F821  # new in Python 3.11
                        await all_together([*requests, fails(failing)], "group")
                    [only] = raised.value.exceptions
                    assert isinstance(only, expected)
                    await mute.until(lambda: not mute.open)

    run(main)


# Time limits


@pytest.mark.parametrize("beginning", [b"", HALF_AN_ANSWER], ids=["no-answer", "half-an-answer"])
@pytest.mark.parametrize("limit", ["wait_for", pytest.param("timeout", marks=has_scopes)])
def test_asyncio_limits_the_time_of_an_agents_request(limit: str, beginning: bytes, run: Runner) -> None:
    """The request ends with asyncio's TimeoutError, and its connection is closed."""

    async def main() -> None:
        async with silent(run.reactor, beginning) as (_, url), agent(run.reactor) as fetch:
            with pytest.raises(asyncio.TimeoutError):
                if limit == "wait_for":
                    await asyncio.wait_for(fetch(url, b""), TIME_LIMIT_S)
                else:
                    async with asyncio.timeout(TIME_LIMIT_S):
                        await fetch(url, b"")

    run(main)


@pytest.mark.parametrize("beginning", [b"", HALF_AN_ANSWER], ids=["no-answer", "half-an-answer"])
def test_twisted_limits_the_time_of_an_aiohttp_request(beginning: bytes, run: Runner) -> None:
    """``addTimeout`` makes it Twisted's TimeoutError, and the request's connection is closed."""
    ended: list[str] = []

    @deferred_coroutine
    async def request(session: Any, url: str) -> str:
        try:
            return await fetch_by(session, url)
        except asyncio.CancelledError:
            ended.append("cancelled")
            raise

    @inlineCallbacks
    def caller(session: Any, url: str) -> Generator[Deferred[Any], Any, str]:
        try:
            yield request(session, url).addTimeout(TIME_LIMIT_S, run.reactor)
        except defer.TimeoutError:
            return "too late"
        return "in time"

    async def main() -> None:
        async with silent(run.reactor, beginning) as (_, url), aiohttp.ClientSession() as session:
            assert await caller(session, url) == "too late"
            assert ended == ["cancelled"]

    run(main)
