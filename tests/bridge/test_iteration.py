"""A producer's stream, iterated over by a task."""

from __future__ import annotations

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPullProducer
from twisted.protocols.basic import FileSender
from twisted.python.failure import Failure
from twisted.web.client import Agent, ResponseFailed
from twisted.web.server import Request
from zope.interface import implementer
from zope.interface.verify import verifyObject

from txasync import AsyncConsumer, produce

from ..conftest import Runner
from .streams import (
    LARGE,
    TCP_READ_BYTES,
    Body,
    Peer,
    RecordedProducer,
    all_of,
    cancelled,
    connected,
    install,
    reserve_descriptor,
    serving,
    stalled,
)


@pytest.fixture(autouse=True, scope="module")
def _descriptor_in_reserve() -> None:
    reserve_descriptor()


@pytest.fixture
def run(run: Runner, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Run a coroutine function on the process's reactor."""
    install(run.reactor, monkeypatch)
    return run


class IteratedPeer(Peer):
    """Writes what it receives to a consumer, which pauses its transport."""

    def __init__(self, consumer: AsyncConsumer) -> None:
        super().__init__()
        self.consumer = consumer

    def connectionMade(self) -> None:
        super().connectionMade()
        self.producer = RecordedProducer(self.transport)
        self.consumer.registerProducer(self.producer, True)

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.consumer.write(data)

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:
        super().connectionLost(reason)
        if reason.check(ConnectionDone):
            self.consumer.unregisterProducer()
        else:
            self.consumer.finish(reason)


@implementer(IPullProducer)
class PullProducer:
    """Does something when it is asked for a chunk."""

    def __init__(self, when_asked: Callable[[], None]) -> None:
        self._when_asked = when_asked

    def resumeProducing(self) -> None:
        asyncio.get_running_loop().call_soon(self._when_asked)

    def stopProducing(self) -> None:
        pass


def written_to(consumer: AsyncConsumer, *chunks: bytes) -> AsyncConsumer:
    """*consumer*, to which a producer has written *chunks*."""
    for chunk in chunks:
        consumer.write(chunk)
    return consumer


class TestAsyncConsumer:
    """A consumer that is iterated over."""

    def test_it_is_a_consumer(self) -> None:
        """It has Twisted's interface."""
        assert verifyObject(IConsumer, AsyncConsumer())

    @pytest.mark.parametrize(("high", "low"), [(10, 11), (10, -1), (-1, None), (-1, -1)])
    def test_bad_water_marks_are_refused(self, high: int, low: int | None) -> None:
        """The message says what was got."""
        with pytest.raises(ValueError, match=r"from 0 to high_water_bytes, got -?\d+ and -?\d+"):
            AsyncConsumer(high, low)

    @pytest.mark.parametrize(
        ("marks", "paused_above", "resumed_at"), [((100, 10), 100, 10), ((100,), 100, 25), ((0,), 0, 0), ((7, 7), 7, 7)]
    )
    def test_a_push_producer_is_paused_and_resumed_at_the_marks(
        self, marks: tuple[int, ...], paused_above: int, resumed_at: int, run: Runner
    ) -> None:
        """It is paused once, above the high mark, and resumed once, when no more than the low mark is left."""

        async def main() -> None:
            consumer = AsyncConsumer(*marks)
            producer = RecordedProducer()
            consumer.registerProducer(producer, True)
            for _ in range(2):
                for _ in range(paused_above):
                    consumer.write(b"x")
                assert producer.calls == []
                written_to(consumer, b"y", b"z")
                assert producer.calls == ["pause"]
                for left in range(paused_above + 1, -1, -1):
                    await consumer.__anext__()
                    assert producer.calls == (["pause", "resume"] if left <= resumed_at else ["pause"])
                producer.calls.clear()

        run(main)

    def test_a_pull_producer_is_asked_for_each_chunk(self, run: Runner) -> None:
        """A FileSender reads a chunk of its file when the iteration waits for one, and hears that it has sent all."""
        content = LARGE[: 4 * FileSender.CHUNK_SIZE + 1]

        async def main() -> None:
            file, consumer = io.BytesIO(content), AsyncConsumer()
            sent = FileSender().beginFileTransfer(file, consumer)
            assert file.tell() == 0
            received = b""
            async for chunk in consumer:
                received += chunk
                assert file.tell() == len(received)
            assert received == content
            assert await sent == content[-1:]

        run(main)

    def test_a_producer_may_come_when_the_iteration_waits(self, run: Runner) -> None:
        """A pull producer that is registered late is asked at once."""

        async def main() -> None:
            consumer = AsyncConsumer()
            received = asyncio.ensure_future(all_of(consumer))
            await asyncio.sleep(0)
            sent = FileSender().beginFileTransfer(io.BytesIO(b"late"), consumer)
            assert await received == b"late"
            assert await sent == b"e"

        run(main)

    def test_a_pull_producer_that_fails_fails_the_iteration(self, run: Runner) -> None:
        """What it raises when it is asked is raised where it was asked; the iteration can go on."""

        def transform(chunk: bytes) -> bytes:
            raise ValueError("cannot be transformed")

        async def main() -> None:
            consumer = AsyncConsumer()
            sent = FileSender().beginFileTransfer(io.BytesIO(b"content"), consumer, transform)
            with pytest.raises(ValueError, match="cannot be transformed"):
                await consumer.__anext__()
            consumer.write(b"more")
            assert await consumer.__anext__() == b"more"
            await consumer.aclose()
            with pytest.raises(Exception, match="asked us to stop"):
                await sent

        run(main)

    def test_a_slow_iteration_is_felt_by_the_sender(self, run: Runner) -> None:
        """What arrives by TCP waits at the sender, and no more than the high mark and one read is in memory."""

        async def main() -> None:
            consumer = AsyncConsumer(100_000)
            receiver, sender = IteratedPeer(consumer), Peer()
            async with connected(run.reactor, receiver, sender):
                file = io.BytesIO(LARGE)
                sent = FileSender().beginFileTransfer(file, sender.transport)
                sent.addCallback(lambda _: sender.transport.loseConnection())
                await stalled(run.reactor, file.tell)
                assert receiver.producer.calls == ["pause"]
                assert file.tell() < len(LARGE) / 2
                taken = 0
                async for chunk in consumer:
                    assert receiver.received - taken <= 100_000 + TCP_READ_BYTES
                    assert chunk == LARGE[taken : taken + len(chunk)]
                    taken += len(chunk)
                assert taken == len(LARGE)
                calls = receiver.producer.calls
                assert calls == ["pause", "resume"] * (len(calls) // 2)

        run(main)

    @pytest.mark.parametrize("size", [0, 10, len(LARGE)])
    def test_the_body_of_a_response_is_iterated_over(self, size: int, run: Runner) -> None:
        """``Response.deliverBody`` writes to it by way of a small protocol, whether the body is long or short."""

        async def answer(request: Request) -> None:
            request.write(LARGE[:size])
            request.finish()

        async def main() -> bytes:
            async with serving(run.reactor, answer) as port:
                response = await Agent(run.reactor).request(b"GET", b"http://127.0.0.1:%d" % port)
                consumer = AsyncConsumer()
                response.deliverBody(Body(consumer))
                return await all_of(consumer)

        assert run(main) == LARGE[:size]

    def test_a_body_that_is_cut_off_ends_with_the_reason(self, run: Runner) -> None:
        """What had arrived is iterated over first."""

        async def answer(request: Request) -> None:
            request.setHeader(b"content-length", b"100")
            request.write(b"half")
            request.loseConnection()

        async def main() -> None:
            async with serving(run.reactor, answer) as port:
                response = await Agent(run.reactor).request(b"GET", b"http://127.0.0.1:%d" % port)
                consumer = AsyncConsumer()
                response.deliverBody(Body(consumer))
                assert await consumer.__anext__() == b"half"
                with pytest.raises(ResponseFailed):
                    await consumer.__anext__()

        run(main)

    def test_a_lost_connection_ends_the_iteration_after_what_had_arrived(self, run: Runner) -> None:
        """The reason is raised once; from then on, the iteration is over."""

        async def main() -> None:
            consumer = AsyncConsumer()
            receiver, sender = IteratedPeer(consumer), Peer()
            async with connected(run.reactor, receiver, sender):
                sender.transport.write(b"half")
                assert await consumer.__anext__() == b"half"
                sender.transport.abortConnection()
                with pytest.raises(ConnectionLost):
                    await consumer.__anext__()
                assert await all_of(consumer) == b""

        run(main)

    @pytest.mark.parametrize("wrap", [Failure, lambda error: error], ids=["failure", "exception"])
    def test_finish_raises_its_reason_after_what_was_written(self, wrap: Callable[[Exception], Any]) -> None:
        """Only the first reason counts."""

        async def main() -> None:
            consumer = written_to(AsyncConsumer(), b"a", b"b")
            error = ValueError("first")
            consumer.finish(wrap(error))
            consumer.finish(KeyError("second"))
            consumer.finish()
            assert [await consumer.__anext__(), await consumer.__anext__()] == [b"a", b"b"]
            with pytest.raises(ValueError, match="first") as raised:
                await consumer.__anext__()
            assert raised.value is error
            assert await all_of(consumer) == b""

        asyncio.run(main())

    def test_nothing_is_taken_after_the_end(self) -> None:
        """What is written then is dropped, and a producer that comes is stopped; the iteration stays at its end."""

        async def main() -> None:
            consumer = written_to(AsyncConsumer(high_water_bytes=0), b"", b"in time", b"")
            consumer.unregisterProducer()
            late = RecordedProducer()
            consumer.registerProducer(late, True)
            assert late.calls == ["stop"]
            assert await all_of(written_to(consumer, b"late")) == b"in time"
            assert await all_of(written_to(consumer, b"later")) == b""

        asyncio.run(main())

    def test_a_producer_that_is_done_is_not_resumed(self) -> None:
        """What was written before the end is iterated over, and the paused producer hears nothing more."""

        async def main() -> None:
            consumer, producer = AsyncConsumer(high_water_bytes=0), RecordedProducer()
            consumer.registerProducer(producer, True)
            written_to(consumer, b"x").finish()
            assert await all_of(consumer) == b"x"
            assert producer.calls == ["pause"]

        asyncio.run(main())

    def test_a_pull_producer_that_writes_nothing_is_asked_again(self) -> None:
        """An empty chunk is none, and the iteration goes on to wait for one."""

        async def main() -> None:
            consumer = AsyncConsumer()
            chunks = iter([b"", b"", b"in the end"])
            producer = PullProducer(lambda: consumer.write(next(chunks)))
            consumer.registerProducer(producer, False)
            assert await anext(consumer) == b"in the end"
            assert next(chunks, None) is None

        asyncio.run(main())

    def test_one_producer_at_a_time(self) -> None:
        """The second is refused, and the first goes on."""
        consumer, first, second = AsyncConsumer(), RecordedProducer(), RecordedProducer()
        consumer.registerProducer(first, True)
        with pytest.raises(RuntimeError, match="has a producer already"):
            consumer.registerProducer(second, False)
        written_to(consumer, b"x" * 65537)
        assert (first.calls, second.calls) == (["pause"], [])

    def test_leaving_stops_the_producer(self, run: Runner) -> None:
        """``async with`` stops it, once, whether the loop over it is left by a break or by an error."""

        async def leave(consumer: AsyncConsumer, error: Exception | None) -> None:
            async with consumer:
                async for chunk in consumer:
                    assert chunk == b"first"
                    if error is not None:
                        raise error
                    break

        async def main() -> None:
            for error in None, ValueError("left"):
                consumer = AsyncConsumer(high_water_bytes=0)
                receiver, sender = IteratedPeer(consumer), Peer()
                async with connected(run.reactor, receiver, sender):
                    sender.transport.write(b"first")
                    with contextlib.suppress(ValueError):
                        await leave(consumer, error)
                    await sender.lost.wait()
                    await consumer.aclose()
                    assert receiver.producer.calls == ["pause", "resume", "stop"]
                    assert await all_of(written_to(consumer, b"late")) == b""

        run(main)

    def test_aclose_ends_an_iteration_that_waits(self, run: Runner) -> None:
        """What was written, and the reason of an earlier end, are forgotten."""

        async def main() -> None:
            consumer = AsyncConsumer()
            waiting = asyncio.ensure_future(all_of(consumer))
            await asyncio.sleep(0)
            consumer.write(b"never seen")
            consumer.finish(ValueError("never raised"))
            await consumer.aclose()
            assert await waiting == b""

        run(main)

    def test_one_task_at_a_time_iterates(self, run: Runner) -> None:
        """The second task has an error, and the first goes on."""

        async def main() -> None:
            consumer = AsyncConsumer()
            first = asyncio.ensure_future(all_of(consumer))
            await asyncio.sleep(0)
            with pytest.raises(RuntimeError, match="iterated over by another task already"):
                await consumer.__anext__()
            written_to(consumer, b"for the first").unregisterProducer()
            assert await first == b"for the first"

        run(main)

    def test_a_cancelled_iteration_loses_nothing(self, run: Runner) -> None:
        """Whenever it is cancelled, before or after what it waits for was written, the next one goes on from there."""

        async def main() -> None:
            outcomes = set()
            for when in range(30):
                consumer, received = AsyncConsumer(high_water_bytes=4), bytearray()
                producer = asyncio.ensure_future(produce(slowly(bytes(range(10))), consumer))
                iterating = asyncio.ensure_future(collect(consumer, received))
                for _ in range(when):
                    await asyncio.sleep(0)
                in_time = not iterating.done()
                assert await cancelled(iterating) == in_time
                await collect(consumer, received)
                assert received == bytes(range(10))
                await producer
                outcomes.add(in_time)
            assert outcomes == {True, False}

        run(main)


async def collect(consumer: AsyncConsumer, received: bytearray) -> None:
    """Add what is written to *consumer* to *received*."""
    async for chunk in consumer:
        received += chunk
        await asyncio.sleep(0)


async def slowly(content: bytes) -> AsyncIterator[bytes]:
    """Each byte of *content*, and what else there is to do in between."""
    for number in content:
        await asyncio.sleep(0)
        yield bytes([number])
