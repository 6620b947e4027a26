"""What a process holds at a moment: its descriptors, threads and loops, and what waits in its reactor."""

from __future__ import annotations

import os
import socket
import stat
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from .. import _loops, _reactors

__all__ = ["Holding", "holdings", "holdings_of_reactor"]


class Holding(NamedTuple):
    """
    Something that is held.

    Attributes:
        key: Two of one moment differ in their keys.
        description: For people.
        thing: What is held, so that nothing else can have its identity; a descriptor's number.
    """

    key: object
    description: str
    thing: Any


def holdings() -> list[Holding]:
    """What is held now. The descriptors and readers that the process's reactor has for itself are left out."""
    reactor = _reactors.installed_reactor()
    found = [*_descriptors(_own_descriptors(reactor)), *_threads(), *_open_loops()]
    if reactor is not None:
        found += holdings_of_reactor(reactor)
    return found


def holdings_of_reactor(reactor: Any) -> list[Holding]:
    """The DelayedCalls, readers and writers that wait in *reactor*."""
    name = type(reactor).__name__
    found = [Holding(id(call), f"in {name}: {call}", call) for call in reactor.getDelayedCalls()]
    own = set(map(id, _internal_readers(reactor)))
    for role, those in (("reader", "getReaders"), ("writer", "getWriters")):
        for selectable in getattr(reactor, those, list)():
            if id(selectable) not in own:
                found.append(Holding((role, id(selectable)), f"{role} in {name}: {selectable!r}", selectable))
    return found


def _threads() -> Iterator[Holding]:
    for thread in threading.enumerate():
        yield Holding(id(thread), f"thread: {thread!r}", thread)


def _open_loops() -> Iterator[Holding]:
    for loop in _loops.open_loops():
        yield Holding(id(loop), f"loop that is not closed: {loop!r}", loop)


def _internal_readers(reactor: Any) -> Iterable[Any]:
    """What *reactor* reads for its own purposes, or for a loop of ours."""
    return tuple(getattr(reactor, "_internalReaders", ()))


def _own_descriptors(reactor: Any) -> set[int]:
    """The descriptors that *reactor* keeps for as long as the process lives; some it opens when it first runs."""
    found = set()
    for reader in _internal_readers(reactor):
        found |= {reader.fileno(), getattr(reader, "o", -1)}
    poller: Any = getattr(reactor, "_poller", None)
    if hasattr(poller, "fileno"):
        found.add(poller.fileno())
    return found


def _descriptors(own: set[int]) -> Iterator[Holding]:
    """The open descriptors but *own*; none where the system does not list them."""
    place = next((place for place in ("/proc/self/fd", "/dev/fd") if os.path.isdir(place)), None)
    if place is None:
        return
    for name in os.listdir(place):
        fd = int(name)
        try:
            status = os.fstat(fd)
        except OSError:
            continue  # the one of the listing itself
        # Twisted keeps one of /dev/null in reserve, from its first port on.
        if fd in own or _is_dev_null(status):
            continue
        yield Holding((fd, status.st_dev, status.st_ino), f"descriptor {fd}: {_what(fd, place, status)}", fd)


def _is_dev_null(status: os.stat_result) -> bool:
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.stat(os.devnull).st_rdev


def _what(fd: int, place: str, status: os.stat_result) -> str:
    """What *fd* is, as far as that can be told."""
    if stat.S_ISSOCK(status.st_mode):
        sock = socket.socket(fileno=fd)
        try:
            return repr(sock)
        finally:
            sock.detach()
    if sys.platform == "linux":
        return os.readlink(f"{place}/{fd}")
    return stat.filemode(status.st_mode)  # type: ignore[unreachable, unused-ignore]  # a file's name is not to be had
