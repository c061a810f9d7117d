"""The page: the best measured student of each method and budget, the splits, and the curves."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from statistics import fmean, stdev

from matplotlib.figure import Figure

from benchmarks.markdown import markdown_table
from benchmarks.report.figures.looks import look_of
from benchmarks.time_to_accuracy.cell import HELD_BACK
from benchmarks.time_to_accuracy.rows import Row, of_chosen
from benchmarks.time_to_accuracy.split import axes
from dynadfq.methods import METHODS
from dynadfq.report.figures.theme import DPI, LIGHT, Theme, new_figure

SPLIT_HEAD = (
    *(
        "method",
        "weights",
        "precision",
        "minutes",
        "n",
        "splits tried",
        "share for images",
        "images",
        "basis",
        "iterations",
    ),
    *("steps", "learning rate", "max. gradient norm", "crops", "rounding", "allocation"),
    *("held-back agreement, %", "agreement, %", "CPU s", "wall s"),
)


def write_page(rows: Sequence[Row], folder: Path, name: str) -> None:
    """Write NAME.md and NAME.png beside the rows; the name is that of a network and a width."""
    with LIGHT.style():
        picture = BytesIO()
        curves(rows).savefig(picture, format="png", dpi=DPI, metadata={"Software": None})
    (folder / f"{name}.png").write_bytes(picture.getvalue())
    (folder / f"{name}.md").write_text(page(rows, name))


def page(rows: Sequence[Row], name: str) -> str:
    """Return the page in Markdown."""
    minutes = sorted({row.minutes for row in rows})
    drawn = lines(rows)
    head = ("method", *(f"{one:g} min" for one in minutes))
    table = [
        [label, *(accuracy(of_chosen(found, found[0].method, one)) for one in minutes)]
        for label, found in drawn.items()
    ]
    splits = [
        line for found in drawn.values() for one in minutes if (line := split_line(found, one))
    ]
    images = max(row.test_images for row in rows)
    held_back, iterations = HELD_BACK["count"], HELD_BACK["iterations"]
    states = ", ".join(dict.fromkeys(row.library for row in rows))
    return f"""# Accuracy against time: {name}

Top-1 in percent on {images:,} test images, ± the standard deviation over n seeds, under a budget
of CPU minutes of one thread: making the images, and everything after them up to the finished
student. CPU time is `time.process_time` of a single-threaded process; other work on the machine
changes it less than wall time, which stands beside it. A dash is a cell that was not measured.
Real data has the student's share of the time alone: its images cost none.

{markdown_table(head, table)}
![Top-1 over CPU minutes]({name}.png)

## Splits

A split is the share of the budget for images, their number, the basis that they are optimized in,
the learning rate, the maximum norm of the weights' gradient, the smallest area of random crops, the
rounding of weights before the first step, and the allocation of widths: uniform, or by the
sensitivity of layers and sites on up to 256 of the images, at the same bit-FLOPs. Weights are those
of the float network, by the first digits of their sha256, and the precision is that of the
synthesis. Iterations and steps are what fits into the time, planned from a short measured rate; the
student gets what the images left. The learning rate falls to a tenth in the last quarter of the
steps.

Of the splits tried with seed 0, the table shows the one whose student agrees most often with the
teacher on {held_back} held-back synthetic images, made by DynaDFQ in {iterations} iterations with a
seed of their own, the same for all methods. The test images have no part in the choice. The budget
does not contain the search, nor the held-back images. Where one split was tried, it is the one that
was searched for a shorter budget, or the one that the search began with when the row was measured,
with images and iterations that grow with the square root of the time.

{markdown_table(SPLIT_HEAD, splits)}
[All rows]({name}.csv), with the splits that were not chosen. They are of these states of the
library's code: {states}.
"""


def lines(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the rows of each method, of the same weights and precision, in the order measured.

    The label names weights and precision where the rows have several.
    """
    several = len({(row.weights, row.precision) for row in rows}) > 1
    found: dict[str, list[Row]] = {}
    for row in rows:
        title = METHODS[row.method].title
        label = f"{title} ({row.weights}, {row.precision})" if several else title
        found.setdefault(label, []).append(row)
    return found


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Return mean and standard deviation; one value has none."""
    return fmean(values), stdev(values) if len(values) > 1 else None


def accuracy(rows: Sequence[Row]) -> str | None:
    """Return top-1 over seeds in words; None without rows."""
    if not rows:
        return None
    mean, deviation = mean_and_deviation([row.top1 for row in rows])
    return f"{mean:.2f}" + (
        " (n = 1)" if deviation is None else f" ± {deviation:.2f} (n = {len(rows)})"
    )


def split_line(rows: Sequence[Row], minutes: float) -> list[str] | None:
    """Return a row of the second table, of a line; None for a budget that was not measured."""
    method = rows[0].method
    found = of_chosen(rows, method, minutes)
    if not found:
        return None
    split = found[0].cell.split
    tried = {row.cell.split for row in rows if row.minutes == minutes}
    optimizes, data_free = METHODS[method].optimizes_images, METHODS[method].data_free
    mean = {
        name: fmean(getattr(row, name) for row in found)
        for name in (
            *("iterations", "steps", "held_back", "agreement"),
            *("image_seconds", "student_seconds", "wall_seconds"),
        )
    }
    seconds = mean["student_seconds"] + (mean["image_seconds"] if data_free else 0.0)
    return [
        *(METHODS[method].title, found[0].weights, found[0].precision),
        *(f"{minutes:g}", str(len(found)), str(len(tried)), f"{split.share:g}"),
        f"{split.images:,}",
        split.basis if "basis" in axes(method) else "–",
        f"{mean['iterations']:.0f}" if optimizes else "–",
        *(f"{mean['steps']:.0f}", f"{split.learning_rate:g}"),
        f"{split.max_gradient_norm:g}" if split.max_gradient_norm else "none",
        *(f"{split.crop_scale:g}", split.rounding, split.allocation),
        *(f"{mean['held_back']:.1f}", f"{mean['agreement']:.2f}"),
        *(f"{seconds:.0f}", f"{mean['wall_seconds']:.0f}"),
    ]


def curves(rows: Sequence[Row], theme: Theme = LIGHT) -> Figure:
    """Draw top-1 over the budget, a line for each method; a bar is one standard deviation."""
    figure = new_figure(4.0)
    ax = figure.subplots()
    for number, (label, line) in enumerate(lines(rows).items()):
        points = []
        for minutes in sorted({row.minutes for row in line}):
            found = of_chosen(line, line[0].method, minutes)
            if found:
                points.append((minutes, *mean_and_deviation([row.top1 for row in found])))
        ax.errorbar(
            [x for x, _, _ in points],
            [y for _, y, _ in points],
            yerr=[deviation or 0.0 for _, _, deviation in points],
            capsize=2,
            markersize=5,
            label=label,
            **look_of(number, theme),
        )
    shown = sorted({row.minutes for row in rows})
    ax.set_xscale("log")
    ax.set_xticks(shown, [f"{one:g}" for one in shown])
    ax.minorticks_off()
    ax.set_xlabel("CPU minutes, one thread")
    ax.set_ylabel("top-1 (%)")
    figure.legend(loc="outside lower center", ncols=3)
    return figure
