from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from benchmarks.speed import __main__ as speed
from benchmarks.speed.ratio import Result, alternate, summed_up
from benchmarks.speed.table import as_json, as_markdown

CPU = torch.device("cpu")


def test_a_ratio_is_of_neighbours_and_not_of_medians() -> None:
    one = summed_up(2, "a / b", [(1.0, 1.0), (4.0, 2.0), (30.0, 10.0)], aim=1.5)
    assert (one.median, one.lower, one.upper, one.rounds) == (2.0, 1.5, 2.5, 3)
    assert (one.above, one.below) == (4000.0, 2000.0)  # ms


@pytest.mark.parametrize(("aim", "verdict"), [(2.0, "reached"), (1.9, "missed"), (None, "no aim")])
def test_the_verdict_compares_the_median_with_the_aim(aim: float | None, verdict: str) -> None:
    assert summed_up(1, "a / b", [(2.0, 1.0)], aim).verdict == verdict


def test_functions_are_called_in_turn_and_the_first_rounds_do_not_count() -> None:
    called: list[str] = []
    pairs = alternate(lambda: called.append("a"), lambda: called.append("b"), 3, CPU)
    assert called == ["a", "b", "b", "a"] * 2 + ["a", "b"] and len(pairs) == 3


def test_the_table_shows_what_was_not_measured_and_why() -> None:
    missing = Result(
        7, "dvc repro", None, None, None, 0, None, unit="s", note="outputs are missing"
    )
    found = [summed_up(1, "step / bare", [(0.2, 0.1)] * 3, 1.1), missing]
    text = as_markdown(found, CPU)
    assert "| 1 | step / bare | 2.00 | 2.00 … 2.00 | 3 | 200 / 100 ms | ≤ 1.1 | missed |" in text
    assert "| 7 | dvc repro | – | – | – | – | – | not measured |" in text
    assert "7: outputs are missing." in text
    assert [one["verdict"] for one in json.loads(json.dumps(as_json(found, CPU)))["results"]] == [
        "missed",
        "not measured",
    ]


@pytest.mark.parametrize(
    ("words", "written"),
    [
        ([], True),
        (["--only", *reversed(speed.NAMES)], True),
        (["--only", "import"], False),
        (["--network", "resnet20"], False),
    ],
)
def test_only_a_whole_run_replaces_the_report(
    words: list[str], written: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "REPORTS", tmp_path / "speed")
    monkeypatch.setattr(speed, "results", lambda *_: [])
    monkeypatch.setattr(torch, "set_num_threads", lambda _: None)
    monkeypatch.setattr(sys, "argv", ["speed", *words])
    speed.main()
    assert (tmp_path / "speed/speed-cpu.md").exists() is written
