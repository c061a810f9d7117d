"""Figures over the teacher's prediction entropy: cost, distribution, sensitivity.

DynaDFQ, figures 1 and 3 to 5.
"""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.scale import FuncScale
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import ArrayLike

from dynadfq.evaluation.correlation import rank_correlation
from dynadfq.report.figures.theme import Theme, new_figure
from dynadfq.report.matrices import Floats
from dynadfq.report.tables import binned_means, entropy_histogram
from dynadfq.report.text import number

ENTROPY_LABEL = "teacher's prediction entropy (nats, square-root axis)"
TICKS = (6.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.1, 0.03, 0.01, 0.003, 0.001)
GROUP_NAMES = {
    "test": "Test images",
    "one_hot": "Synthetic, one class",
    "soft": "Synthetic, similar classes",
}
FEWEST_FOR_A_BOX = 5


def entropy_against_cost(
    test: pd.DataFrame | None, synthetic: pd.DataFrame, theme: Theme
) -> Figure:
    """Draw each image's bit-FLOPs (% of float) over its entropy; test images left, if any."""
    figure = new_figure(3.3)
    tables = {"Synthetic": synthetic} if test is None else {"Test": test, "Synthetic": synthetic}
    panels = figure.subplots(1, len(tables), sharex=True, sharey=True, squeeze=False)[0]
    top = max(float(table["entropy_nats"].max()) for table in tables.values())
    for ax, (name, table) in zip(panels, tables.items(), strict=True):
        _cost_panel(ax, table, theme.dynamic if name == "Test" else theme.one_hot, theme)
        rho = rank_correlation(table["entropy_nats"], table["bit_flops_percent"])
        ax.set_title(f"{name}  ρ = {number(rho)}")
        entropy_axis(ax, "x", top)
    panels[0].set_ylabel("bit-FLOPs (% of float)")
    figure.supxlabel(ENTROPY_LABEL, fontsize=10.5)
    return figure


def _cost_panel(ax: Axes, table: pd.DataFrame, colour: str, theme: Theme) -> None:
    """Draw one dot per image, and the mean of each entropy bin."""
    entropy = table["entropy_nats"]
    cost = table["bit_flops_percent"]
    alpha = min(0.6, max(0.05, 12 / math.sqrt(max(len(table), 1))))
    ax.scatter(entropy, cost, s=9, c=colour, alpha=alpha, linewidths=0)
    means = binned_means(entropy, cost)
    [line] = ax.plot(means["entropy_nats"], means["value"], "-o", color=theme.ink)
    line.set(markersize=5.5, markerfacecolor=theme.background, markeredgewidth=1.6)


def entropy_distribution(
    groups: Mapping[str, Floats], theme: Theme, one_scale: bool = True
) -> Figure:
    """Draw the share of images by entropy, one row per kind of image.

    Args:
        groups: entropies in nats by kind; "test" are test images, the outline of the other rows.
        theme: colours.
        one_scale: whether all rows have the same vertical axis.
    """
    shown = {name: values for name, values in groups.items() if len(values)}
    figure = new_figure(1.2 + 1.15 * len(shown))
    rows = figure.subplots(len(shown), 1, sharex=True, sharey=one_scale, squeeze=False)[:, 0]
    table = entropy_histogram(groups)
    edges = [*table["entropy_low"], table["entropy_high"].iloc[-1]]
    colours = {"test": theme.muted, "one_hot": theme.one_hot, "soft": theme.soft}
    for ax, (name, values) in zip(rows, shown.items(), strict=True):
        colour = colours.get(name, theme.dynamic)
        ax.stairs(table[f"{name}_percent"], edges, fill=True, color=colour, alpha=0.85)
        if name != "test" and "test" in shown:
            ax.stairs(table["test_percent"], edges, color=theme.ink, linewidth=1.2)
        ax.set_title(GROUP_NAMES.get(name, name), fontsize=10.5)
        numbers = f"n = {len(values):,}   median {np.median(values):.3g}"
        ax.set_title(numbers, loc="right", fontsize=9.5, fontweight="normal")
        ax.grid(axis="x", visible=False)
    entropy_axis(rows[-1], "x", float(edges[-1]))
    figure.supxlabel(ENTROPY_LABEL, fontsize=10.5)
    figure.supylabel("share of images (%)", fontsize=10.5)
    return figure


def sensitivity_against_entropy(measured: pd.DataFrame, theme: Theme) -> Figure:
    """Draw entropy by the lowest uniform width that keeps the prediction; 0 is none."""
    figure = new_figure(3.6)
    ax = figure.subplots()
    widths = sorted(set(measured["lowest_bits"]), key=lambda bits: bits or 99)
    by_width = measured.groupby("lowest_bits")["entropy_nats"]
    labels = []
    for place, bits in enumerate(widths):
        values = by_width.get_group(bits).to_numpy(dtype=float)
        labels.append(f"{bits or 'none'}\n{len(values):,}")
        if len(values) >= FEWEST_FOR_A_BOX:
            draw_box(ax, place, 0.55, values, theme.dynamic, theme)
        else:
            ax.plot([place] * len(values), values, "o", markersize=4, color=theme.dynamic)
    means = by_width.mean()[widths]
    ax.plot(range(len(widths)), means, "--", color=theme.soft, linewidth=1.3, zorder=4)
    ax.plot(range(len(widths)), means, "D", color=theme.soft, markersize=5, label="mean", zorder=5)
    ax.set_xticks(range(len(widths)), labels)
    ax.set_xlim(-0.6, len(widths) - 0.4)
    ax.grid(axis="x", visible=False)
    ax.set_xlabel("lowest uniform width that keeps the prediction (bits)\nand number of images")
    ax.set_ylabel("teacher's entropy (nats)")
    entropy_axis(ax, "y", float(measured["entropy_nats"].max()))
    ax.legend(loc="upper left", handlelength=1)
    return figure


def draw_box(
    ax: Axes, place: float, width: float, values: Floats, colour: str, theme: Theme
) -> None:
    """Draw the middle half as a bar, 5 % to 95 % as a line, the median as a cut."""
    low, first, median, third, high = np.percentile(values, [5, 25, 50, 75, 95])
    ax.vlines(place, low, high, color=colour, linewidth=1.3)
    ax.bar(place, third - first, bottom=first, width=width, color=colour)
    ax.hlines(median, place - width / 2, place + width / 2, color=theme.background, linewidth=1.7)


def entropy_ticks(top: float) -> list[float]:
    """Return round entropies from 0 to `top` that stand apart on a square-root axis.

    >>> entropy_ticks(2.3)
    [0.0, 0.1, 0.5, 1.0, 2.0]
    """
    gap = 0.16 * math.sqrt(top)
    chosen: list[float] = []
    for tick in TICKS:
        below = math.sqrt(chosen[-1]) if chosen else math.inf
        if tick <= top and gap < math.sqrt(tick) < below - gap:
            chosen.append(tick)
    return [0.0, *reversed(chosen)]


def entropy_axis(ax: Axes, which: Literal["x", "y"], top: float) -> None:
    """Set a square-root axis from 0 to `top` nats: most images are easy."""
    top = max(top, 1e-6)
    ax.set(**{f"{which}scale": FuncScale(None, (_root, np.square)), f"{which}lim": (0, top * 1.04)})
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(FixedLocator(entropy_ticks(top)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _root(values: ArrayLike) -> Floats:
    """Return the square root; what an axis's margins leave below zero counts as zero."""
    return np.sqrt(np.clip(np.asarray(values, dtype=np.float64), 0, None))
