"""Synthetic images for deployment, whose classes the network recognizes."""

from __future__ import annotations

from pathlib import Path

from dynadfq.api import SyntheticSet, Teacher, synthesize
from dynadfq.deploy.work import Work
from dynadfq.synthesis.manifest import MANIFEST

# Weights of the class term that are tried in turn. The loss of the BatchNorm statistics is not
# normalized: beside that of EfficientNet-Lite0, the paper's weight of 0.1 has no effect.
CLASS_WEIGHTS = (0.1, 1.0, 10.0, 100.0)
PILOT_IMAGES = 16
RECOGNIZED = 90.0  # percent of the one-hot images of a trial
BATCH = 32


def make_images(
    teacher: Teacher, count: int, iterations: int, seed: int, work: Work, name: str = "images"
) -> SyntheticSet:
    """Make images of DynaDFQ, or return those that an earlier call made.

    The weight of the class term is the first of ``CLASS_WEIGHTS`` with which the network recognizes
    the images of a trial; without a class term the logits stay small, and so would the ranges that
    are calibrated on the images.

    Args:
        teacher: the float network.
        count: number of images.
        iterations: steps of optimization per image.
        seed: the same seed gives the same images.
        work: where they and the trials are kept.
        name: of the images' folder in it.
    """
    weight = class_weight(teacher, iterations, seed, work)
    return _made(teacher, count, iterations, seed, weight, work.folder / name)


def class_weight(teacher: Teacher, iterations: int, seed: int, work: Work) -> float:
    """Return the first weight of the class term with which images are recognized, or the last."""
    for weight in CLASS_WEIGHTS[:-1]:
        folder = work.folder / f"trial-{weight:g}"
        trial = _made(teacher, PILOT_IMAGES, iterations, seed, weight, folder)
        recognized = trial.one_hot_recognized
        if recognized is None or recognized >= RECOGNIZED:
            return weight
    return CLASS_WEIGHTS[-1]


def _made(
    teacher: Teacher, count: int, iterations: int, seed: int, weight: float, folder: Path
) -> SyntheticSet:
    """The images of a folder; they are made where it has none."""
    if (folder / MANIFEST).exists():
        return SyntheticSet(folder).check()
    return synthesize(
        teacher,
        num_images=count,
        iterations=iterations,
        batch_size=min(BATCH, count),
        seed=seed,
        folder=folder,
        class_weight=weight,
    )
