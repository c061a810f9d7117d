"""Images with the label they were made for and the teacher's prediction."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from dynadfq.report.figures.theme import Theme, new_figure
from dynadfq.report.text import shorten

COLUMNS = 4
LEAST_SHARE = 0.005


@dataclass(frozen=True)
class Tile:
    """One image; ``probabilities`` are the teacher's, shown in place of the label where given."""

    index: int
    pixels: NDArray[np.uint8]  # (H, W, 3)
    label: tuple[tuple[str, float], ...]  # classes and their shares
    prediction: str  # of the teacher
    entropy_nats: float  # of that prediction
    probabilities: tuple[tuple[str, float], ...] = ()

    @property
    def recognized(self) -> bool:
        """Whether the teacher predicts a class of the label."""
        return self.prediction in {name for name, _ in self.label}

    @property
    def shares(self) -> tuple[tuple[str, float], ...]:
        """The classes and shares that are drawn as bars."""
        return self.probabilities or self.label


def to_pixels(
    image: NDArray[np.floating[Any]], mean: Sequence[float], std: Sequence[float]
) -> NDArray[np.uint8]:
    """Turn a normalized (C, H, W) image into (H, W, 3) bytes; grey becomes RGB."""
    shape = (-1, 1, 1)
    unit = image * np.asarray(std).reshape(shape) + np.asarray(mean).reshape(shape)
    bytes_ = (np.clip(unit, 0, 1) * 255 + 0.5).astype(np.uint8).transpose(1, 2, 0)
    return np.repeat(bytes_, 3, axis=2) if bytes_.shape[2] == 1 else bytes_[:, :, :3]


def label_parts(
    soft_label: NDArray[np.floating[Any]], names: Sequence[str]
) -> tuple[tuple[str, float], ...]:
    """Return the classes of a soft label with at least half a percent, largest first."""
    order = np.argsort(-soft_label, kind="stable")
    return tuple((names[i], float(soft_label[i])) for i in order if soft_label[i] >= LEAST_SHARE)


def image_grid(tiles: Sequence[Tile], theme: Theme) -> Figure:
    """Draw four images per row, each with its soft label as bars and the teacher's prediction."""
    rows = math.ceil(len(tiles) / COLUMNS)
    figure = new_figure(0.1 + 1.98 * rows)
    for ax in figure.subplots(rows, COLUMNS, squeeze=False).ravel():
        ax.set_axis_off()
    for ax, tile in zip(figure.axes, tiles, strict=False):
        draw_tile(ax, tile, theme)
    return figure


def draw_tile(ax: Axes, tile: Tile, theme: Theme) -> None:
    """Draw the image, below it two bars at most, the teacher's prediction and its entropy."""
    ax.imshow(tile.pixels, interpolation="nearest", extent=(0, 1, 0, 1))
    ax.set_xlim(0, 1)
    ax.set_ylim(-0.62, 1)
    for line, (name, share) in enumerate(tile.shares[:2]):
        top = -0.06 - 0.18 * line
        ax.add_patch(Rectangle((0, top - 0.15), 1, 0.15, color=theme.faint, linewidth=0))
        bar = Rectangle((0, top - 0.15), share, 0.15, color=theme.dynamic, alpha=0.4, linewidth=0)
        ax.add_patch(bar)
        ax.text(0.03, top - 0.08, shorten(name, 12), fontsize=7.5, va="center")
        ax.text(0.97, top - 0.08, f"{100 * share:.0f}", fontsize=7.5, va="center", ha="right")
    colour = theme.muted if tile.recognized else theme.soft
    words = f"→ {shorten(tile.prediction, 10)}  {tile.entropy_nats:.2f}"
    ax.text(0.03, -0.53, words, fontsize=7.5, va="center", color=colour)
