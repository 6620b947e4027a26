"""Ten thousand connections that are busy at the same time, on asyncio's transports and on Twisted's own."""

from __future__ import annotations

import statistics
import subprocess
import sys
from typing import Any

import pytest

from .conftest import PROGRAMS_PACKAGE, environment, python_command, result_of

if sys.platform == "linux":
    import resource

CONNECTIONS = 10_000
# With fewer than so many the test would be about something else.
FEWEST_CONNECTIONS = 5_000
# What server and client have open besides.
OTHER_DESCRIPTORS = 100
MESSAGES_PER_CONNECTION = 10
# It takes two seconds where there are two processors and nothing else to do.
LIMIT_S = 240.0

# select() takes no descriptor above 1023, and on that reactor this is a limit for Twisted's own transports only.
TWISTEDS = {"epoll": 5_000, "epoll-asyncio-first": 5_000, "select": 900, "txasync": 5_000}


def possible_connections() -> int:
    """As many as a process may have, and no more than are asked for."""
    _, descriptors = resource.getrlimit(resource.RLIMIT_NOFILE)
    return CONNECTIONS if descriptors < 0 else min(CONNECTIONS, descriptors - OTHER_DESCRIPTORS)


def load(kind: str, asyncios: int, twisteds: int, messages: int) -> Any:
    """What many_connections.py prints."""
    numbers = map(str, (asyncios, twisteds, messages))
    command = python_command("-m", f"{PROGRAMS_PACKAGE}.many_connections", kind, *numbers, dev=False)
    return result_of(subprocess.run(command, env=environment(), capture_output=True, text=True, timeout=LIMIT_S))


@pytest.mark.skipif(sys.platform != "linux", reason="the client is written for epoll")
@pytest.mark.timeout(LIMIT_S + 30)
@pytest.mark.parametrize("kind", TWISTEDS)
def test_ten_thousand_connections_and_two_timers_have_their_shares(kind: str) -> None:
    """
    The slowest connection gets half as many messages as most do, and a timer waits for one message of each at most.

    That is what a timer waits for on asyncio's own loop, which serves all that is ready before it looks at its timers.
    """
    connections = possible_connections()
    if connections < FEWEST_CONNECTIONS:
        pytest.skip(
            f"a process may have too few descriptors for this (ulimit -Hn): enough for {connections} connections"
        )
    twisteds = min(TWISTEDS[kind], connections // 2)
    messages = connections * MESSAGES_PER_CONNECTION
    result = load(kind, connections - twisteds, twisteds, messages)
    echoes = result["echoes"]
    assert {transport: len(of_each) for transport, of_each in echoes.items()} == {
        "asyncio": connections - twisteds,
        "twisted": twisteds,
    }
    everybodys = [count for of_each in echoes.values() for count in of_each]
    assert sum(everybodys) >= messages
    slowest = {transport: min(of_each) for transport, of_each in echoes.items()}
    assert min(everybodys) >= statistics.median(everybodys) / 2, slowest
    for world in "asyncio", "twisted":
        late_messages = result["lateness"][world]["messages"]
        assert late_messages, f"the timer of {world} has never come"
        assert max(late_messages) <= connections, world
    if connections < CONNECTIONS:
        pytest.skip(f"all was well with the {connections} connections that a process may have here (ulimit -Hn)")
