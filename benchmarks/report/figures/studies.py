"""Studies of one parameter or two."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report.figures.looks import accuracies_of, look_of, measured
from benchmarks.report.results import Line
from benchmarks.report.tables import key_words, value_words
from dynadfq.report.figures.theme import LIGHT, Theme, new_figure

APART = 0.05  # of the distance of two values, between series


class Panel(NamedTuple):
    """A study of one key: series of (value, line), by name."""

    key: str
    series: Mapping[str, list[tuple[Any, Line]]]

    @property
    def values(self) -> list[Any]:
        """The values of the key, numbers in their order before words."""
        every = [value for points in self.series.values() for value, _ in points]
        return [value for _, value in sorted({_place(value): value for value in every}.items())]


def panels(lines: Sequence[Line]) -> list[Panel]:
    """Return a panel per varied key of which two values or more were measured.

    Lines that vary several keys belong to the panel of the last, with a series per other value.
    """
    found: dict[str, dict[str, list[tuple[Any, Line]]]] = {}
    several = len({(line.name, line.width) for line in lines}) > 1
    for line in measured(lines):
        if not line.varied:
            continue
        *others, key = line.varied
        name = ", ".join(
            f"{key_words(other)} {value_words(line.varied[other])}" for other in others
        )
        if not name:
            name = f"{line.name} {line.width}" if several else ""
        found.setdefault(key, {}).setdefault(name, []).append((line.varied[key], line))
    all_panels = [Panel(key, series) for key, series in found.items()]
    return [panel for panel in all_panels if len(panel.values) > 1]


def parameter_study(found: Sequence[Panel], theme: Theme = LIGHT) -> Figure:
    """Draw top-1 over the tried values, at equal distances, in one panel per key."""
    columns = min(2, len(found))
    rows = math.ceil(len(found) / columns)
    figure = new_figure(0.5 + 2.4 * rows)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[len(found) :]:
        ax.set_axis_off()
    for ax, panel in zip(axes, found, strict=False):
        _study(ax, panel, theme)
    for row in range(rows):
        axes[row * columns].set_ylabel("top-1 (%)")
    return figure


def _study(ax: Axes, panel: Panel, theme: Theme) -> None:
    at = {_place(value): number for number, value in enumerate(panel.values)}
    for number, (name, points) in enumerate(panel.series.items()):
        points = sorted(points, key=lambda point: at[_place(point[0])])
        shift = APART * (number - (len(panel.series) - 1) / 2)  # so that no bar hides another
        x = [at[_place(value)] + shift for value, _ in points]
        look = look_of(number, theme)
        spread = [line.top1_error or 0 for _, line in points]
        lines = [line for _, line in points]
        ax.errorbar(
            x, accuracies_of(lines), yerr=spread, markersize=5.5, elinewidth=1.2, label=name, **look
        )
    ax.set_xticks(range(len(at)), [value_words(value) for value in panel.values])
    ax.set_xlim(-0.4, len(at) - 0.6)
    ax.margins(y=0.2)
    ax.set_title(key_words(panel.key), fontsize=10.5)
    ax.grid(axis="x", visible=False)
    if any(panel.series):
        ax.legend(fontsize=8, handlelength=1.4)


def _place(value: Any) -> tuple[int, float, str]:
    """Numbers in their order, before words."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (0, float(value), "") if number else (1, 0.0, value_words(value))
