"""What wakes a loop: on each poller, with and without eventfd, from threads, signal handlers and forked processes."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor

from txasync import _reactors
from txasync._wakeup import Wakeup
from txasync.polling import NestedPoller, Poller, PollerFactory

from .interruption import interrupted

WAIT_LIMIT_S = 30


class Bench:
    """A queue and a wake-up, and the reactor in which somebody waits for it."""

    def __init__(self, reactor: Any, poller_factory: PollerFactory) -> None:
        self.reactor = reactor
        self.poller: Poller = poller_factory(reactor, self._on_ready)
        self.wakeup = Wakeup(self.poller)
        self.queue: list[Any] = []
        self.looks = 0

    def _on_ready(self) -> None:
        self.looks += 1
        self.poller.collect()
        self.poller.dispatch()

    def wait(self, seconds: float = WAIT_LIMIT_S) -> list[Any]:
        """Let the reactor wait once, for so long at most; return what is in the queue then, and empty it."""
        self.reactor.doIteration(seconds)
        found, self.queue[:] = list(self.queue), []
        return found

    def tell(self, thing: Any) -> None:
        """What a thread or a signal handler does."""
        self.queue.append(thing)
        self.wakeup.wake()


@pytest.fixture(params=["eventfd", "pipe"])
def descriptors(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What there is on this platform, and what there is on others."""
    if request.param == "pipe":
        monkeypatch.delattr(os, "eventfd", raising=False)
    kind: str = request.param
    return kind


@pytest.fixture
def bench(reactor: Any, poller_factory: PollerFactory, descriptors: str) -> Iterator[Bench]:
    bench = Bench(reactor, poller_factory)
    yield bench
    bench.wakeup.close()
    bench.poller.close()


def test_a_wake_up_from_a_thread_ends_the_wait(bench: Bench) -> None:
    """Again and again, each time with the reactor asleep or about to be."""
    for number in range(3):
        thread = threading.Thread(target=bench.tell, args=(number,))
        thread.start()
        assert bench.wait() == [number]
        thread.join()
        assert not bench.wakeup.pending


def test_a_wake_up_is_kept_until_somebody_waits(bench: Bench) -> None:
    """It may come before the reactor runs."""
    bench.tell("early")
    assert bench.wakeup.pending
    assert bench.wait() == ["early"]
    assert bench.wait(0) == []


def test_many_wake_ups_are_one(bench: Bench) -> None:
    """Only the first one since the last look is told; the look is for all of them."""
    for number in range(1000):
        bench.tell(number)
    assert bench.wait() == list(range(1000))
    looks = bench.looks
    assert bench.wait(0) == []
    assert bench.looks == looks


def test_nothing_is_lost_of_what_many_threads_add(bench: Bench) -> None:
    """While the loop takes out what is there: all comes, and of each thread in its order."""
    threads = [
        threading.Thread(target=lambda number=number: [bench.tell((number, i)) for i in range(300)])
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    found: list[tuple[int, int]] = []
    while len(found) < 8 * 300:
        more = bench.wait()
        found += more
        assert bench.looks <= 2 * 8 * 300, "it is told of nothing again and again"
    for thread in threads:
        thread.join()
    for number in range(8):
        assert [i for teller, i in found if teller == number] == list(range(300))


def test_a_signal_handler_ends_the_wait(bench: Bench) -> None:
    """Python handlers run in the main thread, in the midst of whatever that does."""
    signal.signal(signal.SIGUSR1, lambda signum, frame: bench.tell(signum))
    thread = threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGUSR1))
    thread.start()
    assert bench.wait() == [signal.SIGUSR1]
    thread.join()


class Race:
    """A wake-up whose descriptor is looked at by hand."""

    def __init__(self) -> None:
        self.reactor = EPollReactor()
        self.poller = NestedPoller(self.reactor, lambda: None)
        self.wakeup = Wakeup(self.poller)
        self.queue: list[str] = []
        self.found: list[str] = []

    def tell(self, thing: str) -> None:
        self.queue.append(thing)
        self.wakeup.wake()

    def look(self) -> None:
        """What the loop does when it is woken."""
        self.wakeup.clear()
        self.take()

    def take(self) -> None:
        self.found += self.queue
        self.queue.clear()

    def wait(self) -> None:
        """What the loop does again and again: it looks if it is woken, and only then."""
        while self.poller.collect():
            self.look()

    def close(self) -> None:
        self.wakeup.close()
        self.poller.close()
        _reactors.dispose_private_reactor(self.reactor)


@pytest.fixture
def race(descriptors: str) -> Iterator[Race]:
    race = Race()
    yield race
    race.close()


@pytest.mark.parametrize("pending", [False, True])
@pytest.mark.parametrize("other", ["another wake-up", "a look"])
def test_a_wake_up_can_be_interrupted_anywhere(race: Race, other: str, pending: bool) -> None:
    """By a signal handler, or a switch to another thread, which wakes the loop too, or in which the loop looks."""
    what = (lambda: race.tell("other")) if other == "another wake-up" else race.look
    for where in itertools.count():
        race.found.clear()
        if pending:
            race.tell("earlier")
        race.queue.append("first")
        reached = interrupted(race.wakeup.wake, Wakeup.wake, where, what)
        race.wait()
        race.tell("next")
        race.wait()
        assert {"first", "next"} <= set(race.found)
        assert race.found[-1] == "next"
        assert len(race.found) == 2 + pending + (reached and other == "another wake-up")
        if where and not reached:
            break
    assert where >= 3


@pytest.mark.parametrize("pending", [False, True])
def test_a_look_can_be_interrupted_anywhere(race: Race, pending: bool) -> None:
    """By a signal handler that wakes the loop, or a switch to a thread that does."""
    for where in itertools.count():
        race.found.clear()
        if pending:
            race.tell("earlier")
        reached = interrupted(race.wakeup.clear, Wakeup.clear, where, lambda: race.tell("first"))
        race.take()
        race.tell("next")
        race.wait()
        assert race.found == ["earlier"] * pending + ["first"] * reached + ["next"]
        if where and not reached:
            break
    assert where >= 10


@pytest.mark.parametrize("call", ["read", "write"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_signal_handler_that_raises_does_no_harm(
    race: Race, call: str, moment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is called before or after a call of the system. The next wake-up is told, whatever became of this one."""
    real = getattr(os, call)

    def interrupted_call(*args: Any) -> Any:
        if moment == "after":
            real(*args)
        raise KeyboardInterrupt

    race.queue.append("first")
    if call == "read":
        race.wakeup.wake()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, call, interrupted_call)
        race.wakeup.wake() if call == "write" else race.wakeup.clear()
    race.tell("next")
    race.wait()
    assert race.found == ["first", "next"]


# pytest has threads of its own, in C, which are nothing to a child that exits at once.
FORKS = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded, use of fork:DeprecationWarning")


@FORKS
def test_a_forked_child_leaves_its_parents_wake_up_alone(bench: Bench) -> None:
    """One that wakes the loop it has inherited wakes its parent in vain, at worst, which hears its own threads."""
    child = os.fork()
    if child == 0:
        bench.tell("of the child")
        os._exit(0)
    assert os.waitpid(child, 0) == (child, 0)
    assert bench.wait(0) == []
    thread = threading.Thread(target=bench.tell, args=("of the parent",))
    thread.start()
    assert bench.wait() == ["of the parent"]
    thread.join()


@FORKS
def test_a_loop_that_a_daemon_has_inherited_is_woken(bench: Bench) -> None:
    """It was made, and woken, before the fork; the parent waits for nothing any more."""
    bench.tell("before the fork")
    child = os.fork()
    if child == 0:
        found = bench.wait()
        bench.tell("after")
        os._exit(int(found == ["before the fork"] and bench.wait() == ["after"]))
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1


def test_a_closed_wake_up_does_nothing(bench: Bench) -> None:
    """Nothing is written to whatever has its descriptor's number by now; to close it again is fine."""
    descriptors = {bench.wakeup._reading, bench.wakeup._writing}
    bench.wakeup.close()
    bench.wakeup.close()
    pairs = []
    while descriptors:
        pairs.append(socket.socketpair())
        descriptors -= {pairs[-1][0].fileno(), pairs[-1][1].fileno()}
    bench.wakeup.wake()
    for pair in pairs:
        for end in pair:
            with pytest.raises(BlockingIOError):
                end.recv(1, socket.MSG_DONTWAIT)
    for left, right in pairs:
        left.close()
        right.close()
    assert bench.wait(0) == []


def test_a_wake_up_that_is_closed_meanwhile_does_nothing(race: Race) -> None:
    """Threads do not know when the loop is closed."""
    for where in itertools.count():
        other = Wakeup(race.poller)
        reached = interrupted(other.wake, Wakeup.wake, where, other.close)
        other.close()
        assert other.pending, "the next one would write to a number that may be another file's"
        if where and not reached:
            break
    assert where >= 5


def test_nothing_is_left_if_the_poller_refuses(reactor: Any, descriptors: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The descriptors are closed again, which the check after each test looks for."""
    poller = NestedPoller(reactor, lambda: None)
    poller.close()
    with pytest.raises(ValueError, match="closed"):
        Wakeup(poller)
