from __future__ import annotations

import math

import pandas as pd
import pytest

from dynadfq.report.load import Score
from dynadfq.report.tables import Paired, Result
from dynadfq.report.verdict import varying_sites, verdict

SCORE = Score("top1", "top-1", "test images", 1000, "label")


def results(dynamic: float, fixed: float, control: float, std: float) -> dict[str, Result]:
    return {
        "dynamic": Result("Dynamic", dynamic, math.nan, 2.5, 4.0, 99.0),
        "fixed": Result("Fixed 4-bit", fixed, math.nan, 2.5, 4.0, 99.0),
        "control": Result("Same bits at random", control, std, 2.5, 4.0, 99.0),
    }


def sites(*widest: float) -> pd.DataFrame:
    return pd.DataFrame({"bits_3": [100 - share for share in widest], "bits_5": list(widest)})


def test_sites_vary_where_images_have_different_widths() -> None:
    assert varying_sites(sites(0, 100, 50, 99.8, 99.0)) == 2


def test_a_gain_that_the_control_has_too_is_not_credited_to_the_bits_per_image() -> None:
    first, second = verdict(
        results(74.4, 70.0, 74.3, 0.2), Paired(60, 16, 1e-6), sites(50, 0, 100), SCORE, 5
    )
    assert "4.40 points of top-1 better" in first and "p < 0.001" in first
    assert "1 of 3 sites; which image gets which bits makes no measurable difference" in second
    assert "+0.10 points" in second and "5 runs have a standard deviation of 0.20" in second


def test_a_gain_over_the_control_is() -> None:
    first, second = verdict(
        results(74.4, 70.0, 73.0, 0.2), Paired(60, 16, 1e-6), sites(50, 50), SCORE, 5
    )
    assert "better" in first and "which image gets which bits matters" in second
    _, worse = verdict(results(70, 70.0, 73.0, 0.2), Paired(0, 0, 1.0), sites(50), SCORE, 5)
    assert "the chosen bits are worse than the same ones at random" in worse


@pytest.mark.parametrize(("gained", "lost", "p"), [(0, 0, 1.0), (9, 5, 0.42)])
def test_a_difference_by_chance_is_none(gained: int, lost: int, p: float) -> None:
    first, _ = verdict(results(70.4, 70, 70, 0.3), Paired(gained, lost, p), sites(50), SCORE, 5)
    assert first.startswith("No measurable difference") and "+0.40 points" in first


def test_without_a_control_only_the_sites_are_told() -> None:
    _, second = verdict(
        results(70, 70, math.nan, math.nan), Paired(0, 0, 1.0), sites(50, 0), SCORE, 5
    )
    assert second == "Bit-widths differ between images at 1 of 2 sites."
