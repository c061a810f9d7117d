"""The figures of the report, each with the numbers that stand below it on the page."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from dynadfq.evaluation.correlation import linear_correlation, rank_correlation
from dynadfq.report.figures import accuracy, class_maps, curves, entropy, sites, tiles
from dynadfq.report.figures.theme import Theme
from dynadfq.report.figures.tiles import Tile
from dynadfq.report.load import Evidence
from dynadfq.report.matrices import Pairs, confused_pairs, off_diagonal, similar_pairs
from dynadfq.report.tables import (
    AGREEMENT,
    entropy_groups,
    kept_epoch,
    mean_site_bits,
    mixup_start,
    network_results,
    sensitivity_table,
)
from dynadfq.report.text import number, short_names
from dynadfq.report.verdict import varying_sites

LOSS = 0.5  # points that a class loses before it is counted


@dataclass(frozen=True)
class Plate:
    """One figure; the page has its title and caption.

    name: stem of its file in reports/figures.
    draw: makes the figure in a theme.
    numbers: what stands in a table below it.
    tiles: images that the page shows one by one in place of the PNG.
    """

    name: str
    draw: Callable[[Theme], Figure]
    numbers: dict[str, str] = field(default_factory=dict)
    tiles: tuple[Tile, ...] = ()


def plates(evidence: Evidence, easiest: list[Tile], hardest: list[Tile]) -> Iterator[Plate]:
    """Yield all figures that the evidence supports."""
    score = evidence.score
    results = network_results(evidence.metrics, score)
    yield Plate(
        "accuracy_against_cost",
        lambda theme: accuracy.accuracy_against_cost(results, score, theme),
    )
    if len(evidence.budget):
        yield Plate(
            "accuracy_by_budget",
            lambda theme: accuracy.accuracy_by_budget(evidence.budget, score, results, theme),
            _budget_numbers(evidence.budget, score.key, score.name),
        )
    yield from _entropy(evidence.test_images, evidence.synthetic)
    measured = sensitivity_table(evidence.per_image)
    if len(measured):
        yield Plate(
            "sensitivity_against_entropy",
            lambda theme: entropy.sensitivity_against_entropy(measured, theme),
            _sensitivity_numbers(measured),
        )
    if len(evidence.sites):
        yield Plate(
            "bits_per_site",
            lambda theme: sites.bits_per_site(evidence.sites, score.images, theme),
            _site_numbers(evidence.sites),
        )
    yield from _class_maps(evidence)
    history = evidence.histories["dynamic"]
    target = float(evidence.metrics["fixed"]["bit_flops_percent"])
    if len(history):
        yield Plate(
            "learning_curves",
            lambda theme: curves.learning_curves_figure(evidence.histories, target, theme),
            _curve_numbers(history, target),
        )
    if easiest:
        yield _image_grid("synthetic_easiest", easiest)
        yield _image_grid("synthetic_hardest", hardest)


def _budget_numbers(budget: pd.DataFrame, key: str, name: str) -> dict[str, str]:
    ordered = budget.sort_values("bit_flops_percent", kind="stable")
    numbers = {}
    for end, row in (("Smallest", ordered.iloc[0]), ("Largest", ordered.iloc[-1])):
        numbers[f"{end} budget: {name}, %"] = number(row[key])
        numbers[f"{end} budget: bit-FLOPs, % of float"] = number(row["bit_flops_percent"])
    shuffled = budget[budget["allocations"] > 1]
    gains = shuffled[key] - shuffled[f"control_{key}"]
    numbers["Budgets at which images differ in their bits"] = str(len(shuffled))
    numbers["of these above the same bits at random"] = str(int((gains > 0).sum()))
    numbers["Mean difference to the same bits at random, points"] = number(gains.mean(), sign=True)
    return numbers


def _entropy(test: pd.DataFrame | None, synthetic: pd.DataFrame) -> Iterator[Plate]:
    """Yield the figures of prediction entropy; their titles have the numbers."""
    groups = entropy_groups(test, synthetic)
    yield Plate(
        "entropy_against_cost", lambda theme: entropy.entropy_against_cost(test, synthetic, theme)
    )
    yield Plate("entropy_distribution", lambda theme: entropy.entropy_distribution(groups, theme))


def _sensitivity_numbers(measured: pd.DataFrame) -> dict[str, str]:
    """Images that survive at no width count as one bit above the widest."""
    bits = measured["lowest_bits"]
    ranks = bits.where(bits > 0, bits.max() + 1)
    return {
        "Images": f"{len(measured):,}",
        "Spearman's ρ": number(rank_correlation(ranks, measured["entropy_nats"])),
    }


def _site_numbers(table: pd.DataFrame) -> dict[str, str]:
    bits = mean_site_bits(table)
    names = short_names([str(name) for name in table["name"]], length=60)
    return {
        "Sites": str(len(table)),
        "whose width differs between images": str(varying_sites(table)),
        f"Fewest mean bits ({names[int(np.argmin(bits))]})": number(bits.min()),
        f"Most mean bits ({names[int(np.argmax(bits))]})": number(bits.max()),
    }


def _curve_numbers(history: pd.DataFrame, target: float) -> dict[str, str]:
    start = mixup_start(history)
    numbers = {
        "Bit-FLOPs in the last epoch, % of float": number(history["bit_flops_percent"].iloc[-1]),
        "Target, % of float": number(target),
        "First epoch with mixed images": number(start, 0),
    }
    kept = kept_epoch(history)
    if kept is not None:
        numbers[f"Epoch kept of {len(history)}"] = number(kept["epoch"], 0)
        numbers["Its agreement on held-back images, by which it was chosen, %"] = number(
            kept[AGREEMENT]
        )
    return numbers


def _class_maps(evidence: Evidence) -> Iterator[Plate]:
    """Yield the two maps over pairs of classes, which need labelled images."""
    if evidence.co_occurrence is None or evidence.confusion is None:
        return
    names = evidence.class_names
    similar = similar_pairs(evidence.similarity, evidence.co_occurrence, names)
    confused = confused_pairs(evidence.confusion, evidence.similarity, names)
    for name, pairs, draw, numbers in (
        ("class_similarity", similar, class_maps.similarity_and_co_occurrence, _similarity_numbers),
        ("confusion", confused, class_maps.confusion_against_teacher, _confusion_numbers),
    ):
        yield Plate(name, _map_of(draw, pairs, names), numbers(pairs, names))


def _map_of(
    draw: Callable[..., Figure], pairs: Pairs, names: list[str]
) -> Callable[[Theme], Figure]:
    """Bind a figure of two maps to the classes that are shown."""
    shown = [names[i] for i in pairs.shown]
    return lambda theme: draw(pairs.part(pairs.first), pairs.part(pairs.second), shown, theme)


def _shown(pairs: Pairs, names: list[str]) -> dict[str, str]:
    return {"Classes": f"{len(names):,}", "of these shown": f"{len(pairs.shown):,}"}


def _similarity_numbers(pairs: Pairs, names: list[str]) -> dict[str, str]:
    numbers = _shown(pairs, names)
    similar = off_diagonal(pairs.first)
    if not len(similar):
        return numbers
    together = off_diagonal(pairs.second)
    rows, columns = np.triu_indices(len(names), k=1)
    most = int(np.argmax(similar))
    return {
        **numbers,
        "Pairs": f"{len(similar):,}",
        "Spearman's ρ over pairs": number(rank_correlation(similar, together)),
        "Pearson's r over pairs": number(linear_correlation(similar, together)),
        "Most similar pair": f"{names[rows[most]]}, {names[columns[most]]}",
    }


def _confusion_numbers(pairs: Pairs, names: list[str]) -> dict[str, str]:
    change = pairs.second - pairs.first
    losing = int((np.diag(change) < -LOSS).sum())
    errors = np.where(np.eye(len(names), dtype=bool), -np.inf, change)
    label, prediction = divmod(int(np.argmax(errors)), len(names))
    grown = f"Confusion that grows most ({names[label]} taken for {names[prediction]}), points"
    return {
        **_shown(pairs, names),
        f"Classes that lose more than {LOSS} points": str(losing),
        grown: number(change[label, prediction], 1, sign=True),
    }


def _image_grid(name: str, shown: list[Tile]) -> Plate:
    numbers = {
        "Images": str(len(shown)),
        "Mean entropy, nats": f"{np.mean([tile.entropy_nats for tile in shown]):.2g}",
        "Teacher's prediction in the label": str(sum(tile.recognized for tile in shown)),
    }
    return Plate(name, lambda theme: tiles.image_grid(shown, theme), numbers, tuple(shown))
