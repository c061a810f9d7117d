"""Which figures the report shows, in order, each with its title, caption and alternative text."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from dynadfq.report import captions, figures
from dynadfq.report.classes import confused_pairs, similar_pairs
from dynadfq.report.figures import Theme, Tile
from dynadfq.report.load import Evidence
from dynadfq.report.score import Score
from dynadfq.report.tables import entropy_groups, result_rows, sensitivity_table


@dataclass(frozen=True)
class Plate:
    """One figure: `draw` takes a theme; with `tiles` the page shows the images themselves, not the
    PNG.
    """

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[Theme], Figure]
    tiles: tuple[Tile, ...] = ()


def plates(evidence: Evidence, easiest: list[Tile], hardest: list[Tile]) -> Iterator[Plate]:
    """All figures that the evidence supports."""
    yield _headline(evidence)
    yield from _budget(evidence)
    yield from _entropy(evidence)
    yield from _sensitivity(evidence)
    yield _sites(evidence)
    if evidence.co_occurrence is not None and evidence.confusion is not None:
        yield _similar(evidence, evidence.co_occurrence)
        yield _confused(evidence, evidence.confusion)
    yield _curves(evidence)
    for kind, tiles in (("easiest", easiest), ("hardest", hardest)):
        if tiles:
            yield _tiles(kind, tiles)


def _headline(evidence: Evidence) -> Plate:
    rows, score = result_rows(evidence.metrics), evidence.score
    points = "; ".join(
        f"{one.name} {one.score:.2f} % at {one.bit_flops_percent:.2f} %"
        for one in rows
        if one.score is not None
    )
    return Plate(
        "accuracy_against_cost", f"{_measure(score)} against cost", captions.headline_caption(rows, score),
        f"{_measure(score)} over bit-FLOPs: {points}.",
        lambda theme: figures.accuracy_against_cost(rows, score, theme),
    )  # fmt: skip


def _measure(score: Score) -> str:
    return "Accuracy" if score.labelled else "Agreement with the teacher"


def _budget(evidence: Evidence) -> Iterator[Plate]:
    budget = evidence.budget
    if len(budget):
        score = evidence.score
        _, fixed, trained, _ = rows = result_rows(evidence.metrics)
        yield Plate(
            "accuracy_by_budget", "One student, any budget", captions.budget_caption(budget, rows, score),
            f"{_measure(score)} over bit-FLOPs at {len(budget)} budgets, for the student's own bits and for the same "
            "bits handed to other images, with the fixed-width student as a point.",
            lambda theme: figures.accuracy_by_budget(budget, score, fixed, trained, theme),
        )  # fmt: skip


def _entropy(evidence: Evidence) -> Iterator[Plate]:
    test, synthetic = evidence.test_images, evidence.synthetic
    kinds = "synthetic images" if test is None else "test images, synthetic images"
    groups = entropy_groups(test, synthetic)
    yield Plate(
        "entropy_against_cost", "Difficult images and the bits they get", captions.cost_caption(test, synthetic),
        f"Scatter plots of bit-FLOPs over prediction entropy with binned means: {kinds}.",
        lambda theme: figures.entropy_against_cost(test, synthetic, theme),
    )  # fmt: skip
    yield Plate(
        "entropy_distribution", "How difficult the images are", captions.distribution_caption(groups),
        f"Histograms of prediction entropy: {kinds} of one class and of similar classes.",
        lambda theme: figures.entropy_distribution(groups, theme),
    )  # fmt: skip


def _sensitivity(evidence: Evidence) -> Iterator[Plate]:
    measured = sensitivity_table(evidence.per_image)
    if len(measured):
        yield Plate(
            "sensitivity_against_entropy", "Sensitivity to quantization", captions.sensitivity_caption(measured),
            "Box plots of prediction entropy by the lowest uniform width that keeps the prediction.",
            lambda theme: figures.sensitivity_against_entropy(measured, theme),
        )  # fmt: skip


def _sites(evidence: Evidence) -> Plate:
    sites, images = evidence.sites, evidence.score.images
    return Plate(
        "bits_per_site", "Bits at each site", captions.sites_caption(sites),
        f"Stacked bars of the share of {images} at each width, for {len(sites)} sites with their MACs.",
        lambda theme: figures.bits_per_site(sites, images, theme),
    )  # fmt: skip


def _similar(evidence: Evidence, co_occurrence: pd.DataFrame) -> Plate:
    names = evidence.class_names
    pairs = similar_pairs(evidence.similarity, co_occurrence, names)
    shown = [names[i] for i in pairs.shown]
    return Plate(
        "class_similarity", "Similar classes",
        captions.similarity_caption(pairs.first, pairs.second, names, len(shown)),
        "Two heat maps over pairs of classes: similarity of weights, co-occurrence in the teacher's predictions.",
        lambda theme: figures.similarity_and_co_occurrence(
            pairs.part(pairs.first), pairs.part(pairs.second), shown, theme
        ),
    )  # fmt: skip


def _confused(evidence: Evidence, confusion: pd.DataFrame) -> Plate:
    names = evidence.class_names
    pairs = confused_pairs(confusion, evidence.similarity, names)
    shown = [names[i] for i in pairs.shown]
    return Plate(
        "confusion", "Confusions, teacher and student",
        captions.confusion_caption(pairs.first, pairs.second, names, len(shown)),
        "Two heat maps: the teacher's confusion matrix, and the dynamic student's difference to it.",
        lambda theme: figures.confusion_against_teacher(
            pairs.part(pairs.first), pairs.part(pairs.second), shown, theme
        ),
    )  # fmt: skip


def _curves(evidence: Evidence) -> Plate:
    histories, target = evidence.histories, float(evidence.metrics["fixed"]["bit_flops_percent"])
    return Plate(
        "learning_curves", "Learning curves", captions.curves_caption(histories, target),
        "Loss terms of both students over epochs, and the dynamic student's bit-FLOPs with their spread.",
        lambda theme: figures.learning_curves_figure(histories, target, theme),
    )  # fmt: skip


def _tiles(kind: str, tiles: list[Tile]) -> Plate:
    return Plate(
        f"synthetic_{kind}", f"The {kind} synthetic images", captions.tiles_caption(tiles, kind),
        f"Grid of the {len(tiles)} {kind} synthetic images with their labels.",
        lambda theme: figures.image_grid(tiles, theme), tuple(tiles),
    )  # fmt: skip
