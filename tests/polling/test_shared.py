"""The epoll object of two parties: each has one of its own, as far as it can see."""

from __future__ import annotations

import itertools
import os
import select
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from txasync.polling import SharedPoller, SharedSet
from txasync.polling._shared import Share
from txasync.reactor import SharedEPollReactor

from ..conftest import disposable_reactor

Pair = tuple[socket.socket, socket.socket]


class Party:
    """A share, and what it was told to have lost."""

    def __init__(self, share: Share, lost: list[int]) -> None:
        self.share = share
        self.lost = lost


@pytest.fixture
def lost() -> list[int]:
    """What the reactor's share has lost."""
    return []


@pytest.fixture
def shared(lost: list[int]) -> Iterator[SharedSet]:
    """A set without a reactor."""
    epoll = select.epoll()
    yield SharedSet(epoll, {}, {}, lost.append)
    epoll.close()


def shares(shared: SharedSet) -> tuple[Share, Share]:
    return shared.reactors, shared.pollers


# Each party's interest in a descriptor that is readable and writable, by what it does in turn.
STEPS = list(itertools.permutations(["one reads", "two writes", "one stops", "two stops"]))
IN_ORDER = [steps for steps in STEPS if steps.index("one reads") < steps.index("one stops")]
IN_ORDER = [steps for steps in IN_ORDER if steps.index("two writes") < steps.index("two stops")]


@pytest.mark.parametrize("steps", IN_ORDER, ids=", ".join)
@pytest.mark.parametrize("first", [0, 1], ids=["reactor", "poller"])
def test_the_kernel_knows_what_both_want(shared: SharedSet, pair: Pair, steps: tuple[str, ...], first: int) -> None:
    """In whatever order they begin and end."""
    left, right = pair
    right.send(b"x")
    fd = left.fileno()
    one, two = shares(shared)[first], shares(shared)[1 - first]
    actions: dict[str, tuple[Callable[[], None], int]] = {
        "one reads": (lambda: one.register(fd, select.EPOLLIN), select.EPOLLIN),
        "two writes": (lambda: two.register(fd, select.EPOLLOUT), select.EPOLLOUT),
        "one stops": (lambda: one.unregister(fd), -select.EPOLLIN),
        "two stops": (lambda: two.unregister(fd), -select.EPOLLOUT),
    }
    wanted = 0
    for step in steps:
        act, change = actions[step]
        act()
        wanted += change
        assert shared.poll(0) == ([(fd, wanted)] if wanted else [])
        assert (fd in one.in_both) == (fd in one.masks and fd in two.masks)


@pytest.mark.parametrize("first", [0, 1], ids=["reactor", "poller"])
def test_a_party_changes_its_mind_alone(shared: SharedSet, pair: Pair, first: int) -> None:
    """The other's interest is not touched."""
    fd = pair[0].fileno()
    pair[1].send(b"x")
    one, two = shares(shared)[first], shares(shared)[1 - first]
    one.register(fd, select.EPOLLIN)
    two.register(fd, select.EPOLLIN)
    one.modify(fd, select.EPOLLOUT)
    assert shared.poll(0) == [(fd, select.EPOLLIN | select.EPOLLOUT)]
    one.modify(fd, select.EPOLLIN)
    assert shared.poll(0) == [(fd, select.EPOLLIN)]


def test_the_reactor_hears_only_what_it_wants(shared: SharedSet, pair: Pair) -> None:
    """And of an end, as in a set of its own."""
    left, right = pair
    fd = left.fileno()
    shared.reactors.register(fd, select.EPOLLOUT)
    shared.pollers.register(fd, select.EPOLLIN)
    shared.selectables = {fd: "selectable"}
    right.send(b"x")
    assert shared.poll_for_reactor(0) == [("selectable", fd, select.EPOLLOUT)]
    right.close()
    ((_, _, event),) = shared.poll_for_reactor(0)
    assert event & select.EPOLLHUP
    assert not event & select.EPOLLIN


def test_a_number_that_has_another_owner_is_lost_to_the_first(shared: SharedSet, lost: list[int]) -> None:
    """Its file was closed without being removed, and the other party watches the next file of that number."""
    first = socket.socketpair()
    fd = first[0].fileno()
    shared.reactors.register(fd, select.EPOLLOUT)
    first[0].close()
    second = socket.socketpair()
    assert second[0].fileno() == fd
    shared.pollers.register(fd, select.EPOLLOUT)
    assert lost == [fd]
    assert fd not in shared.reactors.masks
    assert fd not in shared.reactors.in_both
    assert shared.poll(0) == [(fd, select.EPOLLOUT)]
    for one in (first[1], *second):
        one.close()


@pytest.mark.parametrize("first", [0, 1], ids=["reactor", "poller"])
def test_a_number_that_both_had_is_the_first_comers(shared: SharedSet, first: int) -> None:
    """Nobody has removed the closed file; neither party is asked about the other's interest in it any more."""
    one, two = shares(shared)[first], shares(shared)[1 - first]
    old = socket.socketpair()
    fd = old[0].fileno()
    one.register(fd, select.EPOLLIN)
    two.register(fd, select.EPOLLIN)
    old[0].close()
    new = socket.socketpair()
    assert new[0].fileno() == fd
    with pytest.raises(FileNotFoundError):
        one.modify(fd, select.EPOLLOUT)
    one.register(fd, select.EPOLLOUT)  # as EpollSet does then
    assert fd not in two.masks
    assert not one.in_both
    assert shared.poll(0) == [(fd, select.EPOLLOUT)]
    for sock in (old[1], *new):
        sock.close()


def test_a_share_that_is_closed_leaves_the_other_alone(shared: SharedSet, pair: Pair) -> None:
    """What both had is the other's, what was closed meanwhile is no error, and the rest is not watched any more."""
    left, right = pair
    gone = socket.socketpair()
    shared.pollers.register(left.fileno(), select.EPOLLOUT)
    shared.reactors.register(left.fileno(), select.EPOLLIN)
    shared.pollers.register(right.fileno(), select.EPOLLOUT)
    shared.pollers.register(gone[0].fileno(), select.EPOLLOUT)
    gone[0].close()
    gone[1].close()
    right.send(b"x")
    shared.pollers.close()
    assert shared.pollers.masks == {}
    assert not shared.pollers.in_both
    assert shared.poll(0) == [(left.fileno(), select.EPOLLIN)]


@pytest.fixture
def reactor() -> Iterator[SharedEPollReactor]:
    """A reactor that shares."""
    with disposable_reactor("txasync") as reactor:
        yield reactor


class Watcher:
    """A selectable of the reactor's on a descriptor that is somebody else's."""

    def __init__(self, fd: int, calls: list[str]) -> None:
        self._fd = fd
        self._calls = calls

    def fileno(self) -> int:
        return self._fd

    def logPrefix(self) -> str:
        return "watcher"

    def doRead(self) -> None:
        self._calls.append("reactor reads")

    def doWrite(self) -> None:
        self._calls.append("reactor writes")

    def connectionLost(self, reason: Any) -> None:
        self._calls.append("reactor loses")


class Scene:
    """A reactor and its poller, which both note what they are called for."""

    def __init__(self, reactor: SharedEPollReactor) -> None:
        self.reactor: Any = reactor
        self.calls: list[str] = []
        self.poller = SharedPoller(reactor, self._visit)

    def _visit(self) -> None:
        self.poller.collect()
        self.poller.dispatch()

    def note(self, what: str) -> Callable[[], None]:
        return lambda: self.calls.append(what)

    def turn(self) -> list[str]:
        self.calls.clear()
        self.reactor.doIteration(0)
        return sorted(self.calls)


@pytest.fixture
def scene(reactor: SharedEPollReactor) -> Iterator[Scene]:
    scene = Scene(reactor)
    yield scene
    scene.poller.close()


def test_both_watch_one_descriptor(scene: Scene, pair: Pair) -> None:
    """Each is called for what it has asked for, and no more."""
    left, right = pair
    fd = left.fileno()
    watcher = Watcher(fd, scene.calls)
    scene.reactor.addReader(watcher)
    scene.poller.set_writer(fd, scene.note("poller writes"))
    assert scene.turn() == ["poller writes"]
    right.send(b"x")
    assert scene.turn() == ["poller writes", "reactor reads"]
    scene.reactor.addWriter(watcher)
    assert scene.turn() == ["poller writes", "reactor reads", "reactor writes"]
    scene.poller.set_reader(fd, scene.note("poller reads"))
    scene.reactor.removeReader(watcher)
    assert scene.turn() == ["poller reads", "poller writes", "reactor writes"]
    scene.reactor.removeWriter(watcher)
    assert scene.turn() == ["poller reads", "poller writes"]
    assert scene.poller.remove_writer(fd)
    scene.reactor.addWriter(watcher)
    assert scene.poller.remove_reader(fd)
    assert scene.turn() == ["reactor writes"]
    scene.reactor.removeWriter(watcher)
    assert scene.turn() == []


@pytest.mark.parametrize("stale", ["reactor", "poller", "both"])
def test_a_number_that_was_not_removed_is_whose_it_is_now(scene: Scene, stale: str) -> None:
    """Each party may have forgotten to remove it; the next file's events go to whoever asks for them."""
    first = socket.socketpair()
    fd = first[0].fileno()
    old = Watcher(fd, [])
    if stale != "poller":
        scene.reactor.addReader(old)
    if stale != "reactor":
        scene.poller.set_reader(fd, scene.note("stale"))
    first[0].close()
    second = socket.socketpair()
    assert second[0].fileno() == fd
    second[1].send(b"x")
    if stale == "poller":
        new = Watcher(fd, scene.calls)
        scene.reactor.addReader(new)
        expected = "reactor reads"
    else:
        scene.poller.set_reader(fd, scene.note("poller reads"))
        expected = "poller reads"
    assert scene.turn() == [expected]
    assert scene.turn() == [expected]
    if stale == "poller":
        assert not scene.poller.remove_reader(fd)
        assert scene.reactor.removeAll() == [new]
    else:
        assert scene.reactor.removeAll() == []
        assert scene.poller.remove_reader(fd)
    assert scene.turn() == []
    for one in (first[1], *second):
        one.close()


@pytest.mark.parametrize("party", ["reactor", "poller"])
@pytest.mark.parametrize("removed", [True, False])
def test_a_successor_in_the_same_batch_is_not_called(scene: Scene, party: str, removed: bool) -> None:
    """
    A callback closes and replaces what was found ready, for its own party and the other; the number is the same.

    What it does not remove before, is lost to the new owner.
    """
    victims = [socket.socketpair() for _ in range(2)]
    fds = [victim.fileno() for victim, _ in victims]
    for _, peer in victims:
        peer.send(b"x")
    opened: list[Pair] = []
    kept: list[Any] = []

    def replace() -> None:
        """The first callback of the batch: removes, closes and replaces both."""
        if opened:
            return
        scene.calls.append("replaced")
        if removed or party == "reactor":
            scene.reactor.removeReader(watcher)
        if removed or party == "poller":
            scene.poller.remove_reader(of_poller)
        for victim, _ in victims:
            victim.close()
        for _ in victims:
            opened.append(socket.socketpair())
            new = opened[-1][0].fileno()
            kept.append(Watcher(new, scene.calls))
            if party == "reactor":
                scene.reactor.addReader(kept[-1])
            else:
                scene.poller.set_reader(new, scene.note("poller reads"))

    # The first new number is that of the first victim, which is the other party's.
    of_poller, of_reactor = fds if party == "reactor" else reversed(fds)
    watcher = Watcher(of_reactor, scene.calls)
    first = os.pipe()
    os.write(first[1], b"x")
    scene.poller.set_reader(first[0], replace)
    scene.reactor.addReader(watcher)
    scene.poller.set_reader(of_poller, scene.note("stale"))
    assert scene.turn() == ["replaced"]
    assert opened[0][0].fileno() == fds[0]
    assert scene.turn() == []
    scene.poller.remove_reader(first[0])
    scene.reactor.removeAll()
    for made in [*victims, *opened]:
        for one in made:
            one.close()
    for fd in first:
        os.close(fd)


def test_a_suspended_poller_leaves_the_reactors_interest_alone(scene: Scene, pair: Pair) -> None:
    """What both watch is told to the reactor only."""
    left, right = pair
    right.send(b"x")
    watcher = Watcher(left.fileno(), scene.calls)
    scene.reactor.addReader(watcher)
    scene.poller.set_reader(left.fileno(), scene.note("poller reads"))
    scene.poller.suspend()
    for _ in range(3):
        assert scene.turn() == ["reactor reads"]
    scene.reactor.addWriter(watcher)
    assert scene.turn() == ["reactor reads", "reactor writes"]
    scene.poller.resume()
    assert scene.turn() == ["poller reads", "reactor reads", "reactor writes"]
    scene.reactor.removeAll()


def test_a_suspended_poller_is_told_of_nothing_and_the_reactor_can_wait(scene: Scene, pair: Pair) -> None:
    """After one vain poll the kernel keeps quiet about what nobody serves."""
    left, right = pair
    right.send(b"x")
    scene.poller.set_reader(left.fileno(), scene.note("poller reads"))
    scene.poller.suspend()
    assert scene.turn() == []
    assert scene.reactor.shared_set.poll(0) == []
    assert scene.poller.remove_reader(left.fileno())
    scene.poller.set_writer(left.fileno(), scene.note("poller writes"))
    right.close()
    assert scene.turn() == []
    assert scene.turn() == []  # a hang-up is told once more
    assert scene.reactor.shared_set.poll(0) == []
    scene.poller.resume()
    assert scene.turn() == ["poller writes"]
    scene.poller.remove_writer(left.fileno())


def test_suspended_and_closed_by_its_owner(scene: Scene, pair: Pair) -> None:
    """A descriptor that is gone, in the kernel's eyes too, does not stand in the way of the others."""
    first = socket.socketpair()
    left, right = pair
    for one in first[0], left:
        scene.poller.set_writer(one.fileno(), scene.note("poller writes"))
    scene.poller.suspend()
    assert scene.turn() == []
    first[0].close()
    first[1].close()
    scene.poller.resume()
    assert scene.turn() == ["poller writes"]


def test_a_closed_number_whose_file_lives_on_in_a_duplicate(scene: Scene) -> None:
    """The kernel goes on telling of it; a suspended poller does not fail for that."""
    first = socket.socketpair()
    scene.poller.set_writer(first[0].fileno(), scene.note("poller writes"))
    duplicate = first[0].dup()
    first[0].close()
    assert scene.turn() == ["poller writes"]
    scene.poller.suspend()
    assert scene.turn() == []
    scene.poller.resume()
    duplicate.close()
    first[1].close()
    assert scene.turn() == []


def test_a_second_poller_is_refused_until_the_first_is_closed(scene: Scene) -> None:
    """One epoll object has two parties."""
    with pytest.raises(RuntimeError, match="shares its epoll object with a poller already"):
        SharedPoller(scene.reactor, scene.note("visited"))
    scene.poller.close()
    second = SharedPoller(scene.reactor, scene.note("visited"))
    scene.poller.close()
    assert scene.reactor.shared_set.poller is second
    second.close()
