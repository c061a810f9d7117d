"""What the measurements say about the bits per image, in a few sentences."""

from collections.abc import Mapping

import pandas as pd

from dynadfq.report.load import Score
from dynadfq.report.tables import Result, measured_bits
from dynadfq.report.text import number, p_value

FLOAT_ACTIVATIONS = (
    "Activations are float32, so that images have no bit-widths of their own: the dynamic student "
    "is made as the fixed-width one."
)
CONSTANT = 99.5  # percent of images at one width from which on a site counts as constant


def varying_sites(sites: pd.DataFrame) -> int:
    """Return the number of sites at which not all images have the same width."""
    shares = sites[[f"bits_{bits}" for bits in measured_bits(sites)]].to_numpy(dtype=float)
    return int((shares.max(axis=1, initial=0.0) < CONSTANT).sum())


def verdict(results: Mapping[str, Result], sites: pd.DataFrame, score: Score) -> list[str]:
    """Return whether the dynamic student is better, and whether its bits per image are the cause.

    A difference counts if p < 0.05 in the exact test of ``evaluation.paired``.
    """
    if not len(sites):
        return [FLOAT_ACTIVATIONS]
    dynamic, fixed = results["dynamic"], results["fixed"]
    cost = f"at {_cost(dynamic, fixed)} % bit-FLOPs"
    if fixed.significant:
        word = "better" if fixed.difference > 0 else "worse"
        first = (
            f"The dynamic student is {number(abs(fixed.difference))} points of {score.name} {word} "
            f"than the fixed-width one, {cost} ({_p(fixed)})."
        )
    else:
        first = (
            "No measurable difference between the dynamic and the fixed-width student: "
            f"{_difference(fixed)} points of {score.name} {cost} ({_p(fixed)})."
        )
    found = [first, _cause(results["control"], sites)]
    if "static" in results:
        found.append(_static(dynamic, results["static"]))
    if "ceiling" in results:
        found.append(_ceiling(dynamic, results["ceiling"]))
    return found


def _cause(control: Result, sites: pd.DataFrame) -> str:
    """Return whether it matters which image gets which bits."""
    varying = f"Bit-widths differ between images at {varying_sites(sites)} of {len(sites)} sites"
    cause = "which image gets which bits makes no measurable difference"
    if control.significant:
        worse = "the chosen bits are worse than the same ones at random"
        cause = "which image gets which bits matters" if control.difference > 0 else worse
    against = f"{_difference(control)} points against the same bits at random"
    return f"{varying}; {cause}: {against} ({_p(control)})."


def _static(dynamic: Result, static: Result) -> str:
    """Return whether one allocation for all images does as well."""
    does = "does as well, as far as can be measured"
    if static.significant:
        does = "is worse" if static.difference > 0 else "is better"
    return (
        f"One allocation for all images, the selector's most frequent at {_cost(static, dynamic)} "
        f"% bit-FLOPs, {does}: the dynamic student has {_difference(static)} points ({_p(static)})."
    )


def _ceiling(dynamic: Result, ceiling: Result) -> str:
    """Return what perfect knowledge of the student's margin would gain."""
    gain = ceiling._replace(difference=-ceiling.difference)
    bound = (
        "If the margin that the student itself has at its lowest width decided, and cost nothing, "
        f"it would gain {_difference(gain)} points at {_cost(ceiling, dynamic)} % bit-FLOPs"
    )
    return f"{bound} ({_p(ceiling)})."


def _difference(result: Result) -> str:
    error = number(result.standard_error)
    return f"{number(result.difference, sign=True)} ± {error}"


def _cost(one: Result, other: Result) -> str:
    """Return how much more one costs than the other, in percent."""
    return number(100 * (one.bit_flops_percent / other.bit_flops_percent - 1), 1, sign=True)


def _p(result: Result) -> str:
    probability = p_value(result.p_value)
    return f"p {probability}" if probability.startswith("<") else f"p = {probability}"
