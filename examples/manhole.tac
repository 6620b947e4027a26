"""
A manhole: a Python prompt inside a running twistd process, over SSH, that sees the asyncio tasks.

    pip install 'twisted[conch]'
    twistd --nodaemon --python examples/manhole.tac

The first start makes a directory "manhole" (MANHOLE_DIRECTORY names another one) with the server's key, and with a file
"passwd" of the user's name and password, which only you can read. With that password:

    ssh -p 8022 admin@127.0.0.1
    >>> tasks()
    >>> shop.orders.put_nowait("tea")
    >>> shop.delivered

MANHOLE_ENDPOINT is where it listens, as Twisted describes endpoints. Whoever logs in may do all that the process may.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from twisted.application.service import Application
from twisted.conch import manhole_tap
from twisted.internet.defer import Deferred

import txasync
from txasync.application import TaskService

# The program: some asyncio tasks.


class Shop:
    """One task delivers what is ordered, and one waits for a Deferred."""

    def __init__(self) -> None:
        self.orders: asyncio.Queue[str] = asyncio.Queue()
        self.delivered: list[str] = []
        self.closing: Deferred[None] = Deferred()

    async def deliver(self) -> None:
        while True:
            order = await self.orders.get()
            await asyncio.sleep(0.01)
            self.delivered.append(order)

    async def close(self) -> None:
        await self.closing

    async def run(self) -> None:
        workers = [
            asyncio.create_task(self.deliver(), name="delivers"),
            asyncio.create_task(self.close(), name="waits for the evening"),
        ]
        await asyncio.gather(*workers)


shop = Shop()

# What the prompt has.


def tasks() -> None:
    """Print the name and the state of every asyncio task of the process, and the lines in which it waits."""
    for task in sorted(asyncio.all_tasks(), key=lambda task: task.get_name()):
        print(f"{task.get_name()}: {'is being cancelled' if is_cancelled(task) else 'waits'}")
        stack = traceback.StackSummary.extract((frame, frame.f_lineno) for frame in frames(task.get_coro()))
        print("".join(stack.format()), end="")


def is_cancelled(task: asyncio.Task[Any]) -> bool:
    return hasattr(task, "cancelling") and task.cancelling() > 0  # from Python 3.11 on


def frames(awaited: Any) -> Iterator[FrameType]:
    """The frame of a coroutine, and those of the coroutines and generators that it waits for."""
    while (frame := getattr(awaited, "cr_frame", None) or getattr(awaited, "gi_frame", None)) is not None:
        yield frame
        awaited = getattr(awaited, "cr_await", None) or getattr(awaited, "gi_yieldfrom", None)


# What twistd runs.


def make_directory() -> Path:
    """Make the directory and a password, unless they are there; Conch makes the key."""
    directory = Path(os.environ.get("MANHOLE_DIRECTORY", "manhole"))
    directory.mkdir(mode=0o700, exist_ok=True)
    passwords = directory / "passwd"
    if not passwords.exists():
        passwords.touch(mode=0o600)
        passwords.write_text(f"admin:{secrets.token_urlsafe()}\n")
    return directory


directory = make_directory()
application = Application("manhole")
TaskService(shop.run).setServiceParent(application)
manhole_tap.makeService(
    {
        "telnetPort": None,
        "sshPort": os.environ.get("MANHOLE_ENDPOINT", "tcp:8022:interface=127.0.0.1"),
        "sshKeyDir": str(directory),
        "sshKeyName": "server.key",
        "sshKeySize": 3072,
        "passwd": str(directory / "passwd"),
        "namespace": {"asyncio": asyncio, "shop": shop, "tasks": tasks, "txasync": txasync},
    }
).setServiceParent(application)
