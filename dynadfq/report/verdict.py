"""What the measurements say about the bits per image, in two sentences."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd
from scipy.stats import t

from dynadfq.report.load import Score
from dynadfq.report.tables import Paired, Result, candidate_bits
from dynadfq.report.text import number, p_value

SIGNIFICANT = 0.05  # p-value
CONSTANT = 99.5  # percent of images at one width from which on a site counts as constant


def varying_sites(sites: pd.DataFrame) -> int:
    """Return the number of sites at which not all images have the same width."""
    shares = sites[[f"bits_{bits}" for bits in candidate_bits(sites)]].to_numpy(dtype=float)
    return int((shares.max(axis=1, initial=0.0) < CONSTANT).sum())


def reach_of_runs(std: float, runs: int) -> float:
    """Return how far from the mean of some runs another one lies at most, in 95 % of cases.

    This is half a prediction interval, t · std · √(1 + 1/n) with n - 1 degrees of freedom.

    >>> round(reach_of_runs(1.0, 5), 2)
    3.04
    """
    if runs < 2:
        return math.inf
    return float(t.ppf(1 - SIGNIFICANT / 2, runs - 1)) * std * math.sqrt(1 + 1 / runs)


def verdict(
    results: Mapping[str, Result], paired: Paired, sites: pd.DataFrame, score: Score, runs: int
) -> list[str]:
    """Return whether the dynamic student is better, and whether its bits per image are the cause.

    A difference to the fixed student counts if p < 0.05 (exact sign test), one to the same bits at
    random if it is beyond the prediction interval of the control's ``runs``.
    """
    dynamic, fixed, control = results["dynamic"], results["fixed"], results["control"]
    gain = dynamic.score - fixed.score
    cost = number(100 * (dynamic.bit_flops_percent / fixed.bit_flops_percent - 1), 1, sign=True)
    probability = p_value(paired.p_value)
    amount = f"{number(abs(gain))} points of {score.name}"
    at_cost = f"at {cost} % bit-FLOPs"
    p = f"p {probability}" if probability.startswith("<") else f"p = {probability}"
    if paired.p_value >= SIGNIFICANT:
        first = (
            f"No measurable difference between the dynamic and the fixed-width student: "
            f"{number(gain, sign=True)} points of {score.name} {at_cost} ({p})."
        )
    else:
        word = "better" if gain > 0 else "worse"
        first = f"The dynamic student is {amount} {word} than the fixed-width one, {at_cost} ({p})."
    varying = f"Bit-widths differ between images at {varying_sites(sites)} of {len(sites)} sites"
    if np.isnan(control.score) or np.isnan(control.score_std):
        return [first, f"{varying}."]
    over_control = dynamic.score - control.score
    spread = (
        f"{number(over_control, sign=True)} points against the same bits at random, whose {runs} "
        f"runs have a standard deviation of {number(control.score_std)}"
    )
    if abs(over_control) > reach_of_runs(control.score_std, runs):
        worse = "the chosen bits are worse than the same ones at random"
        cause = "which image gets which bits matters" if over_control > 0 else worse
    else:
        cause = "which image gets which bits makes no measurable difference"
    return [first, f"{varying}; {cause}: {spread}."]
