"""Two maps over pairs of classes: what is alike, and what is confused."""

from collections.abc import Callable
from functools import partial

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, Normalize, PowerNorm
from matplotlib.figure import Figure

from dynadfq.report.figures.theme import WIDTH, Theme, new_figure
from dynadfq.report.matrices import Floats, off_diagonal
from dynadfq.report.text import MINUS, number, shorten

SIDE_BY_SIDE = 12  # classes; with more, their names need the full width


def similarity_and_co_occurrence(
    similarity: Floats, co_occurrence: Floats, names: list[str], theme: Theme
) -> Figure:
    """Draw class-weight similarity beside co-occurrence in predictions (DynaDFQ, figure 2).

    Both are (classes, classes), in the order to be shown; diagonals stay blank.
    """
    figure, weights, predictions = _two_maps(names)
    weights.set_title("Class weights")
    predictions.set_title("Teacher's predictions")
    _pair_map(weights, similarity, Normalize, theme)
    _pair_map(predictions, co_occurrence, partial(PowerNorm, 0.5), theme)
    _colour_bar(weights, "similarity", ".2g")
    _colour_bar(predictions, "co-occurrence", ".2g")
    return figure


def confusion_against_teacher(
    teacher: Floats, student: Floats, names: list[str], theme: Theme
) -> Figure:
    """Draw the teacher's confusion (% of each label) beside the student's change (points).

    Both are (classes, classes), label by prediction, in the order to be shown.
    """
    figure, before, difference = _two_maps(names)
    change = student - teacher
    largest = max(float(np.abs(change).max()), 1.0)
    before.set_title("Teacher")
    difference.set_title(f"Student {MINUS} teacher")
    _count_map(before, teacher, PowerNorm(0.5, 0, 100), theme.heat_map())
    _count_map(difference, change, Normalize(-largest, largest), theme.diverging_map())
    _colour_bar(before, "% of the row", ".0f")
    _colour_bar(difference, "points", ".0f")
    return figure


def _pair_map(
    ax: Axes, matrix: Floats, norm: Callable[[float, float], Normalize], theme: Theme
) -> None:
    """Draw a heat map whose colours span the pairs of different classes."""
    pairs = off_diagonal(matrix)
    low = float(pairs.min()) if len(pairs) else 0.0
    high = float(pairs.max()) if len(pairs) else 1.0
    blank = np.ma.masked_array(matrix, mask=np.eye(len(matrix), dtype=bool))
    colours = theme.heat_map().with_extremes(bad=theme.faint)
    ax.imshow(blank, cmap=colours, norm=norm(low, max(high, low + 1e-12)), interpolation="nearest")


def _count_map(ax: Axes, matrix: Floats, norm: Normalize, colours: Colormap) -> None:
    """Draw a heat map with whole numbers in the cells while they can be read."""
    ax.imshow(matrix, cmap=colours, norm=norm, interpolation="nearest")
    if len(matrix) > SIDE_BY_SIDE:
        return
    for row, column in np.argwhere(np.abs(matrix) >= 0.5):
        value = float(matrix[row, column])
        red, green, blue, _ = colours(norm(value))
        dark = 0.3 * red + 0.59 * green + 0.11 * blue < 0.5
        text = number(value, 0)
        colour = "#ffffff" if dark else "#111111"
        ax.text(column, row, text, ha="center", va="center", fontsize=6.5, color=colour)


def _two_maps(names: list[str]) -> tuple[Figure, Axes, Axes]:
    """Return axes for two maps, one above the other where names need the room."""
    if len(names) > SIDE_BY_SIDE:
        figure = new_figure(1.84 * WIDTH)
        first, second = figure.subplots(2, 1)
        _class_ticks(second, names, inches=4.0)
        _class_ticks(first, names, inches=4.0)
    else:
        figure = new_figure(4.3)
        first, second = figure.subplots(1, 2)
        _class_ticks(first, names, inches=1.9)
        _class_ticks(second, names, inches=1.9)
        second.set_yticks([])
    return figure, first, second


def _class_ticks(ax: Axes, names: list[str], inches: float) -> None:
    """Write names at the rows and columns of a map that is so many inches high."""
    ax.grid(False)
    ax.spines[:].set_visible(True)
    ax.spines[:].set_linewidth(0.5)
    size = min(9.5, 0.85 * 72 * inches / len(names))  # points that fit a row
    short = [shorten(name, 14) for name in names]
    upright = max(map(len, short)) > 2
    ax.set_xticks(range(len(names)), short, rotation=90 if upright else 0, fontsize=size)
    ax.set_yticks(range(len(names)), short, fontsize=size)
    ax.tick_params(length=0)


def _colour_bar(ax: Axes, label: str, form: str) -> None:
    """Draw a slim scale below a map, with a number at either end."""
    image = ax.images[0]
    bar = ax.figure.colorbar(image, ax=ax, location="bottom", shrink=0.92, aspect=28, pad=0.03)
    ends = image.get_clim()
    bar.set_ticks(list(ends), labels=[format(end, form).replace("-", MINUS) for end in ends])
    bar.ax.tick_params(length=0, labelsize=8.5)
    bar.set_label(label, labelpad=-9, fontsize=9.5)
    bar.outline.set_visible(False)
