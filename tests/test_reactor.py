"""Our reactor: both parties on one epoll object, each served, and neither disturbed."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet import error, protocol
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.interfaces import IReactorFDSet
from twisted.protocols import wire
from zope.interface.verify import verifyObject

import txasync
from txasync import ReactorEventLoop
from txasync.polling import SharedPoller
from txasync.reactor import SharedEPollReactor

from .conftest import Reports, Runner, disposable_reactor, open_descriptors

WITHOUT_EPOLL = "import select; del select.epoll, select.poll; "


@pytest.fixture
def reactor() -> Iterator[Any]:
    """A reactor of ours, not the process's own."""
    with disposable_reactor("txasync") as reactor:
        yield reactor


@pytest.fixture
def loop(reactor: Any) -> Iterator[ReactorEventLoop]:
    """A loop on it, that does not run yet."""
    loop = ReactorEventLoop(reactor)
    yield loop
    loop.close()


Pair = tuple[socket.socket, socket.socket]


class Reader:
    """A selectable that notes what it is asked to do; it has no buffer that could be empty."""

    def __init__(self, reactor: Any, sock: socket.socket) -> None:
        self.reactor = reactor
        self.sock = sock
        self.fileno = sock.fileno
        self.read: list[bytes] = []

    def logPrefix(self) -> str:
        return "reader"

    def doRead(self) -> None:
        self.read.append(self.sock.recv(100))

    def connectionLost(self, reason: Any) -> None:
        self.reactor.removeReader(self)


def child(program: str, *arguments: str, status: int | None = 0) -> tuple[str, str]:
    """What a Python program writes to stdout and stderr; it must end with *status*, if that is not None."""
    root = str(Path(txasync.__file__).parents[1])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))}
    command = [sys.executable, "-c", program, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert status is None or ended.returncode == status, ended.stderr
    return ended.stdout, ended.stderr


# What it is, and how it comes into the process


def test_it_is_an_epoll_reactor(reactor: Any) -> None:
    """And provides what that provides."""
    assert isinstance(reactor, EPollReactor)
    assert verifyObject(IReactorFDSet, reactor)
    assert type(reactor).doPoll is type(reactor).doIteration


def test_to_install_it_is_to_ask_for_it() -> None:
    """The import installs nothing; ``install()`` does, once."""
    out, _ = child(
        """
import sys
import txasync.reactor
from twisted.internet.error import ReactorAlreadyInstalledError
print("twisted.internet.reactor" in sys.modules)
txasync.reactor.install()
from twisted.internet import reactor
print(type(reactor).__name__)
try:
    txasync.reactor.install()
except ReactorAlreadyInstalledError:
    print("once")
loop = txasync.install()
print(loop.reactor is reactor)
reactor.callLater(0, reactor.stop)
reactor.run()
print(loop.is_closed())
"""
    )
    assert out.split() == ["False", "SharedEPollReactor", "once", "True", "True"]


def test_the_import_says_what_to_do_where_there_is_no_epoll() -> None:
    """In one sentence, which names the other ways."""
    out, _ = child(WITHOUT_EPOLL + "\ntry: import txasync.reactor\nexcept ImportError as error: print(error)")
    assert out == (
        "txasync.reactor needs epoll, which this platform has not: choose another of Twisted's reactors (kqueue, poll, "
        "select), on any of which txasync.install() works\n"
    )


def test_the_launcher_says_so_in_one_line() -> None:
    """And ends with the status of a wrong command line."""
    program = WITHOUT_EPOLL + "import runpy; runpy.run_module('txasync', None, '__main__')"
    out, err = child(program, "--reactor", "txasync", "script.py", status=2)
    assert out == ""
    assert err.startswith("python -m txasync: error: the reactor 'txasync' cannot be installed here: ImportError: ")
    assert err.count("\n") == 1


def test_twistd_says_so_as_of_any_reactor() -> None:
    """After the words of Twisted's own."""
    program = WITHOUT_EPOLL + "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"
    out, err = child(program, "--reactor=txasync", status=None)  # Twisted 24.7 ends with 0
    assert "needs epoll, which this platform has not" in out + err
    assert "Traceback" not in out + err


def test_a_thousand_loops_leave_nothing_behind() -> None:
    """Each with a reactor of its own, which is ours."""
    before = open_descriptors()
    for number in range(1000):
        loop = txasync.new_event_loop(private=True)
        if not number:
            assert type(loop.reactor) is SharedEPollReactor
        if number % 100 == 0:
            loop.run_until_complete(asyncio.sleep(0))
        loop.close()
    assert open_descriptors() == before


# A loop on it, or none


def test_a_second_loop_is_refused(reactor: Any, loop: ReactorEventLoop) -> None:
    """One epoll object has two parties; the first loop does not mind the attempt."""
    with pytest.raises(RuntimeError, match="shares its epoll object with a poller already"):
        ReactorEventLoop(reactor)
    assert loop.run_until_complete(asyncio.sleep(0, "alive")) == "alive"
    loop.close()
    second = ReactorEventLoop(reactor)
    assert second.run_until_complete(asyncio.sleep(0, "alive")) == "alive"
    second.close()


def test_it_runs_before_a_loop_and_after_it(reactor: Any, pair: Pair) -> None:
    """Descriptors, timers and calls from threads are served without one."""
    left, right = pair
    reader = Reader(reactor, left)
    reactor.addReader(reader)

    def run_native() -> None:
        thread = threading.Thread(target=reactor.callFromThread, args=[right.send, b"x"])
        call = reactor.callLater(0, thread.start)
        before = len(reader.read)

        def look() -> None:
            if len(reader.read) > before:
                reactor.crash()
            else:
                reactor.callLater(0.001, look)

        look()
        reactor.run(installSignalHandlers=False)
        thread.join()
        assert call.called

    run_native()
    for _ in range(2):
        loop = ReactorEventLoop(reactor)
        loop.run_until_complete(asyncio.sleep(0.001))
        run_native()
        loop.close()
    run_native()
    reactor.removeReader(reader)
    assert reader.read == [b"x"] * 4


def test_a_loop_may_come_while_it_runs(reactor: Any) -> None:
    """It is served from the next iteration on."""
    loops: list[ReactorEventLoop] = []

    async def main() -> None:
        await asyncio.sleep(0.001)
        await asyncio.to_thread(int)
        reactor.crash()

    def come() -> None:
        loops.append(ReactorEventLoop(reactor))
        tasks.append(loops[0].create_task(main()))

    tasks: list[asyncio.Task[None]] = []
    reactor.callLater(0.001, come)
    reactor.run(installSignalHandlers=False)
    assert tasks[0].done()
    loops[0].run_until_complete(loops[0].shutdown_default_executor())
    loops[0].close()


def test_runs_of_both_kinds_follow_on_each_other(reactor: Any, loop: ReactorEventLoop) -> None:
    """The loop's own and the reactor's; crashed, and stopped by the loop."""
    for _ in range(3):
        loop.run_until_complete(asyncio.sleep(0))
        loop.call_soon(reactor.crash)
        reactor.run(installSignalHandlers=False)
        loop.call_soon(loop.stop)
        loop.run_forever()
        reactor.callLater(0, reactor.crash)
        reactor.run(installSignalHandlers=False)
    loop.call_soon(reactor.stop)
    reactor.run(installSignalHandlers=False)
    with pytest.raises(error.ReactorNotRestartable):
        reactor.run(installSignalHandlers=False)


# One descriptor, two parties


def test_each_party_is_called_for_what_it_has_asked_for(run: Runner, pair: Pair) -> None:
    """The loop writes on a connection's descriptor while Twisted reads there."""

    async def main() -> None:
        left, right = pair
        reader = Reader(run.reactor, left)
        run.reactor.addReader(reader)
        writable = asyncio.Event()
        run.loop.add_writer(left, writable.set)
        await writable.wait()
        right.send(b"for Twisted")
        while not reader.read:
            await asyncio.sleep(0.001)
        run.loop.remove_writer(left)
        readable: list[bytes] = []
        run.loop.add_reader(left, lambda: readable.append(left.recv(100)))
        run.reactor.removeReader(reader)
        right.send(b"for asyncio")
        while not readable:
            await asyncio.sleep(0.001)
        run.loop.remove_reader(left)
        run.reactor.addReader(reader)
        right.send(b"for Twisted")
        while len(reader.read) < 2:
            await asyncio.sleep(0.001)
        run.reactor.removeReader(reader)
        assert readable == [b"for asyncio"]

    run(main)


def test_a_selectable_reads_once_for_each_event_while_asyncio_is_busy(reactor: Any, loop: ReactorEventLoop) -> None:
    """In an iteration by hand asyncio has many rounds; one that would block on a second read is not asked twice."""
    left, right = socket.socketpair()  # which blocks
    left.settimeout(5)
    reader = Reader(reactor, left)
    reactor.startRunning(installSignalHandlers=False)
    busy = [True]

    async def chain() -> None:
        while busy:
            await asyncio.sleep(0)

    task = loop.create_task(chain())
    reactor.addReader(reader)
    for _ in range(3):
        right.send(b"x")
        reactor.iterate(0)
    assert b"".join(reader.read) == b"xxx"
    busy.clear()
    while not task.done():
        reactor.iterate(0)
    reactor.removeReader(reader)
    reactor.crash()
    reactor.iterate(0)
    left.close()
    right.close()


def test_an_event_of_what_the_other_party_replaces_is_dropped(run: Runner) -> None:
    """Both are found in one batch; asyncio's callback closes Twisted's, and the number is used again."""

    class Closed(Reader):
        def doRead(self) -> None:
            pytest.fail("what was closed is served")

    class Successor(Reader):
        def doRead(self) -> None:
            pytest.fail("what has nothing to read is asked to read")

    async def main() -> None:
        trigger, pull = socket.socketpair()
        victim, peer = socket.socketpair()
        fd = victim.fileno()
        closed = Closed(run.reactor, victim)
        kept: list[Any] = []
        done = asyncio.Event()

        def replace() -> None:
            run.loop.remove_reader(trigger)
            run.reactor.removeReader(closed)
            victim.close()
            kept.extend(socket.socketpair())
            assert kept[0].fileno() == fd
            kept.append(Successor(run.reactor, kept[0]))
            run.reactor.addReader(kept[-1])
            done.set()

        run.loop.add_reader(trigger, replace)
        run.reactor.addReader(closed)
        pull.send(b"x")
        peer.send(b"x")
        await done.wait()
        for _ in range(10):
            await asyncio.sleep(0)
        run.reactor.removeReader(kept[-1])
        for one in (trigger, pull, peer, *kept[:2]):
            one.close()

    run(main)


def test_an_event_that_an_iteration_by_hand_has_served_is_not_served_again(run: Runner) -> None:
    """Both parties' are found in one batch; asyncio's callback iterates the reactor, which serves Twisted's."""

    async def main() -> None:
        left, right = socket.socketpair()  # which blocks
        left.settimeout(5)
        trigger, pull = socket.socketpair()
        reader = Reader(run.reactor, left)
        done = asyncio.Event()

        def iterate() -> None:
            run.loop.remove_reader(trigger)
            run.reactor.iterate(0)
            assert reader.read == [b"x"]
            done.set()

        run.reactor.addReader(reader)
        run.loop.add_reader(trigger, iterate)
        right.send(b"x")
        pull.send(b"x")
        await done.wait()
        await asyncio.sleep(0.001)
        run.reactor.removeReader(reader)
        assert reader.read == [b"x"]
        for one in (left, right, trigger, pull):
            one.close()

    run(main)


@pytest.mark.parametrize("way", ["run", "iterate"])
@pytest.mark.parametrize("with_loop", [False, True])
def test_a_connection_that_can_send_ends_the_wait(reactor: Any, way: str, with_loop: bool, pair: Pair) -> None:
    """A pull producer writes when all is sent; the reactor does not wait for somebody else then."""
    left, right = pair
    loop = ReactorEventLoop(reactor) if with_loop else None
    made = protocol.Protocol()
    factory = protocol.Factory()
    factory.protocol = lambda: made
    reactor.adoptStreamConnection(left.fileno(), left.family, factory)
    transport: Any = made.transport
    written: list[int] = []

    class Producer:
        def resumeProducing(self) -> None:
            if len(written) < 10:
                written.append(transport.write(b"x"))
            else:
                transport.unregisterProducer()
                reactor.crash()

        def stopProducing(self) -> None: ...

    transport.registerProducer(Producer(), False)
    if way == "run":
        reactor.run(installSignalHandlers=False)
    else:
        reactor.startRunning(installSignalHandlers=False)
        while reactor.running:
            reactor.iterate(60)
    assert right.recv(100) == b"x" * 10
    reactor.disconnectAll()
    if loop is not None:
        loop.close()


# Iterations by hand


def recording_polls(reactor: Any) -> list[Any]:
    """What each poll of the reactor's own finds, from now on."""
    found: list[Any] = []
    poll = reactor.shared_set.poll

    def recorded(timeout_s: float | None) -> Any:
        found.append(poll(timeout_s))
        return found[-1]

    reactor.shared_set.poll = recorded
    return found


def test_an_iteration_in_an_asyncio_callback_steps_no_task_and_does_not_spin(run: Runner, pair: Pair) -> None:
    """A task is not stepped inside another's step; what asyncio watches does not end the wait again and again."""

    async def main() -> None:
        left, right = pair
        steps: list[str] = []
        read = asyncio.Event()
        run.loop.add_reader(left, read.set)
        run.loop.call_soon(steps.append, "callback")
        run.loop.call_soon_threadsafe(steps.append, "from thread")
        right.send(b"x")
        found = recording_polls(run.reactor)
        for _ in range(4):
            run.reactor.iterate(0)
        right.close()  # a hang-up, while nobody listens
        for _ in range(3):
            run.reactor.iterate(0)
        assert [len(fds) > 0 for fds in found] == [True, True, False, False, True, False, False]
        assert steps == []
        assert not read.is_set()
        await read.wait()  # for nothing else happens that could end a wait
        assert set(steps) == {"callback", "from thread"}
        run.loop.remove_reader(left)

    run(main)


def test_an_iteration_in_a_twisted_callback_serves_asyncio(run: Runner) -> None:
    """There, asyncio is at rest, and can be stepped."""

    async def main() -> None:
        stepped = asyncio.Event()
        done = asyncio.Event()

        def iterate() -> None:
            run.loop.call_soon(stepped.set)
            run.reactor.iterate(0)
            run.reactor.iterate(0.001)
            assert stepped.is_set()
            done.set()

        run.reactor.callLater(0, iterate)
        await done.wait()

    run(main)


# Neither party starves


async def talk(loop: ReactorEventLoop, reactor: Any, times: int) -> None:
    """Exchange messages with a Twisted protocol."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        reactor.adoptStreamConnection(ours.fileno(), ours.family, protocol.Factory.forProtocol(wire.Echo))
        for _ in range(times):
            await loop.sock_sendall(theirs, b"ping")
            assert await loop.sock_recv(theirs, 100) == b"ping"
        theirs.shutdown(socket.SHUT_WR)
        assert await loop.sock_recv(theirs, 100) == b""


def busy_callbacks(run: Runner) -> Callable[[], None]:
    """A chain of callbacks; what is returned ends it."""
    going = [True]

    def again() -> None:
        if going:
            run.loop.call_soon(again)

    again()
    return going.clear


def busy_calls(run: Runner) -> Callable[[], None]:
    """A chain of calls, each due at once."""
    going = [True]

    def again() -> None:
        if going:
            run.reactor.callLater(0, again)

    again()
    return going.clear


def busy_calls_from_thread(run: Runner) -> Callable[[], None]:
    """A chain of calls as threads make them."""
    going = [True]

    def again() -> None:
        if going:
            run.reactor.callFromThread(again)

    again()
    return going.clear


def busy_producer(run: Runner) -> Callable[[], None]:
    """A pull producer that is never at its end, and a peer that takes everything."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    made = protocol.Protocol()
    factory = protocol.Factory()
    factory.protocol = lambda: made
    with ours:
        run.reactor.adoptStreamConnection(ours.fileno(), ours.family, factory)
    transport: Any = made.transport

    class Producer:
        def resumeProducing(self) -> None:
            transport.write(b"x" * 1000)

        def stopProducing(self) -> None: ...

    run.loop.add_reader(theirs, theirs.recv, 100_000)
    transport.registerProducer(Producer(), False)

    def end() -> None:
        run.loop.remove_reader(theirs)
        transport.abortConnection()
        theirs.close()

    return end


BUSY = [busy_callbacks, busy_calls, busy_calls_from_thread, busy_producer]


@pytest.mark.parametrize("busy", BUSY)
def test_everybody_is_served_while_one_is_busy(run: Runner, busy: Callable[[Runner], Callable[[], None]]) -> None:
    """Connections, timers and calls of either side."""

    async def main() -> None:
        end = busy(run)
        await talk(run.loop, run.reactor, 20)
        for _ in range(5):
            called = asyncio.Event()
            run.reactor.callLater(0.001, called.set)
            await called.wait()
            await asyncio.sleep(0.001)
            await asyncio.sleep(0)
            called.clear()
            thread = threading.Thread(target=run.reactor.callFromThread, args=[called.set])
            thread.start()
            await called.wait()
            thread.join()
            assert await asyncio.to_thread(int) == 0
        end()
        await asyncio.sleep(0.001)

    run(main)


# Signals


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_the_reactor_that_waits(reactor: Any, loop: ReactorEventLoop, signum: int) -> None:
    """As it does any reactor, also where it is the loop that waits."""

    async def main() -> None:
        await asyncio.sleep(0.001)
        threading.Timer(0.01, os.kill, [os.getpid(), signum]).start()
        await asyncio.Event().wait()

    tasks: list[asyncio.Task[None]] = []
    reactor.callWhenRunning(lambda: tasks.append(loop.create_task(main())))
    reactor.run()
    assert tasks[0].cancelled()


def test_the_end_of_a_child_is_noticed_by_both(run: Runner) -> None:
    """SIGCHLD is for Twisted's processes and asyncio's."""

    class Ended(protocol.ProcessProtocol):
        def __init__(self, ended: asyncio.Event) -> None:
            self.ended = ended

        def processEnded(self, reason: Any) -> None:
            self.ended.set()

    async def main() -> None:
        ended = asyncio.Event()
        run.reactor.spawnProcess(Ended(ended), "/bin/true", ["true"], childFDs={})
        process = await asyncio.create_subprocess_exec("/bin/true")
        assert await process.wait() == 0
        await ended.wait()

    run(main)


def test_an_interrupt_in_twisteds_part_of_a_run(reactor: Any, loop: ReactorEventLoop, reports: Reports) -> None:
    """Without handlers of the reactor's own it is an exception: of the loop's run in a run of the loop's."""

    class Interrupting(Reader):
        def doRead(self) -> None:
            super().doRead()
            os.kill(os.getpid(), signal.SIGINT)

    left, right = socket.socketpair()
    reader = Interrupting(reactor, left)
    reactor.addReader(reader)
    right.send(b"x")
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(asyncio.sleep(10))
    assert reader.read == [b"x"]
    reactor.removeReader(reader)
    assert loop.run_until_complete(asyncio.sleep(0, "alive")) == "alive"
    left.close()
    right.close()


def test_the_poller_of_a_loop_on_it_is_the_shared_one(loop: ReactorEventLoop) -> None:
    """Nothing is nested."""
    assert type(loop.reactor.shared_set.poller) is SharedPoller
