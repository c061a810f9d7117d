"""Claims of the papers: paired differences by hand, and what is said where cells are missing."""

from __future__ import annotations

import json
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.cells import evaluation_of
from benchmarks.report.claims import CERTAIN, Answer, answers, paired, plain, shown


def test_one_seed_by_hand() -> None:
    # 100 images: three that only the worse side misses, one that only the better side misses, one
    # that both miss.
    difference, error = paired([{1, 9}], [{9, 2, 3, 4}], 100)
    assert difference == pytest.approx(2.0)
    assert error == pytest.approx(100 * sqrt((4 - 2**2 / 100) / 100**2))


def test_seeds_add_their_spread() -> None:
    difference, error = paired([set(), {1}], [{1, 2}, {1}], 50)
    assert difference == pytest.approx(100 * (0.04 + 0.0) / 2)
    of_images = (2 * 0.5**2 / 50 - 0.02**2) / 50  # images 1 and 2 have a mean of 1/2, the others 0
    of_seeds = 2 * 0.02**2 / 2  # variance 0.0008 of 0.04 and 0, over two seeds
    assert error == pytest.approx(100 * sqrt(of_images + of_seeds))


def test_equal_seeds_tell_no_more_than_one() -> None:
    better, worse = {1, 9}, {9, 2, 3, 4}
    assert paired([better] * 3, [worse] * 3, 100) == pytest.approx(paired([better], [worse], 100))


@pytest.mark.parametrize("shared", [0.0, 0.5])
@pytest.mark.parametrize("seeds", [1, 2, 3, 5])
def test_students_that_do_not_differ_are_told_apart_in_at_most_one_of_twenty_trials(
    seeds: int, shared: float
) -> None:
    """Half of the images' answers are the same with all seeds where ``shared`` is 0.5."""
    rng = np.random.default_rng(seeds)
    images, trials, decided, errors, found = 500, 400, 0, [], []
    for _ in range(trials):
        common = rng.random((2, images)) < 0.3
        fixed = rng.random(images) < shared
        sides: list[list[set[int]]] = [[], []]
        for _ in range(seeds):
            own = rng.random((2, images)) < 0.3
            for side, wrong in zip(sides, np.where(fixed, common, own), strict=True):
                side.append({*map(int, wrong.nonzero()[0])})
        difference, error = paired(*sides, images)
        decided += abs(difference) >= CERTAIN * error
        errors.append(error)
        found.append(difference)
    assert decided <= 0.05 * trials + 2 * sqrt(0.05 * 0.95 * trials)
    assert 0.9 * np.std(found) <= np.mean(errors) <= 1.6 * np.std(found)


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
    assert table.rows[0] == [
        "A beats B",
        "yes, one seed",
        "W4A4 / W4A{3,4,5}",
        "paper",
        "+7.00",
        error,
        "1",
    ]
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
