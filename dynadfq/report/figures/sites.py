"""How often each site runs at each width, and how much work reads it."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynadfq.report.figures.theme import LIGHT, Theme, new_figure
from dynadfq.report.tables import candidate_bits


def bits_per_site(sites: pd.DataFrame, images: str = "test images", theme: Theme = LIGHT) -> Figure:
    """Stacked shares (percent of images) in execution order from the top; right, the MACs that read
    the site.
    """
    rows = len(sites)
    figure = new_figure(1.25 + 0.235 * rows)
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3, 1.15))
    size = 8.5 if rows <= 40 else 7.0
    _shares(left, sites, theme)
    left.set_xlabel(f"share of {images} (%)")
    left.set_yticks(range(rows), short_names([str(name) for name in sites["name"]]), fontsize=size)
    left.set_ylim(rows - 0.4, -0.6)
    _work(right, sites["macs"].to_numpy(dtype=float), size, theme)
    for ax in (left, right):
        ax.grid(False)
        ax.tick_params(axis="y", length=0)
        ax.spines[["left", "bottom"]].set_visible(False)
    figure.legend(
        loc="outside upper center", ncols=8, handlelength=1, handleheight=1, columnspacing=1.4
    )
    return figure


def _shares(ax: Axes, sites: pd.DataFrame, theme: Theme) -> None:
    """One stacked bar a site; the more bits, the further from the background."""
    widths = candidate_bits(sites)
    tones = theme.heat_map()(np.linspace(0.3, 0.92, len(widths)))
    start = np.zeros(len(sites))
    for bits, tone in zip(widths, tones, strict=True):
        share = sites[f"bits_{bits}"].to_numpy(dtype=float)
        ax.barh(
            range(len(sites)), share, left=start, height=0.78, color=tone, label=f"{bits} bits",
            edgecolor=theme.background, linewidth=0.6,
        )  # fmt: skip
        start += share
    ax.set_xlim(0, 100)


def _work(ax: Axes, macs: np.ndarray, size: float, theme: Theme) -> None:
    """MACs of a site as a bar with its number."""
    ax.barh(range(len(macs)), macs, height=0.55, color=theme.muted, alpha=0.55)
    longest = max(float(macs.max(initial=0)), 1.0)
    for row, value in enumerate(macs):
        ax.text(
            value + 0.05 * longest,
            row,
            millions(value),
            va="center",
            fontsize=size,
            color=theme.ink,
        )
    ax.set_xlim(0, longest * 1.75)
    ax.set_xticks([])
    ax.set_xlabel("MACs")


def millions(macs: float) -> str:
    """MACs in three digits or so.

    >>> millions(2359296), millions(590), millions(0)
    ('2.36 M', '590', '0')
    """
    for unit, name in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if macs >= unit:
            return f"{macs / unit:.3g}{name}"
    return f"{macs:g}"


def short_names(names: list[str], length: int = 24) -> list[str]:
    """Dotted names of sites without what all of them begin and end with; long ones lose their
    middle.

    >>> short_names(["features.stage1.conv1.activ", "features.stage2.activ"])
    ['stage1.conv1', 'stage2']
    """
    parts = [name.split(".") for name in names]
    for end in (0, -1):
        while len(parts) > 1 and all(len(p) > 1 and p[end] == parts[0][end] for p in parts):
            parts = [p[1:] if end == 0 else p[:-1] for p in parts]
    kept = [".".join(p) for p in parts]
    half = length // 2
    return [
        name if len(name) <= length else f"{name[:half]}…{name[half + 1 - length :]}"
        for name in kept
    ]
