"""Which figures the report shows, in order, each with its title, caption and alternative text."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from matplotlib.figure import Figure

from dynadfq.report import captions, figures
from dynadfq.report.figures import Theme, Tile
from dynadfq.report.load import Evidence
from dynadfq.report.matrices import class_order, row_percent, square
from dynadfq.report.tables import entropy_groups, result_rows, sensitivity_table


@dataclass(frozen=True)
class Plate:
    """One figure: `draw` takes a theme; with `tiles` the page shows the images themselves, not the PNG."""

    name: str
    title: str
    caption: str
    alt: str
    draw: Callable[[Theme], Figure]
    tiles: tuple[Tile, ...] = ()


def plates(evidence: Evidence, easiest: list[Tile], hardest: list[Tile]) -> Iterator[Plate]:
    """All figures that the evidence supports."""
    yield _headline(evidence)
    yield from _dial(evidence)
    yield from _entropy(evidence)
    yield from _sensitivity(evidence)
    yield _sites(evidence)
    yield from _classes(evidence)
    yield _curves(evidence)
    for kind, tiles in (("easiest", easiest), ("hardest", hardest)):
        if tiles:
            yield _tiles(kind, tiles)


def _headline(evidence: Evidence) -> Plate:
    rows = result_rows(evidence.metrics)
    points = "; ".join(f"{one.name} {one.top1:.2f} % at {one.bit_flops_percent:.2f} %" for one in rows)
    return Plate(
        "accuracy_against_cost", "Accuracy against cost", captions.headline_caption(rows),
        f"Top-1 accuracy over bit-FLOPs: {points}.", lambda theme: figures.accuracy_against_cost(rows, theme),
    )  # fmt: skip


def _dial(evidence: Evidence) -> Iterator[Plate]:
    dial = evidence.dial
    if len(dial):
        _, fixed, trained, _ = rows = result_rows(evidence.metrics)
        yield Plate(
            "accuracy_along_dial", "One student, any budget", captions.dial_caption(dial, rows),
            f"Top-1 accuracy over bit-FLOPs at {len(dial)} budgets, for the student's own bits and for the same bits "
            "handed to other images, with the fixed-width student as a point.",
            lambda theme: figures.accuracy_along_dial(dial, fixed, trained, theme),
        )  # fmt: skip


def _entropy(evidence: Evidence) -> Iterator[Plate]:
    test, synthetic = evidence.per_image, evidence.synthetic
    groups = entropy_groups(test, synthetic)
    yield Plate(
        "entropy_against_cost", "Difficult images and the bits they get", captions.cost_caption(test, synthetic),
        "Two scatter plots of bit-FLOPs over prediction entropy with binned means: test images, synthetic images.",
        lambda theme: figures.entropy_against_cost(test, synthetic, theme),
    )  # fmt: skip
    yield Plate(
        "entropy_distribution", "How difficult the images are", captions.distribution_caption(groups),
        "Histograms of prediction entropy: test images, synthetic images of one class and of similar classes.",
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
    sites = evidence.sites
    return Plate(
        "bits_per_site", "Bits at each site", captions.sites_caption(sites),
        f"Stacked bars of the share of test images at each width, for {len(sites)} sites with their MACs.",
        lambda theme: figures.bits_per_site(sites, theme),
    )  # fmt: skip


def _classes(evidence: Evidence) -> Iterator[Plate]:
    names, similarity = evidence.class_names, evidence.similarity
    together = square(evidence.co_occurrence, "class_a", "class_b", "value", names)
    order = class_order(similarity)
    ordered = [names[i] for i in order]
    teacher, student = (
        row_percent(square(evidence.confusion, "label", "prediction", who, names))[order][:, order]
        for who in ("teacher", "student")
    )
    yield Plate(
        "class_similarity", "Similar classes", captions.similarity_caption(similarity, together, names),
        "Two heat maps over pairs of classes: similarity of weights, co-occurrence in the teacher's predictions.",
        lambda theme: figures.similarity_and_co_occurrence(similarity, together, names, theme),
    )  # fmt: skip
    yield Plate(
        "confusion", "Confusions, teacher and student", captions.confusion_caption(teacher, student, ordered),
        "Two heat maps: the teacher's confusion matrix, and the dynamic student's difference to it.",
        lambda theme: figures.confusion_against_teacher(teacher, student, ordered, theme),
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
