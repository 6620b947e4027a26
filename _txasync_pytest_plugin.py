"""
The pytest plug-in of txasync.

pytest loads it in every process of an environment that has txasync. So it is a module by itself, which imports no more
of txasync than is asked for. Nothing changes unless a fixture or an option is used.
"""

from __future__ import annotations

import inspect
from collections.abc import Generator, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from txasync import ReactorEventLoop
    from txasync.testing import LeakCheck

__all__: list[str] = []

_CHECK = "txasync_no_leaks"

_active_check = pytest.StashKey["LeakCheck"]()
_has_passed = pytest.StashKey[bool]()
_installed_reactor = pytest.StashKey[str]()


# Fixtures


@pytest.fixture
def txasync_reactor(request: pytest.FixtureRequest) -> Iterator[Any]:
    """
    The reactor for a test: the process's.

    By indirect parameters, "epoll", "poll" or "select", it is one of that kind for this test only.
    """
    from txasync.testing import _loops, loop_factory_on

    kind: str | None = getattr(request, "param", None)
    if kind is None:
        yield _loops.process_reactor()
        return
    wrong = ""
    try:
        loop_factory_on(kind)
    except ValueError as error:
        wrong = f"txasync_reactor: {error}"
    if wrong:
        pytest.fail(wrong, pytrace=False)
    with _loops.private_reactor(kind) as reactor:
        yield reactor
        check = request.config.stash.get(_active_check, None)
        if check is not None:
            check.look_at_reactor(reactor)


@pytest.fixture
def txasync_loop(txasync_reactor: Any) -> Iterator[ReactorEventLoop]:
    """A loop on `txasync_reactor`, to be run by hand. At the end it is closed as ``asyncio.run`` closes its loop."""
    from txasync.testing import _loops

    with _loops.loop_on(txasync_reactor) as loop:
        yield loop


@pytest.fixture
def txasync_no_leaks(request: pytest.FixtureRequest) -> Iterator[LeakCheck]:
    """Fails a test that passes and leaves something behind; see `txasync.testing.LeakCheck`."""
    from txasync.testing import LeakCheck

    check = LeakCheck()
    with check.watching():
        request.config.stash[_active_check] = check
        try:
            yield check
        finally:
            del request.config.stash[_active_check]
    # The traceback of a test that has failed keeps alive much of what it had.
    if request.node.stash.get(_has_passed, False) and (left := check.left()):
        things = "\n".join(["", *left] if len(left) > 1 else left).replace("\n", "\n    ")
        pytest.fail(f"the test has left behind: {things}", pytrace=False)


# Options


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ours."""
    group = parser.getgroup("txasync", "asyncio and Twisted in one process (txasync)")
    loops = "run the tests of pytest-asyncio and of AnyIO's plug-in on loops of txasync"
    group.addoption("--txasync-loops", action="store_true", default=None, help=loops)
    parser.addini("txasync_loops", type="bool", default=False, help=f"{loops}: true or false")
    reactor = "the process's reactor, by the name that trial gives it: epoll, poll, select..."
    group.addoption("--txasync-reactor", metavar="NAME", default=None, help=reactor)
    parser.addini("txasync_reactor", default=None, help=reactor)


def _option(config: pytest.Config, name: str) -> Any:
    """What the command line says, else the settings."""
    given = getattr(config.known_args_namespace, name, None)
    return config.getini(name) if given is None else given


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Install the reactor that is asked for, before anybody's conftest.py imports another."""
    _install_reactor(early_config)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Do what the options ask for."""
    _install_reactor(config)  # the hook above does not come to a plug-in that a conftest.py names
    if _option(config, "txasync_loops"):
        config.pluginmanager.register(_OnOurLoops(config), "txasync_loops")


def _install_reactor(config: pytest.Config) -> None:
    name = _option(config, "txasync_reactor")
    if not name or _installed_reactor in config.stash:
        return
    from txasync._reactor_choice import ReactorUnavailable, install_reactor

    try:
        install_reactor(name)
    except ReactorUnavailable as error:
        raise pytest.UsageError(f"txasync_reactor: {error}") from error
    config.stash[_installed_reactor] = name


def pytest_report_header(config: pytest.Config) -> str | None:
    """Say what the options have done."""
    said = [f"{name}={value}" for name in ("txasync_loops", "txasync_reactor") if (value := _option(config, name))]
    return f"txasync: {', '.join(said)}" if said else None


class _OnOurLoops:
    """The plug-in that is there while loops of ours are asked for in a whole run."""

    def __init__(self, config: pytest.Config) -> None:
        hooks = config.pluginmanager.hook
        if config.pluginmanager.has_plugin("asyncio") and not hasattr(hooks, "pytest_asyncio_loop_factories"):
            raise pytest.UsageError(
                "txasync_loops needs pytest-asyncio 1.4 or later, which can be given a loop factory; with this one, "
                "python -m txasync -m pytest does the same"
            )

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_asyncio_loop_factories(self) -> dict[str, Any]:
        from txasync.testing import loop_factory

        return {"txasync": loop_factory}

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef[Any]) -> Generator[None, object, object]:
        backend = yield
        if fixturedef.argname == "anyio_backend" and fixturedef.cached_result is not None:
            # The suite may have an anyio_backend of its own, so ours could not take its place.
            backend = _on_our_loop(backend)
            fixturedef.cached_result = (backend, *fixturedef.cached_result[1:])
        return backend


def _on_our_loop(backend: Any) -> Any:
    """AnyIO's *backend*, a name, or a name and options, with our loops if it is asyncio."""
    from txasync.testing import loop_factory

    name, options = (backend, {}) if isinstance(backend, str) else backend
    return (name, {**options, "loop_factory": loop_factory}) if name == "asyncio" else backend


# The check for leaks


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Let the check begin before all other fixtures, and so end after them, wherever it is asked for."""
    names: list[str] = getattr(item, "fixturenames", [])
    if _CHECK in names:
        names.remove(_CHECK)
        names.insert(0, _CHECK)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Remember whether the test itself has passed."""
    report = yield
    if call.when == "call":
        item.stash[_has_passed] = report.passed
    return report


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_fixture_setup(
    fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest
) -> Generator[None, object, object]:
    """Tell the check, while there is one, what is a fixture's and not the test's."""
    check = request.config.stash.get(_active_check, None)
    if check is None:
        return (yield)
    if fixturedef.scope != "function":
        with check.setting_up_what_lasts():
            return (yield)
    # AnyIO ends its loop in the fixture that happens to be the last, while a fixture's own tasks may still run.
    is_async = inspect.iscoroutinefunction(fixturedef.func) or inspect.isasyncgenfunction(fixturedef.func)
    try:
        return (yield)
    finally:
        for loop in check.new_loops():
            if not is_async:
                # After what depends on the fixture has been torn down, and before the fixture itself.
                request.addfinalizer(partial(check.look_at_loop, loop))
