"""Every poller on every reactor: readiness as the kernel has it, and no call for what is gone."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.task import Clock

from txasync import _reactors
from txasync.polling import NestedPoller, Poller, PollerFactory, SharedPoller, for_reactor
from txasync.polling._kernel import EpollSet
from txasync.reactor import SharedEPollReactor


class Bench:
    """A poller in a reactor that the test iterates; what is called is noted by name."""

    def __init__(self, reactor: Any, poller_factory: PollerFactory) -> None:
        self.reactor = reactor
        self.visits = 0
        self.poller: Poller = poller_factory(reactor, self._on_ready)
        self.calls: list[str] = []

    def _on_ready(self) -> None:
        self.visits += 1
        if self.visits == 1:
            self.poller.collect()
            self.poller.dispatch()

    def note(self, name: str) -> Callable[[], None]:
        return lambda: self.calls.append(name)

    def turn(self) -> list[str]:
        """Let the reactor iterate once, poll on its first visit, and return what was called."""
        self.calls.clear()
        self.visits = 0
        self.reactor.doIteration(0)
        return self.calls


@pytest.fixture
def bench(reactor: Any, poller_factory: PollerFactory) -> Iterator[Bench]:
    bench = Bench(reactor, poller_factory)
    yield bench
    bench.poller.close()


Pair = tuple[socket.socket, socket.socket]


def test_a_reader_is_called_while_there_is_something_to_read(bench: Bench, pair: Pair) -> None:
    """Readiness is level-triggered: until the data is read, every turn calls again."""
    left, right = pair
    bench.poller.set_reader(left.fileno(), bench.note("read"))
    assert bench.turn() == []
    right.send(b"x")
    assert bench.turn() == ["read"]
    assert bench.turn() == ["read"]
    left.recv(1)
    assert bench.turn() == []
    assert bench.poller.remove_reader(left.fileno())


def test_a_writer_is_called_while_there_is_room(bench: Bench, pair: Pair) -> None:
    """Until the peer stops reading."""
    left, right = pair
    bench.poller.set_writer(left.fileno(), bench.note("write"))
    assert bench.turn() == ["write"]
    with pytest.raises(BlockingIOError):
        while True:
            left.send(b"x" * 65536)
    assert bench.turn() == []
    assert bench.poller.remove_writer(left.fileno())


def test_both_directions_of_one_descriptor(bench: Bench, pair: Pair) -> None:
    """Reading comes before writing, and each can be removed alone."""
    left, right = pair
    fd = left.fileno()
    right.send(b"x")
    bench.poller.set_writer(fd, bench.note("write"))
    bench.poller.set_reader(fd, bench.note("read"))
    assert sorted(bench.turn()) == ["read", "write"]
    assert bench.poller.remove_writer(fd)
    assert bench.turn() == ["read"]
    bench.poller.set_writer(fd, bench.note("write"))
    assert bench.poller.remove_reader(fd)
    assert bench.turn() == ["write"]
    assert bench.poller.remove_writer(fd)
    assert bench.turn() == []


def test_removing_what_is_not_there_says_so(bench: Bench, pair: Pair) -> None:
    """It is no error."""
    fd = pair[0].fileno()
    assert not bench.poller.remove_reader(fd)
    bench.poller.set_reader(fd, bench.note("read"))
    assert not bench.poller.remove_writer(fd)
    assert bench.poller.remove_reader(fd)
    assert not bench.poller.remove_reader(fd)


def test_a_new_callable_replaces_the_old_one(bench: Bench, pair: Pair) -> None:
    """At once, and without a second event."""
    left, right = pair
    right.send(b"x")
    bench.poller.set_reader(left.fileno(), bench.note("old"))
    bench.poller.set_reader(left.fileno(), bench.note("new"))
    assert bench.turn() == ["new"]
    assert bench.poller.remove_reader(left.fileno())
    assert bench.turn() == []


def test_a_hang_up_calls_both_directions(bench: Bench, pair: Pair) -> None:
    """Again and again, until the owner removes its callables."""
    left, right = pair
    fd = left.fileno()
    bench.poller.set_reader(fd, bench.note("read"))
    bench.poller.set_writer(fd, bench.note("write"))
    right.close()
    for _ in range(3):
        assert sorted(bench.turn()) == ["read", "write"]
    bench.poller.remove_reader(fd)
    assert bench.turn() == ["write"]
    bench.poller.remove_writer(fd)
    assert bench.turn() == []


def test_the_reader_of_a_pipe_calls_its_writers_owner(bench: Bench) -> None:
    """A pipe whose reader has gone is an error on the writing end, although there is nothing to read or room."""
    reading, writing = os.pipe()
    try:
        os.set_blocking(writing, False)
        with pytest.raises(BlockingIOError):
            while True:
                os.write(writing, b"x" * 65536)
        bench.poller.set_writer(writing, bench.note("write"))
        assert bench.turn() == []
        os.close(reading)
        assert bench.turn() == ["write"]
        assert bench.turn() == ["write"]
        assert bench.poller.remove_writer(writing)
        assert bench.turn() == []
    finally:
        os.close(writing)


def test_a_reset_is_seen_by_the_reader(bench: Bench) -> None:
    """By a connection that was reset, too."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        client = socket.create_connection(listener.getsockname())
        served, _ = listener.accept()
    fd = served.fileno()
    bench.poller.set_reader(fd, bench.note("read"))
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()
    assert bench.turn() == ["read"]
    assert bench.poller.remove_reader(fd)
    served.close()


def test_what_is_removed_in_a_batch_is_not_called(bench: Bench) -> None:
    """A callable that removes others that are ready in the same batch is the last of them to be called."""
    pairs = [socket.socketpair() for _ in range(5)]

    def remove_all() -> None:
        bench.calls.append("removed")
        for left, _ in pairs:
            bench.poller.remove_reader(left.fileno())

    for left, right in pairs:
        right.send(b"x")
        bench.poller.set_reader(left.fileno(), remove_all)
    assert bench.turn() == ["removed"]
    assert bench.turn() == []
    for left, right in pairs:
        left.close()
        right.close()


def test_a_number_reused_in_a_batch_is_not_taken_for_the_old_one(bench: Bench) -> None:
    """Of two that are ready, the first called closes the other, and opens a third, which gets its number."""
    first, second = socket.socketpair(), socket.socketpair()
    opened: list[Pair] = []
    by_fd = {first[0].fileno(): first, second[0].fileno(): second}

    def replace_the_other(fd: int) -> None:
        bench.calls.append("replaced")
        (other,) = set(by_fd) - {fd}
        bench.poller.remove_reader(other)
        by_fd[other][0].close()
        third = socket.socketpair()
        opened.append(third)
        assert third[0].fileno() == other
        bench.poller.set_reader(other, bench.note("third, which is not ready"))

    for fd, (_, right) in by_fd.items():
        right.send(b"x")
        bench.poller.set_reader(fd, lambda fd=fd: replace_the_other(fd))
    assert bench.turn() == ["replaced"]
    opened[0][1].send(b"x")
    bench.poller.remove_reader(first[0].fileno() if first[0].fileno() >= 0 else second[0].fileno())
    assert bench.turn() == ["third, which is not ready"]
    bench.poller.remove_reader(opened[0][0].fileno())
    for one in (*first, *second, *opened[0]):
        one.close()


def test_a_number_that_was_closed_without_removal_is_the_new_owners(bench: Bench) -> None:
    """The old callable is forgotten and the new one fires."""
    first = socket.socketpair()
    fd = first[0].fileno()
    bench.poller.set_reader(fd, bench.note("old"))
    bench.poller.set_writer(fd, bench.note("old"))
    assert bench.turn() == ["old"]
    first[0].close()
    second = socket.socketpair()
    assert second[0].fileno() == fd
    bench.poller.set_reader(fd, bench.note("new"))
    bench.poller.remove_writer(fd)
    assert bench.turn() == []
    second[1].send(b"x")
    assert bench.turn() == ["new"]
    bench.poller.remove_reader(fd)
    for one in (first[1], *second):
        one.close()


def test_a_descriptor_closed_behind_our_back_can_be_removed(bench: Bench, pair: Pair) -> None:
    """It is not an error, and the reactor does not spin on it."""
    left, right = pair
    fd = left.fileno()
    bench.poller.set_reader(fd, bench.note("read"))
    bench.poller.set_writer(fd, bench.note("write"))
    left.close()
    bench.turn()
    bench.poller.remove_reader(fd)
    bench.poller.remove_writer(fd)
    assert bench.turn() == []


def test_what_the_kernel_cannot_watch_is_refused(reactor: Any) -> None:
    """A regular file in an epoll set is EPERM, and nothing is left of the attempt."""
    bench = Bench(reactor, for_reactor)
    with open(__file__) as file:
        for set_callable in bench.poller.set_reader, bench.poller.set_writer:
            with pytest.raises(PermissionError):
                set_callable(file.fileno(), bench.note("never"))
        assert not bench.poller.remove_reader(file.fileno())
    with pytest.raises(OSError):
        bench.poller.set_reader(file.fileno() if not file.closed else 10**6, bench.note("never"))
    bench.poller.close()


def test_a_suspended_poller_does_not_make_the_reactor_spin(bench: Bench, pair: Pair) -> None:
    """It shows nothing until it is resumed, what is added meanwhile included."""
    left, right = pair
    right.send(b"x")
    left.send(b"x")
    bench.poller.set_reader(left.fileno(), bench.note("left"))
    assert bench.turn() == ["left"]
    bench.poller.suspend()
    bench.poller.set_reader(right.fileno(), bench.note("right"))
    assert bench.turn() == []
    assert bench.visits == 0
    bench.poller.resume()
    assert sorted(bench.turn()) == ["left", "right"]
    bench.poller.remove_reader(left.fileno())
    bench.poller.remove_reader(right.fileno())


def test_the_reactors_own_disconnect_leaves_readers_alone(bench: Bench, pair: Pair) -> None:
    """What asyncio watches is no ordinary reader: ``removeAll()``, at shutdown and by trial, does not find it."""
    left, right = pair
    bench.poller.set_reader(left.fileno(), bench.note("read"))
    assert bench.reactor.removeAll() == []
    right.send(b"x")
    assert bench.turn() == ["read"]
    bench.poller.remove_reader(left.fileno())


def test_a_closed_poller_leaves_the_reactor(bench: Bench, pair: Pair) -> None:
    """Nothing is called any more, and closing twice is fine."""
    left, right = pair
    internal = set(bench.reactor._internalReaders)
    bench.poller.set_reader(left.fileno(), bench.note("read"))
    bench.poller.set_writer(left.fileno(), bench.note("write"))
    right.send(b"x")
    bench.poller.close()
    bench.poller.close()
    assert bench.turn() == []
    assert bench.reactor.getWriters() == []
    assert {reader for reader in bench.reactor._internalReaders if reader not in internal} == set()


def test_more_than_a_batch_is_served_in_turn(reactor: Any) -> None:
    """Of 700 ready descriptors all are called within two turns; with select too, though its sets hold 1024 numbers."""
    bench = Bench(reactor, for_reactor)
    served: set[int] = set()
    pairs = [socket.socketpair() for _ in range(700)]
    assert max(left.fileno() for left, _ in pairs) > 1024
    for left, right in pairs:
        right.send(b"x")
        bench.poller.set_reader(left.fileno(), lambda fd=left.fileno(): served.add(fd))
    bench.turn()
    bench.turn()
    assert len(served) == 700
    bench.poller.close()
    for left, right in pairs:
        left.close()
        right.close()


def test_for_reactor_shares_with_ours_and_nests_in_others(reactor: Any) -> None:
    """epoll is a descriptor, so on Linux every reactor that does not share gets the nested poller."""
    poller = for_reactor(reactor, lambda: None)
    assert type(poller) is (SharedPoller if isinstance(reactor, SharedEPollReactor) else NestedPoller)
    poller.close()


def test_for_reactor_refuses_a_reactor_without_descriptors() -> None:
    """The error names the reactor and says what to use."""
    with pytest.raises(TypeError, match=r"IReactorFDSet.*Clock.*use one of"):
        for_reactor(Clock(), lambda: None)


class TwoAtOnce(EpollSet):
    """Tells of two descriptors at once, as an epoll object does of 1,023."""

    most_at_once = 2

    def __init__(self) -> None:
        super().__init__()
        self.ready = lambda timeout_s: self._epoll.poll(timeout_s, 2)


def test_it_is_the_reactors_turn_when_all_that_was_ready_is_served_or_a_third_of_all() -> None:
    """More may be ready than the kernel tells of at once; not all of that is served before the reactor's own."""
    reactor = EPollReactor()
    poller = NestedPoller(reactor, lambda: None, TwoAtOnce())
    pairs = [socket.socketpair() for _ in range(9)]
    for left, _ in pairs:
        poller.set_reader(left.fileno(), lambda: None)
    pairs[0][1].send(b"x")
    assert poller.collect() == 1
    assert poller.has_served_its_share(1)
    for _, right in pairs[1:]:
        right.send(b"x")
    assert poller.collect() == 2
    assert not poller.has_served_its_share(2)
    assert poller.has_served_its_share(3)
    poller.close()
    for left, right in pairs:
        left.close()
        right.close()
    _reactors.dispose_private_reactor(reactor)
