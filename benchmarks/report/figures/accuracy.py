"""Accuracy of the methods at each width, and against time."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator, StrMethodFormatter

from benchmarks.report.figures.looks import accuracies_of, costs_of, look_of, measured, timed
from benchmarks.report.results import Line
from dynadfq.report.figures.theme import LIGHT, Theme, new_figure

LONG_NAME = 24  # letters, more than fit in a third of the width
PANEL = 2.0  # inches, the height of one panel of several
ROW = 0.19  # inches
# Losses against the best line are drawn to scale up to this many times the third quartile.
FAR_BELOW = 2.0


def accuracy_by_method(lines: Sequence[Line], theme: Theme = LIGHT) -> Figure:
    """Draw top-1 of each method, one panel per bit-width of the weights with its bit-FLOPs.

    The methods stand in the order of their accuracy at the lowest width; those without a line there
    come last. Points far below the best stand at the left edge, with their number. A bar is one
    standard deviation over seeds, or, of one seed, one standard error over the test images.
    """
    lines = measured(lines)
    panels = by_width(lines)
    rows = ranked([*panels.values()][-1], names_of(lines))
    figure = new_figure(0.9 + ROW * len(rows))
    axes = figure.subplots(1, len(panels), sharey=True, squeeze=False)[0]
    for ax, (width, shown) in zip(axes, panels.items(), strict=True):
        ax.set_title(f"{width} ({span_of(costs_of(shown))} %)", loc="left", fontsize=9)
        floor = set_range(ax.set_xlim, shown)
        for line in shown:
            row, top1 = rows.index(line.name), line.top1 or 0.0
            _, colour = kind_of(line, theme)
            error = line.top1_error if top1 >= floor else None
            drawn: dict[str, Any] = {"fmt": "o", "markersize": 4.5, "elinewidth": 1.3}
            ax.errorbar(max(top1, floor), row, xerr=error, color=colour, **drawn)
            if top1 < floor:
                beside: dict[str, Any] = {"textcoords": "offset points", "va": "center"}
                ax.annotate(f"{top1:.0f}", (floor, row), (5, 0), fontsize=7, **beside)
        for value in teachers_of(shown):
            ax.axvline(value, **_dashed(theme))
        ax.xaxis.set_major_locator(MaxNLocator(3, integer=True))
    axes[0].set_yticks(range(len(rows)), rows, fontsize=7.5)
    axes[0].set_ylim(len(rows) - 0.5, -0.5)
    axes[len(axes) // 2].set_xlabel("top-1 (%)")
    kinds = dict(kind_of(line, theme) for line in lines)
    handles: list[Line2D] = [
        Line2D([], [], color=colour, marker="o", linestyle="none", markersize=4, label=name)
        for name, colour in kinds.items()
    ]
    if teachers_of(lines):
        handles.append(Line2D([], [], label="float teacher", **_dashed(theme)))
    figure.legend(handles=handles, loc="outside lower center", ncols=4, fontsize=7.5)
    return figure


def by_width(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """Return the lines by the width of their weights, such as W4, the widest first."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        found.setdefault(line.width.partition("A")[0], []).append(line)
    return dict(sorted(found.items(), key=lambda pair: -int(pair[0].removeprefix("W"))))


def ranked(lines: Sequence[Line], names: Sequence[str]) -> list[str]:
    """Return names by their accuracy on the lines, best first; those without a line come last.

    Of several lines of a name, the best one counts.
    """
    best = {name: -math.inf for name in names}
    for line in lines:
        best[line.name] = max(best[line.name], line.top1 or 0.0)
    return sorted(names, key=lambda name: -best[name])


def span_of(costs: Sequence[float]) -> str:
    """Return the range of some costs in words.

    >>> span_of([2.62, 2.6]), span_of([1.44, 1.92])
    ('2.6', '1.4–1.9')
    """
    ends = (f"{min(costs):.1f}", f"{max(costs):.1f}")
    return "–".join(dict.fromkeys(ends))


def kind_of(line: Line, theme: Theme) -> tuple[str, str]:
    """Return the kind of a line and its colour."""
    if not line.data_free:
        return "not data-free", theme.muted
    return (
        ("widths by image", theme.dynamic) if "{" in line.width else ("fixed widths", theme.fixed)
    )


def accuracy_against_time(lines: Sequence[Line], theme: Theme = LIGHT) -> Figure:
    """Draw top-1 over the time of images and student, one panel per bit-width of the weights.

    Points far below the best stand at the lower edge, without a bar. Bars are as in
    `accuracy_by_method`.
    """
    lines = timed(lines)
    names = names_of(lines)
    panels = by_width(lines)
    figure = new_figure(0.5 + PANEL * len(panels) + legend_height(lines))
    axes = figure.subplots(len(panels), 1, sharex=True, squeeze=False)[:, 0]
    for ax, (width, shown) in zip(axes, panels.items(), strict=True):
        draw_points(ax, shown, names, theme)
        ax.set_ylabel(f"top-1 (%), {width}")
    axes[-1].set_xscale("log")
    axes[-1].xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes[-1].set_xlabel("synthesis and fine-tuning (seconds)")
    draw_legend(figure, lines, theme)
    return figure


def names_of(lines: Sequence[Line]) -> list[str]:
    """Return the methods, in the order of the lines."""
    return list(dict.fromkeys(line.name for line in lines))


def legend_columns(lines: Sequence[Line]) -> int:
    """Return how many columns the methods' names fit into."""
    return 2 if max(map(len, names_of(lines))) > LONG_NAME else 3


def legend_height(lines: Sequence[Line]) -> float:
    """Return the height in inches of a legend of all methods and the teacher."""
    return 0.185 * math.ceil((len(names_of(lines)) + 1) / legend_columns(lines))


def draw_points(ax: Axes, lines: Sequence[Line], names: Sequence[str], theme: Theme) -> None:
    """Draw top-1 of each line over its time, the teachers' as dashed lines, and set the range of y.

    names: of all methods of the figure, whose order gives colour and marker.
    """
    floor = set_range(ax.set_ylim, lines)
    for line in lines:
        look = look_of(names.index(line.name), theme)
        top1 = line.top1 or 0.0
        error = line.top1_error if top1 >= floor else None
        place = (line.seconds or 0.0, max(top1, floor))
        ax.errorbar(*place, yerr=error, markersize=5, elinewidth=1.1, **look)
    for value in teachers_of(lines):
        ax.axhline(value, **_dashed(theme))


def set_range(set_limits: Callable[[float, float], object], lines: Sequence[Line]) -> float:
    """Set the range of accuracies that an axis shows, and return the lowest that it has to scale.

    set_limits: of the axis, takes both ends.
    """
    floor = lowest_to_scale(accuracies_of(lines))
    shown = [floor, *teachers_of(lines)]
    for line in lines:
        top1, error = line.top1 or 0.0, line.top1_error or 0.0
        if top1 >= floor:
            shown += [top1 - error, top1 + error]
    margin = 0.09 * max(max(shown) - min(shown), 0.5)
    set_limits(min(shown) - margin, max(shown) + margin)
    return floor


def teachers_of(lines: Sequence[Line]) -> list[float]:
    """Return the teachers' accuracies in percent, each once."""
    return sorted({line.teacher_top1 for line in lines if line.teacher_top1 is not None})


def draw_legend(figure: Figure, lines: Sequence[Line], theme: Theme) -> None:
    """Put the legend of the lines below the figure, and the teacher's."""
    handles = [
        Line2D([], [], linestyle="none", markersize=5, label=name, **look_of(number, theme))
        for number, name in enumerate(names_of(lines))
    ]
    if teachers_of(lines):
        handles.append(Line2D([], [], label="float teacher", **_dashed(theme)))
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=legend_columns(lines),
        fontsize=7.5,
        handlelength=1.6,
        handletextpad=0.5,
        columnspacing=1.2,
        labelspacing=0.35,
    )


def _dashed(theme: Theme) -> dict[str, Any]:
    return {"color": theme.muted, "linewidth": 1.2, "linestyle": (0, (5, 3))}


def lowest_to_scale(accuracies: Sequence[float]) -> float:
    """Return the accuracy below which points are drawn at the edge of the figure.

    >>> lowest_to_scale([94.0, 93.0, 92.0, 90.0, 92.0, 40.0])
    90.0
    """
    best = max(accuracies)
    losses = sorted(best - accuracy for accuracy in accuracies)
    return max(min(accuracies), best - FAR_BELOW * losses[3 * (len(losses) - 1) // 4])
