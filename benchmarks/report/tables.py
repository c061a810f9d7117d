"""Lines as tables: CSV with plain numbers, Markdown and HTML with what a reader compares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.markdown import cell_text, markdown_table
from benchmarks.report.results import Line

NUMBERS = [
    "bit-FLOPs %",
    "top-1 %",
    "Control %",
    "Seeds",
    "Images",
    "Synthesis s",
    "Fine-tuning s",
    "Peak MB",
]


class Table(NamedTuple):
    """A table for readers.

    headings: of its columns, the first ``words`` of which hold text.
    rows: text, one list per row.
    """

    headings: list[str]
    rows: list[list[str]]
    words: int

    @property
    def markdown(self) -> str:
        """The table in Markdown."""
        return markdown_table(self.headings, self.rows, self.words)


def plain(lines: Sequence[Line]) -> pd.DataFrame:
    """Return one row per line, with a column for each varied key."""
    keys = varied_keys(lines)
    table = pd.DataFrame([line._asdict() for line in lines], columns=Line._fields)
    table = table.drop(columns=["varied", "wanted", "cells"])
    for place, key in enumerate(keys, start=3):
        table.insert(place, key, [line.varied.get(key) for line in lines])
    return table


def shown(lines: Sequence[Line]) -> Table:
    """Return the papers' form: method, what it needs, widths, cost, accuracy, time and memory."""
    keys = varied_keys(lines)
    teacher = ["Teacher"] if len({line.teacher for line in lines}) > 1 else []
    words = ["Method", *teacher, "W/A", *map(key_words, keys), "Generator", "Data-free"]
    rows = []
    for line in lines:
        row = [line.name, *([line.teacher] if teacher else []), line.width]
        row += [value_words(line.varied.get(key)) for key in keys]
        row += [value_words(line.generator), value_words(line.data_free)]
        rows.append(row + _numbers(line))
    return Table([*words, *NUMBERS], rows, len(words))


def _numbers(line: Line) -> list[str]:
    seeds = str(line.seeds) if line.seeds == line.wanted else f"{line.seeds} of {line.wanted}"
    spread = "" if line.top1_std is None else f" ± {line.top1_std:.2f}"
    costs = (line.synthesis_seconds, line.finetune_seconds, line.peak_memory_mb)
    whole = (line.images, *(None if cost is None else round(cost) for cost in costs))
    top1 = cell_text(line.top1) + spread
    first = [cell_text(line.bit_flops_percent), top1, cell_text(line.control_top1), seeds]
    return first + [cell_text(value) for value in whole]


def varied_keys(lines: Sequence[Line]) -> list[str]:
    """Return the keys that some line varies, in the order in which they appear."""
    return list(dict.fromkeys(key for line in lines for key in line.varied))


def key_words(key: str) -> str:
    """Return the last part of a dotted key, in words.

    >>> key_words("images.similar_classes")
    'similar classes'
    """
    return key.rpartition(".")[2].replace("_", " ")


def value_words(value: Any) -> str:
    """Return a varied value as a reader writes it.

    >>> value_words(0.25), value_words([3, 5]), value_words(None)
    ('0.25', '3, 5', '–')
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, (list, tuple)):
        return ", ".join(map(value_words, value))
    return f"{value:g}" if isinstance(value, (int, float)) else cell_text(value)
