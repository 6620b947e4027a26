"""The same scenario on asyncio's own loop and on ours gives the same trace."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.internet.epollreactor import EPollReactor

import txasync
from txasync import _reactors
from txasync.polling import PerDescriptorPoller


@dataclass
class Step:
    """What a callback does when it runs: each action in turn."""

    actions: list[tuple[str, Any]] = field(default_factory=list)


def steps(depth: int) -> st.SearchStrategy[Step]:
    """Callbacks that schedule, cancel, and stop, *depth* levels deep."""
    plain = st.tuples(
        st.sampled_from(["cancel", "stop", "pass", "write", "read", "watch", "unwatch"]), st.integers(0, 5)
    )
    if depth == 0:
        return st.builds(Step, st.lists(plain, max_size=2))
    scheduling = st.tuples(
        st.sampled_from(["soon", "at once", "in a while", "in a long while", "past", "threadsafe", "task"]),
        steps(depth - 1),
    )
    return st.builds(Step, st.lists(st.one_of(scheduling, plain), max_size=4))


class Scenario:
    """
    Plays steps on a loop, and keeps the trace: which callback ran in which run, in which order.

    The loop never waits, so that its clock can be the scenario's. Time passes when a step says so; and by an instant
    with each look, since asyncio leaves the order open in which timers for the same time run.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.now = loop.time()
        vars(loop)["time"] = self.time
        self.trace: list[str] = []
        self.handles: list[Any] = []
        self.names = 0
        self.left, self.right = socket.socketpair()
        self.left.setblocking(False)
        self.right.setblocking(False)

    def time(self) -> float:
        self.now += 1e-6
        return self.now

    def callback(self, step: Step) -> Callable[[], None]:
        self.names += 1
        name = str(self.names)

        def run() -> None:
            self.trace.append(name)
            for action, argument in step.actions:
                self.act(action, argument)

        return run

    def act(self, action: str, argument: Any) -> None:
        loop = self.loop
        if action == "soon":
            self.handles.append(loop.call_soon(self.callback(argument)))
        elif action == "at once":
            self.handles.append(loop.call_later(0, self.callback(argument)))
        elif action == "in a while":
            self.handles.append(loop.call_later(0.3, self.callback(argument)))
        elif action == "in a long while":
            self.handles.append(loop.call_later(1.5, self.callback(argument)))
        elif action == "pass":
            self.now += argument / 4
        elif action == "past":
            self.handles.append(loop.call_at(loop.time() - 1, self.callback(argument)))
        elif action == "threadsafe":
            self.handles.append(loop.call_soon_threadsafe(self.callback(argument)))
        elif action == "task":
            self.handles.append(loop.create_task(self.task(self.callback(argument))))
        elif action == "cancel" and self.handles:
            self.handles[argument % len(self.handles)].cancel()
        elif action == "stop":
            loop.stop()
        elif action == "write":
            self.left.send(b"x")
        elif action == "read":
            self.read()
        elif action == "watch":
            loop.add_reader(self.right, self.readable)
        elif action == "unwatch":
            self.trace.append(f"unwatched {loop.remove_reader(self.right)}")

    async def task(self, callback: Callable[[], None]) -> None:
        await asyncio.sleep(0)
        callback()

    def read(self) -> None:
        try:
            self.trace.append(f"read {len(self.right.recv(100))}")
        except BlockingIOError:
            self.trace.append("read nothing")

    def readable(self) -> None:
        self.trace.append("readable")
        self.read()

    def play(self, beginning: list[Step]) -> list[str]:
        for step in beginning:
            self.loop.call_soon(self.callback(step))
        for number in range(4):
            self.trace.append(f"run {number}")
            # It ends some rounds later, so that what the last callbacks scheduled is seen as well.
            self.loop.call_soon(self.loop.call_soon, self.loop.call_soon, self.loop.stop)
            self.loop.run_forever()
        self.loop.remove_reader(self.right)
        while tasks := asyncio.all_tasks(self.loop):
            for task in tasks:
                task.cancel()
            self.loop.call_soon(self.loop.stop)
            self.loop.run_forever()
        self.left.close()
        self.right.close()
        self.loop.close()
        return self.trace


@given(st.lists(steps(3), min_size=1, max_size=4))
@settings(suppress_health_check=[HealthCheck.too_slow])
def test_scheduling_gives_the_trace_of_asyncio(beginning: list[Step]) -> None:
    """Callbacks, timers, tasks, readers and stops run in the same order, in the same runs, with either poller."""
    expected = Scenario(asyncio.SelectorEventLoop()).play(beginning)
    assert Scenario(txasync.new_event_loop(private=True)).play(beginning) == expected
    reactor = EPollReactor()
    loop = txasync.ReactorEventLoop(reactor, poller_factory=PerDescriptorPoller)
    assert Scenario(loop).play(beginning) == expected
    _reactors.dispose_private_reactor(reactor)
