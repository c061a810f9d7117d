"""Sentences on what a grid found, against results made by hand."""

from __future__ import annotations

import json
from math import sqrt
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cells import evaluation_of
from benchmarks.report.claims import Answer
from benchmarks.report.findings import findings
from benchmarks.report.results import Line

WRONG = {
    "best-s0": [1, 2],
    "best-s1": [1, 2],
    "next-s0": [*range(3, 13)],
    "next-s1": [*range(3, 15)],
    "like-s0": [3, 4, 5],
    "like-s1": [3, 4],
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Evaluations of two seeds of three methods, on 100 images."""
    for key, wrong in WRONG.items():
        path = tmp_path / evaluation_of(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"wrong": wrong}))
    return tmp_path


def line(label: str, top1: float | None, *cells: str, **changed: Any) -> Line:
    values = {**dict.fromkeys(Line._fields), "label": label, "width": "W4A4", "top1": top1}
    values |= {"data_free": True, "seeds": len(cells), "test_images": 100, "cells": cells}
    return Line(**values | changed)


BEST = line("Best", 98.0, "best-s0", "best-s1")
NEXT = line("Next", 89.0, "next-s0", "next-s1")
LIKE = line("Like", 97.5, "like-s0", "like-s1")
SENTENCE = "W4A4: Best has the highest top-1, 98.00 % (mean of 2 seeds)"


def test_the_best_method_is_compared_with_the_second(folder: Path) -> None:
    # Seeds gain 10 - 2 and 12 - 2 images: twelve images with both seeds, two with one of them.
    of_images = (12 * 1.0**2 + 2 * 0.5**2) / 100 - 0.09**2
    error = 100 * sqrt(of_images / 100 + 2 * 0.01**2 / 2)
    words = f"{SENTENCE}, +9.00 points (standard error {error:.2f}) against Next."
    assert list(findings([NEXT, BEST], [], folder)) == [words]


def test_a_difference_below_its_error_is_undecided(folder: Path) -> None:
    (found,) = findings([BEST, NEXT, LIKE], [], folder)
    assert found.startswith(f"{SENTENCE}, +0.50 points (standard error 2.")
    assert found.endswith(" against Like, which is undecided.")


def test_each_width_has_the_best_of_its_data_free_lines_if_there_are_two(folder: Path) -> None:
    real = line("Real data", 99.0, "real-s0", data_free=False)
    missing = line("Missing", None, "missing-s0")
    alone = line("Next", 80.0, "next-s0", width="W3A3")
    fewer = [line(name, top1, "lost-s0", width="W2A2") for name, top1 in (("A", 60.0), ("B", 70.0))]
    first, second = findings([real, BEST, alone, missing, *fewer, NEXT], [], folder)
    assert first.startswith(f"{SENTENCE}, +9.00 points")
    assert second == "W2A2: B has the highest top-1, 70.00 % (one seed), followed by A."


def test_without_a_pair_of_cells_no_difference_is_named(folder: Path) -> None:
    (folder / evaluation_of("next-s0")).unlink()
    (found,) = findings([BEST, NEXT._replace(cells=("next-s0",))], [], folder)
    assert found == f"{SENTENCE}, followed by Next."


def test_claims_are_counted_by_what_they_are(tmp_path: Path) -> None:
    differences = [2.0, 2.0, 2.0, -2.0, -2.0, 0.5, None]
    seeds = [3, 1, 1, 1, 1, 1, 0]
    answers = [
        Answer("", "", "", "", "", count, value, value and 0.5)
        for count, value in zip(seeds, differences, strict=True)
    ]
    (found,) = findings([], answers, tmp_path)
    assert found.startswith("Of 6 claims, the papers' and this grid's own, 3 hold here, 2 do not, ")
    assert "and 1 are undecided (a difference below 2 standard errors); 4 of those" in found
    assert list(findings([], answers[-1:], tmp_path)) == []
