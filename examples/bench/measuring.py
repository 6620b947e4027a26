"""
Measuring one row.

A round starts one server process of each kind, with a load generator for each, and then measures them in turn: A B C,
B C A, C A B. What changes on the machine in the meantime meets all kinds alike, and a ratio is always taken of two
measurements of the same turn.
"""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import start_up
from kinds import KINDS, START_UP, Kind, has_service
from processes import Load, Server
from results import Result, Series
from rows import KIB_PER_CONNECTION, Row

# A row of which the middle half of the measurements lies further apart than this part of their median is repeated.
STEADY = 0.06
MOST_RUNS = 3
QUICK_IDLE_CONNECTIONS = 100
PAGE_KIB = resource.getpagesize() / 1024


@dataclass
class Plan:
    """
    How much is measured, and with what.

    Attributes:
        core: The processor for servers and load generators.
        rounds: Server processes of each kind.
        turns: Measurements of each server process.
        seconds: How long one measurement takes, about.
        quick: Whether this is only to see that everything works: a few messages, whatever they cost.
        load: The load generator.
        directory: For sockets.
        shared: Server processes to be used for all rows instead of new ones, by kind.
    """

    core: int
    rounds: int
    turns: int
    seconds: float
    quick: bool
    load: Path
    directory: Path
    shared: dict[str, Server] = field(default_factory=dict)


def labelled(names: list[str]) -> list[tuple[str, Kind]]:
    """The kinds of *names*, with labels: a kind that comes again gets a number."""
    return [
        (name if name not in names[:index] else f"{name}#{names[:index].count(name) + 1}", KINDS[name])
        for index, name in enumerate(names)
    ]


def measure(row: Row, kinds: list[tuple[str, Kind]], reference: str, plan: Plan) -> Result | None:
    """
    Measure *row*, again if it was not steady, and return the steadiest run; None if no kind has it.

    Args:
        row: What to measure.
        kinds: Labels and kinds.
        reference: The label that ratios are to; if that kind has not the row, they are to the first that has.
        plan: How much.
    """
    kinds = [(label, kind) for label, kind in kinds if has_service(kind, row.service)]
    if not kinds:
        return None
    labels = [label for label, _ in kinds]
    reference = reference if reference in labels else labels[0]
    runs = [Result(row, _run(row, kinds, plan), reference)]
    while min(run.spread for run in runs) > STEADY and len(runs) < MOST_RUNS and not plan.quick:
        runs.append(Result(row, _run(row, kinds, plan), reference))
    runs.sort(key=lambda run: run.spread)
    runs[0].discarded = [run.series for run in runs[1:]]
    return runs[0]


def _run(row: Row, kinds: list[tuple[str, Kind]], plan: Plan) -> list[Series]:
    series = {label: Series(label) for label, _ in kinds}
    for round_number in range(plan.rounds):
        if row.service == START_UP:
            _measure_starts(row, kinds, plan, series, round_number)
            continue
        # So many idle connections, of all kinds at once, would be too much for the kernel.
        for group in [[kind] for kind in kinds] if row.idle else [kinds]:
            with contextlib.ExitStack() as stack:
                servers = {label: stack.enter_context(_server(kind, row, plan)) for label, kind in group}
                if row.unit is KIB_PER_CONNECTION:
                    for label, server in servers.items():
                        series[label].figures.append([_measure_memory(row, server, plan)])
                else:
                    _measure_time(row, servers, plan, series, round_number)
    return list(series.values())


@contextlib.contextmanager
def _server(kind: Kind, row: Row, plan: Plan) -> Iterator[Server]:
    """A server for *row*, with which one connection has come and gone."""
    with contextlib.ExitStack() as stack:
        if kind.name in plan.shared:
            server = plan.shared[kind.name]
        else:
            server = stack.enter_context(Server(kind, [row.service], plan.core, plan.directory))
        server.let_one_connection_end(row.service)
        yield server


def _idle(row: Row, plan: Plan) -> int:
    return min(row.idle, QUICK_IDLE_CONNECTIONS) if plan.quick else row.idle


def connect(row: Row, server: Server, plan: Plan) -> Load:
    """A load generator for *row*, connected to *server*."""
    idle = _idle(row, plan)
    name = f"{server.kind.name}, {row.name}"
    return Load(name, plan.load, plan.core, row.load, server.addresses[row.service], row.size, row.active, idle)


def _measure_memory(row: Row, server: Server, plan: Plan) -> float:
    """What each idle connection adds to the memory of *server*, of which no less than a page can be seen."""
    before_kib = server.memory_kib()
    with connect(row, server, plan):
        added_kib = max(server.memory_kib() - before_kib, PAGE_KIB)
    return added_kib / _idle(row, plan)


def _measure_time(
    row: Row, servers: dict[str, Server], plan: Plan, series: dict[str, Series], round_number: int
) -> None:
    """Add the measurements of one round to *series*."""
    with contextlib.ExitStack() as stack:
        loads = {label: stack.enter_context(connect(row, server, plan)) for label, server in servers.items()}
        for label, load in loads.items():
            count = row.step * max(row.active, 1) if plan.quick else warm_up(row, load, plan)
            series[label].begin_round(count)
            series[label].load_figures.append([])
        for label in _in_turn(list(servers), plan, round_number):
            count = series[label].counts[-1]
            before_ns = servers[label].cpu_ns()
            load_ns = loads[label].run(count)
            spent_ns = servers[label].cpu_ns() - before_ns
            series[label].figures[-1].append(spent_ns / count / row.unit.ns)
            series[label].load_figures[-1].append(load_ns / count / row.unit.ns)


def _measure_starts(
    row: Row, kinds: list[tuple[str, Kind]], plan: Plan, series: dict[str, Series], round_number: int
) -> None:
    """The same for processes, each of which starts and ends."""
    names = {label: kind.name for label, kind in kinds}
    for label, name in names.items():
        if plan.quick:
            series[label].begin_round(1)
            continue
        start_up.cpu_ns(name, plan.core)
        spent_s = start_up.cpu_ns(name, plan.core) / 1e9
        series[label].begin_round(row.rounded(plan.seconds / spent_s))
    for label in _in_turn(list(names), plan, round_number):
        count = series[label].counts[-1]
        spent_ns = sum(start_up.cpu_ns(names[label], plan.core) for _ in range(count))
        series[label].figures[-1].append(spent_ns / count / row.unit.ns)


def _in_turn(labels: list[str], plan: Plan, round_number: int) -> Iterator[str]:
    """Each of *labels* as often as there are turns; another one is the first in each turn."""
    for turn in range(plan.turns):
        first = (round_number + turn) % len(labels)
        yield from labels[first:] + labels[:first]


def warm_up(row: Row, load: Load, plan: Plan) -> int:
    """Work for about half as long as a measurement takes; return how many things such a measurement is to be of."""
    count = row.warm_up
    load.run(count)
    began_s = time.monotonic()
    load.run(count)
    rate = count / (time.monotonic() - began_s)
    load.run(row.rounded(rate * plan.seconds / 2))
    return row.rounded(rate * plan.seconds)
