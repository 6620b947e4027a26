"""The loop waits for the reactor, too: in a run of its own, and in one of somebody else."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet import protocol
from twisted.protocols import wire

from txasync import ReactorEventLoop

from .conftest import Reports, Runner, disposable_reactor


@pytest.fixture(params=["epoll", "txasync"])
def reactor(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The kinds of reactor that can be driven: one changes places with the loop, one shares its set."""
    with disposable_reactor(request.param) as reactor:
        yield reactor


@pytest.fixture
def loop(reactor: Any) -> Iterator[ReactorEventLoop]:
    """A loop on it, that does not run yet."""
    loop = ReactorEventLoop(reactor)
    yield loop
    loop.close()


class Echo(asyncio.Protocol):
    """Sends back what comes."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def ping(loop: ReactorEventLoop, times: int) -> None:
    """Exchange messages, one at a time, with a protocol on *loop*."""
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    transport, _ = await loop.create_connection(Echo, sock=ours)
    for _ in range(times):
        await loop.sock_sendall(theirs, b"ping")
        assert await loop.sock_recv(theirs, 100) == b"ping"
    transport.close()
    theirs.close()


def counting(reactor: Any) -> list[None]:
    """Grows with each iteration of *reactor*'s main loop."""
    iterations: list[None] = []
    run_until_current = reactor.runUntilCurrent
    reactor.runUntilCurrent = lambda: (iterations.append(None), run_until_current())
    return iterations


def test_messages_do_not_cost_iterations_of_the_reactor(run: Runner) -> None:
    """Whoever began the run, the reactor is left alone while it has nothing to do."""
    iterations = counting(run.reactor)
    run(lambda: ping(run.loop, 300))
    assert len(iterations) < 100


@pytest.mark.parametrize("mode", ["reactor-first"], indirect=True)
class TestInARunOfSomebodyElse:
    """The loop lingers inside the reactor's call, and the reactor must not notice."""

    def test_delayed_calls_come_between_messages(self, run: Runner) -> None:
        """In time, in their order, and from either side."""
        called: list[float] = []

        def call() -> None:
            called.append(time.monotonic())
            if len(called) < 20:
                run.reactor.callLater(0.001, call)

        async def main() -> None:
            run.loop.call_later(0.01, run.reactor.callLater, 0, call)
            while len(called) < 20:
                await ping(run.loop, 10)

        run(main)

    def test_a_call_from_a_thread_is_heard_while_nothing_else_happens(self, run: Runner) -> None:
        """The thread wakes the reactor, as ever."""
        heard = asyncio.Event()

        def from_thread() -> None:
            time.sleep(0.05)  # until the loop lingers, which shows nowhere
            run.reactor.callFromThread(heard.set)

        async def main() -> None:
            await ping(run.loop, 10)
            thread = threading.Thread(target=from_thread)
            thread.start()
            await heard.wait()
            thread.join()

        run(main)

    def test_the_loops_own_wakers_still_wake_it(self, run: Runner) -> None:
        """A call from a thread, an executor, a timer."""

        async def main() -> None:
            await ping(run.loop, 10)
            woken = asyncio.Event()
            thread = threading.Timer(0.02, run.loop.call_soon_threadsafe, [woken.set])
            thread.start()
            await woken.wait()
            thread.join()
            await asyncio.sleep(0.02)
            assert await run.loop.run_in_executor(None, sum, [1, 2]) == 3

        run(main)

    def test_both_worlds_are_served_at_once(self, run: Runner) -> None:
        """A busy asyncio connection does not keep a busy Twisted one waiting, nor the other way round."""

        async def talk_to_twisted() -> None:
            ours, theirs = socket.socketpair()
            factory = protocol.Factory.forProtocol(wire.Echo)
            run.reactor.adoptStreamConnection(ours.fileno(), ours.family, factory)
            ours.close()
            theirs.setblocking(False)
            for _ in range(200):
                await run.loop.sock_sendall(theirs, b"ping")
                assert await run.loop.sock_recv(theirs, 100) == b"ping"
            theirs.close()
            await asyncio.sleep(0.01)  # until Twisted has seen it

        async def main() -> None:
            await asyncio.gather(talk_to_twisted(), ping(run.loop, 200))
            await ping(run.loop, 10)
            await talk_to_twisted()

        run(main)

    def test_a_descriptor_that_is_given_to_the_reactor_meanwhile_is_watched(self, run: Runner) -> None:
        """Although the reactor was told from inside the call in which the loop lingers."""
        ours, theirs = socket.socketpair()
        read = asyncio.Event()

        class Reader:
            def fileno(self) -> int:
                return ours.fileno()

            def logPrefix(self) -> str:
                return "reader"

            def doRead(self) -> None:
                run.reactor.removeReader(self)
                read.set()

        async def main() -> None:
            await ping(run.loop, 10)
            run.reactor.addReader(Reader())
            run.loop.call_later(0.01, theirs.send, b"x")
            await read.wait()

        run(main)
        ours.close()
        theirs.close()

    @pytest.mark.parametrize("side", ["twisted", "asyncio"])
    def test_an_iteration_by_hand_returns(self, run: Runner, side: str) -> None:
        """In a callback of either side; to wait there would be to wait for ever."""
        ways: dict[str, Callable[..., Any]] = {
            "twisted": lambda call: run.reactor.callLater(0.01, call),
            "asyncio": run.loop.call_soon,
        }
        schedule = ways[side]

        async def main() -> None:
            await ping(run.loop, 50)
            for delay in (0, 0.001):
                done = asyncio.Event()
                schedule(lambda: (run.reactor.iterate(delay), done.set()))
                await done.wait()
                await ping(run.loop, 20)

        run(main)

    def test_an_interrupt_between_two_rounds_leaves_the_loop_alive(self, run: Runner, reports: Reports) -> None:
        """It is reported, as the reactor does; the descriptor that everything comes through is not given up for it."""
        timeout = run.reactor.timeout

        def interrupted() -> float:
            run.reactor.timeout = timeout
            raise KeyboardInterrupt

        async def main() -> None:
            call = run.reactor.callLater(60, list)
            await ping(run.loop, 50)
            run.reactor.timeout = interrupted
            await ping(run.loop, 50)
            assert run.reactor.timeout == timeout
            call.cancel()

        run(main)
        assert [report.type for report in reports.twisted] == [KeyboardInterrupt]
        reports.clear()

    def test_an_exit_in_a_callback_is_reported_and_the_run_goes_on(self, run: Runner, reports: Reports) -> None:
        """As where the reactor waits."""

        def leave() -> None:
            raise SystemExit(3)

        async def main() -> None:
            await ping(run.loop, 50)
            run.loop.call_soon(leave)
            await ping(run.loop, 50)

        run(main)
        assert [report.type for report in reports.twisted] == [SystemExit]
        reports.clear()


@pytest.mark.parametrize("end", ["crash", "stop", "loop.stop", "SIGTERM"])
def test_the_reactor_can_be_ended_while_the_loop_lingers(reactor: Any, loop: ReactorEventLoop, end: str) -> None:
    """The main loop hears of it, although nothing else happens."""
    ends: dict[str, Callable[[], None]] = {
        "crash": reactor.crash,
        "stop": reactor.stop,
        "loop.stop": loop.stop,
        "SIGTERM": lambda: os.kill(os.getpid(), signal.SIGTERM),
    }

    async def main() -> None:
        await ping(loop, 50)
        loop.call_later(0.01, ends[end])

    tasks: list[asyncio.Task[None]] = []
    reactor.callWhenRunning(lambda: tasks.append(loop.create_task(main())))
    reactor.run()
    assert not reactor.running
    assert tasks[0].done()


def test_a_main_loop_of_somebodys_own_gets_its_turn(reactor: Any, loop: ReactorEventLoop) -> None:
    """Programs with a main loop of theirs iterate the reactor, and each iteration returns."""
    reactor.startRunning(installSignalHandlers=False)
    task = loop.create_task(ping(loop, 50))
    turns = 0
    while not task.done():
        reactor.iterate(0.001)
        turns += 1
    assert turns >= 50
    reactor.crash()


def test_no_call_from_a_thread_is_forgotten(run: Runner) -> None:
    """Neither one that comes while the reactor makes its calls, nor one while it looks at its descriptors."""

    def call_again_and_again() -> int:
        for made in range(1000):
            called = threading.Event()
            if made % 2:
                run.loop.call_soon_threadsafe(int)
            run.reactor.callFromThread(called.set)
            if not called.wait(30):
                return made
        return 1000

    async def main() -> int:
        return await asyncio.to_thread(call_again_and_again)

    assert run(main) == 1000
