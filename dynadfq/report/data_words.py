"""What the page says about the data it was measured on: no labels, or how its classes became the
teacher's.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from scipy.stats import binomtest

from dynadfq.report.score import score_of
from dynadfq.report.words import percent

DOUBT = 0.001  # a teacher that guesses is this good or better once in a thousand sets
UNLABELLED = (
    "No labelled images were given (data.name is null), so no accuracy is known. What is measured is measured on the "
    "synthetic images; the students were trained on these very images, so that agreement on them is optimistic. Left "
    "out for want of real images: top-1, the confusions, which classes occur together, and their share of each figure."
)


def subtitle(metrics: Mapping[str, Any], architecture: str | None) -> str:
    """The network, and how many images of which kind."""
    made = f"{metrics['synthetic']['num_images']:,} synthetic images"
    score = score_of(metrics)
    measured = f"{score.total:,} {score.images}" if score.labelled else "no test images"
    return f"{architecture or 'a network of no zoo'} · {measured} · {made}"


def data_notes(metrics: Mapping[str, Any], classes: int) -> Iterator[str]:
    """Sentences on the data; a teacher that does no better than chance most likely numbers its
    classes otherwise.
    """
    data = metrics["data"]
    if data["name"] is None:
        yield UNLABELLED
        return
    if "class_order" in data:
        yield f"Class order: {data['class_order']}."
    if at_chance(metrics["teacher"]["top1"], data["test_images"], classes):
        way_out = (
            "give data.classes a file that says which class each folder is"
            if data.get("order_assumed")
            else "compare its classes and its preprocessing with the data's"
        )
        yield (
            f"Warning: the teacher is right on {percent(metrics['teacher']['top1'])} of the test images, which "
            f"guessing among {classes:,} classes explains. No accuracy here means anything; {way_out}."
        )


def at_chance(top1: float, images: int, classes: int) -> bool:
    """Whether guessing explains an accuracy in percent.

    >>> at_chance(0.1, 50_000, 1000), at_chance(69.8, 50_000, 1000)
    (True, False)
    """
    right = round(top1 * images / 100)
    return bool(binomtest(right, images, 1 / classes, alternative="greater").pvalue > DOUBT)
