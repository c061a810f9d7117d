"""The share of images at each bit-width for every site, and the MACs that read the site."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from dynadfq.report.figures.theme import Theme, new_figure
from dynadfq.report.tables import measured_bits
from dynadfq.report.text import short_names


def bits_per_site(sites: pd.DataFrame, images: str, theme: Theme) -> Figure:
    """Draw shares (% of images) in execution order from the top, and the MACs that read a site."""
    rows = len(sites)
    figure = new_figure(1.25 + 0.235 * rows)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1.15))
    size = 8.5 if rows <= 40 else 7.0
    _shares(left, sites, theme)
    left.set_xlabel(f"share of {images} (%)")
    left.set_yticks(range(rows), short_names([str(name) for name in sites["name"]]), fontsize=size)
    left.set_ylim(rows - 0.4, -0.6)
    _work(right, sites["macs"], size, theme)
    for ax in (left, right):
        ax.grid(False)
        ax.tick_params(axis="y", length=0)
        ax.spines[["left", "bottom"]].set_visible(False)
    figure.legend(
        loc="outside upper center", ncols=8, handlelength=1, handleheight=1, columnspacing=1.4
    )
    return figure


def _shares(ax: Axes, sites: pd.DataFrame, theme: Theme) -> None:
    """Draw one stacked bar per site; the more bits, the further from the background."""
    widths = measured_bits(sites)
    tones = theme.heat_map()(np.linspace(0.3, 0.92, len(widths)))
    start = np.zeros(len(sites))
    for bits, tone in zip(widths, tones, strict=True):
        share = sites[f"bits_{bits}"].to_numpy(dtype=float)
        bars = ax.barh(range(len(sites)), share, 0.78, start, color=tone, label=f"{bits} bits")
        for bar in bars:
            bar.set(edgecolor=theme.background, linewidth=0.6)
        start += share
    ax.set_xlim(0, 100)


def _work(ax: Axes, macs: pd.Series, size: float, theme: Theme) -> None:
    """Draw the MACs of each site as a bar with its number."""
    bars = ax.barh(range(len(macs)), macs, height=0.55, color=theme.muted, alpha=0.55)
    short = EngFormatter(places=None)
    labels = [short(float(f"{value:.3g}")) for value in macs]
    ax.bar_label(bars, labels, padding=2, fontsize=size, color=theme.ink)
    ax.set_xlim(0, max(float(macs.max()), 1.0) * 1.75)
    ax.set_xticks([])
    ax.set_xlabel("MACs")
