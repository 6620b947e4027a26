"""An asynchronous iterable's chunks, written to a consumer of Twisted's."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from twisted.internet.defer import Deferred, DeferredQueue
from twisted.internet.error import ConnectionLost
from twisted.internet.interfaces import IPushProducer
from twisted.web.client import Agent
from twisted.web.server import Request
from zope.interface.verify import verifyObject

from txasync import AsyncConsumer, produce

from ..conftest import Runner
from .streams import (
    CHUNK_BYTES,
    LARGE,
    Body,
    Chunks,
    Consumer,
    Pausing,
    Peer,
    all_of,
    cancelled,
    connected,
    install,
    reserve_descriptor,
    serving,
    stalled,
)

counts_cancellations = pytest.mark.skipif(sys.version_info < (3, 11), reason="tasks count cancellations from 3.11 on")


@pytest.fixture(autouse=True, scope="module")
def _descriptor_in_reserve() -> None:
    reserve_descriptor()


@pytest.fixture
def run(run: Runner, monkeypatch: pytest.MonkeyPatch) -> Runner:
    """Run a coroutine function on the process's reactor."""
    install(run.reactor, monkeypatch)
    return run


class Received(Peer):
    """Keeps what it receives."""

    def __init__(self) -> None:
        super().__init__()
        self.content = b""

    def dataReceived(self, data: bytes) -> None:
        self.content += data


class Unread(Peer):
    """Sends something, and reads nothing before it is told to."""

    def __init__(self, sends: bytes = b"") -> None:
        super().__init__()
        self._sends = sends

    def connectionMade(self) -> None:
        super().connectionMade()
        self.transport.pauseProducing()
        self.transport.write(self._sends)


def cancellations() -> int:
    """How many requests there are to cancel this task."""
    task: Any = asyncio.current_task()
    return 0 if sys.version_info < (3, 11) else int(task.cancelling())


async def fails_with_a_reset(chunks: AsyncIterator[bytes], consumer: Any) -> None:
    """Check that `produce` finds the connection lost, and that the task is as good as before."""
    with pytest.raises(ConnectionResetError, match="the consumer wants no more"):
        await produce(chunks, consumer)
    assert cancellations() == 0
    for _ in range(3):
        await asyncio.sleep(0)  # here a cancellation that was left over would come


async def never() -> None:
    """Wait for nothing."""
    await asyncio.Event().wait()


# What is written


def test_all_chunks_arrive(run: Runner) -> None:
    """They arrive in order; the generator is closed, and the transport free for another producer."""

    async def main() -> None:
        receiver, sender = Received(), Peer()
        async with connected(run.reactor, receiver, sender):
            for content in LARGE, b"more", b"":
                chunks = Chunks()
                await produce(chunks.of(content), sender.transport)
                assert chunks.closed
            sender.transport.loseConnection()
            await receiver.lost.wait()
        assert receiver.content == LARGE + b"more"

    run(main)


def test_the_consumer_has_a_push_producer(run: Runner) -> None:
    """A paused consumer gets no more than the chunk that it is given already; it is free at the end."""

    async def main() -> None:
        transport, chunks = Pausing(), Chunks()
        task = asyncio.ensure_future(produce(chunks.of(bytes(3 * CHUNK_BYTES)), transport))
        await asyncio.sleep(0)
        assert verifyObject(IPushProducer, transport.producer)
        assert transport.streaming
        for number in 1, 2, 3:
            await stalled(run.reactor, lambda: chunks.position)
            assert (chunks.position, len(transport.value())) == (number * CHUNK_BYTES, number * CHUNK_BYTES)
            assert not task.done()
            transport.producer.resumeProducing()
        await task
        assert (transport.producer, chunks.closed) == (None, True)

    run(main)


def test_a_slow_client_pauses_the_iteration(run: Runner) -> None:
    """A response is made no faster than its client reads it."""

    async def main() -> None:
        chunks = Chunks()

        async def answer(request: Request) -> None:
            await produce(chunks.of(LARGE), request)
            request.finish()

        client = Unread(b"GET / HTTP/1.0\r\n\r\n")
        async with serving(run.reactor, answer) as port, client.connected_to(run.reactor, port):
            await stalled(run.reactor, lambda: chunks.position)
            assert 0 < chunks.position < len(LARGE) / 2
            client.transport.resumeProducing()
            await client.lost.wait()
            assert chunks.position == len(LARGE)
            assert client.received > len(LARGE)  # by the headers

    run(main)


def test_an_agent_reads_what_is_produced(run: Runner) -> None:
    """The iterable may wait for Deferreds."""
    queue: DeferredQueue[bytes] = DeferredQueue()

    async def queued() -> AsyncIterator[bytes]:
        while chunk := await queue.get():
            yield chunk

    async def answer(request: Request) -> None:
        await produce(queued(), request)
        request.finish()

    async def main() -> bytes:
        async with serving(run.reactor, answer) as port:
            queue.put(b"one ")  # with which the headers come
            response = await Agent(run.reactor).request(b"GET", b"http://127.0.0.1:%d" % port)
            consumer = AsyncConsumer()
            response.deliverBody(Body(consumer))
            assert await consumer.__anext__() == b"one "
            for chunk in b"two ", b"three", b"":
                queue.put(chunk)
            return await all_of(consumer)

    assert run(main) == b"two three"


def test_an_iterable_need_not_be_a_generator(run: Runner) -> None:
    """It may be any asynchronous iterable, with nothing to close; as an AsyncConsumer, it is closed."""

    class Once:
        def __init__(self) -> None:
            self._left = [b"b", b"a"]

        def __aiter__(self) -> Once:
            return self

        async def __anext__(self) -> bytes:
            if not self._left:
                raise StopAsyncIteration
            return self._left.pop()

    async def main() -> None:
        receiver, sender = Received(), Peer()
        async with connected(run.reactor, receiver, sender):
            await produce(Once(), sender.transport)
            middle = AsyncConsumer(high_water_bytes=0)
            await asyncio.gather(produce(Chunks().of(LARGE), middle), produce(middle, sender.transport))
            sender.transport.loseConnection()
            await receiver.lost.wait()
        assert receiver.content == b"ab" + LARGE

    run(main)


def test_a_consumer_that_has_a_producer_keeps_it(run: Runner) -> None:
    """The second is refused before anything is asked of its chunks."""

    async def main() -> None:
        transport, chunks = Consumer(), Chunks()
        first = asyncio.ensure_future(produce(chunks.then_wait(b"first", never()), transport))
        await chunks.waits.wait()
        producer = transport.producer
        second = Chunks()
        with pytest.raises(RuntimeError, match="two producers"):
            await produce(second.of(b"second"), transport)
        assert (transport.producer, second.position) == (producer, 0)
        assert await cancelled(first)
        assert transport.value() == b"first"

    run(main)


# What ends it before its time


def test_the_error_of_the_iterable_is_raised(run: Runner) -> None:
    """What was yielded before is written, and the consumer is free again."""

    async def failing() -> AsyncIterator[bytes]:
        yield b"first"
        raise ValueError("on purpose")

    async def main() -> None:
        receiver, sender = Received(), Peer()
        async with connected(run.reactor, receiver, sender):
            with pytest.raises(ValueError, match="on purpose"):
                await produce(failing(), sender.transport)
            await produce(Chunks().of(b" second"), sender.transport)
            sender.transport.loseConnection()
            await receiver.lost.wait()
        assert receiver.content == b"first second"

    run(main)


@pytest.mark.parametrize("waits_for", [never, Deferred], ids=["future", "deferred"])
def test_a_lost_connection_ends_an_iterable_that_waits(waits_for: Callable[[], Awaitable[Any]], run: Runner) -> None:
    """It is a ConnectionResetError, and the generator is closed; so it is at once if the connection was lost before."""

    async def main() -> None:
        receiver, sender = Peer(), Peer()
        async with connected(run.reactor, receiver, sender):
            chunks = Chunks()
            losing = asyncio.ensure_future(chunks.waits.wait())
            losing.add_done_callback(lambda _: receiver.transport.abortConnection())
            await fails_with_a_reset(chunks.then_wait(b"first", waits_for()), sender.transport)
            assert chunks.closed
            late = Chunks()
            await fails_with_a_reset(late.of(b"late"), sender.transport)
            assert late.position == 0

    run(main)


def test_a_lost_connection_ends_a_paused_iteration(run: Runner) -> None:
    """An iteration that waits for its consumer ends, too."""

    async def main() -> None:
        receiver, sender = Unread(), Peer()
        async with connected(run.reactor, receiver, sender):
            chunks = Chunks()
            task = asyncio.ensure_future(fails_with_a_reset(chunks.of(LARGE), sender.transport))
            await stalled(run.reactor, lambda: chunks.position)
            receiver.transport.abortConnection()
            await task
            assert (chunks.closed, chunks.position < len(LARGE)) == (True, True)

    run(main)


@pytest.mark.parametrize("moment", ["waiting", "paused"])
def test_a_client_that_goes_away_ends_the_iteration(moment: str, run: Runner) -> None:
    """A request of twisted.web, which forgets its connection when that is lost, is a consumer as any other."""

    async def main() -> None:
        chunks = Chunks()

        async def answer(request: Request) -> None:
            if moment == "paused":
                await fails_with_a_reset(chunks.of(LARGE), request)
            else:
                await fails_with_a_reset(chunks.then_wait(b"first", never()), request)

        client = Unread(b"GET / HTTP/1.0\r\n\r\n")
        async with serving(run.reactor, answer) as port, client.connected_to(run.reactor, port):
            if moment == "paused":
                await stalled(run.reactor, lambda: chunks.position)
            else:
                await chunks.waits.wait()
            client.transport.abortConnection()
        assert chunks.closed

    run(main)


@counts_cancellations
def test_a_client_that_goes_away_during_the_clean_up_changes_nothing(run: Runner) -> None:
    """The task was cancelled already, and ends so."""

    async def main() -> None:
        chunks = Chunks()
        answering: asyncio.Future[asyncio.Task[None] | None] = asyncio.get_running_loop().create_future()

        async def answer(request: Request) -> None:
            gone = request.notifyFinish()

            async def clean_up() -> None:
                client.transport.abortConnection()
                with pytest.raises(ConnectionLost):
                    await gone

            answering.set_result(asyncio.current_task())
            await produce(chunks.then_clean_up(b"first", clean_up), request)

        client = Unread(b"GET / HTTP/1.0\r\n\r\n")
        async with serving(run.reactor, answer) as port, client.connected_to(run.reactor, port):
            await chunks.waits.wait()
            task = await answering
            assert task is not None
            assert await cancelled(task)

    run(main)


@counts_cancellations
@pytest.mark.parametrize("response", ["fails", "goes on", "ends"])
def test_a_lost_connection_leaves_no_cancellation_behind(response: str, run: Runner) -> None:
    """The end of the iterable is asked for by a cancellation; whatever it makes of that, the task is not cancelled."""

    async def responding() -> AsyncIterator[bytes]:
        yield b"first"
        waits.set()
        try:
            await never()
        except asyncio.CancelledError:
            if response == "fails":
                raise ValueError("on purpose") from None
            elif response == "goes on":
                yield b"second"

    async def main() -> None:
        transport = Consumer()

        async def producing() -> int:
            error = ValueError if response == "fails" else ConnectionResetError
            with pytest.raises(error):
                await produce(responding(), transport)
            return cancellations()

        task = asyncio.ensure_future(producing())
        await waits.wait()
        transport.producer.stopProducing()
        assert await task == 0

    waits = asyncio.Event()
    run(main)


@pytest.mark.parametrize("cleans_up", [False, True])
def test_a_chunk_that_comes_with_the_loss_of_the_connection(run: Runner, cleans_up: bool) -> None:
    """The Deferred that the iterable waits for has fired when the consumer stops: nothing is cancelled afterwards."""

    async def main() -> None:
        transport, chunks = Consumer(), Chunks()
        deferred: Deferred[None] = Deferred()

        async def iteration() -> AsyncIterator[bytes]:
            try:
                async for chunk in chunks.then_wait(b"first", deferred):
                    yield chunk
            finally:
                if cleans_up:
                    await asyncio.sleep(0)

        async def producing() -> None:
            await fails_with_a_reset(iteration(), transport)
            await asyncio.sleep(0)

        task = asyncio.ensure_future(producing())
        await chunks.waits.wait()
        deferred.callback(None)
        transport.producer.stopProducing()
        await task
        assert chunks.closed

    run(main)


def test_it_is_cancelled_at_any_moment(run: Runner) -> None:
    """Wherever its task is, it ends cancelled, or had ended before; the generator is closed, the consumer free."""

    def resume(transport: Pausing) -> None:
        if transport.producer is not None:
            transport.producer.resumeProducing()

    async def chunks(closed: list[str]) -> AsyncIterator[bytes]:
        try:
            for wait in never_long_deferred, never_long_future:
                yield b"chunk"
                await wait()
        finally:
            try:
                await asyncio.sleep(0)
            finally:
                closed.append("closed")

    async def never_long_future() -> None:
        await asyncio.sleep(0)

    async def never_long_deferred() -> None:
        deferred: Deferred[None] = Deferred()
        asyncio.get_running_loop().call_soon(lambda: deferred.called or deferred.callback(None))
        await deferred

    async def main() -> None:
        outcomes = []
        for when in range(20):
            transport, closed = Pausing(resume), list[str]()
            task = asyncio.ensure_future(produce(chunks(closed), transport))
            for _ in range(when):
                await asyncio.sleep(0)
            began, in_time = when > 0, not task.done()
            assert await cancelled(task) == in_time
            assert transport.producer is None
            assert closed == ["closed"] * began
            outcomes.append(in_time)
        assert outcomes == sorted(outcomes, reverse=True)
        assert not outcomes[-1]

    run(main)


@counts_cancellations
def test_a_cancellation_outweighs_the_loss_of_the_connection(run: Runner) -> None:
    """A task that was cancelled when, or before, its consumer stopped ends cancelled."""

    async def main() -> None:
        for order in ["cancel", "stop"], ["stop", "cancel"]:
            transport, chunks = Consumer(), Chunks()
            task = asyncio.ensure_future(produce(chunks.then_wait(b"first", never()), transport))
            await chunks.waits.wait()
            for what in order:
                task.cancel() if what == "cancel" else transport.producer.stopProducing()
            await asyncio.wait([task])
            assert task.cancelled()
            assert chunks.closed

    run(main)


def test_a_consumer_that_wants_no_more_ends_it(run: Runner) -> None:
    """An AsyncConsumer that is left stops what is produced for it."""

    async def main() -> None:
        consumer, chunks = AsyncConsumer(high_water_bytes=0), Chunks()
        task = asyncio.ensure_future(fails_with_a_reset(chunks.of(LARGE), consumer))
        async with consumer:
            assert await consumer.__anext__() == LARGE[:CHUNK_BYTES]
        await task
        assert chunks.closed

    run(main)
