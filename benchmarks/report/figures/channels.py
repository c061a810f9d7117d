"""Statistics of single channels over several kinds of images."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.report.figures.looks import line_of
from dynadfq.report.figures.theme import LIGHT, Theme, new_figure

BINS = 32
STATISTICS = {"mean": "bn_mean", "deviation": "bn_deviation"}


def histogram_edges(tables: Mapping[str, pd.DataFrame], statistic: str) -> np.ndarray:
    """Return the (BINS + 1,) edges of bins that hold all images and BatchNorm's own value."""
    columns = [statistic, STATISTICS[statistic]]
    values = np.concatenate([table[columns].to_numpy(dtype=float) for table in tables.values()])
    return np.histogram_bin_edges(values, BINS)


def channel_statistics(tables: Mapping[str, pd.DataFrame], theme: Theme = LIGHT) -> Figure:
    """Draw the share of images by a channel's mean and deviation (DSG, supplement, Fig. 1).

    Args:
        tables: by kind of image, one row per image and channel.
        theme: colours.

    Returns:
        A row of panels per channel; the dashed lines are BatchNorm's running statistics.
    """
    first = next(iter(tables.values()))
    channels = list(first[["layer", "channel"]].drop_duplicates().itertuples(index=False))
    figure = new_figure(0.7 + 2.1 * len(channels))
    axes = figure.subplots(len(channels), len(STATISTICS), squeeze=False)
    for row, (layer, channel) in zip(axes, channels, strict=True):
        mine = {
            name: table[(table["layer"] == layer) & (table["channel"] == channel)]
            for name, table in tables.items()
        }
        for ax, statistic in zip(row, STATISTICS, strict=True):
            _histogram(ax, mine, statistic, theme)
            ax.set_xlabel(f"{statistic} of channel {channel + 1}")
        row[0].set_title(f"BatchNorm layer {layer + 1}", fontsize=10.5)
    handles = [
        Line2D([], [], linewidth=3, label=name, **line_of(number, theme))
        for number, name in enumerate(tables)
    ]
    handles.append(Line2D([], [], color=theme.ink, linestyle="--", label="BN statistics"))
    figure.supylabel("share of images (%)", fontsize=10.5)
    figure.legend(
        handles=handles, loc="outside upper center", ncols=4, handlelength=1.4, columnspacing=1.4
    )
    return figure


def _histogram(ax: Axes, tables: Mapping[str, pd.DataFrame], statistic: str, theme: Theme) -> None:
    edges = histogram_edges(tables, statistic)
    for number, table in enumerate(tables.values()):
        counts, _ = np.histogram(table[statistic], edges)
        look = line_of(number, theme)
        share = 100.0 * counts / len(table)
        ax.stairs(share, edges, fill=True, color=look["color"], alpha=0.25)
        ax.stairs(share, edges, linewidth=1.3, **look)
    own = next(iter(tables.values()))[STATISTICS[statistic]].iloc[0]
    ax.axvline(own, color=theme.ink, linewidth=1.3, linestyle="--")
    ax.grid(axis="x", visible=False)
