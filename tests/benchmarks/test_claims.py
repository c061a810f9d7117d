"""Claims of the papers: paired differences by hand, and what is said where cells are missing."""

from __future__ import annotations

import json
from math import sqrt
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cells import evaluation_of
from benchmarks.report.claims import Answer, answers, paired, plain, shown


def test_one_seed_by_hand() -> None:
    # 100 images: three that only the worse side misses, one that only the better side misses, one
    # that both miss.
    difference, error = paired([{1, 9}], [{9, 2, 3, 4}], 100)
    assert difference == pytest.approx(2.0)
    assert error == pytest.approx(100 * sqrt((4 - 2**2 / 100) / 100**2))


def test_seeds_add_their_spread() -> None:
    difference, error = paired([set(), {1}], [{1, 2}, {1}], 50)
    assert difference == pytest.approx(100 * (0.04 + 0.0) / 2)
    within = ((2 - 4 / 50) / 50**2 + 0.0) / 2
    between = 2 * 0.02**2 / 2  # variance 0.0008 of 0.04 and 0, over two seeds
    assert error == pytest.approx(100 * sqrt(within + between))


def test_exchanging_the_sides_changes_the_sign_alone() -> None:
    one, other = [{1, 2, 3}, {4}], [{3, 5}, {4, 6, 7}]
    assert paired(one, other, 40)[0] == -paired(other, one, 40)[0]
    assert paired(one, other, 40)[1] == paired(other, one, 40)[1]
    assert paired(one, one, 40) == (0.0, 0.0)


@pytest.mark.parametrize(
    ("difference", "error", "holds"),
    [
        (1.0, 0.4, "yes"),
        (-1.0, 0.4, "no"),
        (1.0, 0.6, "undecided"),
        (0.0, 0.0, "undecided"),
        (None, None, "not measured"),
    ],
)
def test_a_claim_holds_where_the_difference_is_beyond_its_error(
    difference: float | None, error: float | None, holds: str
) -> None:
    assert Answer("", "", "", "", "", 1, difference, error).holds == holds


def test_claims_are_answered_by_the_seeds_that_both_sides_have(tmp_path: Path) -> None:
    def claim(text: str, *cells: list[str]) -> dict[str, Any]:
        sides = [
            {
                "label": "A",
                "width": "W4A4",
                "varied": {"images.share": 0.5},
                "control": False,
                "cells": cells[0],
            }
        ]
        sides += [
            {
                "label": "B",
                "width": "W4A{3,4,5}",
                "varied": {},
                "control": False,
                "cells": cells[1],
            }
        ]
        return {
            "text": text,
            "source": "paper",
            "teacher": "t",
            "better": sides[0],
            "worse": sides[1],
        }

    for key, wrong in {"a-s0": [1], "a-s1": [2], "b-s0": [1, 2, 3, 4, 5, 6, 7, 8]}.items():
        path = tmp_path / evaluation_of(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"wrong": wrong, "test_images": 100}))
    claims = [
        claim("A beats B", ["a-s0", "a-s1"], ["b-s0", "b-s1"]),
        claim("A beats B", ["c-s0"], ["b-s0"]),
    ]
    first, second = answers({"claims": claims}, tmp_path)
    assert (first.seeds, first.difference, first.holds) == (1, pytest.approx(7.0), "yes")
    assert (second.seeds, second.difference, second.holds) == (0, None, "not measured")
    table = shown([first, second])
    assert [row[0] for row in table.rows] == ["A beats B", ""]
    error = f"{100 * sqrt((7 - 49 / 100) / 100**2):.2f}"
    assert table.rows[0] == ["A beats B", "yes", "W4A4 / W4A{3,4,5}", "paper", "+7.00", error, "1"]
    numbers = plain([first, second])
    assert numbers["holds"].tolist() == ["yes", "not measured"]
    assert (numbers["better"][0], numbers["worse"][0]) == ("A (share 0.5)", "B")


def test_a_control_is_compared_by_what_it_gets_wrong(tmp_path: Path) -> None:
    path = tmp_path / evaluation_of("a-s0")
    path.parent.mkdir(parents=True)
    path.write_text(
        json.dumps({"wrong": [1, 2], "control_wrong": [1, 3, 4, 5], "test_images": 100})
    )
    side = {"label": "A", "width": "W4A{3,4,5}", "varied": {}, "cells": ["a-s0"]}
    claim = {
        "text": "A knows its images",
        "source": "control",
        "better": {**side, "control": False},
        "worse": {**side, "control": True},
    }
    [answer] = answers({"claims": [claim]}, tmp_path)
    assert (answer.difference, answer.worse) == (2.0, "A (control)")
