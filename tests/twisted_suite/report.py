"""Outcomes as text."""

from __future__ import annotations

from collections.abc import Mapping

from tests.twisted_suite.jobs import Comparison, Outcomes

__all__ = ["excused", "table", "unsuccessful"]

_ROW = "{:26}{:22}{:>6}{:>14}{:>10}{:>8}{:>8}{:>9}"


def table(outcomes: Mapping[str, Outcomes]) -> str:
    """How many tests there were, and what came of them."""
    rows = [_ROW.format("", "", "tests", "ran a reactor", "succeeded", "skipped", "others", "seconds")]
    for part in dict.fromkeys(part for parts in outcomes.values() for part in parts):
        for configuration, parts in outcomes.items():
            records = list(parts.get(part, {}).values())
            succeeded = sum(record.outcome == "success" for record in records)
            skipped = sum(record.outcome.startswith("skip ") for record in records)
            ran = sum(record.starts > 0 for record in records)
            seconds = round(sum(record.seconds for record in records), 1)
            others = len(records) - succeeded - skipped
            if records:
                rows.append(_ROW.format(part, configuration, len(records), ran, succeeded, skipped, others, seconds))
    return "\n".join(rows)


def excused(configuration: str, compared: Comparison) -> str:
    """What differs from EPollReactor, and may."""
    lines = [f"differs, as it should: {text}" for text in compared.explained]
    lines += [f"differed by chance: {text}" for text in compared.by_chance]
    return "\n".join(f"{configuration}: {line}" for line in lines)


def unsuccessful(outcomes: Mapping[str, Outcomes]) -> str:
    """Every test that neither succeeded nor was skipped, with its tracebacks."""
    return "\n".join(
        f"{configuration}: {name}: {record.outcome}\n{record.details}"
        for configuration, parts in outcomes.items()
        for records in parts.values()
        for name, record in records.items()
        if record.outcome != "success" and not record.outcome.startswith("skip ")
    )
