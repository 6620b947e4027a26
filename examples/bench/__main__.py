"""
Compare event loops, by the processor time that the same server takes on each of them.

    python examples/bench                                     a selection, in some minutes
    python examples/bench --rows 'tcp-*' --kinds txasync,uvloop
    python examples/bench --full                              everything
    python examples/bench --quick                             see that everything works; the figures mean nothing
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import measuring
import report
import rows
from kinds import KINDS, REFERENCE, START_UP, has_service
from processes import Failed, Server, compile_load, make_certificate
from results import Result
from versions import versions

# Measurements of each server process. More of them tell more about the process, more processes more about the kind.
TURNS = 3
# What a process has open beside its connections, generously.
OTHER_FILES = 50


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python examples/bench",
        description="Compare event loops, by the processor time that the same server takes on each of them.",
    )
    parser.add_argument(
        "--rows",
        metavar="PATTERN",
        dest="rows_asked_for",
        help="rows to measure: their names, or shell patterns, with commas between",
    )
    parser.add_argument(
        "--kinds",
        default=",".join(kind.name for kind in KINDS.values() if kind.by_default),
        help="kinds to compare (default: %(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=3, help="server processes of each kind (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.2, help="for one measurement (default: %(default)s)")
    parser.add_argument("--full", action="store_true", help="measure all rows")
    parser.add_argument("--quick", action="store_true", help="only see that everything works, with a few messages")
    parser.add_argument("--list", action="store_true", help="print the names of all rows, and end")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="DIR",
        default=Path("bench-results"),
        help="where to write results.json, .rst, .png and .svg (default: %(default)s)",
    )
    parser.add_argument(
        "--core", type=int, default=max(os.sched_getaffinity(0)), help="the processor to use (default: %(default)s)"
    )
    options = parser.parse_args()
    options.kinds = options.kinds.split(",")
    options.rows = select_rows(options)
    problem = None if options.list else problem_with(options)
    if problem is not None:
        parser.error(problem)
    return options


def problem_with(options: argparse.Namespace) -> str | None:
    """Why *options* cannot be followed here, and what to do about it."""
    if options.rounds < 1 or options.seconds <= 0:
        return f"got --rounds {options.rounds} and --seconds {options.seconds}: there must be some of both"
    if not options.rows:
        return f"no row is called {options.rows_asked_for!r}: --list prints all names"
    for name in options.kinds:
        if name not in KINDS:
            return f"there is no kind {name!r}: choose from {', '.join(KINDS)}"
        for module in KINDS[name].needs:
            if importlib.util.find_spec(module) is None:
                return (
                    f"{name} needs {module}, which is not installed: run {sys.executable} -m pip install {module}, "
                    "or leave it out with --kinds"
                )
    for row in options.rows:
        if not can_be_had(row):
            return (
                f"{row.name} needs {row.needs}, which is not installed: run {sys.executable} -m pip install "
                f"{row.needs}, or leave it out with --rows"
            )
    if options.core not in os.sched_getaffinity(0):
        return f"--core {options.core}: this process may use only {sorted(os.sched_getaffinity(0))}"
    most_files = max(row.active + row.idle for row in options.rows) + OTHER_FILES
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    if not options.quick and hard_limit != resource.RLIM_INFINITY and most_files > hard_limit:
        return f"these rows need {most_files} open files, and the hard limit is {hard_limit}: see ulimit -Hn"
    return None


def select_rows(options: argparse.Namespace) -> list[rows.Row]:
    if options.rows_asked_for is not None:
        return rows.matching(options.rows_asked_for)
    selected = rows.ROWS if options.full or options.quick or options.list else rows.default()
    return selected if options.list else [row for row in selected if can_be_had(row)]


def can_be_had(row: rows.Row) -> bool:
    """Whether what *row* needs is installed."""
    return row.needs is None or importlib.util.find_spec(row.needs) is not None


def run(options: argparse.Namespace, plan: measuring.Plan) -> list[Result]:
    """Measure all rows, and tell of each when it is done."""
    kinds = measuring.labelled(options.kinds)
    results = []
    for row in options.rows:
        began_s = time.monotonic()
        try:
            result = measuring.measure(row, kinds, REFERENCE, plan)
        except KeyboardInterrupt:
            print(f"\ninterrupted in {row.name}; what comes now are the rows before it", flush=True)
            break
        if result is None:
            continue
        results.append(result)
        cells = ", ".join(f"{series.label} {report.cell(result, series.label)}" for series in result.series)
        spent_s = time.monotonic() - began_s
        print(f"{row.name}: {cells} {row.unit.name}; spread {result.spread:.1%}, {spent_s:.0f} s", flush=True)
    return results


def write(options: argparse.Namespace, results: list[Result], table: str) -> None:
    """Write all files into the directory of *options*."""
    made_with = versions()
    options.output.mkdir(parents=True, exist_ok=True)
    facts = {
        "versions": made_with,
        "core": options.core,
        "rounds": options.rounds,
        "turns": TURNS,
        "seconds": options.seconds,
        "quick": options.quick,
        "kinds": {name: KINDS[name].about for name in options.kinds},
    }
    report.write_json(options.output / "results.json", facts, results)
    report.write_rst(options.output / "results.rst", made_with, table)
    if importlib.util.find_spec("matplotlib") is None:
        print("matplotlib is not installed, so there are no plots: pip install 'txasync[bench]'")
        return
    from plots import write_plots

    title = f"Processor time of the server; shorter is better (Python {sys.version.split()[0]})"
    write_plots([options.output / "results.png", options.output / "results.svg"], title, results)


@contextlib.contextmanager
def shared_servers(options: argparse.Namespace, plan: measuring.Plan) -> Iterator[None]:
    """Let *plan* have one server process of each kind, for all rows."""
    services = {row.service for row in options.rows} - {START_UP}
    with contextlib.ExitStack() as stack:
        for name in set(options.kinds):
            offered = sorted(service for service in services if has_service(KINDS[name], service))
            plan.shared[name] = stack.enter_context(Server(KINDS[name], offered, plan.core, plan.directory))
        yield


def main() -> None:
    if sys.platform != "linux":
        raise SystemExit("this benchmark needs Linux: epoll, processor affinity, and the clocks of other processes")
    options = parse_arguments()
    if options.list:
        print("\n".join(row.name for row in options.rows))
        return
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        with_tls = any(row.is_tls for row in options.rows)
        try:
            plan = measuring.Plan(
                core=options.core,
                rounds=1 if options.quick else options.rounds,
                turns=1 if options.quick else TURNS,
                seconds=options.seconds,
                quick=options.quick,
                load=compile_load(directory, with_tls),
                directory=directory,
            )
            if with_tls:
                make_certificate(directory)
            with shared_servers(options, plan) if options.quick else contextlib.nullcontext():
                results = run(options, plan)
        except Failed as error:
            raise SystemExit(f"error: {error}") from None
    if not results:
        raise SystemExit("nothing was measured")
    labels = [label for label, _ in measuring.labelled(options.kinds)]
    table = report.simple_table(report.table(results, labels))
    print(f"\n{table}", flush=True)
    write(options, results, table)


if __name__ == "__main__":
    main()
