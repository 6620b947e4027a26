"""The selector interface over a poller does what the standard library's selectors do."""

from __future__ import annotations

import selectors
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from twisted.internet.epollreactor import EPollReactor

from txasync import _reactors
from txasync.polling import NestedPoller, PollerSelector


class _Asked(PollerSelector):
    """What was told while it selected, as other selectors return it."""

    def __init__(self, reactor: Any) -> None:
        self.told: list[tuple[selectors.SelectorKey, int]] = []
        super().__init__(NestedPoller(reactor, lambda: None), lambda key, event: self.told.append((key, event)))

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        assert super().select(timeout) == []
        told = self.told[:]
        self.told.clear()
        return told


def _ours() -> tuple[selectors.BaseSelector, Callable[[], None]]:
    reactor = EPollReactor()
    return _Asked(reactor), lambda: _reactors.dispose_private_reactor(reactor)


def _stock() -> tuple[selectors.BaseSelector, Callable[[], None]]:
    return selectors.DefaultSelector(), lambda: None


@pytest.fixture(params=[_ours, _stock], ids=["ours", "stock"])
def selector(request: pytest.FixtureRequest) -> Iterator[selectors.BaseSelector]:
    selector, dispose = request.param()
    yield selector
    selector.close()
    dispose()


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    left, right = socket.socketpair()
    yield left, right
    left.close()
    right.close()


READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
Pair = tuple[socket.socket, socket.socket]


def ready(selector: selectors.BaseSelector) -> dict[Any, int]:
    """What is ready, by data, whether it comes as one pair or two."""
    found: dict[Any, int] = {}
    for key, events in selector.select(0):
        found[key.data] = found.get(key.data, 0) | events
    return found


def test_register_select_modify_unregister(selector: selectors.BaseSelector, pair: Pair) -> None:
    """A file object has one key, and what is ready comes with its data."""
    left, right = pair
    key = selector.register(left, READ | WRITE, "first")
    assert (key.fileobj, key.fd, key.events, key.data) == (left, left.fileno(), READ | WRITE, "first")
    assert ready(selector) == {"first": WRITE}
    right.send(b"x")
    assert ready(selector) == {"first": READ | WRITE}
    assert selector.modify(left, READ, "second").data == "second"
    assert ready(selector) == {"second": READ}
    assert selector.get_key(left).events == READ
    assert selector.get_key(left.fileno()).data == "second"
    assert len(selector.get_map()) == 1
    assert selector.unregister(left).data == "second"
    assert ready(selector) == {}


def test_bad_use_is_refused(selector: selectors.BaseSelector, pair: Pair) -> None:
    """With the same kinds of error."""
    left, _ = pair
    not_a_file: Any = "x"
    for bad in 0, 8:
        with pytest.raises(ValueError):
            selector.register(left, bad)
    for bad_file in -1, not_a_file:
        with pytest.raises(ValueError):
            selector.register(bad_file, READ)
    for use in selector.get_key, selector.unregister:
        with pytest.raises(KeyError):
            use(left)
    with pytest.raises(KeyError):
        selector.modify(left, READ)
    selector.register(left, READ)
    with pytest.raises(KeyError):
        selector.register(left, READ)


def test_the_map_finds_file_objects_and_descriptors(selector: selectors.BaseSelector, pair: Pair) -> None:
    """It is a live view, and knows file objects as well as numbers."""
    left, right = pair
    found = selector.get_map()
    assert found.get(left) is None
    selector.register(left, READ, "data")
    assert found[left].data == "data"
    assert found.get(left.fileno()).data == "data"  # type: ignore[union-attr]
    assert found.get(right) is None
    assert list(found) == [left.fileno()]
    with pytest.raises(KeyError):
        found[right]


def test_a_file_object_that_was_closed_first_can_be_unregistered(selector: selectors.BaseSelector) -> None:
    """It does not know its number any more; the selector does."""
    left, right = socket.socketpair()
    key = selector.register(left, READ)
    left.close()
    assert selector.unregister(left) == key
    right.close()


def test_a_refused_file_leaves_no_key(selector: selectors.BaseSelector) -> None:
    """A regular file cannot be watched; the next one with its number can be registered."""
    with open(__file__) as file:
        with pytest.raises(PermissionError):
            selector.register(file, READ)
        with pytest.raises(KeyError):
            selector.get_key(file)
