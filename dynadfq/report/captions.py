"""One sentence below each figure: how to read it, and a number measured in it."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from dynadfq.report.figures.sites import short_names
from dynadfq.report.figures.tiles import Tile
from dynadfq.report.matrices import Floats, off_diagonal
from dynadfq.report.measures import linear_correlation, rank_correlation
from dynadfq.report.score import Score
from dynadfq.report.tables import Result, mean_site_bits, mixup_start
from dynadfq.report.words import SPACE, number, percent, signed


def rho(value: float) -> str:
    """Spearman's rho in a sentence."""
    return "undefined (a side is constant)" if math.isnan(value) else number(value)


def headline_caption(results: Sequence[Result], score: Score) -> str:
    """Accuracy against cost."""
    by_role = {one.role: one for one in results}
    dynamic, fixed = by_role["dynamic"], by_role["fixed"]
    line = ", and the dashed line is the float teacher" if score.labelled else ""
    change = None if dynamic.score is None or fixed.score is None else dynamic.score - fixed.score
    return (
        f"Higher is better, further left is cheaper{line}: from fixed to dynamic "
        f"bits {score.name} changes by {signed(change)} points and the cost by "
        f"{signed(100 * (dynamic.bit_flops_percent / fixed.bit_flops_percent - 1), 1)}{SPACE}%."
    )


def budget_caption(budget: pd.DataFrame, results: Sequence[Result], score: Score) -> str:
    """Accuracy along the budget; budgets at which all images have the same bits say nothing about
    the choice.
    """
    fixed = next(one for one in results if one.role == "fixed")
    chosen = budget[budget["allocations"] > 1]
    gains = chosen[score.key] - chosen[f"control_{score.key}"]
    by_cost = budget.sort_values("bit_flops_percent", kind="stable")
    low, high = by_cost.iloc[0], by_cost.iloc[-1]
    ends = [
        f"{percent(one[score.key])} at {percent(one['bit_flops_percent'])}" for one in (low, high)
    ]
    said = (
        f"Without further training the student goes from {ends[0]} bit-FLOPs to {ends[1]}; "
        f"the fixed width has {percent(fixed.score)} at {percent(fixed.bit_flops_percent)}. "
    )
    if not len(chosen):
        return said + "At no budget do images differ in their bits."
    return said + (
        f"At {int((gains > 0).sum())} of {len(chosen)} budgets it is above the same bits handed to other images (once "
        f"each), by {signed(float(gains.mean()))} points on average."
    )


def cost_caption(test: pd.DataFrame | None, synthetic: pd.DataFrame) -> str:
    """Entropy against bit-FLOPs."""
    tables = (
        {"synthetic images": synthetic}
        if test is None
        else {"test images": test, "synthetic ones": synthetic}
    )
    found = [
        f"{rho(rank_correlation(t['entropy_nats'], t['bit_flops_percent']))} on {n}"
        for n, t in tables.items()
    ]
    return (
        "A dot is an image, the line the mean of its entropy bin; it rises where difficult images get more bits. "
        f"Spearman's ρ is {' and '.join(found)}."
    )


def distribution_caption(groups: Mapping[str, Floats]) -> str:
    """Entropy distributions."""
    kinds = {
        "test": "test images",
        "one_hot": "images of one class",
        "soft": "images of similar classes",
    }
    medians = [f"{np.median(v):.3g} for {kinds[name]}" for name, v in groups.items() if len(v)]
    outline = "The outline repeats the test images, whose range of difficulty the synthetic ones should cover; m"
    return f"{outline if len(groups['test']) else 'M'}edian entropy in nats: {', '.join(medians)}."


def similarity_caption(
    similarity: Floats, co_occurrence: Floats, names: Sequence[str], shown: int
) -> str:
    """Class similarity against co-occurrence, over all classes, of which so many are shown."""
    a, b = off_diagonal(similarity), off_diagonal(co_occurrence)
    if not len(a):
        return "There is one class, so there is no pair to compare."
    place = int(np.argmax(a))
    row, column = (int(index[place]) for index in np.triu_indices(len(similarity), k=1))
    left_out = (
        f" Shown are {shown} of {len(names):,} classes, from the most similar pairs."
        if shown < len(names)
        else ""
    )
    return (
        "Both maps list the classes in one order, similar ones together; equal patterns mean that the weights know "
        f"which classes are confused: over {len(a):,} pairs Spearman's ρ is {rho(rank_correlation(a, b))} and "
        f"Pearson's r {rho(linear_correlation(a, b))}; the most similar pair is {names[row]} and {names[column]}."
        f"{left_out}"
    )


def sensitivity_caption(measured: pd.DataFrame) -> str:
    """Sensitivity against entropy; images that survive at no width count as one bit above the
    widest.
    """
    bits = measured["lowest_bits"].to_numpy()
    ranks = np.where(bits == 0, bits.max(initial=0) + 1, bits)
    return (
        "Boxes hold the middle half of the images, lines 5 to 95 %, the gap is the median; where the boxes climb, "
        "difficult images need more bits: Spearman's ρ is "
        f"{rho(rank_correlation(ranks, measured['entropy_nats']))} over {len(measured):,} images."
    )


def sites_caption(sites: pd.DataFrame) -> str:
    """Bits per site."""
    bits = mean_site_bits(sites)
    high, low = int(np.argmax(bits)), int(np.argmin(bits))
    shown = short_names([str(name) for name in sites["name"]], length=60)
    ends = [f"{number(bits[i])} bits ({shown[i]})" for i in (low, high)]
    varied = int((sites.filter(regex=r"^bits_\d+$").max(axis=1) < 99.5).sum())
    return (
        f"From first to last site, top to bottom; {varied} of {len(sites)} sites change width from image to image, "
        f"and the mean goes from {ends[0]} to {ends[1]}."
    )


def curves_caption(histories: Mapping[str, pd.DataFrame], target: float) -> str:
    """Learning curves."""
    last = histories["dynamic"].iloc[-1]
    start = mixup_start(histories["dynamic"])
    mixing = (
        ""
        if start is None
        else f" From epoch {start:g} (dotted) images are mixed; dashed is the loss before."
    )
    return (
        f"Each panel is one term as logged, the band one standard deviation between images: the last epoch spends "
        f"{percent(last['bit_flops_percent'])} bit-FLOPs for a target of {percent(target)}.{mixing}"
    )


def confusion_caption(teacher: Floats, student: Floats, names: Sequence[str], shown: int) -> str:
    """Teacher's confusion against the student's, over all classes, of which so many are shown."""
    change = student - teacher
    moved = change.copy()
    np.fill_diagonal(moved, -np.inf)
    row, column = divmod(int(np.argmax(moved)), len(moved))
    losing = int((np.diag(change) < -0.5).sum())
    left_out = (
        f" Shown are {shown} of {len(names):,} classes, from the pairs confused most."
        if shown < len(names)
        else ""
    )
    return (
        "Rows are labels, columns predictions; on the right, blue is more frequent in the dynamic student, orange "
        f"rarer: {losing} of {len(names)} classes lose more than half a point, and the confusion that grows most is "
        f"{names[row]} taken for {names[column]} ({signed(float(change[row, column]), 1)}{SPACE}points)."
        f"{left_out}"
    )


def tiles_caption(tiles: Sequence[Tile], kind: str) -> str:
    """Easiest or hardest images."""
    mean = float(np.mean([tile.entropy_nats for tile in tiles])) if tiles else math.nan
    agreed = sum(tile.recognized for tile in tiles)
    return (
        f"The {len(tiles)} {kind} synthetic images by the teacher's entropy (mean {mean:.2g} nats); bars are the label "
        f"each was made for in percent, the arrow is the teacher's answer, which is in the label of {agreed}."
    )
