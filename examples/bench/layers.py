"""
See where the processor time of a message goes, layer by layer.

    python examples/bench/layers.py                                        a message of 1 KiB, on one of 50 connections
    python examples/bench/layers.py --row call-soon-chain --kinds txasync,asyncio

First come ways to serve the same: by hand round ``select.epoll``, on the loop by ``add_reader()`` without a transport,
and as it is meant to be. They are measured in turn, so that what one takes more than another is what the loop and the
transport take. How much of each is the kernel's, the kernel itself tells: it looks some hundred times a second.

Then come the calls of each layer, for each message. They are counted in one more process, which is slow from that, so
they have no time beside them: to count is exact, and to take the time of a call makes it longer than what it calls.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import dataclasses
import math
import os
import statistics
import sys
import tempfile
from pathlib import Path

import measuring
import report
import rows
from kinds import KINDS, Kind, has_service
from processes import Failed, Server, compile_load, make_certificate

# What a layer has: the first one counts of which a line is the beginning of "module:function".
LAYERS = (
    ("poll", ("selectors:", "txasync.polling", "twisted.internet.epollreactor:_PollLikeMixin.doPoll")),
    ("poll", ("twisted.internet.epollreactor:EPollReactor.doPoll",)),
    ("handle", ("asyncio.events:", "txasync._handles:", "txasync._callbacks:")),
    ("transport", ("asyncio.selector_events:_Selector", "asyncio.transports:", "asyncio.sslproto:")),
    ("transport", ("txasync.transports", "txasync.tls", "txasync.adapters", "txasync._connections:")),
    ("transport", ("twisted.internet.tcp:", "twisted.internet.udp:", "twisted.internet.unix:")),
    ("transport", ("twisted.internet.abstract:", "twisted.protocols.tls:", "twisted.internet._newtls:")),
    ("dispatch", ("asyncio.base_events:", "asyncio.selector_events:", "asyncio.unix_events:", "txasync")),
    ("dispatch", ("twisted.internet.", "twisted.python.", "twisted.logger.")),
    ("protocol", ("asyncio.", "twisted.protocols", "asyncio_server:", "twisted_server:", "adapted_server:")),
    ("protocol", ("epoll_server:", "scheduling:", "twisted_scheduling:", "tasks:")),
)
ORDER = ("poll", "dispatch", "handle", "transport", "protocol", "other")
# Calls that are less frequent, by message, are not printed one by one.
RARE = 0.01


@dataclasses.dataclass
class Way:
    """
    One way to serve the messages of a row.

    Attributes:
        name: For the table.
        kind, row: What it is.
        figures: By turn, in the row's unit.
        ticks: In how many ticks the kernel found it in user code, and in the kernel.
    """

    name: str
    kind: Kind
    row: rows.Row
    figures: list[float] = dataclasses.field(default_factory=list)
    ticks: tuple[int, int] = (0, 0)

    def cells(self, first: Way) -> list[str]:
        """Its line in the table, with what it takes more than the *first*."""
        median = statistics.median(self.figures)
        more = "" if first is self else f"{median - statistics.median(first.figures):+.2f}"
        return [self.name, f"{median:.2f}", more, *self._shares(median)]

    def _shares(self, median: float) -> list[str]:
        """What of *median* is the kernel's, what is not, and how sure that is."""
        looked = sum(self.ticks)
        if not looked:
            return ["?", "?", ""]
        share = self.ticks[1] / looked
        # Two standard errors of a share that is found by looking so many times.
        error = 2 * median * math.sqrt(share * (1 - share) / looked)
        return [f"{median * share:.2f}", f"{median * (1 - share):.2f}", f"±{error:.2f}"]


def ways(row: rows.Row, kind: Kind) -> list[Way]:
    """All ways that there are for *row* on *kind*, which itself is the last."""
    found = []
    if kind.name != "epoll" and has_service(KINDS["epoll"], row.service):
        found.append(Way("epoll by hand", KINDS["epoll"], row))
    if row.service == "protocol" and row.load == "echo" and kind.name != "epoll" and has_service(kind, "add-reader"):
        found.append(Way(f"{kind.name}, add_reader()", kind, dataclasses.replace(row, service="add-reader")))
    return [*found, Way(kind.name, kind, row)]


def measure(found: list[Way], plan: measuring.Plan) -> None:
    """Take the ways in turn, as the benchmark takes kinds."""
    for _ in range(plan.rounds):
        with contextlib.ExitStack() as stack:
            running = []
            for way in found:
                server = stack.enter_context(Server(way.kind, [way.row.service], plan.core, plan.directory))
                server.let_one_connection_end(way.row.service)
                load = stack.enter_context(measuring.connect(way.row, server, plan))
                running.append((way, server, load, measuring.warm_up(way.row, load, plan)))
            for _ in range(plan.turns):
                for way, server, load, count in running:
                    before_ns, before = server.cpu_ns(), server.cpu_ticks()
                    load.run(count)
                    spent_ns, after = server.cpu_ns() - before_ns, server.cpu_ticks()
                    way.figures.append(spent_ns / count / way.row.unit.ns)
                    user, system = way.ticks
                    way.ticks = user + after[0] - before[0], system + after[1] - before[1]


def count_calls(row: rows.Row, kind: Kind, plan: measuring.Plan) -> dict[tuple[str, str, str | None], float]:
    """How often each Python function is called for one message, and how often it calls each C function."""
    with Server(kind, [row.service], plan.core, plan.directory, "counted_server.py") as server:
        server.let_one_connection_end(row.service)
        with measuring.connect(row, server, plan) as load:
            load.run(row.warm_up)
            before = collections.Counter({tuple(key): calls for *key, calls in server.ask()})
            count = row.rounded(row.warm_up)
            load.run(count)
            after = collections.Counter({tuple(key): calls for *key, calls in server.ask()})
    return {key: calls / count for key, calls in (after - before).items()}


def layer_of(module: str, function: str) -> str:
    """The layer that *function* belongs to."""
    name = f"{module}:{function}"
    return next((layer for layer, beginnings in LAYERS if name.startswith(beginnings)), "other")


def tables_of_calls(calls: dict[tuple[str, str, str | None], float]) -> tuple[list[list[str]], list[list[str]]]:
    """The calls of each layer, and of each function in it."""
    by_layer: dict[str, list[float]] = {layer: [0.0, 0.0] for layer in ORDER}
    lines: dict[tuple[str, str], tuple[float, list[str]]] = {}
    for (module, function, called), number in calls.items():
        by_layer[layer_of(module, function)][called is not None] += number
        own, called_by_it = lines.get((module, function), (0.0, []))
        if called is None:
            own += number
        elif number >= RARE:
            called_by_it.append(f"{called} {number:.2f}")
        lines[module, function] = own, called_by_it
    summary = [["layer", "Python", "C"]]
    summary += [[layer, f"{python:.2f}", f"{c:.2f}"] for layer, (python, c) in by_layer.items() if python or c]
    functions = [["layer", "function", "calls", "and what it calls in C"]]
    for (module, function), (own, called_by_it) in sorted(
        lines.items(), key=lambda line: (ORDER.index(layer_of(*line[0])), -line[1][0])
    ):
        if own >= RARE or called_by_it:
            text = ", ".join(called_by_it) or "-"
            functions.append([layer_of(module, function), f"{module}:{function}", f"{own:.2f}", text])
    return summary, functions


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python examples/bench/layers.py", description="See where the processor time of a message goes."
    )
    parser.add_argument("--row", default="tcp-1KiB-x50", help="one row of the benchmark (default: %(default)s)")
    parser.add_argument("--kinds", default="txasync", help="kinds, with commas between (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3, help="server processes of each (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for one measurement (default: %(default)s)")
    parser.add_argument("--core", type=int, default=max(os.sched_getaffinity(0)), help="the processor to use")
    options = parser.parse_args()
    found = [row for row in rows.ROWS if row.name == options.row and row.unit.name.startswith("µs")]
    if not found:
        parser.error(f"there is no row {options.row!r} with a time for each of many things: see examples/bench --list")
    options.row = found[0]
    options.kinds = options.kinds.split(",")
    for name in options.kinds:
        if name not in KINDS or not has_service(KINDS[name], options.row.service):
            having = ", ".join(name for name, kind in KINDS.items() if has_service(kind, options.row.service))
            parser.error(f"there is no kind {name!r} for {options.row.name}: choose from {having}")
    return options


def tell(row: rows.Row, kind: Kind, plan: measuring.Plan) -> None:
    """Print everything about *row* on *kind*."""
    print(f"{row.name} on {kind.name}: {kind.about}; Python {sys.version.split()[0]}\n")
    found = ways(row, kind)
    measure(found, plan)
    lines = [way.cells(found[0]) for way in found]
    print(report.simple_table([["way", row.unit.name, "more", "in the kernel", "in user code", ""], *lines]))
    summary, functions = tables_of_calls(count_calls(row, kind, plan))
    print(f"Calls, {row.unit.name.replace('µs/', 'for one ')}:\n\n{report.simple_table(summary)}")
    print(report.simple_table(functions), flush=True)


def main() -> None:
    options = parse_arguments()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        try:
            plan = measuring.Plan(
                core=options.core,
                rounds=options.rounds,
                turns=3,
                seconds=options.seconds,
                quick=False,
                load=compile_load(directory, options.row.is_tls),
                directory=directory,
            )
            if options.row.is_tls:
                make_certificate(directory)
            for kind in options.kinds:
                tell(options.row, KINDS[kind], plan)
        except Failed as error:
            raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
