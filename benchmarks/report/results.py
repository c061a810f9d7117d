"""Results of the cells of a grid, by line of its tables. Percent in percent, times in seconds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from benchmarks.cells import controls_of, cost_of, evaluation_of, statistics_of
from dynadfq.report.figures.accuracy import standard_error

Record = Mapping[str, Any]


class Line(NamedTuple):
    """One line of a table: the same work with one or more seeds.

    top1, bit_flops_percent, mean_bits, synthesis_seconds, finetune_seconds: means over seeds; None
        where nothing was measured. A cell that was killed and went on has no time. Times on a CPU
        are CPU time where it was recorded, all others wall time.
    peak_memory_mb: the largest of all seeds', 2**20 bytes.
    top1_std: standard deviation over seeds (n - 1); None for one seed.
    control_top1: mean top-1 of the same widths, given to other images at random; None where images
        do not choose.
    seeds: seeds that were measured, of ``wanted``.
    """

    label: str
    teacher: str
    width: str
    generator: bool
    data_free: bool
    bit_flops_percent: float | None
    mean_bits: float | None
    top1: float | None
    top1_std: float | None
    control_top1: float | None
    teacher_top1: float | None
    seeds: int
    images: int | None
    test_images: int | None
    synthesis_seconds: float | None
    finetune_seconds: float | None
    peak_memory_mb: float | None
    varied: Mapping[str, Any]
    wanted: int
    cells: tuple[str, ...]

    @property
    def top1_error(self) -> float | None:
        """The standard deviation over seeds; of one seed, the standard error over test images."""
        if self.top1_std is not None or self.top1 is None or not self.test_images:
            return self.top1_std
        return standard_error(self.top1, self.test_images)

    @property
    def seconds(self) -> float | None:
        """Synthesis and fine-tuning together."""
        if self.synthesis_seconds is None or self.finetune_seconds is None:
            return None
        return self.synthesis_seconds + self.finetune_seconds

    @property
    def name(self) -> str:
        """The method, marked where it has seen labelled data."""
        return self.label if self.data_free else f"{self.label} (not data-free)"


def study_lines(content: Record, study: str, folder: Path = Path(".")) -> list[Line]:
    """Return the lines of one table, in the grid's order.

    Cells are looked up by key: other files in the folder do not count.
    """
    return [line_of(content, line, folder) for line in content["studies"][study]["lines"]]


def line_of(content: Record, line: Record, folder: Path) -> Line:
    """Return a line from its cells."""
    keys = line["cells"]
    evaluations = list(_found(folder / evaluation_of(key) for key in keys))
    images = [content["students"][key]["images"] for key in keys]
    made = list(_found(folder / cost_of("images", key) for key in images))
    taught = list(_found(folder / cost_of("students", key) for key in keys))
    top1 = _values(evaluations, "top1")
    return Line(
        label=line["label"],
        teacher=line["teacher"],
        width=line["width"],
        varied=line["varied"],
        generator=line["generator"],
        data_free=line["data_free"],
        bit_flops_percent=_mean(_values(evaluations, "bit_flops_percent")),
        mean_bits=_mean(_values(evaluations, "mean_activation_bits")),
        top1=_mean(top1),
        top1_std=stdev(top1) if len(top1) > 1 else None,
        control_top1=_mean(_values(evaluations, "control_top1")),
        teacher_top1=_mean(_values(evaluations, "teacher_top1")),
        seeds=len(evaluations),
        wanted=len(keys),
        images=max(_values(made, "images"), default=None),
        test_images=max(_values(evaluations, "test_images"), default=None),
        synthesis_seconds=_mean(_times(made)),
        finetune_seconds=_mean(_times(taught)),
        peak_memory_mb=max(_values([*made, *taught], "peak_memory_mb"), default=None),
        cells=tuple(keys),
    )


def missing(content: Record, folder: Path = Path(".")) -> list[str]:
    """Return the names of missing cells that the tables need, in the grid's order."""
    paths = {f"evaluate@{key}": evaluation_of(key) for key in content["students"]}
    paths |= {f"controls@{key}": controls_of(key) for key in content["controls"]}
    paths |= {f"statistics@{key}": statistics_of(key) for key in content["statistics"]}
    return [name for name, path in paths.items() if not (folder / path).exists()]


def machines(content: Record, folder: Path = Path(".")) -> str:
    """Return the devices and the threads per process of the times."""
    groups = {
        "images": [*content["images"], *content["labelled"]],
        "students": [*content["students"]],
    }
    costs = list(
        _found(folder / cost_of(group, key) for group, keys in groups.items() for key in keys)
    )
    devices = sorted({str(cost["device"]) for cost in costs})
    threads = sorted({int(cost["threads"]) for cost in costs})
    return f"{', '.join(devices) or '–'}; threads: {', '.join(map(str, threads)) or '–'}"


def _found(paths: Iterable[Path]) -> Iterator[dict[str, Any]]:
    for path in paths:
        if path.exists():
            yield json.loads(path.read_text(encoding="utf-8"))


def _times(costs: Sequence[Record]) -> list[float]:
    whole = [cost for cost in costs if not cost["interrupted"]]
    return [
        cost.get("cpu_seconds", cost["seconds"]) if cost["device"] == "cpu" else cost["seconds"]
        for cost in whole
    ]


def _values(records: Sequence[Record], name: str) -> list[Any]:
    return [record[name] for record in records if record.get(name) is not None]


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None
