"""What a cell costs: what is recorded, and whether an earlier attempt was killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.cost import measured
from dynadfq.runtime.resume import library_digest


@pytest.fixture(autouse=True)
def _in_an_empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.chdir(tmp_path)


def test_a_cost_names_its_time_its_memory_and_the_state_of_the_library():
    with measured("images@a", Path("cost.json"), "cpu") as added:
        added["images"] = 3
        sum(range(200_000))
    cost = json.loads(Path("cost.json").read_text())
    assert cost["cpu_seconds"] > 0 and cost["seconds"] > 0 and cost["peak_memory_mb"] > 10
    assert cost["library"] and library_digest().startswith(cost["library"])
    assert (cost["images"], cost["device"], cost["interrupted"]) == (3, "cpu", False)


def test_a_cell_that_was_killed_once_is_marked_and_its_next_attempt_is_not():
    with pytest.raises(KeyboardInterrupt), measured("images@a", Path("cost.json"), "cpu"):
        raise KeyboardInterrupt
    assert not Path("cost.json").exists()
    for interrupted in (True, False):
        with measured("images@a", Path("cost.json"), "cpu"):
            pass
        assert json.loads(Path("cost.json").read_text())["interrupted"] is interrupted
