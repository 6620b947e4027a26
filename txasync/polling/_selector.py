"""The standard library's selector interface, over a poller: for what asyncio's own code registers."""

from __future__ import annotations

import selectors
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ._poller import Poller

__all__ = ["PollerSelector"]

Tell = Callable[[selectors.SelectorKey, int], object]


class _Registration:
    """One file object. Its two methods are the poller's callables: they tell that the key is ready."""

    __slots__ = ("key", "tell")

    def __init__(self, key: selectors.SelectorKey, tell: Tell) -> None:
        self.key = key
        self.tell = tell

    def readable(self) -> None:
        self.tell(self.key, selectors.EVENT_READ)

    def writable(self) -> None:
        self.tell(self.key, selectors.EVENT_WRITE)


class _KeyByFile(Mapping[Any, selectors.SelectorKey]):
    """The live view that ``get_map()`` gives: found by file object or descriptor, iterated by descriptor."""

    def __init__(self, registrations: dict[int, _Registration], find: Callable[[Any], _Registration]) -> None:
        self._registrations = registrations
        self._find = find

    def __getitem__(self, fileobj: Any) -> selectors.SelectorKey:
        return self._find(fileobj).key

    def __len__(self) -> int:
        return len(self._registrations)

    def __iter__(self) -> Iterator[int]:
        return iter(self._registrations)


class PollerSelector(selectors.BaseSelector):
    """
    A selector that is not asked: it tells, when the poller dispatches what is ready.

    Args:
        poller: The poller, to which others may give descriptors of theirs.
        tell: Called with a key and ``EVENT_READ`` or ``EVENT_WRITE``; with both, one after the other.

    Source:
        The ``selectors`` module's ``BaseSelector``.
    """

    def __init__(self, poller: Poller, tell: Tell) -> None:
        self._poller = poller
        self._tell = tell
        self._registrations: dict[int, _Registration] = {}
        self._map = _KeyByFile(self._registrations, self._find)

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if not events or events & ~(selectors.EVENT_READ | selectors.EVENT_WRITE):
            raise ValueError(f"events must be EVENT_READ, EVENT_WRITE or both; got {events!r}")
        fd = _fileno(fileobj)
        if fd in self._registrations:
            raise KeyError(f"{fileobj!r} (descriptor {fd}) is registered already: use modify()")
        key = selectors.SelectorKey(fileobj, fd, events, data)
        registration = _Registration(key, self._tell)
        self._watch(registration, events)
        self._registrations[fd] = registration
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        registration = self._find(fileobj)
        fd = registration.key.fd
        del self._registrations[fd]
        self._poller.remove_reader(fd)
        self._poller.remove_writer(fd)
        return registration.key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        registration = self._find(fileobj)
        key = registration.key._replace(events=events, data=data)
        if not events & selectors.EVENT_READ:
            self._poller.remove_reader(key.fd)
        if not events & selectors.EVENT_WRITE:
            self._poller.remove_writer(key.fd)
        self._watch(registration, events)
        registration.key = key
        return key

    def _watch(self, registration: _Registration, events: int) -> None:
        fd = registration.key.fd
        try:
            if events & selectors.EVENT_READ:
                self._poller.set_reader(fd, registration.readable)
            if events & selectors.EVENT_WRITE:
                self._poller.set_writer(fd, registration.writable)
        except OSError:
            self._poller.remove_reader(fd)
            self._poller.remove_writer(fd)
            self._registrations.pop(fd, None)
            raise

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Dispatch what is ready, without waiting. What there is to tell has been told then: the list is empty."""
        if self._poller.collect():
            self._poller.dispatch()
        return []

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._find(fileobj).key

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        return self._map

    def _find(self, fileobj: Any) -> _Registration:
        try:
            registration = self._registrations.get(_fileno(fileobj))
        except ValueError:
            # It may have been closed before it was unregistered, so that it does not know its number any more.
            for registration in self._registrations.values():
                if registration.key.fileobj is fileobj:
                    return registration
            raise
        if registration is None:
            raise KeyError(f"{fileobj!r} is not registered")
        return registration

    def close(self) -> None:
        """Close the poller too."""
        self._registrations.clear()
        self._poller.close()


def _fileno(fileobj: Any) -> int:
    """The descriptor of *fileobj*, an int or an object with ``fileno()``."""
    if isinstance(fileobj, int):
        fd = fileobj
    else:
        try:
            fd = int(fileobj.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"{fileobj!r} is neither a file descriptor nor an object with fileno()") from None
    if fd < 0:
        raise ValueError(f"{fileobj!r} has no open file descriptor (got {fd})")
    return fd
