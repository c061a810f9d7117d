"""Images in rows, one column per class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure

from dynadfq.report.figures.theme import LIGHT, WIDTH, Theme, new_figure
from dynadfq.report.figures.tiles import COLUMNS, Tile, draw_tile
from dynadfq.report.text import shorten

DPI = 110  # half of a chart's: images have no thin lines


def tile_rows(
    rows: Mapping[str, Sequence[Tile]], classes: Sequence[str], theme: Theme = LIGHT
) -> Figure:
    """Draw each row of images below its heading, and each image below its class.

    Args:
        rows: as many images as there are classes, by heading.
        classes: names.
        theme: colours.
    """
    width = WIDTH * len(classes) / COLUMNS
    figure = new_figure(2.5 * len(rows), width)
    figure.set_dpi(DPI)
    parts = figure.subfigures(len(rows), 1, squeeze=False)[:, 0]
    for part, (heading, tiles) in zip(parts, rows.items(), strict=True):
        part.suptitle(heading, x=0.01, ha="left", fontsize=11, fontweight="bold")
        axes = part.subplots(1, len(classes), squeeze=False)[0]
        for ax, tile, name in zip(axes, tiles, classes, strict=True):
            ax.set_axis_off()
            ax.set_title(shorten(name, 16), fontsize=9, fontweight="normal")
            draw_tile(ax, tile, theme)
    return figure
