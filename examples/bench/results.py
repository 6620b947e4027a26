"""What comes out of measuring a row, and its statistics."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field

from rows import Row


@dataclass
class Series:
    """
    The measurements of one kind in one row.

    Attributes:
        label: The kind; with a number, if it takes part more than once.
        figures: In the row's unit, by round and turn.
        load_figures: The same for the load generator's own processor time.
        counts: How many things one measurement was of, by round.
    """

    label: str
    figures: list[list[float]] = field(default_factory=list)
    load_figures: list[list[float]] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)

    def begin_round(self, count: int) -> None:
        """The next figures are of *count* things each."""
        self.counts.append(count)
        self.figures.append([])

    def all(self) -> list[float]:
        return [figure for turns in self.figures for figure in turns]

    def median(self) -> float:
        return statistics.median(self.all())

    def quartiles(self) -> tuple[float, float]:
        """What a quarter of the figures lies below, and what a quarter lies above."""
        return quartiles(self.all())

    def load_median(self) -> float | None:
        figures = [figure for turns in self.load_figures for figure in turns]
        return statistics.median(figures) if figures else None

    def ratios_to(self, reference: Series) -> list[float]:
        """Each measurement's ratio to that of *reference* in the same turn."""
        return [ours / theirs for ours, theirs in zip(self.all(), reference.all(), strict=True)]


@dataclass
class Result:
    """
    The measurements of one row.

    Attributes:
        row: The row.
        series: One for each kind that has the row.
        reference: The label of the kind that ratios are to.
        spread: Of the kind that varied most: how far apart the middle half of its ratios lies, over their median.
        discarded: Earlier runs of the row, which varied more.
    """

    row: Row
    series: list[Series]
    reference: str
    spread: float = 0.0
    discarded: list[list[Series]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.spread = max(spread(self.ratios(series)) for series in self.series)
        if len(self.series) == 1:
            self.spread = spread(self.series[0].all())

    def ratios(self, series: Series) -> list[float]:
        reference = next(other for other in self.series if other.label == self.reference)
        return series.ratios_to(reference)

    def ratio(self, series: Series) -> float:
        return statistics.median(self.ratios(series))

    def as_json(self) -> dict[str, object]:
        return {
            "row": self.row.name,
            "unit": self.row.unit.name,
            "reference": self.reference,
            "spread": self.spread,
            "kinds": {
                series.label: {
                    "median": series.median(),
                    "ratio": self.ratio(series),
                    "load_generator": series.load_median(),
                    **{name: value for name, value in asdict(series).items() if name != "label"},
                }
                for series in self.series
            },
            "discarded": [[asdict(series) for series in run] for run in self.discarded],
        }


def spread(figures: list[float]) -> float:
    """The interquartile range of *figures*, over their median."""
    low, high = quartiles(figures)
    return (high - low) / statistics.median(figures)


def quartiles(figures: list[float]) -> tuple[float, float]:
    """The first and the third quartile of *figures*; of a single figure, itself."""
    if len(figures) == 1:
        return figures[0], figures[0]
    low, _, high = statistics.quantiles(figures, n=4, method="inclusive")
    return low, high
