"""A student of a teacher, and what one image costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import nn

from dynadfq.api.arguments import METHOD, require_teacher, student_recipe
from dynadfq.graph import bit_flops as cost
from dynadfq.graph.bit_flops import BitFlops
from dynadfq.graph.config import Placement
from dynadfq.quant.config import (
    Granularity,
    QuantizationConfig,
    Scheme,
    SchemeName,
)
from dynadfq.quant.model import Student
from dynadfq.quant.range_config import ranges_of
from dynadfq.quant.width_config import AllocationConfig
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.numbers import seed_number, whole_number
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import SelectorConfig
from dynadfq.training.prepare import new_student, with_widths

# The defaults of the arguments are those of the settings.
QUANTIZATION = QuantizationConfig()
SELECTOR = SelectorConfig()


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

    Returns:
        The student, in eval mode.

    Raises:
        InvalidArgument: an argument is wrong, or does not fit the network.
    """
    require_teacher(teacher)
    seed = seed_number(seed)
    given = activation_bits if isinstance(activation_bits, Iterable) else [activation_bits]
    widths = tuple(sorted(whole_number("activation_bits", width) for width in given))
    if per_width_ranges and len(widths) == 1:
        raise InvalidArgument(
            "per_width_ranges",
            f"the student has one width, {widths[0]} bits; give several activation_bits",
        )
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
    recipe = student_recipe(quantize, method, hyperparameters)
    if sensitivity_images is not None:
        by_sensitivity = QuantizationConfig(allocation=AllocationConfig(rule="sensitivity"))
        checked = with_widths(
            teacher, recipe, checked, sensitivity_images, by_sensitivity, Scratch(None)
        )
    return new_student(teacher, recipe, checked, seed)


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
