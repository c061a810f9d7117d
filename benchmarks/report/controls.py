"""The table of controls: a dynamic student beside the same bit-FLOPs given in other ways."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import pandas as pd

from benchmarks.cells import controls_of
from benchmarks.report.claims import paired
from benchmarks.report.results import Line, Record
from benchmarks.report.tables import Table

HEADINGS = ["Method", "W/A", "Against", "bit-FLOPs %", "top-1 %", "Gain", "Error", "p", "Seeds"]
NOTE = (
    "Each row compares a dynamic student with itself at other widths. Permuted: the same widths, "
    "given to other images. Static: one allocation for all images, the most frequent widths. "
    "Ceiling: widths by the student's own margin at the lowest width, a bound whose cost is not "
    "counted. N bits: this width for all images. Gain: points of top-1 accuracy of the student's "
    "own widths over these, mean over seeds. Error: its standard error, from the test images on "
    "which the two differ and, with several seeds, from the spread over seeds. p: of each seed, "
    "exact test. The selector's own cost is not in the bit-FLOPs."
)


class Comparison(NamedTuple):
    """A dynamic student and one other allocation; gain and error are in points of top-1.

    p_values: of each seed.
    selector_overhead_percent: the selector's own cost, in percent of the float model's bit-FLOPs.
    """

    label: str
    width: str
    against: str
    bit_flops_percent: float
    top1: float
    gain: float
    error: float
    p_values: tuple[float, ...]
    selector_overhead_percent: float

    @property
    def seeds(self) -> int:
        """How many seeds were measured."""
        return len(self.p_values)


def comparisons(
    content: Record, studies: Mapping[str, Sequence[Line]], folder: Path = Path(".")
) -> list[Comparison]:
    """Return the measured comparisons, line by line."""
    found = {}
    for line in (line for study in studies.values() for line in study):
        keys = [key for key in line.cells if key in content["controls"]]
        paths = [controls_of(key) for key in keys if (folder / controls_of(key)).exists()]
        if paths and not line.varied:
            measured = [json.loads((folder / path).read_text(encoding="utf-8")) for path in paths]
            found[tuple(keys)] = list(_of_line(line, measured))
    return [one for of_line in found.values() for one in of_line]


def _of_line(line: Line, measured: Sequence[Record]) -> Iterable[Comparison]:
    images = measured[0]["test_images"]
    allocations = [one["allocations"] for one in measured]
    own = [set(one["own"]["wrong"]) for one in allocations]
    overhead = fmean(one["own"]["selector_overhead_percent"] for one in allocations)
    for name in sorted(allocations[0].keys() - {"own"}, key=_order):
        others = [one[name] for one in allocations]
        gain, error = paired(own, [set(one["wrong"]) for one in others], images)
        yield Comparison(
            label=line.name,
            width=line.width,
            against=name,
            bit_flops_percent=fmean(one["bit_flops_percent"] for one in others),
            top1=fmean(one["top1"] for one in others),
            gain=gain,
            error=error,
            p_values=tuple(one["p_value"] for one in others),
            selector_overhead_percent=overhead,
        )


def _order(name: str) -> tuple[int, str]:
    """Uniform widths after the controls."""
    controls = ("permuted", "static", "ceiling")
    return (controls.index(name) if name in controls else len(controls), name)


def plain(found: Sequence[Comparison]) -> pd.DataFrame:
    """Return one row per comparison."""
    rows = [
        {**one._asdict(), "p_values": " ".join(f"{p:.4g}" for p in one.p_values)} for one in found
    ]
    return pd.DataFrame(rows)


def shown(found: Sequence[Comparison]) -> Table:
    """Return the table to be read."""
    rows = [
        [
            *(one.label, one.width, one.against),
            *(f"{one.bit_flops_percent:.2f}", f"{one.top1:.2f}", f"{one.gain:+.2f}"),
            *(f"{one.error:.2f}", ", ".join(f"{p:.2g}" for p in one.p_values), str(one.seeds)),
        ]
        for one in found
    ]
    return Table(HEADINGS, rows, words=3)
