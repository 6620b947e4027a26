"""What the tests of process adapters share: the programs of children, and a recording protocol of each world."""

from __future__ import annotations

import asyncio
import os
import pathlib
from collections.abc import Callable
from typing import Any

import pytest
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

__all__ = [
    "MEGABYTES",
    "Boom",
    "TwistedRecorder",
    "children_of_this_process",
    "is_writing_freely",
    "others_stay",
    "settled",
    "shell",
]

MEGABYTES = bytes(range(250)) * 20_000
"""Five million bytes, more than all buffers on the way take."""


class Boom(Exception):
    """What a protocol raises here."""


def shell(command: str) -> tuple[str, ...]:
    """The program that does *command*."""
    return "/bin/sh", "-c", command


async def settled() -> None:
    """Let what is ready be run, and what that adds."""
    for _ in range(4):
        await asyncio.sleep(0)


_others: set[int] = set()


@pytest.fixture(autouse=True)
def others_stay() -> None:
    """Children that were there before the test: CPython's own tests are run by one."""
    _others.clear()
    _others.update(children_of_this_process())


def children_of_this_process() -> set[int]:
    """The numbers of all children that have come in the test, zombies too."""
    return {
        int(pid)
        for path in pathlib.Path("/proc/self/task").glob("*/children")
        for pid in path.read_text().split()
        if os.path.exists(f"/proc/{pid}")
    } - _others


def is_writing_freely(pid: int) -> bool:
    """Whether the child of *pid* does not wait for somebody to read its output."""
    # uvloop's children write to sockets.
    return not any(what in pathlib.Path(f"/proc/{pid}/wchan").read_text() for what in ("pipe_write", "sock", "unix"))


class TwistedRecorder(ProcessProtocol):
    """
    A process protocol of Twisted's that notes its calls, of which it asserts the legal order.

    Args:
        raising: The callback that raises after it has been noted.

    Attributes:
        calls: What was called; data counts once for each pipe.
        output: What has come, by its descriptor.
        on: What to do in a callback.
    """

    def __init__(self, raising: str = "") -> None:
        self.calls: list[str] = []
        self.output = {1: bytearray(), 2: bytearray()}
        self.on: dict[str, Callable[[], object]] = {}
        self.reason: Any = None
        self._raising = raising
        self._waiter: asyncio.Future[None] | None = None

    def _note(self, name: str, value: object = "") -> None:
        entry = f"{name} {value}".strip()
        assert (name == "connectionMade") == (not self.calls), self.calls
        assert not self.has("processEnded"), self.calls
        if name == "childDataReceived":
            assert not self.has(f"childConnectionLost {value}"), self.calls
            if entry not in self.calls:
                self.calls.append(entry)
        else:
            assert entry not in self.calls, self.calls
            self.calls.append(entry)
        self.look_again()
        self.on.get(name, lambda: None)()
        if name == self._raising:
            raise Boom(name)

    def has(self, call: str) -> bool:
        """Whether *call*, or its beginning, was made."""
        return any(noted.startswith(call) for noted in self.calls)

    def look_again(self) -> None:
        """Have who waits look once more whether what it waits for has come true."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until a call has made *condition* true."""
        while not condition():
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter

    async def until_ended(self) -> None:
        """Wait until all is over."""
        await self.until(lambda: self.has("processEnded"))
        await settled()

    def connectionMade(self) -> None:
        assert isinstance(self.transport.pid, int)  # type: ignore[union-attr]
        self._note("connectionMade")

    def childDataReceived(self, childFD: int, data: bytes) -> None:
        self.output[childFD] += data
        self._note("childDataReceived", childFD)

    def childConnectionLost(self, childFD: int) -> None:
        self._note("childConnectionLost", childFD)

    def processExited(self, reason: Failure) -> None:
        assert self.transport.pid is None  # type: ignore[union-attr]
        self.reason = reason.value
        self._note("processExited")

    def processEnded(self, reason: Failure) -> None:
        assert self.has("processExited")
        assert repr(reason.value) == repr(self.reason)
        self._note("processEnded")
