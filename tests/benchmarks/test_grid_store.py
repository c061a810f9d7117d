"""Cells that are finished before DVC asks for them, and the order in which several processes
compute them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.cells import Cell
from benchmarks.run import Schedule
from benchmarks.store import identity, keep, place, take


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    Path("code.json").write_text("{}")
    return tmp_path


def cell(key: str, *inputs: str, entry: int = 0) -> Cell:
    paths = (Path("code.json"), *map(Path, inputs))
    return Cell(
        "images", key, {"value": entry}, paths, (Path("out") / key, Path("cost") / f"{key}.json")
    )


def write(outputs: list[Path]) -> None:
    outputs[0].mkdir()
    (outputs[0] / "data").write_text("result")
    outputs[1].write_text("{}")


def test_what_is_kept_is_taken_once():
    one = cell("a")
    assert not take(one)
    keep(one, identity(one), write)
    assert take(one)
    assert Path("out/a/data").read_text() == "result" and Path("cost/a.json").exists()
    assert not take(one)


def test_another_entry_or_other_inputs_are_not_taken():
    keep(cell("a"), identity(cell("a")), write)
    assert not take(cell("a", entry=1))
    Path("code.json").write_text('{"edited": true}')
    assert not take(cell("a"))
    Path("code.json").write_text("{}")
    assert take(cell("a"))


def test_half_a_cell_is_none():
    def killed(outputs: list[Path]) -> None:
        outputs[0].mkdir()
        raise KeyboardInterrupt

    one = cell("a")
    with pytest.raises(KeyboardInterrupt):
        keep(one, identity(one), killed)
    assert not take(one)
    keep(one, identity(one), write)
    assert take(one)


def test_a_missing_input_is_named():
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        identity(cell("a", "nowhere"))


def finish(schedule: Schedule, one: Cell, well: bool = True) -> None:
    if well:
        keep(one, schedule.identity(one.name), write)
    schedule.finish(one, well)


def test_cells_come_when_what_they_need_is_there():
    first, second = cell("a"), cell("b", "out/a")
    schedule = Schedule([first, second], set())
    assert schedule.next() is first
    assert schedule.next() is None, "b needs a, which is running"
    finish(schedule, first)
    assert schedule.next() is second
    assert schedule.locate(Path("out/a")) == place(first, identity(first)) / "0"


def test_a_failed_cell_stops_only_those_that_need_it():
    first, second, third, fourth = cell("a"), cell("b", "out/a"), cell("c", "out/b"), cell("d")
    schedule = Schedule([first, second, third, fourth], set())
    assert schedule.next() is first
    finish(schedule, first, well=False)
    assert schedule.next() is fourth
    finish(schedule, fourth)
    assert schedule.next() is None
    assert schedule.failed == {"images@a", "images@b", "images@c"} and schedule.done == {"images@d"}


def test_finished_cells_are_not_computed_again():
    first, second = cell("a"), cell("b", "out/a")
    keep(first, identity(first), write)
    schedule = Schedule([first, second], set())
    assert schedule.next() is second, "a waits in the store"
    take(first)
    again = Schedule([first, second], {"images@a"})
    assert again.next() is second, "DVC has a already"
    assert again.identity(second.name) == schedule.identity(second.name)


def test_what_is_made_is_measured_before_more_is_made():
    student, more = cell("a"), cell("b")
    measurement = replace(cell("a", "out/a"), kind="evaluate", outputs=(Path("found/a"),))
    schedule = Schedule([student, more, measurement], set())
    assert schedule.next() is student
    finish(schedule, student)
    assert schedule.next() is measurement
    assert schedule.next() is more
