"""The public functions and classes of dynadfq; ``import X as X`` marks those of other modules."""

from __future__ import annotations

import tempfile
import warnings
from collections.abc import Callable, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, cast, get_args

import pandas as pd
import torch
from torch import nn

from dynadfq.deploy.quantize_model import QuantizedModel as QuantizedModel
from dynadfq.deploy.quantize_model import quantize_model as quantize_model
from dynadfq.evaluation.card import write_card as write_card
from dynadfq.evaluation.evaluate import Evaluation as Evaluation
from dynadfq.evaluation.evaluate import evaluate as evaluate
from dynadfq.export.integer_form import to_integer_form as to_integer_form
from dynadfq.export.onnx_export import export_onnx as export_onnx
from dynadfq.export.program import export_program as export_program
from dynadfq.export.qdq import export_qdq as export_qdq
from dynadfq.graph import bit_flops as cost
from dynadfq.graph.bit_flops import BitFlops
from dynadfq.graph.config import Placement
from dynadfq.losses.config import Form
from dynadfq.methods import METHODS, suggest_other_methods
from dynadfq.methods.base import MethodContext
from dynadfq.ops.config import PrecisionChoice
from dynadfq.ops.precision import compute_precision, finetuning_precision, synthesis_precision
from dynadfq.quant.build import load_student as load_student
from dynadfq.quant.config import (
    Granularity,
    QuantizationConfig,
    Rounding,
    Scheme,
    SchemeName,
)
from dynadfq.quant.model import Student as Student
from dynadfq.quant.range_config import RangeConfig, RangeRule, ranges_of
from dynadfq.quant.width_config import AllocationConfig
from dynadfq.runtime import distributed
from dynadfq.runtime.config import Config
from dynadfq.runtime.errors import InvalidArgument, did_you_mean, require_choice, shown
from dynadfq.runtime.resume import Scratch, fingerprint, library_digest
from dynadfq.synthesis.config import PixelOptimizerConfig, Storage, SynthesisConfig
from dynadfq.synthesis.dataset import SyntheticSet as SyntheticSet
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.config import Measure, SimilarityConfig
from dynadfq.teacher.loading import load_teacher as load_teacher
from dynadfq.teacher.similarity import class_similarity as class_similarity
from dynadfq.teacher.teacher import Teacher as Teacher
from dynadfq.training.config import FinetuneConfig, SelectorConfig
from dynadfq.training.prepare import new_student, require_student, with_widths
from dynadfq.training.recipe import StudentRecipe
from dynadfq.training.train import train_student

# The defaults of the arguments below are those of the settings.
SIMILARITY = SimilarityConfig()
SYNTHESIS = SynthesisConfig()
QUANTIZATION = QuantizationConfig()
SELECTOR = SelectorConfig()
FINETUNE = FinetuneConfig()
METHOD = "dynadfq"


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
        optimizer: settings of Adam, in place of ``iterations``.
        storage: number type in which images are stored, "float32" or, for half the space,
            "float16".
        precision: of convolutions and linear layers: "float32", "bfloat16", or on a GPU "tf32";
            "auto" is "bfloat16" where the processor or GPU multiplies in it, else "float32". The
            set's manifest records which.
        hyperparameters: the method's settings for images, such as ``similar_classes=2``.

    Raises:
        InvalidArgument: an argument or a hyperparameter is unknown or wrong.
    """
    _require_teacher(teacher)
    products = distributed.from_first(lambda: synthesis_precision(precision, teacher.device))
    settings = _settings(synthesize, method, "images", hyperparameters)
    _warn_without_student(method, teacher)
    require_choice("similarity", similarity, get_args(Measure))
    recipe = settings.recipe(MethodContext(teacher, class_similarity(teacher, similarity), seed))
    config = SynthesisConfig(
        iterations=iterations, num_images=num_images, batch_size=batch_size, storage=storage
    )
    adam = optimizer or config
    keep_alive = tempfile.TemporaryDirectory(prefix="dynadfq-") if folder is None else None
    target = Path(keep_alive.name if keep_alive else folder or ".")
    made_with = (
        method,
        settings.model_dump(mode="json"),
        adam.model_dump(include=set(PixelOptimizerConfig.model_fields)),
        similarity,
        products,
        teacher.describe()["sha256"],
        library_digest(),  # other code, or another torch, may make other images
        torch.__version__,
    )
    scratch = Scratch(target / f".unfinished-{fingerprint(*made_with)}")
    source = recipe.source(teacher, adam)
    with compute_precision(products, teacher.device), suggest_other_methods():
        return synthesize_set(
            source, num_images, batch_size, seed, target, scratch, keep_alive, storage, products
        )


def quantize(
    teacher: Teacher,
    weight_bits: int = QUANTIZATION.weight_bits,
    activation_bits: int | Sequence[int] = SELECTOR.candidates,
    target_bits: int | None = None,
    placement: Placement = QUANTIZATION.placement,
    learned_ranges: bool = QUANTIZATION.ranges.learned,
    seed: int = 0,
    method: str = METHOD,
    weight_granularity: Granularity = QUANTIZATION.weight_granularity,
    scheme: SchemeName = QUANTIZATION.scheme,
    per_width_ranges: bool = QUANTIZATION.ranges.per_width,
    sensitivity_images: SyntheticSet | None = None,
    **hyperparameters: Any,
) -> Student:
    """Return a student of the teacher, not yet calibrated or fine-tuned.

    Args:
        teacher: the float network; some methods change it first, such as "dfq".
        weight_bits: width of every weight; with ``sensitivity_images``, the one whose bit-FLOPs
            are the budget.
        activation_bits: one width, or the candidates that are chosen from for every image; with
            ``sensitivity_images``, a single one is part of the budget.
        target_bits: the width whose bit-FLOPs are the budget; None is the fixed width or the middle
            candidate.
        placement: which activations are quantized, "relu_output" or "layer_input".
        learned_ranges: whether fine-tuning moves the activation ranges.
        seed: initializes the bit selector.
        method: the method whose student it is.
        weight_granularity: what shares a scale, an output "channel" or the whole "tensor".
        scheme: "paper", or "integer" for engines that compute in 8-bit integers; it has one width
            of activations, and fixed tensors that are quantized.
        per_width_ranges: whether each of several widths has a range of its own at every site.
        sensitivity_images: synthetic images on which the sensitivity of each layer is measured;
            layers and sites then have widths of their own at the same bit-FLOPs (with several
            activation_bits, the weights of layers alone). None leaves the widths equal.
        hyperparameters: the method's settings for the student.

    Raises:
        InvalidArgument: an argument is wrong, or does not fit the network.
    """
    _require_teacher(teacher)
    if isinstance(activation_bits, int):
        widths: tuple[int, ...] = (activation_bits,)
    else:
        widths = tuple(sorted(activation_bits))
    if target_bits is None and widths:
        target_bits = widths[(len(widths) - 1) // 2]
    checked = Scheme(
        weight_bits=weight_bits,
        activation_bits=widths,
        target_bits=QUANTIZATION.target_bits if target_bits is None else target_bits,
        placement=placement,
        learned_ranges=learned_ranges,
        ranges=ranges_of(widths, per_width_ranges),
        weight_granularity=weight_granularity,
        scheme=scheme,
    )
    recipe = _student_recipe(quantize, method, hyperparameters)
    if sensitivity_images is not None:
        by_sensitivity = QuantizationConfig(allocation=AllocationConfig(rule="sensitivity"))
        checked = with_widths(
            teacher, recipe, checked, sensitivity_images, by_sensitivity, Scratch(None)
        )
    return new_student(teacher, recipe, checked, seed)


def finetune(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet,
    epochs: int = FINETUNE.epochs,
    steps: int | None = FINETUNE.steps,
    batch_size: int = FINETUNE.batch_size,
    learning_rate: float = FINETUNE.learning_rate,
    range_learning_rate: float = FINETUNE.range_learning_rate,
    selector_learning_rate: float = SELECTOR.learning_rate,
    decay: float = FINETUNE.decay,
    decay_every: int = FINETUNE.decay_every,
    method: str = METHOD,
    budget: Form = SELECTOR.budget,
    bit_weight: float = SELECTOR.bit_weight,
    ranges: RangeRule = QUANTIZATION.ranges.observer,
    rounding: Rounding = QUANTIZATION.rounding,
    calibration_images: int = FINETUNE.calibration_images,
    warm_up_images: int = SELECTOR.warm_up_images,
    any_width: bool = SELECTOR.any_width,
    seed: int = 0,
    schedule: FinetuneConfig | None = None,
    precision: PrecisionChoice = "float32",
    **hyperparameters: Any,
) -> pd.DataFrame:
    """Calibrate a student's ranges and fine-tune it in place on synthetic images.

    An epoch is one pass over the images. The defaults are the paper's; its step counts for CIFAR
    and ImageNet stand in ``configs/``.

    Args:
        student: what ``quantize`` returned.
        teacher: the float network that it was made from.
        images: what it learns from.
        epochs: length of the training, in passes over the images; 0 only calibrates.
        steps: length of the training in steps, in place of ``epochs``.
        batch_size: images per step.
        learning_rate: initial learning rate of the weights.
        range_learning_rate: that of the activation ranges.
        selector_learning_rate: that of the bit selector.
        decay: factor on every learning rate after each ``decay_every`` epochs.
        decay_every: epochs between decays.
        method: what it learns.
        budget: how the bit-FLOPs target binds, "penalty" or "constraint".
        bit_weight: weight of the penalty.
        ranges: how calibration sets the activation ranges, such as "median_max".
        rounding: how weights are rounded before the first step: "nearest", "squant", "adaround".
        calibration_images: images that set the activation ranges.
        warm_up_images: images of the selector's warm-up; 0 is off.
        any_width: whether images learn at widths that are drawn, so that the student serves any of
            them; the selector's warm-up then comes last.
        seed: the same seed gives the same student.
        schedule: all settings of fine-tuning, augmentation among them, in place of the arguments
            of these names.
        precision: of convolutions and linear layers in the steps: "float32", "bfloat16", or on a
            GPU "tf32"; "auto" is "float32".
        hyperparameters: the method's settings for the student, such as ``mixup_share=0.25``.

    Returns:
        The history, one row per epoch.

    Raises:
        InvalidArgument: an argument or a hyperparameter is unknown or wrong.
    """
    _require_teacher(teacher)
    if not isinstance(student, Student):
        raise InvalidArgument(
            "student", f"must be what quantize returns; got {type(student).__name__}"
        )
    products = finetuning_precision(precision, teacher.device)
    recipe = _student_recipe(finetune, method, hyperparameters)
    config = _schedule(
        schedule,
        epochs=epochs,
        steps=steps,
        batch_size=batch_size,
        learning_rate=learning_rate,
        range_learning_rate=range_learning_rate,
        decay=decay,
        decay_every=decay_every,
        calibration_images=calibration_images,
    )
    selector = SelectorConfig(
        learning_rate=selector_learning_rate,
        budget=budget,
        bit_weight=bit_weight,
        warm_up_images=warm_up_images,
        any_width=any_width,
    )
    if any_width and not student.scheme.dynamic:
        raise InvalidArgument(
            "any_width",
            f"the student has one width, {student.scheme.activation_bits[0]} bits; make it with "
            "several activation_bits",
        )
    require_choice("ranges", ranges, get_args(RangeRule))
    quantization = QuantizationConfig(rounding=rounding, ranges=RangeConfig(observer=ranges))
    return train_student(
        student,
        teacher,
        images,
        recipe,
        quantization,
        config,
        selector,
        seed,
        products,
        Scratch(None),
        method,
        data_free=None,  # the images may be anyone's, labelled ones too
    )


def bit_flops(
    model: Teacher | Student | nn.Module,
    input_shape: Sequence[int] | None = None,
    weight_bits: int = QUANTIZATION.weight_bits,
    activation_bits: int | Sequence[float] = QUANTIZATION.target_bits,
    placement: Placement = QUANTIZATION.placement,
) -> BitFlops:
    """Return what one image costs at given widths.

    Args:
        model: a student, whose own weight width and placement count; a teacher; or a bare network.
        input_shape: (C, H, W) of an image; a teacher or a student knows it.
        weight_bits: width of every weight.
        activation_bits: one width, or one per site.
        placement: which activations are quantized.

    Returns:
        ``.total`` in bit-FLOPs, ``.percent`` of the float model, ``.layers`` a table.

    Raises:
        InvalidArgument: a bare network is given without ``input_shape``.
    """
    if isinstance(model, Student):
        return model.cost.at(activation_bits)
    module = model.module if isinstance(model, Teacher) else model
    shape = input_shape or getattr(model, "input_shape", None)
    if shape is None:
        raise InvalidArgument("input_shape", "a bare network does not know it; pass (C, H, W)")
    return cost.bit_flops(module, shape, weight_bits, activation_bits, placement)


def _require_teacher(value: object) -> None:
    if not isinstance(value, Teacher):
        raise InvalidArgument(
            "teacher",
            f"must be a dynadfq.Teacher; got {type(value).__name__}; wrap a network of your own by "
            "dynadfq.Teacher(module, …)",
        )


def _settings(
    function: Callable[..., Any], method: str, part: str, hyperparameters: dict[str, Any]
) -> Any:
    """Return the method's settings for "images" or "student".

    A keyword may be a misspelt argument of the function as well.
    """
    require_choice("method", method, METHODS)
    kind = cast(type[Config], METHODS[method].model_fields[part].annotation)
    known = [*kind.model_fields, *signature(function).parameters]
    for name in hyperparameters:
        if name not in kind.model_fields:
            raise InvalidArgument(name, f"unknown{did_you_mean(name, known)}")
    return kind(**hyperparameters)


def _warn_without_student(method: str, teacher: Teacher) -> None:
    """Warn where a method cannot train a student of a network: images may be made for others."""
    try:
        require_student(teacher, _student_recipe(synthesize, method, {}))
    except ValueError as error:
        warnings.warn(f"{method} cannot train a student of this network: {error}", stacklevel=3)


def _student_recipe(
    function: Callable[..., Any], method: str, hyperparameters: dict[str, Any]
) -> StudentRecipe:
    recipe: StudentRecipe = _settings(function, method, "student", hyperparameters).recipe()
    return recipe


def _schedule(schedule: FinetuneConfig | None, **given: Any) -> FinetuneConfig:
    """Return the schedule, or one with the given settings."""
    if schedule is None:
        return FinetuneConfig(**given)
    for name, value in given.items():
        if value != getattr(FINETUNE, name):
            raise InvalidArgument(
                name, f"{shown(value)} is given beside schedule; set it in schedule alone"
            )
    return schedule
