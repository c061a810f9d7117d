"""Quantization sensitivity against entropy (DynaDFQ, figure 1)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynadfq.report.figures.axes import entropy_axis
from dynadfq.report.figures.theme import LIGHT, Theme, new_figure
from dynadfq.report.measures import Floats

FEWEST_FOR_A_BOX = 5


def sensitivity_against_entropy(measured: pd.DataFrame, theme: Theme = LIGHT) -> Figure:
    """Entropy (nats) of the images by the lowest uniform width that keeps the teacher's prediction;
    0 is never.
    """
    figure = new_figure(3.6)
    ax = figure.subplots()
    widths = sorted(set(measured["lowest_bits"]), key=lambda bits: bits or 99)
    groups = [
        measured.loc[measured["lowest_bits"] == bits, "entropy_nats"].to_numpy(dtype=float)
        for bits in widths
    ]
    for place, values in enumerate(groups):
        if len(values) >= FEWEST_FOR_A_BOX:
            _box(ax, place, values, theme)
        else:
            ax.plot([place] * len(values), values, "o", markersize=4, color=theme.dynamic)
    means = [float(values.mean()) for values in groups]
    ax.plot(range(len(widths)), means, "--", color=theme.soft, linewidth=1.3, zorder=4)
    ax.plot(range(len(widths)), means, "D", color=theme.soft, markersize=5, label="mean", zorder=5)
    labels = [
        f"{bits or 'none'}\n{len(values):,}" for bits, values in zip(widths, groups, strict=True)
    ]
    ax.set_xticks(range(len(widths)), labels)
    ax.set_xlim(-0.6, len(widths) - 0.4)
    ax.grid(axis="x", visible=False)
    ax.set_xlabel("lowest uniform width that keeps the prediction (bits)\nand number of images")
    ax.set_ylabel("teacher's entropy (nats)")
    entropy_axis(ax, "y", float(measured["entropy_nats"].max()))
    ax.legend(loc="upper left", handlelength=1)
    return figure


def _box(ax: Axes, place: int, values: Floats, theme: Theme) -> None:
    """Middle half as a bar, 5 % to 95 % as a line, the median as a cut."""
    low, first, median, third, high = np.percentile(values, [5, 25, 50, 75, 95])
    ax.vlines(place, low, high, color=theme.dynamic, linewidth=1.4)
    ax.bar(place, third - first, bottom=first, width=0.55, color=theme.dynamic, alpha=0.9)
    ax.hlines(median, place - 0.275, place + 0.275, color=theme.background, linewidth=2)
