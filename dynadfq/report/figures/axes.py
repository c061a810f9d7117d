"""Parts that several figures share: the entropy axis, and text that fits."""

import math
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.scale import FuncScale
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import ArrayLike, NDArray

ENTROPY_LABEL = "teacher's prediction entropy (nats, square-root axis)"
MINUS = "\N{MINUS SIGN}"
TICKS = (6.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.1, 0.03, 0.01, 0.003, 0.001)


def entropy_ticks(top: float) -> list[float]:
    """Round entropies from 0 to `top` that stand apart on a square-root axis.

    >>> entropy_ticks(2.3)
    [0.0, 0.1, 0.5, 1.0, 2.0]
    """
    chosen: list[float] = []
    for tick in TICKS:
        clear = all(math.sqrt(kept) - math.sqrt(tick) > 0.16 * math.sqrt(top) for kept in chosen)
        if tick <= top and clear and math.sqrt(tick) > 0.16 * math.sqrt(top):
            chosen.append(tick)
    return [0.0, *reversed(chosen)]


def entropy_axis(ax: Axes, which: Literal["x", "y"], top: float) -> None:
    """Square-root axis from 0 to `top` nats: most images are easy, and a linear axis would pile
    them up at zero.
    """
    top = max(top, 1e-6)
    ax.set(**{f"{which}scale": FuncScale(None, (_root, _square)), f"{which}lim": (0, top * 1.04)})
    axis = ax.xaxis if which == "x" else ax.yaxis
    axis.set_major_locator(FixedLocator(entropy_ticks(top)))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _root(values: ArrayLike) -> NDArray[np.float64]:
    """Square root; what the margins of an axis leave below zero counts as zero."""
    return np.sqrt(np.clip(np.asarray(values, dtype=np.float64), 0, None))


def _square(roots: ArrayLike) -> NDArray[np.float64]:
    """Inverse of `_root`."""
    return np.square(np.asarray(roots, dtype=np.float64))


def shorten(name: str, length: int) -> str:
    """A name cut to `length` characters, with an ellipsis where something is missing.

    >>> shorten("golden retriever", 10)
    'golden re…'
    """
    return name if len(name) <= length else name[: length - 1] + "…"


def correlation_text(value: float) -> str:
    """Spearman's rho for a title."""
    return "ρ undefined" if math.isnan(value) else f"ρ = {value:.2f}".replace("-", MINUS)
