"""
Run one scenario on a reactor, and print what it returns as JSON.

    python -m tests.integration._programs.run_scenario MODE REACTOR MODULE:COROUTINE ARGUMENTS

A scenario is a coroutine function that uses a third-party library and asyncio, and that has never heard of a reactor.
MODE says which side is there first. ARGUMENTS are the scenario's keyword arguments, as JSON.

Whatever a scenario leaves behind - a task, a ``DelayedCall``, a descriptor - makes the program fail. One that hangs
prints where, and dies of SIGALRM.
"""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import importlib
import json
import math
import os
import signal
import sys
import warnings
from collections.abc import Callable, Coroutine
from types import ModuleType
from typing import Any

import txasync

Main = Callable[[], Coroutine[Any, Any, Any]]

REACTOR_MODULES = {
    "txasync": "txasync.reactor",
    "epoll": "twisted.internet.epollreactor",
    "poll": "twisted.internet.pollreactor",
    "select": "twisted.internet.selectreactor",
}

TIMEOUT_S = 60
LAST_TASKS_TIMEOUT_S = 10.0


def import_module_of(scenario_name: str) -> tuple[ModuleType, str]:
    """The module that *scenario_name* begins with, which is one beside this, and the name of the function in it."""
    module_name, _, function_name = scenario_name.partition(":")
    return importlib.import_module(f".{module_name}", __package__), function_name


def install_reactor(name: str) -> Any:
    """Make the reactor of this name the process's own."""
    importlib.import_module(REACTOR_MODULES[name]).install()
    from twisted.internet import reactor

    assert type(reactor).__module__ == REACTOR_MODULES[name], reactor
    return reactor


def asyncio_first(main: Main, reactor: Any) -> Any:
    """The loop starts the reactor."""
    return txasync.run(main())


def reactor_first(main: Main, reactor: Any) -> Any:
    """The program starts the reactor; a callback of the running reactor installs asyncio, and starts a task."""
    outcome: list[asyncio.Task[Any]] = []

    def start() -> None:
        txasync.install()
        outcome.append(asyncio.create_task(main()))
        outcome[0].add_done_callback(lambda task: reactor.stop())

    reactor.callWhenRunning(start)
    reactor.run()
    return outcome[0].result()


def installed_first(main: Main, reactor: Any) -> Any:
    """The program installs asyncio, creates a task, and starts the reactor."""
    task = txasync.install().create_task(main())
    task.add_done_callback(lambda task: reactor.stop())
    reactor.run()
    return task.result()


def anyio_run(main: Main, reactor: Any) -> Any:
    """AnyIO makes the loop, which starts the reactor."""
    import anyio

    return anyio.run(main, backend="asyncio", backend_options={"loop_factory": txasync.new_event_loop})


MODES = {
    "asyncio-first": asyncio_first,
    "reactor-first": reactor_first,
    "installed-first": installed_first,
    "anyio-run": anyio_run,
}


async def run_alone(scenario: Callable[..., Coroutine[Any, Any, Any]], arguments: dict[str, Any], reactor: Any) -> Any:
    """Run *scenario* on the loop of *reactor*, and make sure that it ends its tasks."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, txasync.ReactorEventLoop), loop
    assert loop.reactor is reactor
    assert reactor.running
    # How long a callback takes is up to the machine; in debug mode asyncio writes that to stderr, which is to be empty.
    loop.slow_callback_duration = math.inf
    result = await scenario(**arguments)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        _, others = await asyncio.wait(others, timeout=LAST_TASKS_TIMEOUT_S)
    assert not others, f"tasks left: {others}"
    return result


def open_descriptors() -> dict[int, str]:
    """Every open descriptor, and what it is, but for the one that Twisted keeps in reserve since its first port."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the one of the listing itself
    return {fd: what for fd, what in found.items() if what != os.devnull}


def main(mode: str, reactor_name: str, scenario_name: str, arguments: str) -> None:
    """Run the scenario that the command line names."""
    # A signal, because a thread that watches would be one more thing that no other program has.
    faulthandler.register(signal.SIGALRM, chain=True)
    signal.alarm(TIMEOUT_S)
    if sys.version_info < (3, 11):
        # There, asyncio's TLS says so of each connection that its peer was the first to close.
        warnings.filterwarnings("ignore", "unclosed transport <asyncio.sslproto", ResourceWarning)
    reactor = install_reactor(reactor_name)
    module, function_name = import_module_of(scenario_name)
    scenario = getattr(module, function_name)

    descriptors = open_descriptors()
    result = MODES[mode](lambda: run_alone(scenario, json.loads(arguments), reactor), reactor)
    gc.collect()
    left = {fd: what for fd, what in open_descriptors().items() if fd not in descriptors}
    assert not left, f"descriptors left open: {left}"
    assert not reactor.getDelayedCalls(), reactor.getDelayedCalls()
    json.dump(result, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
