"""The student of a deployment: scheme ``integer``, made as an effort says."""

from __future__ import annotations

from copy import deepcopy

import torch

from dynadfq.deploy.efforts import EXACT_ENOUGH, WIDER_BY, Effort, widens
from dynadfq.deploy.images import METHOD
from dynadfq.deploy.work import Work
from dynadfq.export.qdq_model import InputKind, qdq_model
from dynadfq.methods import METHODS
from dynadfq.ops.precision import compute_precision
from dynadfq.ptq.calibration import calibrate, extremes
from dynadfq.ptq.mixed_precision import with_wide_layers
from dynadfq.ptq.ranges import bn_sigma_ranges, noise_sigma_ranges, statistics_reach_all
from dynadfq.quant.artifact import FACTS
from dynadfq.quant.build import load_student
from dynadfq.quant.config import QuantizationConfig, Scheme
from dynadfq.quant.model import Student
from dynadfq.quant.range_config import RangeConfig
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import FinetuneConfig, SelectorTrainingConfig
from dynadfq.training.prepare import new_student, transformed
from dynadfq.training.recipe import StudentRecipe
from dynadfq.training.train import train_student

NO_TRAINING = FinetuneConfig(epochs=0)


def recipe_of(effort: Effort) -> StudentRecipe:
    """Return how the student is prepared and trained on images."""
    if effort.finetune is None:
        return StudentRecipe()
    trained: StudentRecipe = METHODS[METHOD]().student.recipe()
    return trained


def scheme_of(weight_bits: int, activation_bits: int) -> Scheme:
    """Return the scheme of integer engines at these widths."""
    return Scheme(
        scheme="integer",
        weight_bits=weight_bits,
        activation_bits=(activation_bits,),
        target_bits=activation_bits,
    )


def check_export(teacher: Teacher, scheme: Scheme, recipe: StudentRecipe, kind: InputKind) -> None:
    """Write a student of noise to memory, so that what cannot be exported fails before the work.

    Raises:
        ValueError: the network cannot be quantized or exported.
    """
    student = new_student(teacher, recipe, scheme, 0)
    rng = torch.Generator().manual_seed(0)
    noise = torch.randn(2, *teacher.input_shape, generator=rng)
    calibrate(student, [noise.to(teacher.device)], extremes)
    qdq_model(student, kind)


def make_student(
    teacher: Teacher,
    images: SyntheticSet,
    effort: Effort,
    scheme: Scheme,
    uniform: bool,
    seed: int,
    work: Work,
) -> Student:
    """Quantize, calibrate, and round or fine-tune; or return what an earlier call made.

    Unless ``uniform``, weights of up to 4 bits have 8 in the layers that lose most.
    """
    folder = work.folder / "student"
    if (folder / FACTS).exists():
        return load_student(folder, deepcopy(teacher.module)).to(teacher.device)
    recipe = recipe_of(effort)
    if widens(effort, scheme.weight_bits, uniform):
        network = transformed(teacher, recipe)
        mean_bits = scheme.weight_bits + WIDER_BY
        scratch = Scratch(work.folder / "sensitivity")
        with compute_precision("float32", teacher.device):
            scheme = with_wide_layers(network, scheme, images, mean_bits, scratch)
    student = new_student(teacher, recipe, scheme, seed)
    if not effort.images:
        known = statistics_reach_all(student, teacher)
        recipe = StudentRecipe(ranges=bn_sigma_ranges if known else noise_sigma_ranges)
    quantization = QuantizationConfig(
        rounding=effort.rounding_of(scheme.weight_bits),
        ranges=RangeConfig(observer="max" if scheme.target_bits >= EXACT_ENOUGH else "mse"),
    )
    train_student(
        student,
        teacher,
        images,
        recipe,
        quantization,
        effort.finetune or NO_TRAINING,
        SelectorTrainingConfig(),
        seed,
        "float32",
        Scratch(work.folder / "training"),
        METHOD if effort.images else "squant",
        data_free=True,
    )
    if recipe.ranges is bn_sigma_ranges:
        student.provenance["images"] = 0
    student.save(folder)
    return student
