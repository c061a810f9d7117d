"""The row of a measured cell: each field holds what it is named after."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import dynadfq
from benchmarks.time_to_accuracy import cell as measured
from benchmarks.time_to_accuracy.cell import Bench
from benchmarks.time_to_accuracy.rows import Cell, Row
from benchmarks.time_to_accuracy.split import START
from benchmarks.time_to_accuracy.timing import Rates
from dynadfq.runtime.resume import library_digest

CELL = Cell(
    *("dynadfq", 1.0),
    **vars(replace(START, images=128, share=0.4)),
    **{"seed": 3, "precision": "bfloat16", "weights": "fedcba987654"},
)


class Labelled(list[None]):
    """Test images that are known by a word."""

    def batches(self, size: int) -> str:
        return "test images"


class Stopped:
    """A clock that shows the student's time."""

    cpu, wall = 33.333, 40.25

    def __enter__(self) -> Stopped:
        return self

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A bench whose parts are stubs, each with numbers of its own; sets are known by their seed."""

    def evaluate(student: str, batches: Any, teacher: str) -> Any:
        assert (student, teacher) == ("student", "teacher")
        if batches == "test images":
            return SimpleNamespace(top1=60.1234, agreement=70.4567)
        assert batches == [("seed 1000000", None)]
        return SimpleNamespace(top1=None, agreement=81.2341)

    def opened(folder: Path) -> Any:
        batches = [SimpleNamespace(images=f"seed {folder}")]
        return SimpleNamespace(batches=lambda size: batches)

    found = Bench("teacher", tmp_path, Labelled([None] * 7), tmp_path, "bfloat16", 4)  # type: ignore[arg-type]
    sets = {3: (23.994, 30.5), 1_000_000: (900.0, 900.0)}

    def images(method: str, count: int, iterations: int, seed: int, basis: str) -> dict[str, Any]:
        return {"folder": str(seed), "cpu": sets[seed][0], "wall": sets[seed][1]}

    monkeypatch.setattr(dynadfq, "evaluate", evaluate)
    monkeypatch.setattr(dynadfq, "SyntheticSet", opened)
    monkeypatch.setattr(measured, "Clock", Stopped)
    monkeypatch.setattr(found, "images", images)
    monkeypatch.setattr(found, "student", lambda *_: "student")
    monkeypatch.setattr(found, "rates", lambda *_: Rates(0.001, 4.0, 0.25, 2.0))
    return found


def test_each_field_of_a_row_is_what_it_is_named_after(bench: Bench) -> None:
    # 60 s: (24 - 4) / 0.001 / 128 iterations, and (60 - 23.994 - 2) / 0.25 steps in whole quarters.
    assert bench.row(CELL) == Row(
        **vars(CELL),
        iterations=156,
        steps=136,
        image_seconds=23.99,
        student_seconds=33.33,
        wall_seconds=70.75,
        held_back=81.234,
        top1=60.123,
        agreement=70.457,
        test_images=7,
        library=library_digest()[:12],
    )
