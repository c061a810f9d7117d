"""Figures of the grid: accuracy against cost, studies of one parameter or two, statistics per layer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.report.results import Line
from benchmarks.report.tables import key_words, value_words
from dynadfq.report.figures.theme import LIGHT, Theme, new_figure

MARKERS = "osD^vP"
LARGEST_BOXES = 7  # layers
LONG_NAME = 24  # letters, more than fit in a third of the width
LARGEST_LOSS = 40.0  # points of top-1 below the best that are drawn to scale
NEARLY, STEP = 0.02, 0.015  # shares of the cost axis: what counts as equal, and how far equal ones stand apart


class Panel(NamedTuple):
    """A study of one key: series of (value, line), by name."""

    key: str
    series: Mapping[str, list[tuple[Any, Line]]]


def front(lines: Sequence[Line]) -> list[Line]:
    """The lines that no other beats: none costs less at the same accuracy or better, from cheap to dear."""
    best, kept = -math.inf, []
    for line in sorted(measured(lines), key=lambda one: (one.bit_flops_percent, -(one.top1 or 0))):
        if line.top1 is not None and line.top1 > best:
            best = line.top1
            kept.append(line)
    return kept


def measured(lines: Sequence[Line]) -> list[Line]:
    """The lines that have an accuracy and a cost."""
    return [line for line in lines if line.top1 is not None and line.bit_flops_percent is not None]


def accuracy_against_cost(lines: Sequence[Line], theme: Theme = LIGHT) -> Figure:
    """Top-1 over bit-FLOPs, a colour and marker for each method; the front is stepped.

    Points of nearly equal cost stand side by side, and those far below the best at the lower edge, with their number.
    """
    lines = measured(lines)
    names = list(dict.fromkeys(line.name for line in lines))
    columns = 2 if max(map(len, names)) > LONG_NAME else 3
    figure = new_figure(3.5 + 0.185 * math.ceil((len(names) + 2) / columns))
    ax = figure.subplots()
    best = front(lines)
    ax.step(_costs(best), _accuracies(best), where="post", color=theme.muted, linewidth=1.1, linestyle=(0, (1, 1.5)))
    floor = max(min(_accuracies(lines)), max(_accuracies(lines)) - LARGEST_LOSS)
    for x, line in zip(side_by_side(_costs(lines)), lines, strict=True):
        look = _look(names.index(line.name), theme)
        top1 = line.top1 or 0.0
        ax.errorbar(x, max(top1, floor), yerr=line.top1_std, markersize=5, elinewidth=1.1, **look)
        if top1 < floor:
            ax.annotate(
                f"{top1:.0f}", (x, floor), (0, -5), textcoords="offset points", ha="center", va="top", fontsize=7
            )
    span = max(max(_accuracies(lines)) - floor, 0.5)
    ax.set_ylim(floor - 0.09 * span, None)
    handles = [
        Line2D([], [], linestyle="none", markersize=5, label=name, **_look(number, theme))
        for number, name in enumerate(names)
    ]
    handles.append(Line2D([], [], color=theme.muted, linewidth=1.1, linestyle=(0, (1, 1.5)), label="best at its cost"))
    teachers = sorted({line.teacher_top1 for line in lines if line.teacher_top1 is not None})
    for value in teachers:
        ax.axhline(value, color=theme.muted, linewidth=1.2, linestyle=(0, (5, 3)))
    if teachers:
        handles.append(Line2D([], [], color=theme.muted, linewidth=1.2, linestyle=(0, (5, 3)), label="float teacher"))
    ax.set_xlabel("bit-FLOPs an image (% of the float network)")
    ax.set_ylabel("top-1 (%)")
    figure.legend(
        handles=handles, loc="outside lower center", ncols=columns, fontsize=7.5, handlelength=1.6, handletextpad=0.5,
        columnspacing=1.2, labelspacing=0.35,
    )  # fmt: skip
    return figure


def side_by_side(costs: Sequence[float]) -> list[float]:
    """Places on the axis: costs closer than a percent of the span are spread around their mean, in their order.

    >>> side_by_side([1.0, 1.0, 2.0])
    [0.9925, 1.0075, 2.0]
    """
    span = (max(costs) - min(costs)) or 1.0
    places = list(costs)
    ordered = sorted(range(len(costs)), key=lambda one: costs[one])
    group: list[int] = []
    for index in [*ordered, -1]:
        if group and (index < 0 or costs[index] - costs[group[0]] > NEARLY * span):
            centre = sum(costs[one] for one in group) / len(group)
            for rank, one in enumerate(sorted(group)):
                if len(group) > 1:
                    places[one] = round(centre + (rank - (len(group) - 1) / 2) * STEP * span, 9)
            group = []
        group.append(index)
    return places


def panels(lines: Sequence[Line]) -> list[Panel]:
    """What a study varies: a panel for each key, or for the last of several keys with a series for each other value."""
    found: dict[str, dict[str, list[tuple[Any, Line]]]] = {}
    several = len({(line.name, line.width) for line in lines}) > 1
    for line in measured(lines):
        if not line.varied:
            continue
        *others, key = line.varied
        name = ", ".join(f"{key_words(other)} {value_words(line.varied[other])}" for other in others)
        if not name:
            name = f"{line.name} {line.width}" if several else ""
        found.setdefault(key, {}).setdefault(name, []).append((line.varied[key], line))
    return [Panel(key, series) for key, series in found.items()]


def parameter_study(found: Sequence[Panel], theme: Theme = LIGHT) -> Figure:
    """Top-1 over the tried values, which stand at equal distances; a panel for each key."""
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
    values = sorted({_place(value): value for points in panel.series.values() for value, _ in points}.items())
    at = {place: number for number, (place, _) in enumerate(values)}
    for number, (name, points) in enumerate(panel.series.items()):
        points = sorted(points, key=lambda point: at[_place(point[0])])
        x = [at[_place(value)] for value, _ in points]
        look = _look(number, theme)
        spread = [line.top1_std or 0 for _, line in points]
        lines = [line for _, line in points]
        ax.errorbar(x, _accuracies(lines), yerr=spread, markersize=5.5, elinewidth=1.2, label=name, **look)
    ax.set_xticks(range(len(values)), [value_words(value) for _, value in values])
    ax.set_xlim(-0.4, len(values) - 0.6)
    ax.margins(y=0.2)
    ax.set_title(key_words(panel.key), fontsize=10.5)
    ax.grid(axis="x", visible=False)
    if any(panel.series):
        ax.legend(fontsize=8, handlelength=1.4)


def layer_statistics(tables: Mapping[str, pd.DataFrame], theme: Theme = LIGHT) -> Figure:
    """Boxes over images of each layer's offset and spread, a colour for each kind of images; BN's own is the line."""
    layers = sorted(set.intersection(*(set(table["layer"]) for table in tables.values())))
    chosen = [layers[i] for i in np.unique(np.linspace(0, len(layers) - 1, LARGEST_BOXES).round().astype(int))]
    figure = new_figure(4.9)
    above, below = figure.subplots(2, 1, sharex=True)
    for ax, column, match in ((above, "offset", 0.0), (below, "spread", 1.0)):
        ax.axhline(match, color=theme.ink, linewidth=1.1, zorder=0.5)
        for number, table in enumerate(tables.values()):
            shift = (number - (len(tables) - 1) / 2) * 0.8 / len(tables)
            for place, layer in enumerate(chosen):
                values = table.loc[table["layer"] == layer, column].to_numpy(dtype=float)
                _box(ax, place + shift, 0.62 / len(tables), values, _colours(theme)[number], theme)
        ax.grid(axis="x", visible=False)
    above.set_ylabel("mean less BN mean\n(in BN deviations)")
    below.set_ylabel("deviation over\nBN deviation")
    below.set_xticks(range(len(chosen)), [str(layer + 1) for layer in chosen])
    below.set_xlabel("BatchNorm layer, in execution order")
    handles = [
        Line2D([], [], color=_colours(theme)[number], linewidth=6, label=name) for number, name in enumerate(tables)
    ]
    handles.append(Line2D([], [], color=theme.ink, linewidth=1.1, label="BN statistics"))
    figure.legend(handles=handles, loc="outside upper center", ncols=4, handlelength=1, columnspacing=1.4)
    return figure


def _box(ax: Axes, place: float, width: float, values: np.ndarray, colour: str, theme: Theme) -> None:
    """Middle half as a bar, 5 % to 95 % as a line, the median as a cut."""
    low, first, median, third, high = np.percentile(values, [5, 25, 50, 75, 95])
    ax.vlines(place, low, high, color=colour, linewidth=1.2)
    ax.bar(place, third - first, bottom=first, width=width, color=colour)
    ax.hlines(median, place - width / 2, place + width / 2, color=theme.background, linewidth=1.5)


def _colours(theme: Theme) -> list[str]:
    return [theme.dynamic, theme.fixed, theme.one_hot, theme.control, theme.soft, theme.muted]


def _look(number: int, theme: Theme) -> dict[str, Any]:
    """A colour and a marker; together they differ for the first 36 methods."""
    colours = _colours(theme)
    shift = number // len(colours)
    return {"color": colours[number % len(colours)], "marker": MARKERS[(number + shift) % len(MARKERS)]}


def _place(value: Any) -> tuple[int, float, str]:
    """Numbers in their order, before words."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return (0, float(value), "") if number else (1, 0.0, value_words(value))


def _costs(lines: Sequence[Line]) -> list[float]:
    return [line.bit_flops_percent or 0.0 for line in lines]


def _accuracies(lines: Sequence[Line]) -> list[float]:
    return [line.top1 or 0.0 for line in lines]
