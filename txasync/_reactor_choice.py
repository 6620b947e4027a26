"""The reactor that a command line names."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from typing import Any

from twisted.application.reactors import IReactorInstaller, getReactorTypes
from twisted.internet.interfaces import IReactorFDSet

from . import _reactors

__all__ = ["ReactorUnavailable", "install_reactor"]


class ReactorUnavailable(Exception):
    """No reactor of this name can be used here. The message is one line and says why."""


def install_reactor(name: str) -> None:
    """
    Make the reactor called *name* the process's reactor.

    Args:
        name: As for ``twistd --reactor``: the ``shortName`` of one of Twisted's reactors or of a plug-in's.

    Raises:
        ReactorUnavailable: There is no such reactor, it cannot be installed, or asyncio's loop cannot run on it.

    Context:
        The main thread, before anything imports ``twisted.internet.reactor``.

    Source:
        ``twisted.application.reactors``.
    """
    if name == "asyncio":
        raise ReactorUnavailable(
            "the reactor 'asyncio' runs on asyncio's own event loop, so there is nothing to replace: "
            "run the program with plain python, or choose another reactor"
        )
    installer = _installer(name)
    try:
        installer.install()
    except Exception as error:
        reason = " ".join(str(error).split())
        raise ReactorUnavailable(
            f"the reactor {name!r} cannot be installed here: {type(error).__name__}: {reason}"
        ) from error
    _check_usable(name, _reactors.installed_reactor())


def _installer(name: str) -> IReactorInstaller:
    known = {installer.shortName: installer for installer in _twisteds_own()}
    if name not in known:
        known.update((installer.shortName, installer) for installer in _plug_ins())
    if name not in known:
        names = ", ".join(sorted(known.keys() - {"asyncio"}))
        raise ReactorUnavailable(f"there is no reactor called {name!r}; known here are {names}")
    return known[name]


def _twisteds_own() -> Iterable[IReactorInstaller]:
    """Found without the plug-in system, which imports everybody's plug-ins before the program begins."""
    from twisted.plugins import twisted_reactors

    return filter(IReactorInstaller.providedBy, vars(twisted_reactors).values())


def _plug_ins() -> list[IReactorInstaller]:
    with _nothing_on_stderr():
        return list(getReactorTypes())


@contextlib.contextmanager
def _nothing_on_stderr() -> Iterator[None]:
    """
    Drop what is written to the descriptor of stderr.

    Twisted logs a traceback for each plug-in that does not load, to the stderr that it found when it was imported.
    """
    try:
        stderr = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    try:
        with open(os.devnull, "wb") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


def _check_usable(name: str, reactor: Any) -> None:
    if _reactors.host_loop(reactor) is not None:
        raise ReactorUnavailable(
            f"the reactor {name!r} runs on asyncio's own event loop, so there is nothing to replace: "
            f"run the program with plain python, or choose another reactor"
        )
    if not IReactorFDSet.providedBy(reactor):
        raise ReactorUnavailable(
            f"the reactor {name!r} cannot watch file descriptors (IReactorFDSet), as asyncio has to: "
            f"choose another, such as epoll, poll or select"
        )
