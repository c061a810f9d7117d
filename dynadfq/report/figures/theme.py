"""Look of all figures: a light and a dark theme, after the colour-blind-safe Okabe-Ito palette."""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import matplotlib.style
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

WIDTH = 5.2  # inches: text of 10.5 pt is still about 10 px when a phone of 390 px shows the figure
DPI = 220
STYLE = {
    "font.size": 10.5,
    "text.parse_math": False,  # a class name may have a dollar sign
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 7,
    "axes.labelsize": 10.5,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "legend.fontsize": 9.5,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.7,
    "xtick.major.size": 3,
    "ytick.major.size": 3,
    "lines.linewidth": 1.8,
}
INK = ("text.color", "axes.labelcolor", "axes.titlecolor", "xtick.labelcolor", "ytick.labelcolor")
MUTED = ("axes.edgecolor", "xtick.color", "ytick.color")
BACKGROUND = ("axes.facecolor", "figure.facecolor", "savefig.facecolor")


@dataclass(frozen=True)
class Theme:
    """Colours by role; `heat` runs from nothing to much, `diverging` from less to more."""

    background: str
    ink: str
    muted: str
    faint: str
    dynamic: str
    fixed: str
    control: str
    static: str
    ceiling: str
    one_hot: str
    soft: str
    heat: tuple[str, ...]
    diverging: tuple[str, ...]

    def style(self) -> AbstractContextManager[None]:
        """Return matplotlib's defaults with this theme; building and saving both belong inside.

        A user's matplotlibrc has no say: the bytes of a figure would depend on the machine.
        """
        ink = dict.fromkeys(INK, self.ink)
        muted = dict.fromkeys(MUTED, self.muted)
        background = dict.fromkeys(BACKGROUND, self.background)
        faint = {"grid.color": self.faint}
        return matplotlib.style.context(
            ["default", {**STYLE, **ink, **muted, **background, **faint}]
        )

    def heat_map(self) -> LinearSegmentedColormap:
        """Return sequential colours that begin at the background."""
        return LinearSegmentedColormap.from_list("heat", [self.background, *self.heat])

    def diverging_map(self) -> LinearSegmentedColormap:
        """Return orange for less, background for unchanged, blue for more."""
        middle = len(self.diverging) // 2
        colours = [*self.diverging[:middle], self.background, *self.diverging[middle:]]
        return LinearSegmentedColormap.from_list("diverging", colours)


LIGHT = Theme(
    background="#ffffff",
    ink="#1f2328",
    muted="#6e7781",
    faint="#e7eaee",
    dynamic="#0072b2",
    fixed="#d98200",
    control="#b5578f",
    static="#d55e00",
    ceiling="#009e73",
    one_hot="#009e73",
    soft="#d55e00",
    heat=("#d3e7f3", "#6cb0d6", "#0072b2", "#012f52"),
    diverging=("#8a4a00", "#e69f00", "#56a5d6", "#01406a"),
)
DARK = Theme(
    background="#171b21",
    ink="#e6eaef",
    muted="#929ba6",
    faint="#2a3038",
    dynamic="#56b4e9",
    fixed="#f0b13c",
    control="#dd94bf",
    static="#ff8a4c",
    ceiling="#2fc796",
    one_hot="#2fc796",
    soft="#ff8a4c",
    heat=("#1c3a50", "#1f6f9f", "#56b4e9", "#e4f3fc"),
    diverging=("#ffd48a", "#c47a00", "#2a7fb5", "#b5e0fa"),
)


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """Return an empty figure of the common width; size in inches."""
    return Figure(figsize=(width, height), dpi=DPI, layout="constrained")
