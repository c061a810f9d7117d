"""Preparation of a student: transform, quantize, calibrate, round, warm up the selector."""

from __future__ import annotations

import warnings
from functools import reduce

import torch

from dynadfq.graph.normalize import normalize
from dynadfq.ops.precision import compute_precision
from dynadfq.ptq.calibration import AVERAGES, CALIBRATION_BATCH, calibrate, observer
from dynadfq.ptq.mixed_precision import sensitivity_widths
from dynadfq.ptq.preparation import rounding
from dynadfq.quant.build import build_student
from dynadfq.quant.config import QuantizationConfig, Scheme
from dynadfq.quant.model import Student
from dynadfq.runtime import distributed
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.fit import require_fitting
from dynadfq.teacher.teacher import Teacher
from dynadfq.teacher.transforms import FoldedTeacher
from dynadfq.training.config import FinetuneConfig, SelectorTrainingConfig
from dynadfq.training.features import transfer_branches
from dynadfq.training.recipe import StudentRecipe
from dynadfq.training.selector_warm_up import warm_up_selector

QUANTIZATION = QuantizationConfig()
FINETUNE = FinetuneConfig()
SELECTOR = SelectorTrainingConfig()
MOST_CUT_OFF = 0.01  # share of values


def transformed(teacher: Teacher, recipe: StudentRecipe) -> Teacher:
    """Return the float network as the method quantizes it."""
    return reduce(lambda network, transform: transform(network), recipe.transforms, teacher)


def is_made_from(student: Student, network: Teacher) -> bool:
    """Return whether a student has the weights of a float network, not yet rounded or trained."""
    folded = isinstance(network, FoldedTeacher)
    relu6_as_relu = isinstance(network, FoldedTeacher) and network.relu6_as_relu
    if (student.scheme.folded, student.scheme.relu6_as_relu) != (folded, relu6_as_relu):
        return False
    own = student.network.state_dict()
    return all(
        name in own
        and own[name].shape == tensor.shape
        and torch.allclose(own[name], tensor.to(own[name].device))
        for name, tensor in normalize(network.module, network.example).state_dict().items()
    )


def new_student(teacher: Teacher, recipe: StudentRecipe, scheme: Scheme, seed: int) -> Student:
    """Return a student of the network that the method quantizes, not yet calibrated."""
    return build_student(transformed(teacher, recipe), scheme, seed)


def with_widths(
    teacher: Teacher,
    recipe: StudentRecipe,
    scheme: Scheme,
    images: SyntheticSet,
    quantization: QuantizationConfig,
    scratch: Scratch,
) -> Scheme:
    """Return a scheme with the widths of each layer and site that ``quantization`` asks for.

    The first rank measures sensitivities, and keeps its state in ``scratch``.

    Args:
        teacher: the float network.
        recipe: the method's, which may change the network first.
        scheme: the widths whose bit-FLOPs are the budget.
        images: on which sensitivities are measured.
        quantization: the rule and its settings.
        scratch: state of unfinished work.

    Returns:
        The scheme as it is where the rule is "uniform", else one with ``mixed`` widths.

    Raises:
        InvalidArgument: the images are of another network.
    """
    if quantization.allocation.rule == "uniform":
        return scheme
    require_fitting(images, teacher.input_shape, teacher.num_classes)
    network = transformed(teacher, recipe)
    with compute_precision("float32", teacher.device):
        mixed = distributed.from_first(
            lambda: sensitivity_widths(network, scheme, images, quantization, scratch)
        )
    return scheme.model_copy(update={"mixed": mixed})


def require_student(
    teacher: Teacher, recipe: StudentRecipe, schedule: FinetuneConfig = FINETUNE
) -> None:
    """Check, before images are made, that a method can train a student of a network.

    Args:
        teacher: the float network.
        recipe: the method's.
        schedule: of fine-tuning, which may add the distance of attentions to the loss.

    Raises:
        ValueError: the network cannot be traced, or the method's loss cannot serve it.
    """
    network = transformed(teacher, recipe)
    normalize(network.module, network.example)
    if recipe.require is not None:
        recipe.require(teacher)
    if recipe.loss is not None and schedule.total_steps(images=1):
        transfer_branches(teacher, schedule.attention_transfer)


def warn_of_cut_off_pixels(student: Student, images: SyntheticSet) -> None:
    """Warn if the input's quantizer of scheme ``integer`` cuts off what the images show.

    It holds what an image file can hold. The float network sees the rest too, so that roundings and
    weights would learn to make up for it.
    """
    site = next(iter(student.sites), None)
    if site is None or not site.fixed:
        return
    pixels = next(iter(images.batches(CALIBRATION_BATCH))).images.to(student.device)
    low, high = (bound.detach() for bound in site.range_at(site.bits))
    half_a_code = (high - low) / 510  # less is rounded back
    beyond = (pixels < low - half_a_code) | (pixels > high + half_a_code)
    share = float(beyond.double().mean())
    if share > MOST_CUT_OFF:
        warnings.warn(
            f"{100 * share:.1f} % of the images' values are beyond the range of image files, to "
            "which scheme integer quantizes its input; make images by a method that optimizes "
            "pixels, with synthesis.clip: true (optimizer=PixelOptimizerConfig(clip=True))",
            stacklevel=3,
        )


def prepare_student(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet,
    recipe: StudentRecipe,
    seed: int,
    quantization: QuantizationConfig = QUANTIZATION,
    finetune: FinetuneConfig = FINETUNE,
    selector: SelectorTrainingConfig = SELECTOR,
    scratch: Scratch | None = None,
) -> None:
    """Set ranges, round weights, apply the method's preparations and warm up the selector.

    With ``any_width`` the selector waits until the student is fine-tuned.

    The student changes in place. Ranges and preparations compare it with the network that was
    quantized, the selector's warm-up with the teacher. Long preparations keep their state in
    ``scratch`` and go on from there.
    """
    warn_of_cut_off_pixels(student, images)
    scratch = scratch or Scratch(None)
    network = transformed(teacher, recipe)
    with compute_precision("float32", teacher.device):
        if recipe.ranges is not None:
            recipe.ranges(student, network, images, seed, scratch.part("ranges"))
        elif student.sites:
            config = quantization.ranges
            batches = images.batches(CALIBRATION_BATCH, finetune.calibration_images)
            rule = observer(config.observer, config.quantile)
            pixels = (batch.images for batch in batches)
            calibrate(student, pixels, rule, AVERAGES[config.average])
        preparations = (*rounding(quantization), *recipe.preparations)
        for number, preparation in enumerate(preparations):
            preparation(student, network, images, seed, scratch.part(f"preparation-{number}"))
        if not selector.any_width:
            warm_up_selector(student, teacher, images, selector, seed)
