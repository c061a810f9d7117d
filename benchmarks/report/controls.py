"""The table of controls: a dynamic student beside the same bit-FLOPs given in other ways."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import pandas as pd

from benchmarks.cells import controls_of
from benchmarks.report.claims import paired
from benchmarks.report.results import Line, Record
from benchmarks.report.tables import Table, key_words

LEAST_P = 0.0001  # that is shown as a number
NOTE = (
    "Each row compares a dynamic student's own widths with other ones of the same student. "
    "Permuted: its widths, given to other images. Static: one allocation for all images, the most "
    "frequent widths. Ceiling: widths by the student's own margin at the lowest width, a bound: "
    "the cost of finding the margin is not counted. N bits: this width for all images, whatever it "
    "costs. Gain: points of top-1 accuracy of the own widths over the others, mean over seeds. "
    "Error: its standard error, from the test images on which the two differ and, with several "
    "seeds, from the spread over seeds. p: of each seed, exact test. The selector's own cost is "
    "not in the bit-FLOPs."
)


class Comparison(NamedTuple):
    """A dynamic student and one other allocation, mean over seeds.

    data_free, wanted: as in ``Line``.
    own_top1, own_bit_flops_percent: with the widths that it chose.
    selector_overhead_percent: the selector's own cost, in percent of the float model's bit-FLOPs.
    against: the other allocation.
    top1, bit_flops_percent: with that.
    gain, error: in points of top-1.
    p_values: of each seed.
    """

    label: str
    teacher: str
    width: str
    data_free: bool
    wanted: int
    own_top1: float
    own_bit_flops_percent: float
    selector_overhead_percent: float
    against: str
    top1: float
    bit_flops_percent: float
    gain: float
    error: float
    p_values: tuple[float, ...]


def comparisons(
    content: Record, studies: Mapping[str, Sequence[Line]], folder: Path = Path(".")
) -> Iterator[Comparison]:
    """Yield the measured comparisons of the studies that name controls, each line once."""
    done: set[tuple[str, ...]] = set()
    for study, lines in studies.items():
        for line in lines if content["studies"][study]["controls"] else ():
            paths = [folder / controls_of(key) for key in line.cells if key in content["controls"]]
            measured = [json.loads(path.read_text("utf-8")) for path in paths if path.exists()]
            if measured and line.cells not in done:
                yield from _of_line(line, measured)
            done.add(line.cells)


def _of_line(line: Line, measured: Sequence[Record]) -> Iterator[Comparison]:
    images = measured[0]["test_images"]
    allocations = [one["allocations"] for one in measured]
    owns = [one["own"] for one in allocations]
    words = [line.name, *(f"{key_words(key)} {value}" for key, value in line.varied.items())]
    for name in sorted(allocations[0].keys() - {"own"}, key=_order):
        others = [one[name] for one in allocations]
        gain, error = paired(_wrong(owns), _wrong(others), images)
        yield Comparison(
            label=", ".join(words),
            teacher=line.teacher,
            width=line.width,
            data_free=line.data_free,
            wanted=line.wanted,
            own_top1=_mean(owns, "top1"),
            own_bit_flops_percent=_mean(owns, "bit_flops_percent"),
            selector_overhead_percent=_mean(owns, "selector_overhead_percent"),
            against=name,
            top1=_mean(others, "top1"),
            bit_flops_percent=_mean(others, "bit_flops_percent"),
            gain=gain,
            error=error,
            p_values=tuple(one["p_value"] for one in others),
        )


def _wrong(allocations: Sequence[Record]) -> list[set[int]]:
    return [set(one["wrong"]) for one in allocations]


def _mean(allocations: Sequence[Record], name: str) -> float:
    return fmean(one[name] for one in allocations)


def _order(name: str) -> tuple[int, str]:
    """Uniform widths after the controls."""
    controls = ("permuted", "static", "ceiling")
    return (controls.index(name) if name in controls else len(controls), name)


def _p_words(p_value: float) -> str:
    return f"{p_value:.2g}" if p_value >= LEAST_P else f"< {LEAST_P:f}".rstrip("0")


def plain(found: Sequence[Comparison]) -> pd.DataFrame:
    """Return one row per comparison."""
    table = pd.DataFrame(found)
    table["p_values"] = [" ".join(f"{p:.4g}" for p in one.p_values) for one in found]
    return table


def shown(found: Sequence[Comparison]) -> Table:
    """Return the table to be read."""
    several = len({one.teacher for one in found}) > 1
    words = ["Method", *(["Teacher"] if several else []), "W/A", "Against"]
    numbers = ["Own top-1 %", "Own bit-FLOPs %", "top-1 %", "bit-FLOPs %"]
    rows = []
    for one in found:
        seeds = len(one.p_values)
        row = [one.label, *([one.teacher] if several else []), one.width, one.against]
        row += [f"{value:.2f}" for value in (one.own_top1, one.own_bit_flops_percent)]
        row += [f"{value:.2f}" for value in (one.top1, one.bit_flops_percent)]
        row += [f"{one.gain:+.2f}", f"{one.error:.2f}"]
        row += [", ".join(_p_words(p) for p in one.p_values)]
        rows.append([*row, str(seeds) if seeds == one.wanted else f"{seeds} of {one.wanted}"])
    return Table([*words, *numbers, "Gain", "Error", "p", "Seeds"], rows, len(words))
