"""Lines as tables: CSV with plain numbers, Markdown and HTML with what a reader compares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.report.results import Line

DASH = "–"
PLAIN = (
    "label", "teacher", "width", "generator", "data_free", "bit_flops_percent", "mean_bits", "top1", "top1_std",
    "teacher_top1", "seeds", "images", "test_images", "synthesis_seconds", "finetune_seconds", "peak_memory_mb",
)  # fmt: skip


class Shown(NamedTuple):
    """A table to be read: headings of its columns and rows of text."""

    headings: list[str]
    rows: list[list[str]]


def plain(lines: Sequence[Line]) -> pd.DataFrame:
    """One row a line, a column for each varied key."""
    keys = varied_keys(lines)
    rows = [
        {**{k: line.varied.get(k) for k in keys}, **{name: getattr(line, name) for name in PLAIN}}
        for line in lines
    ]
    return pd.DataFrame(rows, columns=["label", "teacher", "width", *keys, *PLAIN[3:]])


def shown(lines: Sequence[Line]) -> Shown:
    """The paper's form: method, what it needs, widths, cost, accuracy, and what it took."""
    keys, several = varied_keys(lines), len({line.teacher for line in lines}) > 1
    headings = ["Method", *(["Teacher"] if several else []), "W/A", *map(key_words, keys)]
    headings += ["Generator", "Data-free", "bit-FLOPs %", "top-1 %", "Seeds", "Images"]
    headings += ["Synthesis s", "Fine-tuning s", "Peak MB"]
    return Shown(headings, [_row(line, keys, several) for line in lines])


def markdown(table: Shown) -> str:
    """A Markdown table, numbers to the right."""
    numbers = len(table.headings) - 7  # the last seven columns
    marks = ["---" if place < numbers else "---:" for place in range(len(table.headings))]
    rows = [table.headings, marks, *table.rows]
    return "".join(
        f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows
    )


def varied_keys(lines: Sequence[Line]) -> list[str]:
    """The keys that some line varies, in the order in which they appear."""
    return list(dict.fromkeys(key for line in lines for key in line.varied))


def key_words(key: str) -> str:
    """The last part of a dotted key, in words.

    >>> key_words("images.similar_classes")
    'similar classes'
    """
    return key.rpartition(".")[2].replace("_", " ")


def value_words(value: Any) -> str:
    """A varied value as a reader writes it.

    >>> value_words(0.25), value_words([3, 5]), value_words(None)
    ('0.25', '3, 5', '–')
    """
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(value_words, value))
    return f"{value:g}" if isinstance(value, (int, float)) else str(value)


def accuracy_words(line: Line) -> str:
    """Mean and standard deviation over seeds, in percent.

    A dash where no seed was measured, and the missing ones are counted in the column of seeds.
    """
    if line.top1 is None:
        return DASH
    return f"{line.top1:.2f}" + (f" ± {line.top1_std:.2f}" if line.top1_std is not None else "")


def _row(line: Line, keys: Sequence[str], several: bool) -> list[str]:
    seeds = str(line.seeds) if line.seeds == line.wanted else f"{line.seeds} of {line.wanted}"
    cells = [line.name, *([line.teacher] if several else []), line.width]
    cells += [value_words(line.varied.get(key)) for key in keys]
    cells += ["yes" if line.generator else "no", "yes" if line.data_free else "no"]
    cells += [
        _number(line.bit_flops_percent, 2),
        accuracy_words(line),
        seeds,
        _number(line.images, 0),
    ]
    costs = (line.synthesis_seconds, line.finetune_seconds, line.peak_memory_mb)
    return [*cells, *(_number(cost, 0) for cost in costs)]


def _number(value: float | None, digits: int) -> str:
    return DASH if value is None else f"{value:.{digits}f}"
