"""What the results look like: on the terminal, and as files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from results import Result


def cell(result: Result, label: str) -> str:
    """One kind in one row: its figure, and in brackets its ratio to the reference."""
    series = next((series for series in result.series if series.label == label), None)
    if series is None:
        return "-"
    if label == result.reference:
        return figure(series.median())
    return f"{figure(series.median())} ({result.ratio(series):.2f})"


def figure(number: float) -> str:
    """Three digits, or all before the point."""
    return f"{number:#.3g}".rstrip(".") if number < 1000 else f"{number:.0f}"


def table(results: list[Result], labels: list[str]) -> list[list[str]]:
    """The results as rows of text, the heading first."""
    heading = ["row", "unit", *labels, "client", "spread"]
    return [heading] + [
        [
            result.row.name,
            result.row.unit.name,
            *(cell(result, label) for label in labels),
            _client(result),
            f"{result.spread:.1%}",
        ]
        for result in results
    ]


def _client(result: Result) -> str:
    """What the load generator took beside the reference, in the same unit."""
    median = next(series for series in result.series if series.label == result.reference).load_median()
    return "-" if median is None else figure(median)


def simple_table(rows: list[list[str]]) -> str:
    """A simple table of reStructuredText, which is good to read on a terminal as well."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    rule = "  ".join("=" * width for width in widths)
    lines = ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([rule, lines[0], rule, *lines[1:], rule]) + "\n"


def write_json(path: Path, facts: Mapping[str, object], results: list[Result]) -> None:
    """Everything that was measured, and *facts*: with what, and how."""
    path.write_text(json.dumps({**facts, "rows": [result.as_json() for result in results]}, indent=1) + "\n")


def write_rst(path: Path, versions: Mapping[str, str | None], table: str) -> None:
    """*table*, and what it was made with, to be included in a page."""
    lines = [f"- {name}: {version}" for name, version in versions.items() if version is not None]
    path.write_text("\n".join([table, "Made with:", "", *lines, ""]))
