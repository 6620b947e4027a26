"""What each party must see of a Deferred, a Future or a task: a model of both worlds and of the bridge between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Union

from .outcomes import ASYNCIO_CANCELLED, DESTROYED, TWISTED_CANCELLED, Node, Outcome, World


class Link:
    """A place among the callbacks of a Deferred."""

    needed: Node | None = None

    def take(self, outcome: Outcome) -> Given:
        """Return what the next place gets."""
        raise NotImplementedError


class HandOver(Link):
    """The place at which another Deferred, which waits for this one, takes over its outcome."""

    def __init__(self, outer: DeferredModel) -> None:
        self.outer = outer


class Callback(Link):
    """
    A function that was added to a Deferred.

    Args:
        kind: What it does: "pass" its argument on, "replace" it, "fail", "raise", "recover" from a failure, "chain".
        name: That of its own result or error.
        inner: The Deferred that it returns if its kind is "chain".
    """

    def __init__(self, kind: str, name: str, inner: DeferredModel | None = None) -> None:
        self.kind = kind
        self.name = name
        self.needed = inner
        self.inner = inner
        self.seen: list[str] = []

    def take(self, outcome: Outcome) -> Given:
        if self.kind == "recover" and not outcome.failed:
            return outcome
        self.seen.append(outcome.name)
        if self.kind == "pass":
            return outcome
        if self.inner is not None:
            inner, self.needed = self.inner, None
            return inner
        return Outcome(self.name, failed=self.kind in ("fail", "raise"))


class DeferredModel(Node):
    """
    A Deferred, by the rules of Twisted, and one that `as_deferred` has made.

    Args:
        canceller: "none"; or one that does "nothing", fires with a "result" or an "error", or "raises" one.
        future: What the Deferred was made of.

    Attributes:
        raised: The errors that coroutines which await it got without having to wait.
    """

    def __init__(self, world: World, canceller: str = "none", future: FutureModel | None = None) -> None:
        super().__init__(world, *([] if future is None else [future]))
        self.canceller = canceller
        self.canceller_name = world.name(f"canceller's {canceller}")
        self.future = future
        self.called = False
        self.ignores_one_call = False
        self.result: Given = Outcome("none yet")
        self.unhandled: Outcome | None = None
        self.paused = 0
        self.pauses = 0
        self.links: list[Link] = []
        self.raised: list[Outcome] = []
        if future is not None:
            future.when_done(self._future_done)

    @property
    def owed(self) -> str | None:
        return None if self.unhandled is None else f"Twisted: {self.unhandled.name}"

    @property
    def settled(self) -> bool:
        return self.called and not self.paused

    @property
    def at_rest(self) -> bool:
        # Twisted does not go on with its callbacks if one that waits for it, and gets its result, was paused.
        return self.settled and not self.links

    @property
    def can_be_fired(self) -> bool:
        """Whether it is for the test to fire it."""
        return self.future is None and (not self.called or self.ignores_one_call)

    def needs(self) -> Iterator[Node]:
        if self.future is not None:
            yield self.future
        if isinstance(self.result, DeferredModel):
            yield self.result
        yield from (link.needed for link in self.links if link.needed is not None)

    def fire(self, outcome: Outcome) -> None:
        """``callback()`` or ``errback()``."""
        if self.called:
            assert self.ignores_one_call
            self.ignores_one_call = False
            return
        self.called = True
        self.result = outcome
        self._run()

    def add(self, link: Link) -> None:
        """``addBoth()``."""
        self.links.append(link)
        if self.called:
            self._run()

    def pause(self) -> None:
        """``pause()``."""
        self.paused += 1
        self.pauses += 1

    def unpause(self) -> None:
        """``unpause()``."""
        self.paused -= 1
        self.pauses -= 1
        if self.called:
            self._run()

    def cancel(self) -> str | None:
        """``cancel()``; returns the name of what it raises."""
        if self.called:
            return self.result.cancel() if isinstance(self.result, DeferredModel) else None
        if self.future is not None:
            self.future.cancel()
        elif self.canceller == "raises":
            return self.canceller_name
        elif self.canceller in ("result", "error"):
            self.fire(Outcome(self.canceller_name, failed=self.canceller == "error"))
        else:
            self.ignores_one_call = self.canceller == "none"
            self.fire(Outcome(TWISTED_CANCELLED, failed=True))
        return None

    def seen(self, outcome: Outcome) -> None:
        """Somebody was given *outcome*, so it is not unhandled, if it is what the Deferred has."""
        if self.unhandled is outcome:
            self.unhandled = None

    def give(self, outcome: Outcome, *, at_once: bool = False) -> Outcome:
        """A coroutine that awaits this gets *outcome*, *at_once* or when it is woken."""
        self.seen(outcome)
        if outcome.failed and at_once:
            self.raised.append(outcome)
        return outcome

    def holds(self) -> Iterator[Outcome]:
        """The outcomes that live as long as this does."""
        if isinstance(self.result, Outcome):
            yield self.result

    def _future_done(self) -> None:
        assert self.future is not None
        outcome = self.future.retrieve()
        self.fire(Outcome(TWISTED_CANCELLED, failed=True, cause=outcome) if outcome.cancelled else outcome)

    def _run(self) -> bool:
        """Call what is there to be called; false if a Deferred that waited for this one is not to be woken."""
        if self.paused:
            return False
        while self.links:
            link = self.links.pop(0)
            if isinstance(link, HandOver):
                link.outer.result = self._given_away()
                link.outer.paused -= 1
                if not link.outer._run():
                    return False
                continue
            assert isinstance(self.result, Outcome)
            self.result = link.take(self.result)
            if isinstance(self.result, DeferredModel):
                inner = self.result
                if inner.called and not inner.paused:
                    self.result = inner._given_away()
                else:
                    self.paused += 1
                    inner.links.append(HandOver(self))
                    break
        self.unhandled = self.result if isinstance(self.result, Outcome) and self.result.failed else None
        return True

    def _given_away(self) -> Given:
        """The outcome, which is another Deferred's from now on."""
        given, self.result, self.unhandled = self.result, Outcome("None"), None
        return given


Given = Union[Outcome, DeferredModel]


def in_cycles_of_twisted(nodes: list[Node]) -> tuple[set[Node], set[str]]:
    """
    What Twisted may keep in reference cycles until those are collected: some of *nodes*, and the names of outcomes.

    ``Deferred.__await__``, when it raises the error of a Deferred that has failed already, has the failure in its
    frame, which the error's traceback has. And so it has the Deferred, and all that this has got since then.
    """
    raising = [node for node in nodes if isinstance(node, DeferredModel) and node.raised]
    kept: set[Outcome] = set()
    left = [outcome for node in raising for outcome in [*node.raised, *node.holds()]]
    while left:
        outcome = left.pop()
        kept.add(outcome)
        if outcome.cause is not None:
            left.append(outcome.cause)
    return {member for node in raising for member in node.family}, {outcome.name for outcome in kept}


class FutureModel(Node):
    """
    A Future, by the rules of asyncio, and one that `as_future` has made.

    Args:
        deferred: What the Future was made of.
    """

    def __init__(self, world: World, deferred: DeferredModel | None = None) -> None:
        super().__init__(world, *([] if deferred is None else [deferred]))
        self.deferred = deferred
        self.outcome: Outcome | None = None
        self.retrieved = False
        self._when_done: list[Callable[[], object]] = []
        if deferred is not None:
            link = _AsFuture(self, deferred)
            deferred.add(link)
            self.when_done(link.future_done)

    @property
    def owed(self) -> str | None:
        if self.outcome is None or not self.outcome.failed or self.outcome.cancelled or self.retrieved:
            return None
        return f"asyncio: {self.outcome.name}"

    @property
    def settled(self) -> bool:
        return self.outcome is not None

    def needs(self) -> Iterator[Node]:
        if self.deferred is not None:
            yield self.deferred

    def settle(self, outcome: Outcome) -> None:
        """``set_result()`` or ``set_exception()``."""
        assert self.outcome is None
        self.outcome = outcome
        for callback in self._when_done:
            self.world.soon(callback)

    def cancel(self) -> bool:
        """``cancel()``, by which asyncio takes an error for retrieved that is there already."""
        self.retrieved = True
        if self.outcome is not None:
            return False
        self.settle(Outcome(ASYNCIO_CANCELLED, failed=True))
        return True

    def retrieve(self) -> Outcome:
        """``result()``."""
        assert self.outcome is not None
        self.retrieved = True
        return self.outcome

    def when_done(self, callback: Callable[[], object]) -> None:
        """``add_done_callback()``."""
        if self.outcome is None:
            self._when_done.append(callback)
        else:
            self.world.soon(callback)


class _AsFuture(Link):
    """
    The place of a Future among a Deferred's callbacks.

    An error is the Future's from then on; unless that is cancelled, and the error something else: then it remains the
    Deferred's.
    """

    def __init__(self, future: FutureModel, deferred: DeferredModel) -> None:
        self._future = future
        self._deferred = deferred
        self._waiting = True

    def take(self, outcome: Outcome) -> Given:
        future = self._future
        self._waiting = False
        if outcome.failed and (outcome.cancelled or not future.settled):
            future.world.soon(lambda: self._deferred.seen(outcome))
        if outcome.cancelled:
            future.cancel()
        elif not future.settled:
            future.settle(outcome)
        return outcome

    def future_done(self) -> None:
        if self._waiting:
            raised = self._deferred.cancel()
            if raised is not None:
                self._future.world.reported.append(f"asyncio: {raised}")


class TaskModel(FutureModel):
    """
    A task that awaits one target after the other, and notes what it gets.

    Args:
        targets: What it awaits.
        stubborn: It goes on after any error, and in the end returns a result of its own. Another ends with the first
            error, or returns the last result.
        held: The test need not keep it.
    """

    def __init__(self, world: World, targets: list[Node], *, stubborn: bool, held: bool = False) -> None:
        super().__init__(world)
        self.targets = targets
        self.stubborn = stubborn
        self.held = held
        self.name = world.name("task's result")
        self.notes: list[str] = []
        self.waits_for: FutureModel | _Await | None = None
        self._must_cancel = False
        for target in targets:
            self.meet(target)
        world.soon(self._start)

    @property
    def owed(self) -> str | None:
        if self.settled:
            return super().owed
        return None if self.held else f"asyncio: {DESTROYED}"

    def needs(self) -> Iterator[Node]:
        yield from self.targets
        if isinstance(self.waits_for, _Await):
            yield self.waits_for.deferred
        elif self.waits_for is not None:
            yield self.waits_for

    def cancel(self) -> bool:
        if self.outcome is not None:
            return super().cancel()
        if self.waits_for is None or not self.waits_for.cancel():
            self._must_cancel = True
        return True

    def _start(self) -> None:
        if self._must_cancel:
            self._end(Outcome(ASYNCIO_CANCELLED, failed=True))  # it has not begun, so it notes nothing
        else:
            self._go_on(None)

    def _future_done(self) -> None:
        assert isinstance(self.waits_for, FutureModel)
        outcome = self.waits_for.retrieve()
        self._go_on(Outcome(ASYNCIO_CANCELLED, failed=True) if self._must_cancel else outcome)

    def wake(self) -> None:
        """The Deferred that it waits for has fired, or the task was cancelled; or both."""
        wait = self.waits_for
        assert isinstance(wait, _Await)
        cancelled = wait.cancelled or self._must_cancel
        if cancelled and wait.arrived is None:
            self._go_on(wait.cancel_the_deferred())
            return
        assert wait.arrived is not None
        self._go_on(wait.deferred.give(wait.arrived), cancel_at_the_next=cancelled)

    def _go_on(self, outcome: Outcome | None, *, cancel_at_the_next: bool = False) -> None:
        self.waits_for, self._must_cancel = None, False
        while True:
            if outcome is not None:
                self.notes.append(outcome.name)
                if outcome.failed and not self.stubborn:
                    self._end(outcome)
                    return
            if not self.targets:
                self._end(Outcome(self.name) if self.stubborn or outcome is None else outcome)
                return
            outcome = self._await(self.targets.pop(0))
            if outcome is None:
                break
        if cancel_at_the_next:
            self.cancel()

    def _await(self, target: Node) -> Outcome | None:
        """Get what is there, at once, or begin to wait."""
        if isinstance(target, FutureModel):
            if target.settled:
                return target.retrieve()
            self.waits_for = target
            target.when_done(self._future_done)
            return None
        assert isinstance(target, DeferredModel)
        if target.settled:
            assert isinstance(target.result, Outcome)
            return target.give(target.result, at_once=True)
        self.waits_for = _Await(self, target)
        target.add(self.waits_for)
        return None

    def _end(self, outcome: Outcome) -> None:
        self.targets.clear()
        self.settle(Outcome(ASYNCIO_CANCELLED, failed=True, cause=outcome) if outcome.cancelled else outcome)


class _Await(Link):
    """
    The place of a task among a Deferred's callbacks.

    A task that was cancelled, and that has got its CancelledError because the Deferred gave it nothing else, has
    abandoned the Deferred: that keeps what it fails with, unless it is a cancellation, which the task has seen.
    """

    def __init__(self, task: TaskModel, deferred: DeferredModel) -> None:
        self.deferred = deferred
        self.cancelled = False
        self.arrived: Outcome | None = None
        self._task = task
        self._woken = False
        self._abandoned = False

    def take(self, outcome: Outcome) -> Given:
        if self._abandoned:
            if outcome.cancelled:
                self._task.world.soon(lambda: self.deferred.seen(outcome))
        else:
            self.arrived = outcome
            self._wake()
        return outcome

    def cancel(self) -> bool:
        """The task is cancelled; false if it is about to go on anyway."""
        if self._woken:
            return False
        self.cancelled = True
        self._wake()
        return True

    def cancel_the_deferred(self) -> Outcome:
        """Return what the task gets: what the cancelled Deferred has for it, or a CancelledError."""
        raised = self.deferred.cancel()
        if raised is not None:
            self._task.world.reported.append(f"asyncio: {raised}")
        self._abandoned = self.arrived is None
        if self.arrived is not None:
            self.deferred.give(self.arrived)
            if not self.arrived.cancelled:
                return self.arrived
        return Outcome(ASYNCIO_CANCELLED, failed=True)

    def _wake(self) -> None:
        if not self._woken:
            self._woken = True
            self._task.world.soon(self._task.wake)
