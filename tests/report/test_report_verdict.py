from __future__ import annotations

import math

import pandas as pd
import pytest

from dynadfq.report.load import Score
from dynadfq.report.tables import Result
from dynadfq.report.verdict import varying_sites, verdict

SCORE = Score("top1", "top-1", "test images", 1000, "label")


def result(difference: float, p: float, cost: float = 2.5) -> Result:
    """A network to which the dynamic student of 70 % has this difference."""
    return Result("", 70 - difference, math.nan, cost, 4.0, 99.0, difference, 0.25, 9, 5, p)


def told(**others: Result) -> list[str]:
    sites = pd.DataFrame({"bits_3": [50, 100, 0.0], "bits_5": [50, 0.0, 100]})
    dynamic = Result("Dynamic", 70.0, math.nan, 2.5, 4.0, 99.0)
    none = result(0.1, 0.6)
    return verdict({"dynamic": dynamic, "fixed": none, "control": none} | others, sites, SCORE)


def test_sites_vary_where_images_have_different_widths() -> None:
    widest = [0, 100, 50, 99.8, 99.0]
    sites = pd.DataFrame({"bits_3": [100 - share for share in widest], "bits_5": widest})
    assert varying_sites(sites) == 2


def test_a_gain_that_the_control_has_too_is_not_credited_to_the_bits_per_image() -> None:
    first, second = told(fixed=result(4.4, 1e-6, 2.0))
    assert first == (
        "The dynamic student is 4.40 points of top-1 better than the fixed-width one, "
        "at +25.0 % bit-FLOPs (p < 0.001)."
    )
    assert second == (
        "Bit-widths differ between images at 1 of 3 sites; which image gets which bits makes no "
        "measurable difference: +0.10 ± 0.25 points against the same bits at random (p = 0.6)."
    )


@pytest.mark.parametrize(
    ("difference", "p", "said"),
    [
        (1.4, 0.01, "which image gets which bits matters"),
        (-1.4, 0.01, "the chosen bits are worse than the same ones at random"),
        (0.4, 0.2, "which image gets which bits makes no measurable difference"),
    ],
)
def test_a_gain_over_the_control_is_one_if_it_is_significant(
    difference: float, p: float, said: str
) -> None:
    assert said in told(control=result(difference, p))[1]


@pytest.mark.parametrize("p", [1.0, 0.42])
def test_a_difference_by_chance_is_none(p: float) -> None:
    first = told(fixed=result(0.4, p))[0]
    assert first.startswith("No measurable difference") and "+0.40 ± 0.25 points" in first


@pytest.mark.parametrize(
    ("difference", "p", "said"),
    [(0.9, 0.01, "is worse"), (-0.9, 0.01, "is better"), (0.9, 0.06, "does as well")],
)
def test_one_allocation_for_all_images_is_compared(difference: float, p: float, said: str) -> None:
    static = told(static=result(difference, p, 2.51))[2]
    assert f"at +0.4 % bit-FLOPs, {said}" in static and f"{abs(difference):.2f} ± 0.25" in static


def test_the_ceiling_says_what_could_be_gained() -> None:
    *_, last = told(static=result(0, 1), ceiling=result(-2.0, 1e-9))
    assert "would gain +2.00 ± 0.25 points at 0.0 % bit-FLOPs (p < 0.001)" in last
