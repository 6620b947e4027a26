"""
How our loop gets into CPython's tests, in a process that runs nothing else.

The tests get a loop in one of four ways, and each leads to the recording loop: the names of loop classes in ``asyncio``
(each test module's own global ``asyncio`` is replaced by a stand-in, so no attribute of asyncio itself is), the event
loop policy, classes of loops that a test class names in an attribute, and the policy class that the tests' own
utilities name.

Two modules take a ``BaseEventLoop``, which cannot wait, and put mocks where it would. The methods in which they do so
are overridden (`_FACTORIES`), so that their tests, of runners and of ``async`` syntax, become tests of our loop.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
import sys
import threading
import types
import warnings
import weakref
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from txasync.polling import Poller

__all__ = ["CONFIGURATIONS", "Configuration", "Recording", "put_in", "recording_loop", "set_policy"]


class Configuration(NamedTuple):
    """
    On what the tests run.

    Args:
        name: How it is called on the command line's output and in `left_out`.
        reactor: ``"txasync"``, ``"epoll"``, ``"poll"``, ``"select"``: a new private reactor for each loop.
            ``"global"``: the process's own, for one loop at a time. None: stock asyncio, with no reactor.
        poller: ``"own"``, which is shared with ours and nested in other reactors, or ``"per-descriptor"``.
    """

    name: str
    reactor: str | None
    poller: str = "own"


CONFIGURATIONS = (
    Configuration("txasync", "txasync"),
    Configuration("epoll", "epoll"),
    Configuration("poll", "poll"),
    Configuration("select", "select"),
    Configuration("poll per-descriptor", "poll", "per-descriptor"),
    Configuration("select per-descriptor", "select", "per-descriptor"),
    Configuration("epoll per-descriptor", "epoll", "per-descriptor"),
    Configuration("global", "global"),
    Configuration("stock", None),
)


class Recording:
    """
    What ran.

    Attributes:
        rounds: How many rounds of callbacks loops of the configuration have run.
    """

    def __init__(self) -> None:
        self.rounds = 0


def recording_loop(configuration: Configuration, recording: Recording) -> type[asyncio.SelectorEventLoop]:
    """
    Make the loop class for the tests.

    Like asyncio's own, it can be called without an argument and with a selector.
    """
    if configuration.reactor is None:
        return _stock_loop(recording)
    return _reactor_loop(configuration, recording)


def _stock_loop(recording: Recording) -> type[asyncio.SelectorEventLoop]:
    class StockLoop(asyncio.SelectorEventLoop):
        def _run_once(self) -> None:
            recording.rounds += 1
            super()._run_once()

    return StockLoop


def _reactor_loop(configuration: Configuration, recording: Recording) -> type[asyncio.SelectorEventLoop]:
    from txasync.loop import ReactorEventLoop
    from txasync.polling import PerDescriptorPoller, for_reactor

    new_reactor = _reactor_factory(configuration)

    class ConformanceLoop(ReactorEventLoop):
        def __init__(self, selector: Any = None) -> None:
            if selector is not None:
                selector.close()
            reactor, is_recorded = new_reactor(self)
            new_poller = PerDescriptorPoller if configuration.poller == "per-descriptor" else for_reactor
            super().__init__(
                reactor,
                poller_factory=recorded(new_poller) if is_recorded else new_poller,
                owns_reactor=reactor is not sys.modules.get("twisted.internet.reactor"),
            )

    def recorded(new_poller: Callable[..., Poller]) -> Callable[..., Poller]:
        def factory(*args: Any) -> Poller:
            poller = new_poller(*args)
            poller.__class__ = _recording(type(poller), recording)
            return poller

        return factory

    return ConformanceLoop


@functools.cache
def _recording(poller_class: type[Poller], recording: Recording) -> type[Poller]:
    """A poller that counts how often it is asked, which each round does once."""

    class RecordingPoller(poller_class):  # type: ignore[valid-type]  # the class is a variable
        def collect(self, timeout_s: float | None = 0.0) -> int:
            recording.rounds += 1
            found: int = super().collect(timeout_s)
            return found

    return RecordingPoller


def _reactor_factory(configuration: Configuration) -> Callable[[Any], tuple[Any, bool]]:
    """What makes a loop's reactor, and tells whether it is of the kind that the configuration is about."""
    if configuration.reactor == "global":
        return _GlobalReactor()
    return lambda loop: (_private_reactor(configuration.reactor), True)


def _private_reactor(kind: str | None) -> Any:
    """A new reactor that does not become the process's own."""
    reactor_class: Any
    if kind == "txasync":
        from txasync.reactor import SharedEPollReactor as reactor_class
    elif kind == "epoll":
        from twisted.internet.epollreactor import EPollReactor as reactor_class
    elif kind == "poll":
        from twisted.internet.pollreactor import PollReactor as reactor_class
    else:
        from twisted.internet.selectreactor import SelectReactor as reactor_class
    reactor = reactor_class()
    reactor._registerAsIOThread = False
    return reactor


class _GlobalReactor:
    """The process's reactor for a loop, and a private one for a second loop that is open at the same time."""

    def __init__(self) -> None:
        from twisted.internet import reactor

        self._reactor = reactor
        self._loop: weakref.ref[Any] | None = None

    def __call__(self, loop: Any) -> tuple[Any, bool]:
        earlier = None if self._loop is None else self._loop()
        in_use = self._reactor.running or (earlier is not None and not earlier.is_closed())
        if in_use or threading.current_thread() is not threading.main_thread():
            return _private_reactor("epoll"), False
        self._loop = weakref.ref(loop)
        return self._reactor, True


def set_policy(loop_class: Any) -> None:
    """
    Let ``asyncio.run``, ``asyncio.Runner`` and ``asyncio.new_event_loop`` make loops of *loop_class*.

    A policy that does so already stays: a few tests rely on what earlier ones have left in it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.14 on
        policy_class = _policy_class(loop_class)
        if not isinstance(asyncio.get_event_loop_policy(), policy_class):
            asyncio.set_event_loop_policy(policy_class())


def put_in(module: Any, loop_class: Any) -> None:
    """Let *module*, of test.test_asyncio, and the utilities beside it use *loop_class* where they use asyncio's own."""
    own_names: dict[str, Any] = {"SelectorEventLoop": loop_class}
    if sys.version_info >= (3, 13):
        own_names["EventLoop"] = loop_class
    if sys.version_info < (3, 14):
        own_names["DefaultEventLoopPolicy"] = _policy_class(loop_class)
    stand_in = _StandIn(asyncio, own_names)
    for part in _with_utilities(module):
        if getattr(part, "asyncio", None) is asyncio:
            part.asyncio = stand_in
        if hasattr(part, "DefaultEventLoopPolicy"):
            part.DefaultEventLoopPolicy = _policy_class(loop_class)
        for test_class in vars(part).values():
            if inspect.isclass(test_class) and test_class.__module__ == part.__name__:
                _replace_attributes(test_class, loop_class)
    name = module.__name__.rpartition(".")[2]
    if name in _FACTORIES:
        _FACTORIES[name](module, loop_class)


def _override_new_loop(module: Any, loop_class: type[asyncio.SelectorEventLoop]) -> None:
    def new_loop(test: Any) -> Any:
        loop: Any = loop_class()
        shutdown_asyncgens = loop.shutdown_asyncgens
        loop.shutdown_ag_run = False

        async def noted_shutdown_asyncgens() -> None:
            loop.shutdown_ag_run = True
            await shutdown_asyncgens()

        loop.shutdown_asyncgens = noted_shutdown_asyncgens
        return loop

    module.BaseTest.new_loop = new_loop


def _override_setup(module: Any, loop_class: type[asyncio.SelectorEventLoop]) -> None:
    def setup(test: Any) -> None:
        super(module.BaseTest, test).setUp()
        test.loop = loop_class()
        test.set_event_loop(test.loop)

    module.BaseTest.setUp = setup


_FACTORIES: dict[str, Callable[[Any, type[asyncio.SelectorEventLoop]], None]] = {
    "test_pep492": _override_setup,
    "test_runners": _override_new_loop,
}


def _with_utilities(module: Any) -> Iterable[Any]:
    package = module.__name__.rpartition(".")[0]
    return [module, *(part for name, part in list(sys.modules.items()) if name.startswith(f"{package}."))]


def _replace_attributes(test_class: type, loop_class: type[asyncio.SelectorEventLoop]) -> None:
    for name, value in list(vars(test_class).items()):
        if value is asyncio.SelectorEventLoop:
            setattr(test_class, name, loop_class)


@functools.cache
def _policy_class(loop_class: Any) -> Any:
    asyncio_names: Any = asyncio
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # from 3.14 on
        default_policy_class = asyncio_names.DefaultEventLoopPolicy

    class ConformancePolicy(default_policy_class):  # type: ignore[valid-type]  # a variable, for the warning's sake
        _loop_factory = loop_class

    return ConformancePolicy


class _StandIn(types.ModuleType):
    """A module whose attributes are those of another, read and written, except for a few of its own."""

    def __init__(self, module: types.ModuleType, own_names: dict[str, Any]) -> None:
        super().__init__(module.__name__)
        vars(self).update(own_names, _module=module, _own_names=frozenset(own_names))
        for name in ("__doc__", "__loader__", "__package__", "__spec__"):
            vars(self).pop(name, None)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)["_module"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self._own_names:
            vars(self)[name] = value
        else:
            setattr(self._module, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._module, name)

    def __dir__(self) -> Iterable[str]:
        return dir(self._module)
