"""The library in five verbs, for people who write Python rather than params.yaml."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from torch import nn

from dynadfq.graph import bit_flops as cost
from dynadfq.graph.bit_flops import BitFlops
from dynadfq.graph.network import Placement
from dynadfq.losses.budget import Budget, Form
from dynadfq.methods import METHODS, suggest_other_methods
from dynadfq.methods.base import MethodContext, StudentRecipe
from dynadfq.ops.precision import Precision, compute_precision, require_precision
from dynadfq.ptq.calibration import observer
from dynadfq.ptq.preparation import rounding_of
from dynadfq.quant.insert import Scheme
from dynadfq.quant.model import Student
from dynadfq.quant.model_card import provenance
from dynadfq.quant.quantize import Granularity
from dynadfq.runtime.resume import Scratch, fingerprint
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.pixels import PixelOptimizer
from dynadfq.synthesis.storage import Storage
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.similarity import Measure, class_similarity
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.finetune import finetune_student
from dynadfq.training.prepare import Calibration, PreparationConfig, new_student, prepare_student
from dynadfq.training.schedule import Schedule
from dynadfq.training.selector_warm_up import SelectorWarmUp


def synthesize(
    teacher: Teacher,
    method: str = "dynadfq",
    num_images: int = 5120,
    iterations: int = 4000,
    batch_size: int = 64,
    seed: int = 0,
    folder: str | Path | None = None,
    similarity: Measure = "dot",
    optimizer: PixelOptimizer | None = None,
    storage: Storage = "float32",
    precision: Precision = "float32",
    **hyperparameters: Any,
) -> SyntheticSet:
    """Make synthetic images of a teacher; ``hyperparameters`` are the method's, such as
    ``similar_classes=2``.

    Shards are written to ``folder``, where the same call goes on if it was interrupted; without one
    they live as long as the returned set. ``storage`` is the type in which they hold the images:
    "float32", or half as much, "float16". ``precision`` is what the network multiplies with:
    "float32", "bfloat16", or on a GPU "tf32".

    Raises:
        ValueError: the method, the storage or the precision is unknown, or a hyperparameter is
            (pydantic's ``ValidationError``).
    """
    settings = _method(method).model_fields["images"].default.__class__(**hyperparameters)
    recipe = settings.recipe(MethodContext(teacher, class_similarity(teacher, similarity), seed))
    keep_alive = tempfile.TemporaryDirectory(prefix="dynadfq-") if folder is None else None
    target = Path(keep_alive.name if keep_alive else folder or ".")
    optimizer = optimizer or PixelOptimizer(iterations)
    source = recipe.source(teacher, optimizer)
    made_with = (method, settings.model_dump(mode="json"), asdict(optimizer), similarity, precision)
    scratch = Scratch(
        target / f".unfinished-{fingerprint(*made_with, teacher.describe()['sha256'])}"
    )
    with compute_precision(precision, teacher.device), suggest_other_methods():
        return synthesize_set(
            source, num_images, batch_size, seed, target, scratch, keep_alive, storage
        )


def quantize(
    teacher: Teacher,
    weight_bits: int = 4,
    activation_bits: int | Sequence[int] = (3, 4, 5),
    target_bits: int | None = None,
    placement: Placement = "relu_output",
    learned_ranges: bool = True,
    seed: int = 0,
    method: str = "dynadfq",
    weight_granularity: Granularity = "channel",
    **hyperparameters: Any,
) -> Student:
    """A student of the teacher, not yet calibrated or fine-tuned.

    Some methods change the float network first, such as "dfq"; ``hyperparameters`` are the method's
    for the student.

    ``activation_bits`` is one width, or the candidates that every image chooses from.
    ``target_bits`` is the width whose bit-FLOPs are the budget; left out, the fixed width or the
    middle candidate. ``weight_granularity`` is what shares a grid of weights: an output channel or
    the whole tensor.

    Raises:
        ValueError: a width is outside 2 … 8 or comes twice, the target is outside the candidates,
            or the placement or the granularity is unknown.
    """
    widths = (
        (activation_bits,) if isinstance(activation_bits, int) else tuple(sorted(activation_bits))
    )
    if not widths:
        raise ValueError("activation_bits: give at least one width")
    if len(set(widths)) < len(widths):
        raise ValueError(f"activation_bits: {widths} holds a width twice")
    if placement not in get_args(Placement):
        raise ValueError(f"placement: {placement!r} is none of {', '.join(get_args(Placement))}")
    if weight_granularity not in get_args(Granularity):
        raise ValueError(
            f"weight_granularity: {weight_granularity!r} is none of {', '.join(get_args(Granularity))}"
        )
    target = widths[(len(widths) - 1) // 2] if target_bits is None else target_bits
    for name, bits in [
        ("weight_bits", weight_bits),
        *(("activation_bits", width) for width in widths),
    ]:
        if not 2 <= bits <= 8:
            raise ValueError(f"{name}: {bits} is outside 2 … 8")
    if not min(widths) <= target <= max(widths):
        raise ValueError(f"target_bits: {target} is outside activation_bits {widths}")
    scheme = Scheme(
        weight_bits,
        widths,
        target,
        placement,
        learned_ranges,
        weight_granularity=weight_granularity,
    )
    return new_student(teacher, _student_recipe(method, hyperparameters), scheme, seed)


def finetune(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet,
    epochs: int = 400,
    method: str = "dynadfq",
    budget: Form = "penalty",
    bit_weight: float = 100.0,
    ranges: str = "median_max",
    rounding: str = "nearest",
    calibration_images: int = 1024,
    warm_up_images: int = 0,
    seed: int = 0,
    schedule: Schedule | None = None,
    precision: Precision = "float32",
    **hyperparameters: Any,
) -> pd.DataFrame:
    """Calibrate a student's ranges and fine-tune it in place on synthetic images; returns one row
    of history an epoch.

    ``hyperparameters`` are the method's for the student, such as ``mixup_share=0.25``; ``schedule``
    holds steps and learning rates, and its ``epochs`` win over the argument. ``warm_up_images``
    gives the selector a warm-up, ``rounding`` ("nearest", "squant", "adaround") says how weights
    are rounded before the first step. ``precision`` is what the networks multiply with in the
    steps: "float32", "bfloat16", or on a GPU "tf32".
    """
    require_precision(precision, teacher.device)
    binding = Budget(budget, bit_weight)
    recipe = _student_recipe(method, hyperparameters)
    calibration = Calibration(observer(ranges, student.scheme.target_bits), calibration_images)
    given = PreparationConfig(calibration, rounding_of(rounding), SelectorWarmUp(warm_up_images))
    prepare_student(student, teacher, images, recipe, given, seed)
    schedule = schedule or Schedule(epochs=epochs)
    with compute_precision(precision, teacher.device):
        history = finetune_student(
            student, teacher, images, recipe, schedule, binding, seed, Scratch(None)
        )
    steps = int(history["step"].iloc[-1]) if len(history) else 0
    student.provenance = provenance(method, len(images), steps, rounding) | {
        "data_free": None
    }  # the images may be anyone's
    return history


def bit_flops(
    model: Teacher | Student | nn.Module,
    input_shape: Sequence[int] | None = None,
    weight_bits: int = 4,
    activation_bits: int | Sequence[float] = 4,
    placement: Placement = "relu_output",
) -> BitFlops:
    """The cost of one image at given widths.

    ``.total`` is in bit-FLOPs, ``.percent`` of the float model, ``.layers`` a table. A student has
    its own weight width and placement; of a teacher, ``input_shape`` (C, H, W) is context.
    """
    if isinstance(model, Student):
        return model.cost.at(activation_bits)
    module, shape = (
        (model.module, input_shape or model.input_shape)
        if isinstance(model, Teacher)
        else (model, input_shape)
    )
    if shape is None:
        raise ValueError("input_shape: a bare module does not know it; pass (C, H, W)")
    return cost.bit_flops(module, shape, weight_bits, activation_bits, placement)


def _method(name: str) -> Any:
    if name not in METHODS:
        raise ValueError(f"method: {name!r} is unknown; the methods are {', '.join(METHODS)}")
    return METHODS[name]


def _student_recipe(method: str, hyperparameters: dict[str, Any]) -> StudentRecipe:
    settings = _method(method).model_fields["student"].default.__class__(**hyperparameters)
    recipe: StudentRecipe = settings.recipe()
    return recipe
