"""Synthetic images for deployment, whose classes the network recognizes."""

from __future__ import annotations

from pathlib import Path

from dynadfq.deploy.work import Work
from dynadfq.methods import METHODS, suggest_other_methods
from dynadfq.methods.base import ImagesConfig, MethodContext
from dynadfq.ops.batch_norm import layers_with_statistics
from dynadfq.ops.precision import compute_precision
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.config import PixelOptimizerConfig, few_iterations
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.manifest import MANIFEST
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.similarity import class_similarity
from dynadfq.teacher.teacher import Teacher

# Weights of the class term that are tried in turn. The loss of the BatchNorm statistics is not
# normalized: beside that of EfficientNet-Lite0, the paper's weight of 0.1 has no effect.
CLASS_WEIGHTS = (0.1, 1.0, 10.0, 100.0)
METHOD = "dynadfq"
FEW_ITERATIONS = 1000  # below, images become better sooner with other settings than the paper's
PILOT_IMAGES = 16
RECOGNIZED = 90.0  # percent of the one-hot images of a trial
BATCH = 32


def require_statistics(teacher: Teacher, argument: str, advice: str) -> None:
    """Check that images can be made of a network.

    Args:
        teacher: the network.
        argument: what the error is about.
        advice: what to do instead.

    Raises:
        InvalidArgument: it has no BatchNorm statistics.
    """
    layers, missing = layers_with_statistics(teacher.module)
    if not layers:
        raise InvalidArgument(
            argument,
            f"images are made from the network's BatchNorm statistics, and {missing}; {advice}",
        )


def optimizer(iterations: int) -> PixelOptimizerConfig:
    """Return the settings of so many steps on each image.

    Pixels stay in the range of image files, since the input's quantizer cuts off what is beyond.
    >>> optimizer(100).basis, optimizer(4000).basis
    ('cosines', 'pixels')
    """
    if iterations >= FEW_ITERATIONS:
        return PixelOptimizerConfig(iterations=iterations, clip=True)
    return few_iterations(iterations, clip=True)


def make_images(
    teacher: Teacher,
    count: int,
    iterations: int,
    seed: int,
    work: Work,
    held_back: bool = False,
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
        held_back: make others than without, of the same weight and of one class each: an image
            between two classes says little about agreement.
    """
    weight = class_weight(teacher, iterations, seed, work)
    folder = work.folder / ("held-back" if held_back else "images")
    return _made(teacher, count, iterations, seed + held_back, weight, folder, one_hot=held_back)


def class_weight(teacher: Teacher, iterations: int, seed: int, work: Work) -> float:
    """Return the first weight of the class term with which images are recognized, or the last."""
    for weight in CLASS_WEIGHTS[:-1]:
        folder = work.folder / f"trial-{weight:g}"
        trial = _made(teacher, PILOT_IMAGES, iterations, seed, weight, folder, one_hot=True)
        recognized = trial.one_hot_recognized
        if recognized is None or recognized >= RECOGNIZED:
            return weight
    return CLASS_WEIGHTS[-1]


def noise_images(teacher: Teacher, count: int, seed: int, work: Work) -> SyntheticSet:
    """Return SQuant's noise, for which nothing is optimized."""
    return _stored(teacher, METHODS["squant"]().images, count, 1, seed, work.folder / "noise")


def _made(
    teacher: Teacher,
    count: int,
    iterations: int,
    seed: int,
    weight: float,
    folder: Path,
    one_hot: bool,
) -> SyntheticSet:
    changes = {"class_weight": weight} | ({"diverse_ratio": 0.0} if one_hot else {})
    settings = METHODS[METHOD]().images.model_copy(update=changes)
    return _stored(teacher, settings, count, iterations, seed, folder)


def _stored(
    teacher: Teacher, settings: ImagesConfig, count: int, iterations: int, seed: int, folder: Path
) -> SyntheticSet:
    """The images of a folder; they are made where it has none."""
    if (folder / MANIFEST).exists():
        return SyntheticSet(folder).check()
    recipe = settings.recipe(MethodContext(teacher, class_similarity(teacher), seed))
    batch_size = min(BATCH, count)
    source = recipe.source(teacher, optimizer(iterations))
    unfinished = Scratch(folder / ".unfinished")
    with compute_precision("float32", teacher.device), suggest_other_methods():
        return synthesize_set(
            source, count, batch_size, seed, folder, unfinished, precision="float32"
        )
