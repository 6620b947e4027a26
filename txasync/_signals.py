"""
Signals, shared with the reactor.

Twisted owns ``signal.set_wakeup_fd``: its SIGCHLD waker is how it learns of the ends of its children, and the same
descriptor wakes the reactor for every other signal that has a handler in Python. Whoever takes it away makes
``spawnProcess`` deaf, even if it is given back at once. So nothing here touches what the reactor has set: asyncio's
handlers are ordinary Python handlers that wake the loop. Only in a run that the loop itself begins, with the reactor's
own handlers left out, is the descriptor ours to set, for the reactor.
"""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from types import FrameType
from typing import Any

from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.process import reapAllProcesses
from zope.interface import implementer

from .polling import InternalReaders

SignalHandler = Callable[[int, FrameType | None], Any] | int | None
"""What ``signal.signal`` takes and gives."""

__all__ = [
    "ChildSignals",
    "InterruptGuard",
    "SignalHandlers",
    "ignore_signal",
    "install_handler",
    "is_twisteds",
]


class SignalHandlers:
    """
    ``add_signal_handler`` and ``remove_signal_handler`` of one loop.

    Args:
        run_soon: Called with a ``Handle`` when its signal came; in the main thread, between any two bytecodes.
        default_for: The handler to leave behind for a signal when there was none of another owner to go back to.

    Source:
        asyncio, "Event Loop", "Unix signals".
    """

    def __init__(self, run_soon: Callable[[asyncio.Handle], None], default_for: Callable[[int], SignalHandler]) -> None:
        self._run_soon = run_soon
        self._default_for = default_for
        self._handles: dict[int, asyncio.Handle] = {}
        self._replaced: dict[int, SignalHandler] = {}

    def add(self, signum: int, handle: asyncio.Handle) -> None:
        """
        Run *handle* in the loop whenever *signum* comes.

        Raises:
            RuntimeError: This is not the main thread, or *signum* cannot be caught.
        """
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError(
                f"add_signal_handler({signum!r}) works only in the main thread, as signals do; "
                f"this is {threading.current_thread().name!r}"
            )
        self._take(signum)
        self._handles[signum] = handle

    def remove(self, signum: int) -> bool:
        """Stop handling *signum* and let its former owner have it again; false if it was not handled."""
        if self._handles.pop(signum, None) is None:
            return False
        replaced = self._replaced.pop(signum, None)
        if signal.getsignal(signum) == self._on_signal:
            install_handler(signum, self._default_for(signum) if replaced is None else replaced)
        return True

    def clear(self) -> None:
        """Remove all. While the interpreter goes down the signals module cannot be used; then that is warned of."""
        if self._handles and sys.is_finalizing():
            message = "a loop is closed while the interpreter shuts down: its signal handlers cannot be removed"
            warnings.warn(message, ResourceWarning, stacklevel=2, source=self)
            self._handles.clear()
        for signum in list(self._handles):
            self.remove(signum)

    def take_again(self) -> None:
        """Put our handlers back where a reactor that has started put its own."""
        for signum, handle in self._handles.items():
            if signal.getsignal(signum) != self._on_signal:
                self._take(signum)
                if signum == signal.SIGCHLD:
                    # One that came meanwhile went to the reactor alone. SIGCHLDs coalesce, so nobody counts them.
                    self._run_soon(handle)

    def _take(self, signum: int) -> None:
        replaced = install_handler(signum, self._on_signal)
        # Only a reactor's handler is gone back to. Any other belongs to a run that will be over by then, or it is the
        # default anyway.
        if is_twisteds(replaced):
            self._replaced[signum] = replaced
        else:
            self._replaced.pop(signum, None)

    def _on_signal(self, signum: int, frame: FrameType | None) -> None:
        handle = self._handles.get(signum)
        if handle is None:
            return
        if handle.cancelled():
            self.remove(signum)
        else:
            self._run_soon(handle)


def install_handler(signum: int, handler: Any) -> Any:
    """
    ``signal.signal``, with a handler after which system calls are restarted so that few places see EINTR.

    Raises:
        RuntimeError: *signum* cannot be caught; in asyncio's own words.
    """
    try:
        replaced = signal.signal(signum, handler)
        signal.siginterrupt(signum, False)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise RuntimeError(f"sig {signum} cannot be caught") from error
        raise
    return replaced


def is_twisteds(handler: Any) -> bool:
    """
    Whether *handler* is one that a Twisted reactor installed: a method of its own, or its waker's for SIGCHLD.

    So is one that says of itself that it has taken the place of such a handler, and calls it.
    """
    owner = getattr(handler, "__self__", None)
    return (
        hasattr(owner, "callFromThread")
        or getattr(owner, "replaces_reactors", False)
        or getattr(handler, "__module__", None) == "twisted.internet._signals"
    )


class ChildSignals:
    """
    SIGCHLD for a reactor that the loop runs: a context to run it in.

    ``reactor.run()`` installs handlers for SIGCHLD, which it needs, and for SIGINT, SIGTERM and SIGBREAK, which mean
    ``reactor.stop()`` then. Under ``asyncio.run`` these have to do what they do without a reactor, so it is run without
    its handlers, and this does for SIGCHLD what they would. A handler of the user's stays in place.

    Context:
        The main thread.
    """

    def __init__(self, reactor: Any) -> None:
        self._readers = InternalReaders(reactor)

    def __enter__(self) -> None:
        self._waker = _ReapingWaker()
        self._readers.add(self._waker)
        self._wakeup_before = signal.set_wakeup_fd(self._waker.writing, warn_on_full_buffer=False)
        if not callable(signal.getsignal(signal.SIGCHLD)):
            install_handler(signal.SIGCHLD, ignore_signal)
        # Those that have ended before there was a handler.
        reapAllProcesses()

    def __exit__(self, *exc_info: object) -> None:
        if signal.getsignal(signal.SIGCHLD) is ignore_signal:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.set_wakeup_fd(self._wakeup_before)
        self._readers.remove(self._waker)
        self._waker.close()


def ignore_signal(signum: int, frame: FrameType | None) -> None:
    """A handler for a signal of which only the wakeup descriptor is to hear: without one it would not."""


@implementer(IReadDescriptor)
class _ReapingWaker:
    """Wakes the reactor for every signal that has a handler in Python, and reaps Twisted's children then."""

    def __init__(self) -> None:
        self._reading, self.writing = os.pipe()
        os.set_blocking(self._reading, False)
        os.set_blocking(self.writing, False)

    def fileno(self) -> int:
        return self._reading

    def doRead(self) -> None:
        try:
            os.read(self._reading, 65536)
        except BlockingIOError:
            pass  # read already, in an iteration inside of this one
        reapAllProcesses()

    def logPrefix(self) -> str:
        return "signals"

    def connectionLost(self, reason: object) -> None:
        """Nothing: this is the reactor's end, or the run's, which closes us."""

    def close(self) -> None:
        os.close(self._reading)
        os.close(self.writing)


class InterruptGuard:
    """
    Lets Ctrl-C reach the program through a reactor that catches every exception.

    While a loop runs its reactor, the Python handler of SIGINT that was there before - the default one, or that of
    ``asyncio.Runner`` - is called as before. If it raises while asyncio code is running, the exception goes up that
    stack, as in asyncio. If it raises anywhere else, inside the reactor's own wait most likely, the reactor would log
    it and go on; there it is caught and handed to *interrupted* instead.

    Args:
        may_raise: Whether asyncio code is running.
        interrupted: What to do with an exception that must not be raised here.
    """

    def __init__(self, may_raise: Callable[[], bool], interrupted: Callable[[BaseException], None]) -> None:
        self._may_raise = may_raise
        self._interrupted = interrupted
        self._inner: Any = None
        self._installed = False

    def install(self) -> None:
        """
        Get in front of the handler of SIGINT, if it is a Python function.

        Raises:
            ValueError: The main thread's interpreter has no signals.
        """
        current = signal.getsignal(signal.SIGINT)
        if callable(current):
            self._inner = current
            signal.signal(signal.SIGINT, self._on_interrupt)
        self._installed = True

    def uninstall(self) -> None:
        """Give way, unless another handler has been installed since."""
        self._installed = False
        if signal.getsignal(signal.SIGINT) == self._on_interrupt:
            signal.signal(signal.SIGINT, self._inner)

    def guarding(self, handler: Callable[..., Any]) -> SignalHandler:
        """What to install for SIGINT so that *handler* is called as described above, for as long as that is needed."""
        if not self._installed:
            return handler
        self._inner = handler
        return self._on_interrupt

    def _on_interrupt(self, signum: int, frame: FrameType | None) -> None:
        if self._may_raise():
            self._inner(signum, frame)
            return
        try:
            self._inner(signum, frame)
        except BaseException as error:
            self._interrupted(error)
