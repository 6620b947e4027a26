"""
CPython's own tests of asyncio, on our loop, by hand.

    python tests/conformance/run.py                             every module on private epoll reactors
    python tests/conformance/run.py test_events -k subprocess   some tests of a module
    python tests/conformance/run.py --reactor select            on another reactor
    python tests/conformance/run.py --stock test_events         on asyncio's own loop, for comparison
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parents[2]))

from tests.conformance import jobs, report


def main() -> int:
    """Run what the command line asks for; print a table, and return the exit status."""
    arguments = _arguments()
    reason = jobs.why_not_here()
    if reason:
        print(reason)
        return 1
    configuration = _configuration(arguments)
    wanted = [
        jobs.Job(module, configuration, arguments.k, arguments.warnings, arguments.time_limit)
        for module in arguments.modules or jobs.modules()
    ]
    outcomes = []
    with jobs.Jobs(wanted, processes=arguments.processes) as running:
        for future in running.outcomes.values():
            outcome = future.result()
            outcomes.append(outcome)
            _tell(outcome, arguments)
    print(report.table(outcomes))
    print(report.reasons(outcomes))
    if arguments.json:
        with open(arguments.json, "w") as stream:
            json.dump([outcome.as_json() for outcome in outcomes], stream, indent=1)
    return 0 if all(outcome.is_good for outcome in outcomes) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modules", nargs="*", help="test_events, ...; default: all")
    parser.add_argument("--reactor", choices=["txasync", "epoll", "poll", "select", "global"], default="epoll")
    parser.add_argument("--poller", choices=["own", "per-descriptor"], default="own")
    parser.add_argument("--stock", action="store_true", help="on asyncio's own loop instead")
    parser.add_argument("-k", default="", metavar="PATTERN", help="only tests whose name has or matches this")
    parser.add_argument("-v", "--verbose", action="store_true", help="name every test")
    parser.add_argument("--brief", action="store_true", help="of each failure, only the last line")
    parser.add_argument("--warnings", action="store_true", help="collect garbage after each test, and show warnings")
    parser.add_argument("--time-limit", type=float, default=jobs.TIME_LIMIT_S, help="of one test, in seconds")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--json", metavar="FILE", help="write everything to this file")
    arguments = parser.parse_args()
    if arguments.reactor == "global" and arguments.poller != "own":
        parser.error("on the process's reactor, an EPollReactor, the loops of all tests need its own poller")
    return arguments


def _configuration(arguments: argparse.Namespace) -> str:
    if arguments.stock:
        return "stock"
    return str(arguments.reactor) + (" per-descriptor" if arguments.poller == "per-descriptor" else "")


def _tell(outcome: jobs.Outcome, arguments: argparse.Namespace) -> None:
    if arguments.verbose:
        for test in outcome.tests:
            rounds = f"{test.rounds} rounds, " if test.rounds else ""
            print(f"{outcome.job.module}.{test.name}: {test.outcome} ({rounds}{test.seconds:.2f} s)")
    if arguments.warnings:
        print(report.complaints(outcome))
    if not outcome.is_good:
        print(report.failures(outcome, brief=arguments.brief), flush=True)


if __name__ == "__main__":
    sys.exit(main())
