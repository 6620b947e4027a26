"""The results as a picture: a panel for each row, a bar for each kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from report import cell
from results import Result

COLUMNS = 3
PANEL_WIDTH_IN = 4.6
BAR_HEIGHT_IN = 0.2
OURS = "#c0392b"
OTHERS = "#95a5a6"
REFERENCE = "#2c3e50"


def write_plots(paths: list[Path], title: str, results: list[Result]) -> None:
    """Draw *results* into *paths*, each in the format that its name tells."""
    lines = -(-len(results) // COLUMNS)
    columns = min(COLUMNS, len(results))
    bars = max(len(result.series) for result in results)
    figure = Figure(
        figsize=(PANEL_WIDTH_IN * columns, (BAR_HEIGHT_IN * bars + 0.9) * lines + 0.6), layout="constrained"
    )
    figure.suptitle(title, fontsize="medium")
    panels = list(figure.subplots(lines, columns, squeeze=False).flat)
    for panel, result in zip(panels, results, strict=False):
        _draw(panel, result)
    for panel in panels[len(results) :]:
        panel.set_axis_off()
    for path in paths:
        figure.savefig(path, dpi=150)


def _draw(panel: Any, result: Result) -> None:
    """One row. A bar's length is the figure, shorter is better; the whisker is the middle half of the measurements."""
    labels = [series.label for series in result.series]
    medians = [series.median() for series in result.series]
    quartiles = [series.quartiles() for series in result.series]
    # A median of an even number of figures lies between two, so that rounding could make an error bar negative.
    errors = [
        [max(median - low, 0) for median, (low, _) in zip(medians, quartiles, strict=True)],
        [max(high - median, 0) for median, (_, high) in zip(medians, quartiles, strict=True)],
    ]
    bars = panel.barh(
        labels, medians, xerr=errors, color=[_colour(result, label) for label in labels], ecolor="#555555"
    )
    panel.bar_label(bars, [f" {cell(result, label)}" for label in labels], padding=4, fontsize="x-small")
    panel.invert_yaxis()
    panel.margins(x=0.35)
    panel.set_xlim(left=0)
    panel.xaxis.set_major_locator(MaxNLocator(5))
    panel.tick_params(labelsize="x-small")
    panel.spines[["top", "right"]].set_visible(False)
    panel.set_title(f"{result.row.name}, {result.row.unit.name}", fontsize="small", loc="left")
    reference = next(series for series in result.series if series.label == result.reference)
    panel.axvline(reference.median(), color=REFERENCE, linewidth=0.8, linestyle=":")


def _colour(result: Result, label: str) -> str:
    if label.startswith("txasync"):
        return OURS
    return REFERENCE if label == result.reference else OTHERS
