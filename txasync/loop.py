"""ReactorEventLoop: asyncio's event loop, driven by a Twisted reactor."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable
from time import monotonic
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from . import _reactors
from ._alarm import alarm_for
from ._drive import drive_of
from ._error_log import telling_twisted
from ._lifecycle import ReactorEvents, ReactorState
from ._own_run import OwnRun
from ._shutdown import shut_down
from ._signals import InterruptGuard, SignalHandlers, ignore_signal
from ._ticker import QUIET_S, Ticker
from ._transport_loop import TransportLoop
from .bridge import awaits_deferreds, task_factory
from .polling import PollerFactory, for_reactor

if TYPE_CHECKING:
    from typing_extensions import TypeVarTuple, Unpack

    _Ts = TypeVarTuple("_Ts")

__all__ = ["ReactorEventLoop"]

_PACKAGE = os.path.dirname(__file__)


class ReactorEventLoop(TransportLoop):
    """
    An asyncio event loop that a reactor drives.

    While its reactor runs it is the running loop of the reactor's thread, whoever started the reactor: somebody's
    ``reactor.run()``, or `run_forever` and what stands on it (``asyncio.Runner``, ``asyncio.run``). A loop that started
    the reactor ends that run with ``reactor.crash()``, so that it can run again; in a run of somebody else, `stop` is
    ``reactor.stop()``.

    Make one with `txasync.install` or `txasync.new_event_loop`, which see to it that a reactor has one loop only.

    Args:
        reactor: The reactor: any ``IReactorFDSet`` that is an ``IReactorTime``.
        poller_factory: Makes the poller; see `txasync.polling`.
        owns_reactor: Whether `close` disposes of the reactor.

    Raises:
        TypeError: *reactor* cannot watch file descriptors, or runs on asyncio itself.

    Attributes:
        reactor: The reactor.
        shutdown_timeout_s: How many seconds tasks, asynchronous generators, the executor and transports have together
            to end when the reactor stops. Default: 10.

    Source:
        asyncio, "Event Loop".
    """

    shutdown_timeout_s = 10.0

    # Read by __del__, which also comes for an object whose __init__ has failed.
    _constructed = False

    def __init__(
        self, reactor: Any, *, poller_factory: PollerFactory = for_reactor, owns_reactor: bool = False
    ) -> None:
        if _reactors.host_loop(reactor) is not None:
            raise TypeError(
                f"{reactor!r} runs on an asyncio loop already, so it cannot drive another: "
                f"txasync.install() gives you that loop"
            )
        self.reactor = reactor
        self._owns_reactor = owns_reactor
        self._own_clock = _reactors.is_fake(reactor)
        if self._own_clock:
            vars(self)["time"] = reactor.seconds
        with contextlib.ExitStack() as undone_on_failure:
            self._poller = poller_factory(reactor, self._reactor_comes_by)
            undone_on_failure.callback(self._poller.close)
            self._alarm = alarm_for(reactor, self._poller, self._alarm_rings, own_clock=self._own_clock)
            undone_on_failure.callback(self._alarm.close)
            super().__init__(self._poller)
            undone_on_failure.pop_all()
        self._constructed = True
        self.set_task_factory(task_factory)
        self._ticker = Ticker(
            self._poller,
            self._alarm,
            run_round=self._rounds.run,
            run_ready=self._rounds.run_ready,
            ready=self._ready,
            first_timer=self._timers.first,
            time=lambda: self.time(),
            stopped=self._end_run,
            interrupted=self._end_run_with,
            quiet_s=0.0 if self._own_clock else QUIET_S,
        )
        self._interrupts = InterruptGuard(lambda: self._ticker.ticking, self._interrupt)
        self._signals = SignalHandlers(self._run_soon_from_signal, self._default_signal_handler)
        self._drive = drive_of(reactor, self._poller, self._ticker)
        self._own_run = OwnRun(reactor, self._interrupts, self._drive)
        self._interruption: BaseException | None = None
        self._reactor_state = ReactorState.USABLE
        self._closes_with_reactor = False
        self._outside: tuple[Any, Any] = (None, (None, None))
        self._events = ReactorEvents(
            reactor,
            starting=self._reactor_starts,
            started=self._reactor_started,
            shutting_down=self._reactor_shuts_down,
            stopped=self._reactor_stopped,
        )
        if reactor.running or self._own_clock:
            self._enter()

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if self._constructed:
            super().__del__(_warn)  # type: ignore[call-arg]  # asyncio's own, which is to outlive the module

    def __repr__(self) -> str:
        return (
            f"<{type(self).__name__} on {type(self.reactor).__name__} running={self.is_running()} "
            f"closed={self.is_closed()} debug={self.get_debug()}>"
        )

    # Running: the state in which this is the thread's running loop

    def _enter(self) -> None:
        """Become the running loop, as asyncio's run_forever() does before it begins."""
        self._outside = asyncio.events._get_running_loop(), sys.get_asyncgen_hooks()
        self._set_coroutine_origin_tracking(self.get_debug())
        self._thread_id = threading.get_ident()
        sys.set_asyncgen_hooks(firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook)
        asyncio.events._set_running_loop(self)
        self._ticker.start()

    def _leave(self) -> None:
        """Be the running loop no more, and put back what was there before."""
        self._ticker.stop()
        self._ticker.stopping = False
        if self._wakeup.pending:
            self._wakeup.clear()  # by stop(), which has been heeded; else the next run looks at the queue at once
        running_loop, hooks = self._outside
        self._outside = (None, (None, None))
        self._thread_id = None
        asyncio.events._set_running_loop(running_loop)
        sys.set_asyncgen_hooks(*hooks)
        self._set_coroutine_origin_tracking(False)

    def _leave_a_crashed_run(self) -> None:
        """Nobody hears of ``reactor.crash()``: if a run of somebody else ended so, notice it now."""
        if self.is_running() and not self.reactor.running and not self._own_run.active and not self._own_clock:
            self._leave()

    def run_forever(self) -> None:
        """
        Run the reactor until `stop`, or until somebody calls ``reactor.stop()``.

        Raises:
            RuntimeError: The loop or its reactor runs already, or cannot run any more.
            KeyboardInterrupt, SystemExit: A callback raised it, or Ctrl-C did.

        Context:
            The thread that the loop's reactor belongs to, outside of any reactor or loop.

        Source:
            asyncio, "Event Loop", "Running and stopping the loop".
        """
        self._check_closed()
        self._leave_a_crashed_run()
        self._check_running()
        try:
            self._enter()
            self._own_run.run(by_hand=self._reactor_state is ReactorState.ENDED)
        finally:
            self._leave()
            interruption, self._interruption = self._interruption, None
        if interruption is not None:
            raise interruption

    def run_until_complete(self, future: Any) -> Any:
        """
        Run the reactor until *future* is done; return its result or raise its exception.

        Raises:
            RuntimeError: As `run_forever`; or somebody called ``reactor.stop()`` before *future* had a result.

        Context:
            As `run_forever`.

        Source:
            asyncio, "Event Loop", "Running and stopping the loop".
        """
        self._leave_a_crashed_run()
        could_run = self._reactor_state is ReactorState.USABLE
        try:
            return super().run_until_complete(future)
        except (asyncio.CancelledError, RuntimeError) as error:
            if could_run and self._reactor_state is ReactorState.ENDED:
                raise RuntimeError(
                    f"reactor.stop() was called while run_until_complete() waited for {future!r}: the reactor's end "
                    f"cancels every task; to end only this one, cancel it or let it return"
                ) from error
            raise

    def stop(self) -> None:
        """
        End the run after the current round of callbacks.

        A run that `run_forever` began ends alone and can be begun again. In a run that somebody else began, this is
        ``reactor.stop()``.

        Context:
            The loop's thread, or a signal handler.

        Source:
            asyncio, "Event Loop", "Running and stopping the loop".
        """
        self._ticker.stopping = True
        if self._ticker.started:
            # A signal handler may call this just before the loop falls asleep, and nobody can tell that.
            self._write_to_self()

    def close(self) -> None:
        """
        Close the loop and give back what it has in the reactor; a reactor of its own is disposed of.

        Raises:
            RuntimeError: The loop is running.

        Source:
            asyncio, "Event Loop", "Running and stopping the loop".
        """
        self._leave_a_crashed_run()
        if self._own_clock and self.is_running():
            self._leave()
        if self.is_closed() or self.is_running():
            super().close()  # which says so, or does nothing
            return
        self._signals.clear()
        self._events.detach()
        self._alarm.close()
        super().close()
        if self._own_run.was_active and not self.reactor.running:
            _reactors.release_threads(self.reactor)
        if self._owns_reactor:
            _reactors.dispose_private_reactor(self.reactor)

    # What the reactor, and the ticker between it and us, tell

    def _reactor_comes_by(self) -> None:
        try:
            self._ticker.tick()
            if self._drive is not None:
                self._drive.linger()
        except BaseException as error:
            # Ctrl-C, where no callback ran. The reactor would take our descriptor for broken.
            self._interrupt(error)

    def _alarm_rings(self) -> None:
        self._ticker.alarm_rang()

    def _reactor_starts(self) -> None:
        if not self.is_running():
            self._enter()

    def _reactor_started(self) -> None:
        if not self._own_run.active:
            self._signals.take_again()
            # Reactors of GLib install their handlers once more in their first turn.
            self.reactor.callLater(0, self._signals.take_again)

    def _reactor_shuts_down(self) -> Deferred[None]:
        self._reactor_state = ReactorState.ENDING
        done: Deferred[None] = Deferred()
        if not self.is_running():
            done.callback(None)
            return done
        ending = shut_down(self, self.shutdown_timeout_s, self._servers, self._open)

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled() and (error := task.exception()) is not None:
                self.call_exception_handler({"message": "shutdown failed", "exception": error, "task": task})
            # Not inside a tick, since we may be closed; and after a turn that sends what tasks have written by Twisted.
            self.reactor.callLater(0, self.reactor.callLater, 0, done.callback, None)

        asyncio.ensure_future(ending, loop=self).add_done_callback(ended)
        return done

    def _reactor_stopped(self) -> None:
        self._reactor_state = ReactorState.ENDED
        if self._own_run.active:
            return
        if self.is_running():
            self._leave()
        if self._closes_with_reactor:
            self.close()

    def close_with_reactor(self) -> None:
        """Close the loop by itself when its reactor has stopped: for a loop that nobody else will close."""
        self._closes_with_reactor = True

    def _end_run(self) -> None:
        """`stop` was called, and its round is over."""
        if self._reactor_is_ending():
            return  # that will be the end of the run, too, when all triggers have been called
        if self._own_run.active:
            self._ticker.stop()
            self._own_run.end()
        else:
            self.reactor.stop()

    def _reactor_is_ending(self) -> bool:
        """Whether ``reactor.stop()`` was called, and the reactor's shutdown is not over."""
        return _reactors.stop_was_called(self.reactor) and self._reactor_state is not ReactorState.ENDED

    def _end_run_with(self, error: BaseException) -> None:
        """
        A callback, or Ctrl-C, has raised *error*: a SystemExit or a KeyboardInterrupt.

        A run of somebody else goes on. Its reactor would log the exception, so that is what is done here.
        """
        if self._own_run.active:
            self._interruption = error
            # A SystemExit after reactor.stop() leaves the reactor time for its triggers; Ctrl-C does not.
            if isinstance(error, KeyboardInterrupt) or not self._reactor_is_ending():
                self._ticker.stop()
                self._own_run.end()
        else:
            self.call_exception_handler({"message": f"{type(error).__name__} in a callback", "exception": error})

    def _interrupt(self, error: BaseException) -> None:
        """The handler of SIGINT has raised *error* where the reactor would have caught it."""
        if self._ticker.started:
            self._ticker.interrupt(error)
            self._write_to_self()
        else:
            self._interruption = error

    # Scheduling

    def time(self) -> float:
        """
        The loop's clock, in seconds: monotonic; on a fake reactor, the fake's.

        Source:
            asyncio, "Event Loop", "Scheduling delayed callbacks".
        """
        return monotonic()  # as asyncio's own; each timer asks, so a fake's is put in place of this method

    def set_task_factory(self, factory: Any) -> None:
        """
        Let *factory* make the tasks; None is asyncio's own way, and the loop's first one is `txasync.task_factory`.

        Source:
            asyncio, "Event Loop", "Creating futures and tasks".
        """
        super().set_task_factory(factory)
        vars(self).pop("call_soon", None)
        if not awaits_deferreds(factory):
            vars(self)["call_soon"] = self._call_soon_explaining

    def create_task(self, coro: Any, **kwargs: Any) -> asyncio.Task[Any]:
        """
        Run the coroutine *coro* in a task.

        Source:
            asyncio, "Event Loop", "Creating futures and tasks".
        """
        factory: Any = self._task_factory
        if self._closed or (factory is not task_factory and not awaits_deferreds(factory)):
            return super().create_task(coro, **kwargs)
        task: Any = factory(self, coro, **kwargs) if kwargs else factory(self, coro)
        if self._debug:
            while task._source_traceback and task._source_traceback[-1].filename.startswith(_PACKAGE):
                del task._source_traceback[-1]
        return task  # type: ignore[no-any-return]

    # Signals

    def add_signal_handler(self, sig: int, callback: Callable[[Unpack[_Ts]], object], *args: Unpack[_Ts]) -> None:
        """
        Run *callback* in the loop when signal *sig* comes.

        The reactor's own use of signals is left alone; SIGCHLD is shared with it.

        Raises:
            ValueError, TypeError: *sig* is not a signal number, or *callback* is a coroutine.
            RuntimeError: *sig* cannot be caught, or this is not the main thread.

        Source:
            asyncio, "Event Loop", "Unix signals".
        """
        if asyncio.iscoroutine(callback) or inspect.iscoroutinefunction(callback):
            raise TypeError("coroutines cannot be used with add_signal_handler()")
        self._check_signal(sig)
        self._check_closed()
        self._signals.add(sig, asyncio.Handle(callback, args, self, None))

    def remove_signal_handler(self, sig: int) -> bool:
        """
        Stop handling *sig*; the reactor gets it back if it had it before. True if it was handled.

        Source:
            asyncio, "Event Loop", "Unix signals".
        """
        self._check_signal(sig)
        return self._signals.remove(sig)

    def _run_soon_from_signal(self, handle: asyncio.Handle) -> None:
        self._ready.append(handle)
        self._write_to_self()

    def _default_signal_handler(self, signum: int) -> Any:
        if signum == signal.SIGINT:
            return self._interrupts.guarding(signal.default_int_handler)
        if signum == signal.SIGCHLD and self._own_run.active:
            return ignore_signal
        return signal.SIG_DFL

    # Errors

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """
        Log as asyncio does, and as a failure to ``twisted.logger``.

        Source:
            asyncio, "Event Loop", "Error handling API".
        """
        with telling_twisted(context):
            super().default_exception_handler(context)
