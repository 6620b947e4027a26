"""On an asyncioreactor of the program's own, install() hands out its loop, and both sides of it work."""

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


def test_tasks_await_deferreds(host: str) -> None:
    """After ``install()``; at the reactor's end the loop has its own tasks again."""
    printed = on_host(
        host,
        """
        from twisted.internet.task import deferLater
        txasync.install()
        reactor.addSystemEventTrigger("after", "shutdown", lambda: print(host.get_task_factory()))
        async def main():
            return await deferLater(reactor, 0, lambda: "deferred"), await asyncio.sleep(0, "slept")
        run(main)
        """,
    )
    assert printed.startswith("None\n('deferred', 'slept')\n")


STARTED = """
import asyncio, threading
import txasync

async def main():
    loop = asyncio.get_running_loop()
    from twisted.internet import asyncioreactor
    asyncioreactor.install(loop)
    from twisted.internet import reactor
    from twisted.internet.threads import deferToThread
    from twisted.internet.utils import getProcessValue
    reactor.addSystemEventTrigger("after", "startup", print, "started")
    assert txasync.install() is loop is txasync.install()
    assert reactor.running
    print(await txasync.as_future(reactor.resolve("localhost")))

    async def task():
        quiet = ["-c", "exec >&- 2>&- <&-; sleep 0.05; exit 7"]
        return await deferToThread(lambda: "in a thread"), await getProcessValue("/bin/sh", quiet)

    print(*await asyncio.wait_for(asyncio.create_task(task()), 30))

host = {host}
host.run_until_complete(main())
{end}
host.close()
"""


def test_a_reactor_that_nobody_has_started(host: str) -> None:
    """On a loop that runs, ``install()`` starts it, once; its threads let the process end."""
    printed = in_child(STARTED.format(host=host, end=""), warnings="default")
    assert printed.startswith("started\n127.0.0.1\nin a thread 7\n")


def test_a_reactor_that_install_has_started_stops_its_loop(host: str) -> None:
    """As Twisted's own does; all triggers are called."""
    end = """
from twisted.internet import reactor
reactor.addSystemEventTrigger("after", "shutdown", print, "stopped")
reactor.stop()
host.run_forever()
try:
    txasync.install()
except RuntimeError as error:
    print(error)
"""
    printed = in_child(STARTED.format(host=host, end=end), warnings="default").splitlines()
    assert printed[:4] == ["started", "127.0.0.1", "in a thread 7", "stopped"]
    assert "was stopped by reactor.stop(), and that is for ever" in printed[4]
