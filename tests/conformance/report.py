"""The table of what ran, for people."""

from __future__ import annotations

import collections
from collections.abc import Iterable

from tests.conformance.jobs import Outcome, TestRecord

__all__ = ["complaints", "failures", "reasons", "table"]

_COLUMNS = ("configuration", "module", "counted", "passed", "failed", "left out", "same", "no loop", "skipped", "s")


def table(outcomes: Iterable[Outcome]) -> str:
    """
    One line for each job, and the sums for each configuration.

    *counted* are the tests in which a loop of the configuration really ran; of the others, *same* are not run because
    another class has the same ones, and in *no loop* no such loop ran.
    """
    rows = []
    sums: dict[str, list[float]] = {}
    for outcome in outcomes:
        numbers = _numbers(outcome)
        sums.setdefault(outcome.job.configuration, [0] * len(numbers))
        sums[outcome.job.configuration] = [
            sum(pair) for pair in zip(sums[outcome.job.configuration], numbers, strict=True)
        ]
        rows.append((outcome.job.configuration, outcome.job.module, *numbers))
    rows += [(configuration, "total", *numbers) for configuration, numbers in sums.items()]
    texts = [_COLUMNS, *((*row[:-1], f"{row[-1]:.1f}") for row in rows)]
    widths = [max(len(str(row[column])) for row in texts) for column in range(len(_COLUMNS))]
    return "\n".join(
        "  ".join(
            f"{value!s:<{width}}" if number < 2 else f"{value!s:>{width}}"
            for number, (value, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in texts
    )


def _numbers(outcome: Outcome) -> tuple[int | float, ...]:
    outcomes = [test.outcome for test in outcome.tests]
    return (
        len(outcome.counted),
        len(outcome.passed),
        len(outcome.bad),
        len(outcome.left_out),
        outcomes.count("same"),
        sum(test.outcome == "passed" and not test.rounds for test in outcome.tests),
        outcomes.count("skipped"),
        outcome.seconds,
    )


def reasons(outcomes: Iterable[Outcome]) -> str:
    """Why tests are left out, and how many for each reason."""
    numbers: dict[tuple[str, str], dict[str, int]] = {}
    for outcome in outcomes:
        for test in outcome.left_out:
            of_reason = numbers.setdefault((outcome.job.module, test.reason), collections.Counter())
            of_reason[outcome.job.configuration] += 1
    return "\n".join(
        f"left out of {module} ({', '.join(f'{number} on {name}' for name, number in of_reason.items())}): {reason}"
        for (module, reason), of_reason in numbers.items()
    )


def failures(outcome: Outcome, *, brief: bool = False) -> str:
    """Every reason why *outcome* is not good, with tracebacks or, *brief*, their last lines."""
    parts = [_failure(test, brief) for test in outcome.bad] + [f"stale: {text}" for text in outcome.stale]
    if outcome.trouble:
        parts.append(outcome.trouble)
    title = f"{outcome.job.module} on {outcome.job.configuration}"
    return "\n".join(f"{title}: {part}" for part in parts)


def _failure(test: TestRecord, brief: bool) -> str:
    loop = "" if test.rounds else " (no loop of ours ran in it)"
    details = test.details.strip().rpartition("\n")[2] if brief else test.details
    return f"{test.name} {test.outcome}{loop}\n{details}"


def complaints(outcome: Outcome) -> str:
    """The warnings and uncaught exceptions of each test."""
    return "\n".join(
        f"{outcome.job.module} {test.name}: {complaint}" for test in outcome.tests for complaint in test.complaints
    )
