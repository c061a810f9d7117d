"""Parts of figures that show two maps over pairs of classes."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from dynadfq.report.figures.axes import MINUS, shorten
from dynadfq.report.figures.theme import WIDTH, new_figure

SIDE_BY_SIDE = 12  # classes; with more, their names need the full width


def two_maps(names: list[str]) -> tuple[Figure, Axes, Axes]:
    """Axes for two (classes, classes) maps with their names: one above the other where names need
    the room.
    """
    stacked = len(names) > SIDE_BY_SIDE
    figure = new_figure(1.84 * WIDTH if stacked else 4.3)
    grid = figure.add_gridspec(2, 1) if stacked else figure.add_gridspec(1, 2)
    first, second = figure.add_subplot(grid[0]), figure.add_subplot(grid[1])
    inches = 4.0 if stacked else 1.9
    class_ticks(first, names, inches)
    class_ticks(second, names, inches, rows=stacked)
    return figure, first, second


def label_size(classes: int, inches: float) -> float:
    """Points that fit a row when `classes` rows share `inches`, at most 9.5."""
    return min(9.5, 0.85 * 72 * inches / classes)


def class_ticks(ax: Axes, names: list[str], inches: float, rows: bool = True) -> None:
    """Names at the rows and columns of a heat map."""
    ax.grid(False)
    ax.set_xticks([])
    ax.set_yticks([])
    ax.spines[:].set_visible(True)
    ax.spines[:].set_linewidth(0.5)
    size = label_size(len(names), inches)
    short = [shorten(name, 14) for name in names]
    upright = max(map(len, short)) > 2
    ax.set_xticks(range(len(names)), short, rotation=90 if upright else 0, fontsize=size)
    if rows:
        ax.set_yticks(range(len(names)), short, fontsize=size)
    ax.tick_params(length=0)


def colour_bar(ax: Axes, label: str, form: str) -> None:
    """Slim scale below a heat map, with a number at either end."""
    bar = ax.figure.colorbar(
        ax.images[0], ax=ax, location="bottom", shrink=0.92, aspect=28, pad=0.03
    )
    ends = ax.images[0].get_clim()
    bar.set_ticks(list(ends), labels=[format(end, form).replace("-", MINUS) for end in ends])
    bar.ax.tick_params(length=0, labelsize=8.5)
    bar.set_label(label, labelpad=-9, fontsize=9.5)
    bar.outline.set_visible(False)
