"""``python -m benchmarks.time_to_accuracy --data FOLDER``: a row for each cell, then the page.

A cell is a method under a budget of CPU minutes of one thread, with one split of the time and one
seed, of one checkpoint and with one precision of the synthesis. Each width of weights and
activations has a file of rows and a page, such as resnet20-cifar100-w4a4. Cells that are already in
OUTPUT's file or the committed one are not measured again. ``--page`` adds the rows to the committed
ones in benchmarks/reports/time-to-accuracy/ and writes the page there, measuring nothing.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isfinite
from pathlib import Path
from typing import get_args

import torch

from benchmarks.deployment import networks
from benchmarks.time_to_accuracy.cell import NETWORKS, Bench
from benchmarks.time_to_accuracy.page import write_page
from benchmarks.time_to_accuracy.rows import Cell, Row, append, chosen, read, union, write
from benchmarks.time_to_accuracy.split import AXES, Split, axes, first_split, search
from dynadfq.methods import METHODS
from dynadfq.ops.config import Precision
from dynadfq.runtime.errors import InvalidArgument

REPORTS = Path("benchmarks/reports/time-to-accuracy")
TRAINED = [name for name, method in METHODS.items() if method.trains_student]
LEADING = ("dynadfq", "zeroq", "gdfq", "real_data")


def arguments(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.time_to_accuracy")
    parser.description = __doc__
    parser.add_argument("network", nargs="?", choices=NETWORKS, default=NETWORKS[0])
    parser.add_argument("--data", type=Path, help="folder of labelled images")
    parser.add_argument("--checkpoint", type=Path, help=networks.CHECKPOINT)
    parser.add_argument(
        "--bits", type=int, choices=range(2, 9), default=4, help="of weights and activations"
    )
    parser.add_argument("--methods", nargs="+", choices=TRAINED, default=LEADING)
    parser.add_argument("--minutes", nargs="+", type=float, default=[1, 2, 5, 10, 20, 40])
    parser.add_argument("--seeds", type=int, default=3, help="of the chosen split")
    parser.add_argument(
        "--search", nargs="*", type=float, help="minutes; none if it stands alone, all if left out"
    )
    parser.add_argument("--axes", nargs="+", choices=AXES, default=[*AXES], help="what is searched")
    parser.add_argument("--precision", choices=get_args(Precision), default="bfloat16")
    parser.add_argument("--output", type=Path, default=Path(".scratch/time-to-accuracy"))
    parser.add_argument("--page", action="store_true", help="write the report; measure nothing")
    asked = parser.parse_args(words)
    for problem in problems(asked):
        parser.error(problem)
    return asked


def problems(asked: argparse.Namespace) -> Iterator[str]:
    """Yield what is wrong with the command line."""
    for minutes in asked.minutes:
        if not (isfinite(minutes) and minutes > 0):
            yield f"--minutes: {minutes:g} is no time above 0"
    for minutes in asked.search or ():
        if minutes not in asked.minutes:
            yield f"--search: {minutes:g} is not one of --minutes"
    if asked.seeds < 1:
        yield f"--seeds: {asked.seeds} given; 1 or more are needed"
    if asked.page:
        return
    if asked.data is None or not asked.data.is_dir():
        wanted = "a folder with val/<class>/ and, for real_data, train/<class>/"
        yield f"--data: {asked.data or 'nothing given'}; give {wanted}"
    elif "real_data" in asked.methods and not (asked.data / "train").is_dir():
        yield f"--data: {asked.data} has no folder train/; --methods real_data needs one"
    if asked.checkpoint is not None and not asked.checkpoint.is_file():
        yield f"--checkpoint: there is no file {asked.checkpoint}"


def measure(asked: argparse.Namespace, path: Path) -> None:
    """Measure the cells that are missing: the search with seed 0, then the chosen split."""
    torch.set_num_threads(1)
    teacher = networks.NETWORKS[asked.network].teacher(asked.checkpoint)
    setting = {"precision": asked.precision, "weights": teacher.describe()["sha256"][:12]}
    test = networks.labelled(teacher, asked.data, "val", None)
    work = asked.output / f"{asked.network}-{setting['weights']}"
    bench = Bench(teacher, asked.data, test, work, asked.precision, asked.bits)

    def measured() -> list[Row]:
        return [row for row in read(path) if setting.items() <= vars(row).items()]

    def held_back(cell: Cell) -> float:
        for row in measured():
            if row.cell == cell:
                return row.held_back
        row = bench.row(cell)
        append(path, row)
        print(row, flush=True)
        return row.held_back

    for method in asked.methods:
        known, under = first_split(method), 1.0  # whose images are not scaled, and its minutes
        for minutes in sorted(asked.minutes):
            start = known.scaled(minutes / under) if "images" in axes(method) else known

            def score(tried: Split, method: str = method, minutes: float = minutes) -> float:
                return held_back(Cell(method, minutes, **vars(tried), seed=0, **setting))

            searched = asked.search is None or minutes in asked.search
            search(start, [a for a in axes(method) if searched and a in asked.axes], score)
            split = chosen(measured(), method, minutes) or start
            if split.images == start.images:
                known = replace(split, images=known.images)
            else:
                known, under = split, minutes
            for seed in range(1, asked.seeds):
                held_back(Cell(method, minutes, **vars(split), seed=seed, **setting))


def main(words: Sequence[str] | None = None) -> None:
    """Measure, or write the page."""
    try:
        _run(arguments(words))
    except InvalidArgument as error:
        sys.exit(str(error))


def _run(asked: argparse.Namespace) -> None:
    name = f"{asked.network}-w{asked.bits}a{asked.bits}"
    committed = REPORTS / f"{name}.csv"
    path = asked.output / committed.name
    rows = union(read(committed), read(path))
    if asked.page:
        if not rows:
            sys.exit(f"--page: there are no rows of {name} yet; measure some first")
        write(committed, rows)
        write_page(rows, committed.parent, name)
    else:
        write(path, rows)
        measure(asked, path)


if __name__ == "__main__":
    main()
