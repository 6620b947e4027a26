"""
The same tests for each test runner: of both worlds, in ``async def`` methods.

The name of the runner, in the environment, chooses the base class: pytest's plug-ins take a plain class, unittest and
trial each want a class of theirs. Nothing else differs.
"""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Any

from twisted.internet import reactor as _reactor
from twisted.internet.defer import Deferred
from twisted.internet.endpoints import TCP4ClientEndpoint, TCP4ServerEndpoint, connectProtocol
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater

import txasync
from txasync import testing

reactor: Any = _reactor
if TYPE_CHECKING:
    TestCase = object
else:
    # Not by their names: unittest takes trial's TestCase, wherever it sees one, for a test.
    bases = {"pytest": object, "unittest": testing.IsolatedAsyncioTestCase, "trial": testing.AsyncTestCase}
    TestCase = bases[os.environ["TEST_RUNNER"]]


class Upper(Protocol):
    """Answers in upper case, and hangs up."""

    def dataReceived(self, data: bytes) -> None:
        assert self.transport is not None
        self.transport.write(data.upper())
        self.transport.loseConnection()


class Asking(Protocol):
    """Asks when it is connected, and tells all of the answer."""

    def __init__(self, question: bytes) -> None:
        self.answer: Deferred[bytes] = Deferred()
        self._question = question
        self._parts: list[bytes] = []

    def connectionMade(self) -> None:
        assert self.transport is not None
        self.transport.write(self._question)

    def dataReceived(self, data: bytes) -> None:
        self._parts.append(data)

    def connectionLost(self, reason: Any = None) -> None:
        self.answer.callback(b"".join(self._parts))


async def answer_in_upper_case(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """The same as Upper."""
    writer.write((await reader.read(100)).upper())
    writer.close()


def has_ended(name: str) -> None:
    """Note that the test of this *name* has come to its end."""
    with open(os.environ["ENDED_TESTS"], "a") as file:
        file.write(f"{name}\n")


class TestBothWorlds(TestCase):
    """What a program that lives in both worlds does."""

    def setUp(self) -> None:
        self.questions = [b"one", b"two"]

    setup_method = setUp  # which is its name in a plain class of pytest's

    async def test_awaits_deferreds_and_asyncio_s_awaitables(self) -> None:
        """In one coroutine, on a loop of ours on the process's reactor."""
        loop = asyncio.get_running_loop()
        assert txasync.get_event_loop(reactor) is loop
        assert await deferLater(reactor, 0.001, lambda: asyncio.get_running_loop()) is loop
        assert await asyncio.sleep(0.001, "slept") == "slept"
        both = asyncio.gather(asyncio.sleep(0, 1), txasync.as_future(deferLater(reactor, 0, lambda: 2)))
        assert list(await both) == [1, 2]
        has_ended("awaits")

    async def test_twisted_s_client_asks_asyncio_s_server(self) -> None:
        """Over a real connection."""
        server = await asyncio.start_server(answer_in_upper_case, "127.0.0.1", 0)
        endpoint = TCP4ClientEndpoint(reactor, *server.sockets[0].getsockname())
        for question in self.questions:
            client = await connectProtocol(endpoint, Asking(question))
            assert await client.answer == question.upper()
        server.close()
        await server.wait_closed()
        has_ended("twisted asks")

    async def test_asyncio_s_client_asks_twisted_s_server(self) -> None:
        """The other way round."""
        endpoint = TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
        port: Any = await endpoint.listen(Factory.forProtocol(Upper))
        for question in self.questions:
            reader, writer = await asyncio.open_connection("127.0.0.1", port.getHost().port)
            writer.write(question)
            assert await reader.read() == question.upper()
            writer.close()
            await writer.wait_closed()
        await port.stopListening()
        has_ended("asyncio asks")

    async def test_a_time_limit_ends_either(self) -> None:
        """Both are cancelled when their time is over."""
        cancelled: list[object] = []
        awaitables: list[Any] = [Deferred(cancelled.append), asyncio.Event().wait()]
        for awaitable in awaitables:
            try:
                await asyncio.wait_for(awaitable, 0.001)
            except asyncio.TimeoutError:
                cancelled.append("timed out")
        assert [type(what) for what in cancelled] == [Deferred, str, str]
        has_ended("time limit")

    async def test_a_child_is_waited_for(self) -> None:
        """By asyncio, whoever runs the reactor."""
        process = await asyncio.create_subprocess_exec(
            "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
        )
        output, _ = await process.communicate(b"to and fro")
        assert output == b"to and fro"
        assert process.returncode == 0
        has_ended("child")
