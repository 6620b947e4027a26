"""
The shared poller: the loop's descriptors and the reactor's in one epoll object, so that one call waits for both.

It takes a reactor that knows of this, and gives each party what is its own (`txasync.reactor`).
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from ._poller import Callback
from ._set_poller import SetPoller

if sys.platform == "linux":
    from select import EPOLLERR, EPOLLHUP, EPOLLONESHOT

    from ._kernel import EpollSet

if TYPE_CHECKING:
    import select

__all__ = ["ReactorsEvent", "SharedPoller", "SharedSet"]

ReactorsEvent = tuple[Any, int, int]
"""A selectable of the reactor's, its descriptor, and what is ready there."""


class Share:
    """
    What one party has of an epoll object: to that party, an epoll object of its own.

    The methods are those of ``select.epoll``. A descriptor may be the other party's as well; the kernel is told what
    both want.

    Args:
        epoll: The object.
        on_loss: Called with a descriptor that this party still has, and the kernel has not: its owner has closed it
            without removing it, and now the other party has another file of this number.
        removed: Gets what is removed, or lost. It is for somebody else to clear.
        in_both_changed: Called when `in_both` has changed.

    Attributes:
        masks: What the party wants to hear of each descriptor.
        other: The other party's share.
        in_both: The descriptors that both have.
    """

    other: Share

    def __init__(
        self,
        epoll: select.epoll,
        on_loss: Callable[[int], None],
        removed: set[int],
        in_both_changed: Callable[[], None],
    ) -> None:
        self._epoll = epoll
        self._on_loss = on_loss
        self._removed = removed
        self.in_both: set[int] = set()
        self._in_both_changed = in_both_changed
        self.masks: dict[int, int] = {}

    def register(self, fd: int, mask: int) -> None:
        if fd in self.other.masks:
            self._register_beside_the_other(fd, mask)
        else:
            self._epoll.register(fd, mask)
        self.masks[fd] = mask

    def _register_beside_the_other(self, fd: int, mask: int) -> None:
        try:
            self._epoll.modify(fd, mask | self.other.masks[fd])
        except FileNotFoundError:
            self._epoll.register(fd, mask)
            del self.other.masks[fd]
            self.in_both.discard(fd)
            self._removed.add(fd)
            self.other._on_loss(fd)
        else:
            self.in_both.add(fd)
        self._in_both_changed()

    def modify(self, fd: int, mask: int) -> None:
        self._epoll.modify(fd, mask | self.other.masks.get(fd, 0))
        self.masks[fd] = mask

    def unregister(self, fd: int) -> None:
        self._removed.add(fd)
        self.masks.pop(fd, None)
        theirs = self.other.masks.get(fd)
        if theirs is None:
            self._epoll.unregister(fd)
        else:
            self.in_both.discard(fd)
            self._in_both_changed()
            self._epoll.modify(fd, theirs)

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """What is ready, of whichever party."""
        return self._epoll.poll(timeout, maxevents)

    def mute(self, fd: int) -> None:
        """Hear nothing of *fd* until `unmute`, or a `modify`; of an error or a hang-up at most once."""
        self._epoll.modify(fd, self.other.masks.get(fd, EPOLLONESHOT))

    def unmute(self, fd: int) -> None:
        """Undo `mute`, if *fd* is still there."""
        if fd in self.masks:
            self.modify(fd, self.masks[fd])

    def close(self) -> None:
        """Take everything out. The epoll object stays as it is for the other."""
        for fd in list(self.masks):
            try:
                self.unregister(fd)
            except OSError:
                pass  # its owner has closed it


class OwnersShare(Share):
    """The share of the party whose the epoll object is."""

    def fileno(self) -> int:
        return self._epoll.fileno()

    def close(self) -> None:
        """Close the epoll object."""
        self._epoll.close()


class SharedSet:
    """
    An epoll object for a reactor and a poller.

    Args:
        epoll: The reactor's epoll object.
        masks: What is registered there already.
        selectables: What the reactor has, by descriptor. It is looked at again and again.
        on_loss: As for `Share`, on the side of the reactor.

    Attributes:
        poll: The epoll object's own ``poll()``.
        reactors: The reactor's share.
        pollers: The poller's share.
        removed: What either has removed, or lost, since the poller collected.
        poller: The poller, while there is one.
    """

    def __init__(
        self,
        epoll: select.epoll,
        masks: Mapping[int, int],
        selectables: Mapping[int, Any],
        on_loss: Callable[[int], None],
    ) -> None:
        self.poll = epoll.poll
        self.removed: set[int] = set()
        self.reactors = OwnersShare(epoll, on_loss, self.removed, self._tell_poller_of_both)
        self.pollers = Share(epoll, self._tell_poller_of_loss, self.removed, self._tell_poller_of_both)
        self.reactors.other, self.pollers.other = self.pollers, self.reactors
        self.pollers.in_both = self.reactors.in_both
        self.reactors.masks.update(masks)
        self.selectables = selectables
        self.poller: SharedPoller | None = None

    def _tell_poller_of_loss(self, fd: int) -> None:
        if self.poller is not None:
            self.poller.lose(fd)

    def _tell_poller_of_both(self) -> None:
        if self.poller is not None:
            self.poller.look_twice(bool(self.reactors.in_both))

    def poll_for_reactor(self, timeout_s: float | None) -> list[ReactorsEvent]:
        """
        Wait for either party, have the poller's visitor called if it is concerned, and return the reactor's events.

        Args:
            timeout_s: How many seconds to wait at most; None for ever.
        """
        poller = self.poller
        if poller is not None:
            poller.reactors_events.clear()  # what is still true of them is told again
        found = self.poll(timeout_s)
        events = self._reactors_part(found)
        if poller is not None and poller.is_concerned(found):
            poller.on_ready()
        return events

    def _reactors_part(self, found: list[tuple[int, int]]) -> list[ReactorsEvent]:
        selectables = self.selectables
        if self.reactors.in_both:
            found = [(fd, self.reactors_event(fd, event)) for fd, event in found]
        return [(selectables[fd], fd, event) for fd, event in found if fd in selectables]

    def reactors_event(self, fd: int, event: int) -> int:
        """What the reactor wants to hear of *event*, which may be for the poller."""
        if fd in self.reactors.in_both:
            return event & (self.reactors.masks[fd] | EPOLLHUP | EPOLLERR)
        return event


class Driver(Protocol):
    """
    Whoever polls in the reactor's stead, by `Poller.collect` and `Poller.dispatch`.

    Both methods return how often it has polled: never, if it cannot now. Seconds may be None, which is for ever.
    """

    def drive(self, longest_sleep_s: Callable[[], float | None]) -> int:
        """Poll again and again, waiting so many seconds at most, until that is 0: it is the reactor's turn then."""

    def iterate(self, timeout_s: float | None) -> int:
        """Wait *timeout_s* seconds at most, do what can be done without waiting, and return."""


class SharedPoller(SetPoller):
    """
    All descriptors in the reactor's own epoll object.

    Args:
        reactor: A reactor with a ``SharedSet``.
        on_ready: Called by the reactor when a descriptor is ready, unless it leaves `Poller.collect` to somebody else.

    Raises:
        RuntimeError: The reactor has such a poller already.

    Attributes:
        on_ready: As above.
        driver: Who polls in the reactor's stead, if anybody does.
        reactors_events: After `Poller.collect` and `Poller.dispatch`, what there is for the reactor.
    """

    def __init__(self, reactor: Any, on_ready: Callable[[], None]) -> None:
        self._shared = shared = reactor.shared_set
        if shared.poller is not None:
            raise RuntimeError(f"{reactor!r} shares its epoll object with a poller already: {shared.poller!r}")
        super().__init__(EpollSet(shared.pollers))
        self._ask = shared.poll
        self._masks = shared.pollers.masks
        self._selectables = shared.selectables
        self._removed_in_batch = shared.removed
        self._suspended = False
        self._muted: set[int] = set()
        self.on_ready = on_ready
        self.driver: Driver | None = None
        self.reactors_events: list[ReactorsEvent] = []
        shared.poller = self

    def look_twice(self, needed: bool) -> None:
        """Look at whatever is found for the reactor's sake as well, or do not: it is rare that both watch a file."""
        self._ask = self._ask_for_both if needed else self._shared.poll

    def _ask_for_both(self, timeout_s: float | None) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = self._shared.poll(timeout_s)
        for fd in self._shared.reactors.in_both.intersection(fd for fd, _ in found):
            event = self._shared.reactors_event(fd, dict(found)[fd])
            if event:
                self.reactors_events.append((self._selectables[fd], fd, event))
        return found

    def _tell(self, fd: int, event: int, call: Callable[[Callback], object] | None) -> None:
        if fd in self._masks:
            super()._tell(fd, event, call)
        elif fd in self._selectables:
            self.reactors_events.append((self._selectables[fd], fd, event))

    def take_reactors_events(self) -> list[ReactorsEvent]:
        """What there is for the reactor; once."""
        events, self.reactors_events = self.reactors_events, []
        return events

    def lose(self, fd: int) -> None:
        """Forget *fd*, which the kernel has forgotten."""
        self._readers.pop(fd, None)
        self._writers.pop(fd, None)

    def is_concerned(self, found: list[tuple[int, int]]) -> bool:
        """Whether *found* has something to call `on_ready` for. While suspended, what has is no longer watched."""
        if not self._suspended:
            return any(fd in self._masks for fd, _ in found)
        for fd, event in found:
            # The end of what is muted is told once: to mute it again would have it told again, and again.
            if fd not in self._masks or (fd in self._muted and not event & ~(EPOLLHUP | EPOLLERR)):
                continue
            try:
                self._shared.pollers.mute(fd)
            except OSError:
                pass  # closed by its owner, while the file lives on by another number
            self._muted.add(fd)
        return False

    def suspend(self) -> None:
        self._suspended = True

    def resume(self) -> None:
        self._suspended = False
        for fd in self._muted:
            try:
                self._shared.pollers.unmute(fd)
            except OSError:
                pass  # closed by its owner
        self._muted.clear()

    def close(self) -> None:
        if self._shared.poller is self:
            self._shared.poller = None
            super().close()
