"""Synthetic images of a teacher."""

from __future__ import annotations

import tempfile
import warnings
from pathlib import Path
from typing import Any, get_args

import torch

from dynadfq.api.arguments import METHOD, require_teacher, settings_of, student_recipe
from dynadfq.methods import suggest_other_methods
from dynadfq.methods.base import MethodContext
from dynadfq.ops.config import PrecisionChoice
from dynadfq.ops.precision import compute_precision, synthesis_precision
from dynadfq.runtime import distributed
from dynadfq.runtime.errors import InvalidArgument, require_choice
from dynadfq.runtime.numbers import seed_number
from dynadfq.runtime.resume import Scratch, fingerprint, library_digest
from dynadfq.synthesis.config import PixelOptimizerConfig, Storage, SynthesisConfig
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.config import Measure, SimilarityConfig
from dynadfq.teacher.similarity import class_similarity
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.prepare import require_student

# The defaults of the arguments are those of the settings.
SIMILARITY = SimilarityConfig()
SYNTHESIS = SynthesisConfig()


def synthesize(
    teacher: Teacher,
    method: str = METHOD,
    num_images: int = SYNTHESIS.num_images,
    iterations: int = SYNTHESIS.iterations,
    batch_size: int = SYNTHESIS.batch_size,
    seed: int = 0,
    folder: str | Path | None = None,
    similarity: Measure = SIMILARITY.measure,
    optimizer: PixelOptimizerConfig | None = None,
    storage: Storage = SYNTHESIS.storage,
    precision: PrecisionChoice = "float32",
    **hyperparameters: Any,
) -> SyntheticSet:
    """Make synthetic images of a teacher.

    A warning says beforehand if the method cannot train a student of this network.

    Args:
        teacher: the float network; nothing else is read.
        method: what the images are optimized for, such as "dynadfq" or "zeroq".
        num_images: images to make.
        iterations: steps of Adam on each batch.
        batch_size: images optimized together, stored as one shard.
        seed: the same seed gives the same images.
        folder: where shards are written; the same call continues there if it was interrupted.
            Without one, they live as long as the returned set.
        similarity: how class similarity is measured.
        optimizer: all settings of Adam, ``iterations`` among them.
        storage: number type in which images are stored, "float32" or, for half the space,
            "float16".
        precision: of convolutions and linear layers: "float32", "bfloat16", or on a GPU "tf32";
            "auto" is "bfloat16" where the processor or GPU multiplies in it, else "float32". The
            set's manifest records which.
        hyperparameters: the method's settings for images, such as ``similar_classes=2``.

    Raises:
        InvalidArgument: an argument or a hyperparameter is unknown or wrong.
    """
    require_teacher(teacher)
    seed = seed_number(seed)
    products = distributed.from_first(lambda: synthesis_precision(precision, teacher.device))
    settings = settings_of(synthesize, method, "images", hyperparameters)
    _warn_without_student(method, teacher)
    require_choice("similarity", similarity, get_args(Measure))
    recipe = settings.recipe(MethodContext(teacher, class_similarity(teacher, similarity), seed))
    config = SynthesisConfig(
        iterations=iterations, num_images=num_images, batch_size=batch_size, storage=storage
    )
    if optimizer is not None and iterations != SYNTHESIS.iterations:
        raise InvalidArgument(
            "iterations", f"{iterations} is given beside optimizer; set it in optimizer alone"
        )
    adam = optimizer or config
    keep_alive = tempfile.TemporaryDirectory(prefix="dynadfq-") if folder is None else None
    target = Path(keep_alive.name if keep_alive else folder or ".")
    made_with = (
        seed,
        batch_size,  # a shard that builds on those before it depends on their sizes
        method,
        settings.model_dump(mode="json"),
        adam.model_dump(include=set(PixelOptimizerConfig.model_fields)),
        similarity,
        products,
        teacher.describe(),
        library_digest(),  # other code, or another torch, may make other images
        torch.__version__,
    )
    scratch = Scratch(target / f".unfinished-{fingerprint(*made_with)}")
    source = recipe.source(teacher, adam)
    with compute_precision(products, teacher.device), suggest_other_methods():
        return synthesize_set(
            source, num_images, batch_size, seed, target, scratch, keep_alive, storage, products
        )


def _warn_without_student(method: str, teacher: Teacher) -> None:
    """Warn where a method cannot train a student of a network: images may be made for others."""
    try:
        require_student(teacher, student_recipe(synthesize, method, {}))
    except ValueError as error:
        warnings.warn(f"{method} cannot train a student of this network: {error}", stacklevel=3)
