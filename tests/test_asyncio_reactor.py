"""On a reactor that stands on asyncio already, install() hands out its loop, and no child's exit is lost."""

from __future__ import annotations

import importlib.util

import pytest

from .test_running import in_child

HOSTS = {"stock": "asyncio.new_event_loop()", "uvloop": "__import__('uvloop').new_event_loop()"}


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest) -> str:
    """The expression for the loop that the reactor stands on."""
    if request.param == "uvloop" and importlib.util.find_spec("uvloop") is None:
        pytest.skip("uvloop is not installed: the test extra has it")
    return HOSTS[request.param]


PROLOGUE = """
import asyncio, signal, sys
from twisted.internet import asyncioreactor
host = {host}
asyncioreactor.install(host)
from twisted.internet import reactor
from twisted.internet.utils import getProcessValue
import txasync

def future_of(deferred):
    future = host.create_future()
    deferred.addCallbacks(future.set_result, lambda failure: future.set_exception(failure.value))
    return future

def run(main):
    tasks = []
    def start():
        tasks.append(host.create_task(main()))
        tasks[0].add_done_callback(lambda task: reactor.stop())
    reactor.callWhenRunning(start)
    reactor.run()
    host.run_until_complete(host.shutdown_asyncgens())
    host.close()
    print(tasks[0].result())
"""


def on_host(host: str, program: str) -> str:
    """Run *program* in a process whose reactor stands on *host*."""
    from textwrap import dedent

    # uvloop itself uses deprecated names of asyncio's on new Pythons.
    return in_child(PROLOGUE.format(host=host) + dedent(program), warnings="default")


def test_install_gives_the_reactors_own_loop(host: str) -> None:
    """Before the start and after it; so does ``get_event_loop()``, and no second loop can be put on it."""
    printed = on_host(
        host,
        """
        assert txasync.install() is host
        assert txasync.get_event_loop() is host
        for use in (lambda: txasync.new_event_loop(), lambda: txasync.ReactorEventLoop(reactor)):
            try:
                use()
            except TypeError as error:
                assert "runs on an asyncio loop already" in str(error), error
            else:
                raise AssertionError("a second loop")
        async def main():
            assert txasync.install() is host is asyncio.get_running_loop()
            await asyncio.sleep(0.01)
            return "fine"
        run(main)
        """,
    )
    assert printed.startswith("fine\n")


def test_exits_survive_add_signal_handler(host: str) -> None:
    """The host loop's ``add_signal_handler`` takes the wakeup descriptor; Twisted's children are still heard of."""
    printed = on_host(
        host,
        """
        txasync.install()
        async def main():
            # Such a child is heard of by SIGCHLD alone.
            quiet = ["-c", "exec >&- 2>&- <&-; sleep 0.1; exit 7"]
            codes = [await asyncio.wait_for(future_of(getProcessValue("/bin/sh", quiet)), 20)]
            host.add_signal_handler(signal.SIGUSR1, print)
            codes.append(await asyncio.wait_for(future_of(getProcessValue("/bin/sh", quiet)), 20))
            host.remove_signal_handler(signal.SIGUSR1)
            codes.append(await asyncio.wait_for(future_of(getProcessValue("/bin/sh", quiet)), 20))
            return codes
        run(main)
        """,
    )
    assert printed.startswith("[7, 7, 7]\n")


def test_children_of_both_worlds(host: str) -> None:
    """At once, with a signal handler in use."""
    printed = on_host(
        host,
        """
        txasync.install()
        async def main():
            host.add_signal_handler(signal.SIGUSR1, print)
            codes = []
            for code in 3, 4, 5:
                process = await asyncio.create_subprocess_exec("/bin/sh", "-c", f"sleep 0.05; exit {code}")
                ours = getProcessValue("/bin/sh", ["-c", f"exec >&- 2>&- <&-; sleep 0.1; exit {code}"])
                codes.append(await asyncio.wait_for(process.wait(), 20))
                codes.append(await asyncio.wait_for(future_of(ours), 20))
            return codes
        run(main)
        """,
    )
    assert printed.startswith("[3, 3, 4, 4, 5, 5]\n")
