"""What succeeds and fails in a test, how it is called, and what all models have in common: see `models`."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque
from collections.abc import Callable, Iterator

from twisted.internet import defer
from twisted.python.failure import Failure

TWISTED_CANCELLED = "defer.CancelledError"
ASYNCIO_CANCELLED = "asyncio.CancelledError"
DESTROYED = "a task was destroyed while it was pending"


class Result:
    """What succeeds in a test: an object of which there is only one, and which can be weakly referred to."""

    def __init__(self, name: str) -> None:
        self.name = name


class Boom(Exception):
    """What fails in a test."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.name = name


def name_of(value: object) -> str:
    """How the notes of a party, and the model, call *value*."""
    if isinstance(value, Failure):
        value = value.value
    if isinstance(value, Result | Boom):
        return value.name
    if isinstance(value, asyncio.CancelledError):
        return ASYNCIO_CANCELLED
    return TWISTED_CANCELLED if isinstance(value, defer.CancelledError) else repr(value)


class Outcome:
    """
    The model of one result, or of one error: two of the same name are the same only if they are one object.

    Args:
        name: What it is called.
        failed: Whether it is an error.
        cause: For a cancellation, the one of the other world that it was.
    """

    def __init__(self, name: str, *, failed: bool = False, cause: Outcome | None = None) -> None:
        self.name = name
        self.failed = failed
        self.cause = cause

    @property
    def cancelled(self) -> bool:
        """Whether this is a cancellation, in either world."""
        return self.name in (TWISTED_CANCELLED, ASYNCIO_CANCELLED)


class World:
    """
    What all have in common.

    Attributes:
        reported: The names of the errors that are to be reported by now, whoever is dropped.
    """

    def __init__(self) -> None:
        self._ready: deque[Callable[[], object]] = deque()
        self._numbers = itertools.count(1)
        self.reported: list[str] = []

    def soon(self, callback: Callable[[], object]) -> None:
        """Call *callback* in the loop, after those that are there already."""
        self._ready.append(callback)

    @property
    def busy(self) -> bool:
        """Whether the loop has something to do."""
        return bool(self._ready)

    def round(self) -> None:
        """Let the loop run for one round."""
        for _ in range(len(self._ready)):
            self._ready.popleft()()

    def turn(self) -> int:
        """Let the loop run until there is nothing to do; return how many rounds that has taken."""
        rounds = 0
        while self._ready:
            self.round()
            rounds += 1
        return rounds

    def name(self, kind: str) -> str:
        """A new name."""
        return f"{kind} {next(self._numbers)}"


class Node:
    """
    A Deferred, a Future or a task.

    Attributes:
        dropped: The test has forgotten it.
        dead: It was dropped, and so was everything that has ever had to do with it.
    """

    def __init__(self, world: World, *friends: Node) -> None:
        self.world = world
        self.label = world.name(type(self).__name__.removesuffix("Model"))
        self.dropped = False
        self.dead = False
        self._friends: set[Node] = set()
        for friend in friends:
            self.meet(friend)

    def __repr__(self) -> str:
        return self.label

    def meet(self, other: Node) -> None:
        """The two may keep each other alive from now on."""
        self._friends.add(other)
        other._friends.add(self)

    @property
    def family(self) -> set[Node]:
        """All that may keep this one alive, with this one."""
        found: set[Node] = set()
        left: list[Node] = [self]
        while left:
            node = left.pop()
            if node not in found:
                found.add(node)
                left.extend(node._friends)
        return found

    @property
    def owed(self) -> str | None:
        """What its world is to report when it is collected."""
        raise NotImplementedError

    @property
    def settled(self) -> bool:
        """Whether nothing is to come any more."""
        raise NotImplementedError

    @property
    def at_rest(self) -> bool:
        """Whether nobody waits for anything here any more."""
        return self.settled

    def needs(self) -> Iterator[Node]:
        """What has to be settled before this one is."""
        raise NotImplementedError

    def depends_on(self, other: Node) -> bool:
        """Whether *other* has to be settled first."""
        return self is other or any(node.depends_on(other) for node in self.needs())
