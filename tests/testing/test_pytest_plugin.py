"""The pytest plug-in, in processes of its own: fixtures, options, and loops for other plug-ins."""

from __future__ import annotations

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from .pytest_runs import FUNCTION_SCOPE, PLUG_IN, PytestRun, environment, run_pytest


def needs(package: str) -> pytest.MarkDecorator:
    """Skips a test where *package* is not installed."""
    return pytest.mark.skipif(find_spec(package) is None, reason=f"{package} is not installed")


ON_ASYNCIO = ("-o", "asyncio_mode=auto", "-o", FUNCTION_SCOPE)


def check_passed(run: PytestRun, expected: int) -> None:
    """The run had *expected* tests, and all of them passed."""
    assert run.exit_code == 0, run.printed
    assert list(run.statuses().values()) == ["passed"] * expected


# What costs nothing


def test_nothing_is_imported_unless_it_is_asked_for(tmp_path: Path) -> None:
    """A suite that does not use the plug-in has neither txasync nor Twisted in its process."""
    suite = """
    import sys

    def test_it():
        assert "_txasync_pytest_plugin" in sys.modules
        assert not {"txasync", "twisted"} & set(sys.modules)
    """
    check_passed(run_pytest(tmp_path, {"test_it.py": suite}), 1)


def test_no_reactor_is_installed_before_a_fixture_wants_it(tmp_path: Path) -> None:
    """With the plug-in and ``txasync.testing`` there, a suite still chooses its reactor."""
    suite = """
    import sys
    import txasync.testing
    from txasync.testing import LeakCheck, loop_factory, loop_factory_on

    def test_it(txasync_no_leaks):
        assert "twisted.internet.reactor" not in sys.modules
        from twisted.internet import pollreactor
        pollreactor.install()

    def test_then(txasync_loop):
        assert type(txasync_loop.reactor).__name__ == "PollReactor"
    """
    check_passed(run_pytest(tmp_path, {"test_it.py": suite}), 2)


# The fixtures

FIXTURES = """
import asyncio
import threading

import pytest

import txasync

loops = []


def test_a_loop_runs_by_hand_on_the_process_s_reactor(txasync_loop, txasync_reactor):
    from twisted.internet import reactor, task

    async def main():
        return await task.deferLater(reactor, 0.001, lambda: asyncio.get_running_loop())

    assert txasync_loop.run_until_complete(main()) is txasync_loop
    assert txasync_loop.run_until_complete(main()) is txasync_loop
    assert txasync_loop.reactor is txasync_reactor is reactor
    loops.append(txasync_loop)


def test_the_next_test_has_a_new_loop_on_the_same_reactor(txasync_loop, txasync_reactor):
    assert loops[0].is_closed()
    assert loops[0].reactor is txasync_loop.reactor


ended = []


def test_what_a_test_leaves_is_ended_1(txasync_loop):
    async def generate():
        try:
            yield 1
        finally:
            ended.append("generator")

    async def wait(generator):
        try:
            async for _ in generator:
                await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)
            ended.append("task")

    async def main():
        left.append(asyncio.ensure_future(wait(generate())))
        kept.append(generate())
        await kept[0].__anext__()
        await asyncio.to_thread(lambda: ended.append(threading.current_thread()))

    left, kept = [], []
    txasync_loop.run_until_complete(main())


def test_what_a_test_leaves_is_ended_2():
    thread, *others = ended
    assert not thread.is_alive()
    assert sorted(others) == ["generator", "generator", "task"]


def test_a_loop_that_the_test_closes_is_left_alone(txasync_loop):
    txasync_loop.close()


@pytest.mark.parametrize("txasync_reactor", ["epoll", "poll", "select"], indirect=True)
def test_reactors_by_parameter(txasync_loop, txasync_reactor, request):
    from twisted.internet import reactor, task

    async def main():
        await task.deferLater(txasync_reactor, 0.001, int)
        server = await asyncio.start_server(print, "127.0.0.1", 0)
        server.close()
        await server.wait_closed()

    txasync_loop.run_until_complete(main())
    assert txasync_loop.reactor is txasync_reactor is not reactor
    assert type(txasync_reactor).__name__.lower() == request.node.callspec.params["txasync_reactor"] + "reactor"


@pytest.mark.parametrize("txasync_reactor", ["nonsense"], indirect=True)
def test_no_such_reactor(txasync_loop):
    pass


def test_a_stopped_reactor_1(txasync_loop, txasync_reactor):
    async def main():
        txasync_reactor.stop()
        await asyncio.sleep(3600)

    with pytest.raises(RuntimeError):
        txasync_loop.run_until_complete(main())


def test_a_stopped_reactor_2(txasync_loop):
    pass
"""


@pytest.fixture(scope="module")
def fixtures_run(tmp_path_factory: pytest.TempPathFactory) -> PytestRun:
    """A run of FIXTURES."""
    return run_pytest(tmp_path_factory.mktemp("fixtures"), {"test_fixtures.py": FIXTURES})


def test_a_loop_is_there_to_be_run_by_hand(fixtures_run: PytestRun) -> None:
    """``txasync_loop`` is new for each test, on the process's reactor or one of a kind, and is closed properly."""
    statuses = fixtures_run.statuses()
    failing = {name for name, status in statuses.items() if status != "passed"}
    assert failing == {"test_no_such_reactor[nonsense]", "test_a_stopped_reactor_2"}, fixtures_run.printed
    assert len(statuses) == 11


def test_an_unknown_reactor_is_one_clear_line(fixtures_run: PytestRun) -> None:
    """The error of a parameter that names no reactor says which there are."""
    status, text = fixtures_run.outcomes["test_no_such_reactor[nonsense]"]
    assert status == "error"
    kinds = "txasync, epoll, poll, select"
    wanted = f"txasync_reactor: no private reactor of the kind 'nonsense' can be made here; known are {kinds}"
    assert text.splitlines()[1] == wanted
    assert "Traceback" not in text


def test_a_stopped_reactor_is_an_error_that_says_so(fixtures_run: PytestRun) -> None:
    """After ``reactor.stop()`` no test can have a loop on the process's reactor."""
    status, text = fixtures_run.outcomes["test_a_stopped_reactor_2"]
    assert status == "error"
    assert "was stopped by reactor.stop(), which is for ever" in text


# The process's reactor

WHICH_REACTOR = """
from twisted.internet import reactor

def test_it(txasync_loop):
    assert type(reactor).__name__.lower() == "{name}reactor"
    assert txasync_loop.reactor is reactor
"""


def test_an_option_or_a_setting_installs_the_process_s_reactor(tmp_path: Path) -> None:
    """It is there before a ``conftest.py`` imports another; the command line goes before the settings."""
    files = {
        "test_it.py": WHICH_REACTOR.format(name="poll"),
        "conftest.py": "from twisted.internet import reactor",
        "pytest.ini": "[pytest]\ntxasync_reactor = select\n",
    }
    run = run_pytest(tmp_path, files, "--txasync-reactor=poll")
    check_passed(run, 1)
    assert "txasync: txasync_reactor=poll" in run.printed
    files["test_it.py"] = WHICH_REACTOR.format(name="select")
    check_passed(run_pytest(tmp_path, files), 1)


def test_a_plug_in_that_a_conftest_names_installs_the_reactor_too(tmp_path: Path) -> None:
    """That is as early as it can be: later than the ``conftest.py`` itself."""
    files = {
        "test_it.py": WHICH_REACTOR.format(name="poll"),
        "conftest.py": f"pytest_plugins = [{PLUG_IN!r}]",
        "pytest.ini": "[pytest]\ntxasync_reactor = poll\n",
    }
    check_passed(run_pytest(tmp_path, files, plug_ins=()), 1)


def test_a_reactor_that_cannot_be_is_a_usage_error(tmp_path: Path) -> None:
    """One line, and pytest's exit code for a wrong command line."""
    run = run_pytest(tmp_path, {}, "--txasync-reactor=nonsense")
    assert run.exit_code == pytest.ExitCode.USAGE_ERROR
    (line,) = run.printed.strip().splitlines()
    assert line.startswith("ERROR: txasync_reactor: there is no reactor called 'nonsense'; known here are ")


# Loops for pytest-asyncio and for AnyIO's plug-in

ASYNCIO_SUITE = """
import asyncio

import pytest
import pytest_asyncio
from twisted.internet import reactor, task

import txasync

async def loop_after_a_deferred():
    loop = asyncio.get_running_loop()
    assert isinstance(loop, txasync.ReactorEventLoop)
    await task.deferLater(loop.reactor, 0.001, int)
    return loop

@pytest_asyncio.fixture
async def fixture_loop():
    yield await loop_after_a_deferred()

@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def session_loop():
    yield await loop_after_a_deferred()

async def test_1(fixture_loop, txasync_no_leaks):
    assert fixture_loop is await loop_after_a_deferred()
    assert fixture_loop.reactor is reactor
    await asyncio.to_thread(int)  # in a thread that the loop, made before the last argument, is going to end

async def test_2(fixture_loop):
    assert fixture_loop is await loop_after_a_deferred()
    assert fixture_loop.reactor is reactor

@pytest.mark.asyncio(loop_scope="session")
async def test_on_the_session_s_loop(session_loop):
    assert session_loop is await loop_after_a_deferred()
    assert session_loop.reactor is reactor

async def test_on_a_loop_besides(fixture_loop, session_loop):
    assert fixture_loop is await loop_after_a_deferred()
    assert fixture_loop.reactor is not reactor

def test_that_runs_a_loop_itself():
    async def main():
        return asyncio.get_running_loop()

    assert not isinstance(asyncio.run(main()), txasync.ReactorEventLoop)
"""

ANYIO_SUITE = """
import asyncio

import anyio
import pytest
from twisted.internet import reactor, task

import txasync

pytestmark = [pytest.mark.anyio, pytest.mark.usefixtures("txasync_no_leaks")]

@pytest.fixture(scope="session")
def anyio_backend():
    return "asyncio"

@pytest.fixture
async def fixture_loop():
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep_forever)
        yield asyncio.get_running_loop()
        group.cancel_scope.cancel()

async def test_1(fixture_loop, anyio_backend_name):
    assert fixture_loop is asyncio.get_running_loop()
    assert anyio_backend_name == "asyncio"
    await task.deferLater(reactor, 0.001, int)

async def test_2():
    assert isinstance(asyncio.get_running_loop(), txasync.ReactorEventLoop)
    await task.deferLater(reactor, 0.001, int)
    await anyio.to_thread.run_sync(int)

class TestInAClass:
    @pytest.fixture(params=[("asyncio", {"debug": True}), "asyncio"])
    def anyio_backend(self, request):
        yield request.param

    async def test_it(self, request):
        loop = asyncio.get_running_loop()
        assert isinstance(loop, txasync.ReactorEventLoop)
        assert loop.get_debug() == (not isinstance(request.node.callspec.params["anyio_backend"], str))

@pytest.mark.parametrize("anyio_backend", ["trio", ("trio", {"strict_exception_groups": True})], indirect=True)
class TestOnAnotherBackend:
    @pytest.fixture
    def anyio_backend(self, request):
        return request.param

    def test_that_it_is_left_alone(self, anyio_backend, request):
        assert anyio_backend == request.node.callspec.params["anyio_backend"]
"""


@needs("pytest_asyncio")
def test_an_option_switches_a_suite_of_pytest_asyncio(tmp_path: Path) -> None:
    """Its loops are ours, on the process's reactor; of those that overlap, the first has it."""
    plug_ins = (PLUG_IN, "asyncio")
    run = run_pytest(tmp_path, {"test_it.py": ASYNCIO_SUITE}, "--txasync-loops", *ON_ASYNCIO, "-v", plug_ins=plug_ins)
    check_passed(run, 5)
    assert "test_it.py::test_1 PASSED" in run.printed, "names are as they were"


@needs("anyio")
def test_an_option_switches_a_suite_of_anyio_s_plug_in(tmp_path: Path) -> None:
    """Its loops are ours, though the suite has an ``anyio_backend`` of its own; a backend that is not asyncio stays."""
    files = {"test_it.py": ANYIO_SUITE, "pytest.ini": "[pytest]\ntxasync_loops = true\n"}
    check_passed(run_pytest(tmp_path, files, plug_ins=(PLUG_IN, "anyio")), 6)


@needs("pytest_asyncio")
def test_the_launcher_switches_whatever_makes_loops(tmp_path: Path) -> None:
    """Under ``python -m txasync -m pytest``, no option is needed, and ``asyncio.run()`` in a test is ours as well."""
    suite = ASYNCIO_SUITE.replace("assert not isinstance", "assert isinstance")
    python = (sys.executable, "-m", "txasync", "--reactor", "select")
    plug_ins = (PLUG_IN, "pytest_asyncio.plugin")
    check_passed(run_pytest(tmp_path, {"test_it.py": suite}, *ON_ASYNCIO, python=python, plug_ins=plug_ins), 5)


@needs("pytest_asyncio")
def test_a_hook_gives_pytest_asyncio_a_loop_on_each_reactor(tmp_path: Path) -> None:
    """Each test runs on each reactor, without the plug-in."""
    conftest = """
    import txasync.testing

    def pytest_asyncio_loop_factories():
        return {name: txasync.testing.loop_factory_on(name) for name in ("epoll", "poll", "select")}
    """
    suite = """
    import asyncio

    async def test_it(request):
        assert request.node.name[8:-1] + "reactor" == type(asyncio.get_running_loop().reactor).__name__.lower()
        await asyncio.sleep(0.001)
    """
    files = {"conftest.py": conftest, "test_it.py": suite}
    run = run_pytest(tmp_path, files, *ON_ASYNCIO, plug_ins=("asyncio",))
    assert run.statuses() == dict.fromkeys(("test_it[epoll]", "test_it[poll]", "test_it[select]"), "passed")


@needs("anyio")
def test_a_fixture_gives_anyio_s_plug_in_a_loop_on_each_reactor(tmp_path: Path) -> None:
    """Each test runs on each reactor, without the plug-in."""
    suite = """
    import asyncio
    import pytest
    import txasync.testing

    @pytest.fixture(params=["epoll", "poll", "select"])
    def anyio_backend(request):
        return "asyncio", {"loop_factory": txasync.testing.loop_factory_on(request.param)}

    async def test_it(request):
        assert request.node.name[8:-1] + "reactor" == type(asyncio.get_running_loop().reactor).__name__.lower()
        await asyncio.sleep(0.001)
    """
    run = run_pytest(tmp_path, {"test_it.py": suite}, "-o", "anyio_mode=auto", plug_ins=("anyio",))
    assert run.statuses() == dict.fromkeys(("test_it[epoll]", "test_it[poll]", "test_it[select]"), "passed")


def test_a_pytest_asyncio_that_takes_no_factory_is_told_of(tmp_path: Path) -> None:
    """Up to 1.3 there is no way to give it one, so its tests would go on running elsewhere."""
    program = (
        "import pytest, sys, types\n"
        "class Registers:\n"
        "    @pytest.hookimpl(tryfirst=True)\n"
        "    def pytest_load_initial_conftests(self, early_config):\n"
        "        early_config.pluginmanager.register(types.ModuleType('older'), 'asyncio')\n"
        f"sys.exit(pytest.main(['-p', {PLUG_IN!r}, '-p', 'no:cacheprovider', '--txasync-loops'], [Registers()]))"
    )
    command = [sys.executable, "-c", program]
    ended = subprocess.run(command, cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=60)
    assert ended.returncode == pytest.ExitCode.USAGE_ERROR, ended.stdout
    assert "txasync_loops needs pytest-asyncio 1.4 or later" in ended.stderr
