"""LeakCheck: what a test leaves behind is seen and named; what is not the test's is left out."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from twisted.internet.defer import Deferred
from twisted.internet.protocol import Factory

import txasync
from txasync import ReactorEventLoop, _reactors
from txasync._private_loop import new_private_loop
from txasync.testing import LeakCheck

from ..conftest import Reports
from .pytest_runs import FUNCTION_SCOPE, PLUG_IN, run_pytest


@pytest.fixture
def check() -> LeakCheck:
    """A check that has not begun."""
    return LeakCheck()


@pytest.fixture
def open_loop() -> Iterator[ReactorEventLoop]:
    """A loop on a reactor of its own, that was there before."""
    loop = new_private_loop()
    yield loop
    loop.close()


def left_by(check: LeakCheck, test: Callable[[], object]) -> list[str]:
    """What *check* says of *test*."""
    with check.watching():
        test()
    return check.left()


# What is left


def test_nothing_is_left_by_a_test_that_undoes_what_it_did(check: LeakCheck, reactor: Any) -> None:
    """A loop that is closed, a thread that ends, a socket that is closed: all is as before."""

    async def main() -> None:
        await asyncio.to_thread(int)
        server = await asyncio.start_server(print, "127.0.0.1", 0)
        server.close()
        await server.wait_closed()

    assert left_by(check, lambda: txasync.run(main(), reactor=reactor)) == []


def test_a_socket_is_named_with_its_address(check: LeakCheck) -> None:
    """A descriptor of a socket says of what kind it is, and where it is bound."""
    with socket.socket() as sock:

        def test() -> None:
            sock.bind(("127.0.0.1", 0))
            copies.append(sock.dup())

        copies: list[socket.socket] = []
        (left,) = left_by(check, test)
        assert left.startswith(f"descriptor {copies[0].fileno()}: <socket.socket")
        assert f"laddr={sock.getsockname()!r}" in left
        copies[0].close()


def test_a_file_is_named_with_its_path(check: LeakCheck, tmp_path: Path) -> None:
    """A descriptor of a file says of which."""
    opened: list[int] = []
    (left,) = left_by(check, lambda: opened.append(os.open(tmp_path / "a file", os.O_CREAT)))
    os.close(opened[0])
    assert left == f"descriptor {opened[0]}: {tmp_path}/a file"


def test_a_descriptor_of_dev_null_does_not_count(check: LeakCheck) -> None:
    """Twisted keeps one in reserve, from its first port on."""
    opened: list[int] = []
    assert left_by(check, lambda: opened.append(os.open(os.devnull, os.O_RDONLY))) == []
    os.close(opened[0])


def test_a_descriptor_that_took_the_number_of_another_is_seen(check: LeakCheck, tmp_path: Path) -> None:
    """A test that closes what was open and opens something else has left that."""
    first = os.open(tmp_path / "first", os.O_CREAT)

    def test() -> None:
        second = os.open(tmp_path / "second", os.O_CREAT)
        os.dup2(second, first)
        os.close(second)

    (left,) = left_by(check, test)
    os.close(first)
    assert left == f"descriptor {first}: {tmp_path}/second"


def test_a_thread_is_named(check: LeakCheck, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread that has not ended within the time limit is left."""
    monkeypatch.setattr("txasync.testing._leaks._THREADS_END_WITHIN_S", 0.01)
    end = threading.Event()
    thread = threading.Thread(target=end.wait, name="a thread of the test")
    (left,) = left_by(check, thread.start)
    end.set()
    thread.join()
    assert left.startswith("thread: <Thread(a thread of the test, started")


def test_a_thread_that_is_about_to_end_is_waited_for(check: LeakCheck) -> None:
    """What it holds goes with it, and nothing is said."""
    ended = threading.Event()
    threads = []

    def test() -> None:
        descriptor = os.dup(0)
        threads.append(threading.Thread(target=lambda: (ended.wait(), os.close(descriptor))))
        threads[0].start()

    with check.watching():
        test()
    threading.Timer(0.05, ended.set).start()
    assert check.left() == []


def test_a_loop_is_named(check: LeakCheck) -> None:
    """A loop of ours that is not closed is left, besides its descriptors."""
    loops: list[ReactorEventLoop] = []
    left = left_by(check, lambda: loops.append(new_private_loop()))
    named = f"loop that is not closed: {loops[0]!r}"
    loops[0].close()
    assert named in left
    assert all(what.startswith("descriptor ") for what in left if what != named)


def test_a_running_loop_is_named(check: LeakCheck, open_loop: ReactorEventLoop) -> None:
    """A loop that is still the thread's running one, and was not before, is told."""
    (left,) = left_by(check, lambda: asyncio.events._set_running_loop(open_loop))
    asyncio.events._set_running_loop(None)
    assert left == f"running loop: {open_loop!r}"


def test_what_waits_in_the_process_s_reactor_is_named(tmp_path: Path) -> None:
    """A DelayedCall, a port, a writer; and nothing of what a reactor has for itself from its first run on."""
    suite = """
    import asyncio

    from twisted.internet import reactor
    from twisted.internet.interfaces import IReadDescriptor
    from twisted.internet.protocol import DatagramProtocol, Factory
    from zope.interface import implementer

    def test_delayed_call(txasync_no_leaks, txasync_loop):
        txasync_loop.run_until_complete(asyncio.sleep(0.001))
        test_delayed_call.left = reactor.callLater(3600, print)

    def test_clean_again(txasync_no_leaks, txasync_loop):
        test_delayed_call.left.cancel()
        txasync_loop.run_until_complete(asyncio.sleep(0.001))

    def test_port(txasync_no_leaks):
        test_port.left = reactor.listenTCP(0, Factory(), interface="127.0.0.1")

    def test_port_that_is_closed(txasync_no_leaks, txasync_loop):
        async def main():
            await test_port.left.stopListening()
            await reactor.listenUDP(0, DatagramProtocol(), interface="127.0.0.1").stopListening()
        txasync_loop.run_until_complete(main())

    class Full:
        def fileno(self):
            return 1
        def connectionLost(self, reason):
            pass
        def doWrite(self):
            pass
        def logPrefix(self):
            return ""

    def test_writer(txasync_no_leaks):
        test_writer.left = Full()
        reactor.addWriter(test_writer.left)
    """
    run = run_pytest(tmp_path, {"test_it.py": suite}, "--txasync-reactor=select")
    assert run.statuses() == {
        "test_delayed_call": "error",
        "test_clean_again": "passed",
        "test_port": "error",
        "test_port_that_is_closed": "passed",
        "test_writer": "error",
    }, run.printed
    assert "in SelectReactor: <DelayedCall" in run.outcomes["test_delayed_call"].text
    assert "reader in SelectReactor: <<class 'twisted.internet.tcp.Port'> of" in run.outcomes["test_port"].text
    assert "descriptor " in run.outcomes["test_port"].text
    assert "writer in SelectReactor: <test_it.Full object" in run.outcomes["test_writer"].text


def test_what_waits_in_a_reactor_of_the_test_s_own_is_named(check: LeakCheck, reactor: Any) -> None:
    """`look_at_reactor` is for a reactor that is disposed of with the test."""
    with check.watching():
        call = reactor.callLater(3600, print)
        check.look_at_reactor(reactor)
        call.cancel()
    (left,) = check.left()
    assert left.startswith(f"in {type(reactor).__name__}: <DelayedCall")


def test_tasks_and_calls_that_wait_on_a_loop_are_named(check: LeakCheck, open_loop: ReactorEventLoop) -> None:
    """`look_at_loop` is for a loop that is closed with the test, and for the reactor that it alone has."""

    async def left_behind() -> None:
        await asyncio.sleep(3600)

    with check.watching():
        task = open_loop.create_task(left_behind())
        call = open_loop.reactor.callLater(3600, print)
        open_loop.run_until_complete(asyncio.sleep(0))
        check.look_at_loop(open_loop)
        call.cancel()
        task.cancel()
        open_loop.run_until_complete(asyncio.wait([task]))
    first, second = sorted(check.left())
    assert "DelayedCall" in first
    assert first.endswith("called=0 cancelled=0 print()>")
    assert second.startswith("task: <Task pending")
    assert "left_behind() running at" in second


def test_a_closed_loop_has_nothing_that_waits(check: LeakCheck) -> None:
    """It was ended by the test itself."""

    def test() -> None:
        loop = new_private_loop()
        loop.close()
        check.look_at_loop(loop)

    assert left_by(check, test) == []


@pytest.mark.usefixtures("descriptor_in_reserve")
def test_ports_of_a_private_reactor_are_seen(check: LeakCheck, reactor: Any) -> None:
    """Readers that are the reactor's own, a loop's among them, are none of the test's."""
    with check.watching():
        loop = txasync.new_event_loop(reactor)
        port = reactor.listenTCP(0, Factory(), interface="127.0.0.1")
        check.look_at_loop(loop)
        loop.run_until_complete(port.stopListening())
        loop.close()
        assert _reactors.installed_reactor() is not reactor
    (left,) = check.left()
    assert left.startswith(f"reader in {type(reactor).__name__}: <")


# Errors and warnings


def test_an_error_in_a_callback_is_told_once(check: LeakCheck, open_loop: ReactorEventLoop, reports: Reports) -> None:
    """A loop of ours tells two logs; that is one error."""

    def fails() -> None:
        raise ZeroDivisionError("on purpose")

    def test() -> None:
        open_loop.call_soon(fails)
        open_loop.run_until_complete(asyncio.sleep(0))

    (left,) = left_by(check, test)
    reports.clear()
    assert left.startswith("unhandled error: Traceback (most recent call last):")
    assert left.endswith("ZeroDivisionError: on purpose")
    assert ", in fails\n" in left


def test_an_error_on_a_stock_loop_is_told(check: LeakCheck, reports: Reports) -> None:
    """asyncio's own loops tell the logging module only."""

    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: [][0])
        await asyncio.sleep(0)

    (left,) = left_by(check, lambda: asyncio.run(main()))
    reports.clear()
    assert left.startswith("unhandled error: Exception in callback")
    assert left.endswith("IndexError: list index out of range")


def test_an_error_without_an_exception_is_told(check: LeakCheck, reports: Reports) -> None:
    """What asyncio says is all that there is."""
    (left,) = left_by(check, lambda: logging.getLogger("asyncio").error("a message"))
    reports.clear()
    assert left == "unhandled error: RuntimeError: a message"


def test_a_warning_in_asyncio_s_log_is_no_error(check: LeakCheck, reports: Reports) -> None:
    """A slow callback fails no test."""
    assert left_by(check, lambda: logging.getLogger("asyncio").warning("slow")) == []
    reports.clear()


def test_a_failed_deferred_that_nobody_had_is_told(check: LeakCheck, reports: Reports) -> None:
    """Also if only the garbage collector can tell."""

    def test() -> None:
        deferred: Any = Deferred()
        deferred.itself = deferred
        deferred.errback(ValueError("nobody's"))

    (left,) = left_by(check, test)
    reports.clear()
    assert left.endswith("ValueError: nobody's")


def test_errors_that_are_expected_can_be_flushed(check: LeakCheck, reports: Reports) -> None:
    """As trial's flushLoggedErrors: those of the types that are given, or all, and the others stay."""
    log = logging.getLogger("asyncio")

    def test() -> None:
        for error in KeyError("k"), ValueError("v"), IndexError("i"):
            log.error("failed", exc_info=error)
        (flushed,) = check.flush_errors(ValueError)
        assert (flushed.type, flushed.message) == (ValueError, "v")
        assert flushed.traceback.endswith("ValueError: v\n")
        assert [error.type for error in check.flush_errors(LookupError)] == [KeyError, IndexError]
        log.error("again", exc_info=ValueError("w"))

    (left,) = left_by(check, test)
    assert left.endswith("ValueError: w")
    reports.clear()
    assert check.flush_errors() == []


def test_a_resource_warning_is_told_where_it_is_made(check: LeakCheck) -> None:
    """It may be ignored or an error elsewhere; what else warns goes where it went."""

    def test() -> None:
        socket.socket()  # which nobody closes
        warnings.warn("another", UserWarning, stacklevel=1)

    with pytest.warns(UserWarning, match="another"):
        (left,) = left_by(check, test)
    assert left.startswith("ResourceWarning: unclosed <socket.socket")
    assert f"({__file__}:" in left


# The fixture

SUITE = """
import asyncio
import os
import unittest

import pytest
import pytest_asyncio

opened = []

@pytest.fixture(scope="module")
def of_the_module():
    opened.append(os.open(__file__, os.O_RDONLY))
    yield
    os.close(opened.pop())

@pytest.fixture
def of_the_test(request):
    descriptor = os.open(__file__, os.O_RDONLY)
    yield
    os.close(descriptor)

@pytest_asyncio.fixture
async def a_task():
    task = asyncio.ensure_future(asyncio.sleep(3600))
    yield
    task.cancel()

def test_leaks():
    opened.append(os.open(__file__, os.O_RDONLY))

def test_leaks_too():
    opened.append(os.open(__file__, os.O_RDONLY))

def test_fails():
    opened.append(os.open(__file__, os.O_RDONLY))
    raise ZeroDivisionError

def test_is_skipped():
    opened.append(os.open(__file__, os.O_RDONLY))
    pytest.skip("on purpose")

def test_wider_fixture(request, of_the_test):
    request.getfixturevalue("of_the_module")

class Leaks(unittest.TestCase):
    def test_in_a_test_case(self):
        opened.append(os.open(__file__, os.O_RDONLY))

class Fails(unittest.TestCase):
    def test_failing_in_a_test_case(self):
        opened.append(os.open(__file__, os.O_RDONLY))
        self.fail()

async def test_on_a_loop(a_task):
    await asyncio.to_thread(int)

async def test_task(a_task):
    asyncio.ensure_future(asyncio.sleep(3600))

@pytest.mark.asyncio(loop_scope="module")
async def test_on_a_loop_of_the_module():
    asyncio.get_running_loop().call_later(3600, print)

@pytest.mark.asyncio(loop_scope="module")
async def test_on_a_loop_of_the_module_again():
    await asyncio.sleep(0.001)

@pytest.mark.parametrize("txasync_reactor", ["epoll", "poll", "select"], indirect=True)
def test_reactor(txasync_reactor):
    txasync_reactor.callLater(3600, print)

def test_argument(of_the_test, txasync_no_leaks):
    assert txasync_no_leaks.flush_errors() == []
"""

LEAKING = {
    "test_leaks": "descriptor",
    "test_leaks_too": "descriptor",
    "test_in_a_test_case": "descriptor",
    "test_task": "task: <Task pending",
    "test_reactor[epoll]": "in EPollReactor: <DelayedCall",
    "test_reactor[poll]": "in PollReactor: <DelayedCall",
    "test_reactor[select]": "in SelectReactor: <DelayedCall",
}
CONFTESTS = {
    "ini": "",
    "usefixtures": "",
    "autouse": "import pytest\n@pytest.fixture(autouse=True)\ndef strict(txasync_no_leaks): pass\n",
}


@pytest.mark.parametrize("way", CONFTESTS)
def test_a_test_that_leaves_something_fails(tmp_path: Path, way: str) -> None:
    """Each of a suite's, whichever way the fixture is asked for; not those of wider fixtures, nor of failing tests."""
    pytest.importorskip("pytest_asyncio", minversion="1.4", reason="pytest-asyncio 1.4 is not installed")
    marked = "import pytest\npytestmark = pytest.mark.usefixtures('txasync_no_leaks')\n"
    ini = ("usefixtures = txasync_no_leaks\n",) if way == "ini" else ()
    files = {
        "test_it.py": (marked if way == "usefixtures" else "") + SUITE,
        "conftest.py": CONFTESTS[way],
        "pytest.ini": "\n".join(["[pytest]", "txasync_loops = true", "asyncio_mode = auto", FUNCTION_SCOPE, *ini]),
    }
    run = run_pytest(tmp_path, files, plug_ins=(PLUG_IN, "asyncio"))
    assert {name for name, outcome in run.outcomes.items() if outcome.status == "error"} == set(LEAKING), run.printed
    for name, what in LEAKING.items():
        assert run.outcomes[name].text.startswith(f'failed on teardown with "Failed: the test has left behind: {what}')
    assert run.outcomes["test_fails"].status == "failed"
    assert run.outcomes["test_failing_in_a_test_case"].status == "failed"
    assert run.outcomes["test_is_skipped"].status == "skipped"
    assert len(run.outcomes) == len(LEAKING) + 3 + 5
