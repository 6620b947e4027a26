"""Whatever is done to Deferreds, Futures and tasks, and in whatever order: each outcome is seen once on each side."""

from __future__ import annotations

import asyncio
import gc
import sys
import traceback
import weakref
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any
from unittest import mock

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet import defer
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

import txasync

from .models import Callback, DeferredModel, FutureModel, TaskModel, in_cycles_of_twisted
from .outcomes import ASYNCIO_CANCELLED, DESTROYED, TWISTED_CANCELLED, Boom, Node, Outcome, Result, World, name_of

MAX_PRESENT = 5  # with more, the rules would seldom meet at one Deferred
STEPS = 40
EXAMPLES = 300  # a program takes some milliseconds; with fewer, rare interleavings would be left to the search profile
CANCELLERS = ("none", "nothing", "result", "error", "raises")
CALLBACKS = ("pass", "replace", "fail", "recover")


class Targets(list[Any]):
    """What a coroutine is still to await: a list that can be weakly referred to."""


async def awaiting(targets: list[Any], note: Callable[[object], None], own_result: Callable[[], Result] | None) -> Any:
    """
    Await one target after the other and note what comes; what has *own_result* is stubborn, as the model says.

    Leaves nothing in its frame, which may be in the traceback of an error.
    """
    last: list[Any] = []
    while targets:
        last.clear()
        try:
            last.append(await targets.pop(0))
        except (Exception, asyncio.CancelledError) as error:
            note(error)
            if own_result is None:
                targets.clear()
                raise
        else:
            note(*last)
    if own_result is None:
        return last.pop()
    last.clear()
    return own_result()


async def rounds(count: int) -> None:
    """Let the loop run for *count* rounds."""
    for _ in range(count):
        await asyncio.sleep(0)


class Machine(RuleBasedStateMachine):
    """
    Does the same to the real things, on a loop that stands still between the rules, and to their models.

    Attributes:
        nodes: The models, without those that are dead.
        real: The real thing of each model that is not dropped.
        references: The same, but weak, and of all.
        notes: What each callback and each task must have seen, and what it has.
        targets: Weak references to what each coroutine is still to await.
        outcomes: The names of all results and errors, with weak references; of cancellations, those that were seen.
        reports: What was reported as unhandled, and by whom.
        raises: Whether there is a callback that raises an error.
        to_collect: Whether something was dropped since the last collection.
    """

    def __init__(self) -> None:
        super().__init__()
        gc.freeze()  # Hypothesis keeps more and more, and each collection would look at it
        gc.disable()  # what is reported, and when, is not to depend on chance
        self.loop = txasync.new_event_loop(private=True)
        self.world = World()
        self.nodes: list[Node] = []
        self.real: dict[Node, Any] = {}
        self.references: dict[Node, weakref.ref[Any]] = {}
        self.notes: list[tuple[list[str], list[str]]] = []
        self.targets: list[weakref.ref[Targets]] = []
        self.outcomes: list[tuple[str, weakref.ref[Any]]] = []
        self.reports: Counter[str] = Counter()
        self.raises = False
        self.to_collect = False
        self.loop.set_exception_handler(self.see_asyncio)
        # Not beside other observers: until logging has begun, there is one that keeps the failures.
        self.log = mock.patch.object(defer.log, "observer", self.see_twisted)
        self.log.start()

    def teardown(self) -> None:
        """Settle everything, unless a rule has failed, and forget it."""
        try:
            if sys.exc_info()[0] is None:
                self.end()
        finally:
            # What a failed example leaves is not to be reported in the next one.
            traceback.clear_frames(sys.exc_info()[2])
            self.forget_all()
            while asyncio.all_tasks(self.loop):
                for task in asyncio.all_tasks(self.loop):
                    task.cancel()
                    del task
                self.loop.run_until_complete(rounds(10))
            self.loop.close()
            gc.collect()
            gc.enable()
            self.log.stop()

    # What is reported

    def see_twisted(self, event: dict[str, Any]) -> None:
        if "log_failure" in event:
            self.reports[f"Twisted: {name_of(event['log_failure'])}"] += 1

    def see_asyncio(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        destroyed = context["message"] == "Task was destroyed but it is pending!"
        self.reports[f"asyncio: {DESTROYED if destroyed else name_of(context['exception'])}"] += 1

    # What is drawn from

    def draw(self, data: st.DataObject, nodes: list[Any]) -> Any:
        return data.draw(st.sampled_from(nodes))

    def draw_targets(self, data: st.DataObject) -> list[Node]:
        return data.draw(st.lists(st.sampled_from(self.likely), min_size=1, max_size=3, unique_by=id))

    @property
    def has_room(self) -> bool:
        return len(self.real) < MAX_PRESENT

    @property
    def has_room_for_tasks(self) -> bool:
        return 0 < len(self.real) < MAX_PRESENT + 2

    @property
    def present(self) -> list[Node]:
        return list(self.real)

    @property
    def likely(self) -> list[Node]:
        """What is present, and what is pending twice: it is more likely to be drawn."""
        return [node for node in self.present if not node.settled] + self.present

    @property
    def deferreds(self) -> list[DeferredModel]:
        return [node for node in self.real if isinstance(node, DeferredModel)]

    @property
    def futures(self) -> list[FutureModel]:
        return [node for node in self.real if isinstance(node, FutureModel)]

    @property
    def own_deferreds(self) -> list[DeferredModel]:
        return [deferred for deferred in self.deferreds if deferred.can_be_fired]

    @property
    def running_deferreds(self) -> list[DeferredModel]:
        return [deferred for deferred in self.deferreds if not deferred.pauses]

    @property
    def own_futures(self) -> list[FutureModel]:
        return [node for node in self.futures if type(node) is FutureModel and not (node.deferred or node.settled)]

    # What is made

    def add(self, model: Node, real: Any) -> None:
        self.nodes.append(model)
        self.real[model] = real
        self.references[model] = weakref.ref(real)

    def result(self, name: str) -> Result:
        result = Result(name)
        self.outcomes.append((name, weakref.ref(result)))
        return result

    def error(self, name: str) -> Boom:
        error = Boom(name)
        self.outcomes.append((name, weakref.ref(error)))
        return error

    def canceller(self, kind: str, name: str) -> Callable[[Deferred[Any]], None] | None:
        def canceller(deferred: Deferred[Any]) -> None:
            if kind == "result":
                deferred.callback(self.result(name))
            elif kind == "error":
                deferred.errback(self.error(name))
            elif kind == "raises":
                raise self.error(name)

        return None if kind == "none" else canceller

    def noting(self, expected: list[str]) -> Callable[[object], None]:
        """Return a function with which a party notes what it sees, and which watches the cancellations among that."""
        seen: list[str] = []
        self.notes.append((expected, seen))

        def note(value: object) -> None:
            seen.append(name_of(value))
            if seen[-1] in (TWISTED_CANCELLED, ASYNCIO_CANCELLED):
                self.outcomes.append((seen[-1], weakref.ref(value.value if isinstance(value, Failure) else value)))

        return note

    def callback(self, link: Callback) -> Callable[[Any], Any]:
        kind, name = link.kind, link.name
        inner = None if link.inner is None else self.real[link.inner]
        note = self.noting(link.seen)

        def callback(value: Any) -> Any:
            note(value)
            if kind == "pass":
                return value
            del value  # the error's traceback keeps this frame
            if kind == "raise":
                raise self.error(name)
            if kind == "fail":
                return Failure(self.error(name))
            return self.result(name) if inner is None else inner

        return callback

    def coroutine(self, task: TaskModel) -> Coroutine[Any, Any, Any]:
        name = task.name
        targets = Targets(self.real[target] for target in task.targets)
        self.targets.append(weakref.ref(targets))
        return awaiting(targets, self.noting(task.notes), (lambda: self.result(name)) if task.stubborn else None)

    # The rules

    @initialize(data=st.data(), canceller=st.sampled_from(CANCELLERS), stubborn=st.booleans())
    def begin(self, data: st.DataObject, canceller: str, stubborn: bool) -> None:
        """Most programs would not come to a task that waits by themselves."""
        self.make_deferred(canceller)
        self.make_future()
        self.make_task(data, stubborn, begins=True)

    @precondition(lambda self: self.has_room)
    @rule(canceller=st.sampled_from(CANCELLERS))
    def make_deferred(self, canceller: str) -> None:
        model = DeferredModel(self.world, canceller)
        self.add(model, Deferred(self.canceller(canceller, model.canceller_name)))

    @precondition(lambda self: self.has_room)
    @rule()
    def make_future(self) -> None:
        self.add(FutureModel(self.world), self.loop.create_future())

    @precondition(lambda self: self.has_room_for_tasks)
    @rule(data=st.data(), stubborn=st.booleans(), begins=st.booleans())
    def make_task(self, data: st.DataObject, stubborn: bool, begins: bool) -> None:
        """A coroutine that awaits what is there."""
        model = TaskModel(self.world, self.draw_targets(data), stubborn=stubborn)
        self.add(model, self.loop.create_task(self.coroutine(model)))
        if begins:
            self.turn()

    @precondition(lambda self: self.has_room_for_tasks)
    @rule(data=st.data(), stubborn=st.booleans(), begins=st.booleans())
    def coroutine_as_deferred(self, data: st.DataObject, stubborn: bool, begins: bool) -> None:
        self.add_coroutine(TaskModel(self.world, self.draw_targets(data), stubborn=stubborn, held=True))
        if begins:
            self.turn()

    def add_coroutine(self, model: TaskModel) -> None:
        # Not in the rule: its frame is to hold nothing when the loop runs, as tracebacks keep the frames of callers.
        others = asyncio.all_tasks(self.loop)
        deferred = txasync.as_deferred(self.coroutine(model), loop=self.loop)
        (task,) = asyncio.all_tasks(self.loop) - others
        self.add(model, task)
        self.drop_node(model)
        self.add(DeferredModel(self.world, future=model), deferred)

    @precondition(lambda self: self.has_room and self.futures)
    @rule(data=st.data())
    def future_as_deferred(self, data: st.DataObject) -> None:
        """Of a Future or of a task."""
        future = self.draw(data, self.futures)
        self.add(DeferredModel(self.world, future=future), txasync.as_deferred(self.real[future]))

    @precondition(lambda self: self.has_room and self.deferreds)
    @rule(data=st.data())
    def deferred_as_future(self, data: st.DataObject) -> None:
        deferred = self.draw(data, self.deferreds)
        self.add(FutureModel(self.world, deferred), txasync.as_future(self.real[deferred], loop=self.loop))

    @precondition(lambda self: self.own_deferreds)
    @rule(data=st.data(), fails=st.booleans())
    def fire(self, data: st.DataObject, fails: bool) -> None:
        self.fire_deferred(self.draw(data, self.own_deferreds), fails)

    def fire_deferred(self, model: DeferredModel, fails: bool) -> None:
        name = self.world.name("error" if fails else "result")
        model.fire(Outcome(name, failed=fails))
        if fails:
            self.real[model].errback(self.error(name))
        else:
            self.real[model].callback(self.result(name))

    @precondition(lambda self: self.own_futures)
    @rule(data=st.data(), fails=st.booleans())
    def settle_future(self, data: st.DataObject, fails: bool) -> None:
        self.set_future(self.draw(data, self.own_futures), fails)

    def set_future(self, model: FutureModel, fails: bool) -> None:
        name = self.world.name("error" if fails else "result")
        model.settle(Outcome(name, failed=fails))
        if fails:
            self.real[model].set_exception(self.error(name))
        else:
            self.real[model].set_result(self.result(name))

    @precondition(lambda self: self.deferreds)
    @rule(data=st.data(), kind=st.sampled_from(CALLBACKS))
    def add_callback(self, data: st.DataObject, kind: str) -> None:
        self.add_link(self.draw(data, self.deferreds), Callback(kind, self.world.name(f"callback's {kind}")))

    @precondition(lambda self: self.deferreds and not self.raises)
    @rule(data=st.data())
    def add_raising_callback(self, data: st.DataObject) -> None:
        """Seldom, and in some programs not at all, as it makes `end` overlook cycles."""
        self.raises = True
        self.add_link(self.draw(data, self.deferreds), Callback("raise", self.world.name("callback's raise")))

    @precondition(lambda self: self.deferreds)
    @rule(data=st.data())
    def chain(self, data: st.DataObject) -> None:
        """A callback that returns another Deferred."""
        outer = self.draw(data, self.deferreds)
        inner = self.draw(data, [*self.deferreds, None])
        if inner is None or inner.depends_on(outer):
            inner = DeferredModel(self.world)
            self.add(inner, Deferred())
        outer.meet(inner)
        self.add_link(outer, Callback("chain", "", inner))

    def add_link(self, model: DeferredModel, link: Callback) -> None:
        callback = self.callback(link)
        model.add(link)
        real = self.real[model]
        if link.kind == "recover":
            real.addErrback(callback)
        else:
            real.addBoth(callback)

    @precondition(lambda self: self.running_deferreds)
    @rule(data=st.data())
    def pause(self, data: st.DataObject) -> None:
        deferred = self.draw(data, self.running_deferreds)
        deferred.pause()
        self.real[deferred].pause()

    @precondition(lambda self: any(deferred.pauses for deferred in self.deferreds))
    @rule(data=st.data())
    def unpause(self, data: st.DataObject) -> None:
        self.unpause_deferred(self.draw(data, [deferred for deferred in self.deferreds if deferred.pauses]))

    def unpause_deferred(self, model: DeferredModel) -> None:
        model.unpause()
        self.real[model].unpause()

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        """On either side."""
        node = self.draw(data, self.likely)
        if not isinstance(node, DeferredModel):
            assert self.real[node].cancel() == node.cancel()
            return
        raised = node.cancel()
        try:
            self.real[node].cancel()
        except Boom as error:
            assert error.name == raised
        else:
            assert raised is None

    @precondition(lambda self: self.present)
    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        self.drop_node(self.draw(data, self.present))

    def drop_node(self, node: Node) -> None:
        node.dropped = self.to_collect = True
        del self.real[node]

    @precondition(lambda self: self.world.busy)
    @rule()
    def round(self) -> None:
        """The loop runs for one round: what that has woken goes on in the next one."""
        self.world.round()
        self.loop.call_soon(self.loop.stop)
        self.loop.run_forever()

    @precondition(lambda self: self.world.busy)
    @rule()
    def turn(self) -> None:
        """The loop runs until it has nothing to do."""
        self.loop.run_until_complete(rounds(self.world.turn() + 3))

    @precondition(lambda self: self.to_collect or self.world.busy)
    @rule()
    def collect(self) -> None:
        """All that nobody knows any more is collected, and has reported what it owes."""
        self.to_collect = False
        self.turn()
        gc.collect()
        for node in [node for node in self.nodes if node.dropped]:
            family = node.family
            if all(
                other.dropped and not (isinstance(other, TaskModel) and other.held and not other.settled)
                for other in family
            ):
                assert self.references[node]() is None, node
                self.bury(node)

    def bury(self, node: Node) -> None:
        node.dead = True
        self.nodes.remove(node)
        if node.owed is not None:
            self.world.reported.append(node.owed)

    # What must hold

    @invariant()
    def each_party_has_seen_what_it_must(self) -> None:
        for expected, seen in self.notes:
            assert seen == expected, f"{seen} == {expected}"
        for deferred in self.deferreds:
            assert bool(self.real[deferred].called) == deferred.called
            assert self.real[deferred].paused == deferred.paused
        for future in self.futures:
            real = self.real[future]
            assert real.done() == future.settled
            if future.outcome is not None:
                assert real.cancelled() == future.outcome.cancelled

    @invariant()
    def reports_have_a_cause(self) -> None:
        must = Counter(self.world.reported)
        may = must + Counter(node.owed for node in self.nodes if node.dropped and node.owed is not None)
        assert must <= self.reports <= may, f"{must} <= {self.reports} <= {may}"

    def end(self) -> None:
        """Settle and drop everything: then nothing is left, and all that nobody has seen was reported."""
        self.settle()
        for node in self.present:
            node.dropped = True
        self.forget_all()
        # What waits for each other is a cycle. The traceback of what a callback raises has a frame with the Deferred.
        if all(node.at_rest or self.references[node]() is None for node in self.nodes) and not any(
            name.startswith("callback's raise") for name, _ in self.outcomes
        ):
            nodes, outcomes = in_cycles_of_twisted(self.nodes)
            alive = {node for node in self.nodes if self.references[node]() is not None}
            assert self.kept_alive() <= outcomes, f"in reference cycles: {self.kept_alive() - outcomes}"
            assert alive <= nodes, f"in reference cycles: {alive - nodes}"
        gc.collect()
        assert not self.kept_alive(), self.kept_alive()
        for node in list(self.nodes):
            assert self.references[node]() is None, node
            self.bury(node)
        assert self.reports == Counter(self.world.reported), f"{self.reports} == {Counter(self.world.reported)}"

    def forget_all(self) -> None:
        self.real.clear()
        for reference in self.targets:
            targets = reference()
            if targets is not None:  # those of a task that was cancelled before it began
                targets.clear()

    def settle(self) -> None:
        self.turn()
        while True:
            for deferred in self.deferreds:
                while deferred.pauses:
                    self.unpause_deferred(deferred)
                if not deferred.called and deferred.can_be_fired:
                    self.fire_deferred(deferred, fails=False)
            for future in self.own_futures:
                self.set_future(future, fails=False)
            self.turn()
            waiting = [node for node in self.nodes if isinstance(node, TaskModel) and not node.settled]
            reachable = [(node, task) for node in waiting if (task := self.references[node]()) is not None]
            if not reachable:
                break
            # They wait for what was dropped.
            node, task = reachable[0]
            assert task.cancel() == node.cancel()
            del reachable, task
            self.turn()
        self.each_party_has_seen_what_it_must()
        self.reports_have_a_cause()

    def kept_alive(self) -> set[str]:
        return {name for name, reference in self.outcomes if reference() is not None}


def test_each_outcome_is_seen_once_on_each_side() -> None:
    """
    Random programs do what the model says.

    Each callback and each task sees one outcome, the one that is due; what nobody has seen is reported, by one side and
    once; nothing else is reported; and when everything has been dropped no outcome is left, nor in a reference cycle.
    """
    examples = max(EXAMPLES, settings().max_examples)
    phases = Phase.explicit, Phase.reuse, Phase.generate  # to shorten a program that fails can take minutes
    run_state_machine_as_test(
        Machine, settings=settings(max_examples=examples, stateful_step_count=STEPS, phases=phases)
    )
