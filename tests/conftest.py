"""Fixtures: a loop in every way it can be run, and the check that a test leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
from hypothesis import settings
from twisted.internet.epollreactor import EPollReactor
from twisted.internet.pollreactor import PollReactor
from twisted.internet.protocol import Factory
from twisted.internet.selectreactor import SelectReactor
from twisted.logger import globalLogPublisher

from txasync import ReactorEventLoop, _reactors
from txasync.polling import PerDescriptorPoller, PollerFactory, for_reactor
from txasync.reactor import SharedEPollReactor

T = TypeVar("T")

REACTORS: dict[str, Callable[[], Any]] = {
    "epoll": EPollReactor,
    "poll": PollReactor,
    "select": SelectReactor,
    "txasync": SharedEPollReactor,
}
# The same examples each time; --hypothesis-profile=search looks for others.
settings.register_profile("fixed", max_examples=50, deadline=None, derandomize=True)
settings.register_profile("search", max_examples=2000, deadline=None)
settings.load_profile("fixed")

# What a shell starts in the background ignores these, and so would all children of the tests.
for ignored, default in (signal.SIGINT, signal.default_int_handler), (signal.SIGQUIT, signal.SIG_DFL):
    if signal.getsignal(ignored) is signal.SIG_IGN:
        signal.signal(ignored, default)

# The reactor's own: shared with ours, nested in others. And the one for platforms on which nothing can be nested.
POLLERS: dict[str, PollerFactory] = {"own": for_reactor, "per-descriptor": PerDescriptorPoller}
MODES = ("asyncio-first", "reactor-first")


def pytest_addoption(parser: pytest.Parser) -> None:
    """An option for who has the time."""
    parser.addoption(
        "--bad-peers", type=int, default=20, help="how many of each bad TLS peer to look for leaks with (default: 20)"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The poller for platforms without an epoll is not tested with the reactors that have one."""
    chosen: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        ways: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
        absurd = ways.get("reactor") in ("epoll", "txasync") and ways.get("poller_factory") == "per-descriptor"
        (left_out if absurd else chosen).append(item)
    items[:] = chosen
    config.hook.pytest_deselected(items=left_out)


@contextlib.contextmanager
def disposable_reactor(kind: str) -> Iterator[Any]:
    """A reactor that is not the process's own, and is to have nothing left to do at the end."""
    reactor = REACTORS[kind]()
    yield reactor
    left = reactor.getDelayedCalls()
    _reactors.release_threads(reactor)
    _reactors.dispose_private_reactor(reactor)
    assert not left, f"the reactor still has {left}"


@pytest.fixture(scope="session")
def descriptor_in_reserve() -> None:
    """Twisted keeps a descriptor from its first port on; that is not what a test leaves behind."""
    with disposable_reactor("epoll") as reactor:
        reactor.listenTCP(0, Factory(), interface="127.0.0.1").stopListening()
        reactor.runUntilCurrent()


@pytest.fixture(params=REACTORS)
def reactor(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A reactor of each kind, not the process's own."""
    with disposable_reactor(request.param) as reactor:
        yield reactor


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two sockets that are connected to each other, and do not block."""
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    yield left, right
    left.close()
    right.close()


@pytest.fixture(params=POLLERS)
def poller_factory(request: pytest.FixtureRequest) -> PollerFactory:
    """Each poller."""
    return POLLERS[request.param]


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> str:
    """Which side was there first."""
    mode: str = request.param
    return mode


@pytest.fixture
def loop(reactor: Any, poller_factory: PollerFactory) -> Iterator[ReactorEventLoop]:
    """A loop on each kind of reactor, with each poller, that does not run yet."""
    loop = ReactorEventLoop(reactor, poller_factory=poller_factory)
    yield loop
    loop.close()


class Runner:
    """Runs a coroutine function in one of the two modes, on one reactor."""

    def __init__(self, mode: str, reactor: Any, loop: ReactorEventLoop) -> None:
        self.mode = mode
        self.reactor = reactor
        self.loop = loop

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.mode}, {type(self.reactor).__name__}>"

    def __call__(self, main: Callable[[], Awaitable[T]]) -> T:
        """Run *main* to its end and return its result."""
        if self.mode == "asyncio-first":
            result: T = self.loop.run_until_complete(_awaited(main))
            return result
        outcome: list[asyncio.Task[T]] = []

        def start() -> None:
            task = self.loop.create_task(_awaited(main))
            outcome.append(task)
            task.add_done_callback(lambda task: self.reactor.stop())

        self.reactor.callWhenRunning(start)
        self.reactor.run(installSignalHandlers=threading.current_thread() is threading.main_thread())
        return outcome[0].result()


async def _awaited(main: Callable[[], Awaitable[T]]) -> T:
    return await main()


@pytest.fixture
def run(mode: str, reactor: Any, loop: ReactorEventLoop) -> Runner:
    """Run a coroutine function: in each mode, on each kind of reactor, with each poller."""
    return Runner(mode, reactor, loop)


@pytest.fixture(autouse=True, scope="module")
def cheap_collections() -> None:
    """
    Each test ends with a garbage collection, which need not look at all that was there before the module's first test.

    That is what was imported, and what pytest keeps of each test: some forty objects, which make a run of thousands of
    tests quadratic.
    """
    gc.collect()
    gc.freeze()


ROOT = Path(__file__).parents[1]
NOT_IN_A_CLONE = shutil.ignore_patterns(".*", "__pycache__", "*.egg-info", "build", "dist", "_build")


def _run_command(*command: str, cwd: Path, **environment: str) -> None:
    ended = subprocess.run(
        command, cwd=cwd, env={**os.environ, **environment}, capture_output=True, text=True, timeout=100
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """An sdist of the clone, and a wheel that was made of the sdist."""
    pytest.importorskip("build.__main__", reason="the test extra, which has it, is not installed")
    place = tmp_path_factory.mktemp("packaging")
    shutil.copytree(ROOT, place / "clone", ignore=NOT_IN_A_CLONE)
    build = sys.executable, "-m", "build", "--no-isolation", "--outdir", str(place)
    _run_command(*build, cwd=place / "clone", PYTHONPATH="")
    (sdist,) = place.glob("*.tar.gz")
    (wheel,) = place.glob("*.whl")
    return sdist, wheel


@pytest.fixture(scope="session")
def installed(built: tuple[Path, Path]) -> Path:
    """A directory into which the wheel was installed, for the module search path."""
    place = built[1].parent
    pip = sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"
    _run_command(*pip, "--target", str(place / "installed"), str(built[1]), cwd=place)
    return place / "installed"


class TwistedReport(NamedTuple):
    """A failure in the Twisted log."""

    type: type[BaseException]
    value: str
    traceback: str


class Reports:
    """What was reported as an error, on either side, while a test ran. A test that expects something clears it."""

    def __init__(self) -> None:
        self.twisted: list[TwistedReport] = []
        self.asyncio: list[logging.LogRecord] = []

    def see_twisted(self, event: Any) -> None:
        failure = event.get("log_failure")
        if failure is not None:
            # Not the failure itself: the frames of its traceback would keep alive what the test wants collected.
            self.twisted.append(TwistedReport(failure.type, str(failure.value), failure.getTraceback()))

    def see_asyncio(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.WARNING:
            self.asyncio.append(record)
        return True

    def clear(self) -> None:
        """Forget what was expected."""
        self.twisted.clear()
        self.asyncio.clear()


@pytest.fixture
def reports() -> Iterator[Reports]:
    """The errors that were reported; what is left in it at the end of a test fails the test."""
    reports = Reports()
    logger = logging.getLogger("asyncio")
    observer: Any = reports.see_twisted
    globalLogPublisher.addObserver(observer)
    logger.addFilter(reports.see_asyncio)
    yield reports
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        gc.collect()
    logger.removeFilter(reports.see_asyncio)
    globalLogPublisher.removeObserver(observer)
    assert not reports.twisted, reports.twisted
    assert not reports.asyncio, [record.getMessage() for record in reports.asyncio]


@pytest.fixture(autouse=True)
def dispositions_put_back() -> Iterator[None]:
    """Twisted leaves its handlers of SIGINT and SIGTERM behind; that is not to be felt by other tests."""
    watched = signal.SIGINT, signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1
    before = {signum: signal.getsignal(signum) for signum in watched}
    yield
    for signum, handler in before.items():
        signal.signal(signum, handler)
    assert signal.set_wakeup_fd(-1) == -1


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that leaves a descriptor, a thread, a running loop or a reported error behind fails."""
    descriptors = open_descriptors()
    threads = set(threading.enumerate())
    # In here, so that it looks after everything that other fixtures undo.
    request.getfixturevalue("reports")
    yield
    assert asyncio.events._get_running_loop() is None
    request.addfinalizer(lambda: _compare(descriptors, threads))  # noqa: PT021  # after all other fixtures


def _compare(descriptors: dict[int, str], threads: set[threading.Thread]) -> None:
    left = {fd: what for fd, what in open_descriptors().items() if fd not in descriptors}
    assert not left, f"descriptors left open: {left}"
    new = [thread for thread in threading.enumerate() if thread not in threads and thread.is_alive()]
    for thread in new:
        thread.join(5)
    assert not [thread for thread in new if thread.is_alive()], f"threads left: {new}"


def open_descriptors() -> dict[int, str]:
    """Every open descriptor, and what it is."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            pass  # the one of the listing itself
    return found
