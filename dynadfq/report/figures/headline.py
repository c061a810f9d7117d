"""The result in one figure: accuracy against cost."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from dynadfq.report.figures.theme import LIGHT, Theme, new_figure
from dynadfq.report.score import Score
from dynadfq.report.tables import Result

MARKERS = {"fixed": "s", "dynamic": "o", "control": "D"}


class Point(NamedTuple):
    """A network with a score and a cost, both in percent."""

    name: str
    role: str
    score: float
    spread: float | None
    cost: float


def accuracy_against_cost(results: Sequence[Result], score: Score, theme: Theme = LIGHT) -> Figure:
    """Score (%) over bit-FLOPs (% of float) for the students; the float teacher, far to the right,
    is a line.
    """
    figure = new_figure(3.3)
    ax = figure.subplots()
    points = [
        Point(one.name, one.role, one.score, one.score_std, one.bit_flops_percent)
        for one in results
        if one.score is not None
    ]
    teacher = [one for one in points if one.role == "teacher"]
    students = [one for one in points if one.role != "teacher"]
    costs = [one.cost for one in students]
    margin = max(0.35 * (max(costs) - min(costs)), 0.02 * max(costs))
    ax.set_xlim(min(costs) - margin, max(costs) + margin)
    lows = [one.score - (one.spread or 0) for one in students]
    highs = [one.score + (one.spread or 0) for one in points]
    span = max(max(highs) - min(lows), 0.5)
    low, high = min(lows) - 0.14 * span, max(highs) + 0.16 * span
    ax.set_ylim(low, high)
    for one in teacher:
        ax.axhline(one.score, color=theme.muted, linewidth=1.3, linestyle=(0, (5, 3)))
    for one in sorted(students, key=lambda one: one.role == "dynamic"):
        ax.errorbar(
            one.cost, one.score, yerr=one.spread, fmt=MARKERS[one.role], markersize=8.5,
            color=getattr(theme, one.role), capsize=4, elinewidth=1.6,
        )  # fmt: skip
    ax.xaxis.set_major_locator(MaxNLocator(5))
    ax.set_yticks(
        [
            tick
            for tick in MaxNLocator(6).tick_values(*ax.get_ylim())
            if low <= tick <= min(high, 100)
        ]
    )
    _labels(ax, points, theme)
    ax.set_xlabel("bit-FLOPs an image (% of the float network)")
    ax.set_ylabel(f"{score.name} (%)")
    return figure


def _labels(ax: Axes, points: Sequence[Point], theme: Theme) -> None:
    """Names in a column to the right, at their height where there is room, joined to their points
    by thin lines.
    """
    low, high = ax.get_ylim()
    right = ax.get_xlim()[1]
    ordered = sorted(points, key=lambda one: one.score)
    heights = spread_out([one.score for one in ordered], gap=0.16 * (high - low))
    for one, height in zip(ordered, heights, strict=True):
        colour = theme.ink if one.role == "teacher" else getattr(theme, one.role)
        spread = f" ± {one.spread:.2f}" if one.spread is not None else ""
        at = (right if one.role == "teacher" else one.cost, one.score)
        ax.annotate(
            f"{one.name}\n{one.score:.2f}{spread} %", at, xytext=(1.04, (height - low) / (high - low)),
            textcoords="axes fraction", va="center", fontsize=9.5, color=colour, annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": colour, "alpha": 0.45, "linewidth": 0.9, "shrinkB": 5},
        )  # fmt: skip


def spread_out(values: Sequence[float], gap: float) -> list[float]:
    """Ascending values moved apart to at least `gap`, around their common middle.

    >>> spread_out([1.0, 1.0, 5.0], gap=2.0)
    [0.0, 2.0, 5.0]
    """
    blocks: list[list[float]] = []
    for value in values:
        blocks.append([value])
        while len(blocks) > 1 and _top(blocks[-2], gap) + gap > _bottom(blocks[-1], gap):
            last = blocks.pop()
            blocks[-1] += last
    return [_bottom(block, gap) + i * gap for block in blocks for i in range(len(block))]


def _bottom(block: Sequence[float], gap: float) -> float:
    """Lowest place of a block of labels centred on its mean."""
    return sum(block) / len(block) - gap * (len(block) - 1) / 2


def _top(block: Sequence[float], gap: float) -> float:
    """Highest place of a block of labels centred on its mean."""
    return sum(block) / len(block) + gap * (len(block) - 1) / 2
