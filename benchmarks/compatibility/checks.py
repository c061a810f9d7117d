"""Checks of one network, in the order of the table's columns; each needs those before it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.compatibility.counter import count
from benchmarks.compatibility.images import noise
from benchmarks.compatibility.row import Row, one_sentence
from dynadfq import api
from dynadfq.export.conversion_report import unsafe
from dynadfq.export.integer_form import to_integer_form
from dynadfq.export.qdq import export_qdq
from dynadfq.export.qdq_checks import PRODUCTS
from dynadfq.graph.network import describe
from dynadfq.graph.normalize import normalize
from dynadfq.ptq.calibration import calibrate, extremes
from dynadfq.quant.build import load_student
from dynadfq.quant.model import Student
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import FinetuneConfig

IMAGES, SETTLING = 2, 8
WIDTHS = (3, 4, 5)
STEP = FinetuneConfig(
    epochs=1, steps_per_epoch=1, batch_size=IMAGES, learning_rate=1e-3, range_learning_rate=1e-3
)
BatchNorm = nn.modules.batchnorm._BatchNorm


def examine(
    row: Row,
    build: Callable[[], nn.Module],
    shape: tuple[int, int, int],
    classes: int,
    scratch: Path,
) -> Row:
    """Fill in a row: ``build`` makes the float network, anew at each call; files go to
    ``scratch``.
    """
    torch.manual_seed(0)
    teacher = Teacher(settled(build(), shape), shape, classes, [0.0] * shape[0], [1.0] * shape[0])
    images = torch.randn(IMAGES, *shape, generator=torch.Generator().manual_seed(0))
    row.parameters = sum(parameter.numel() for parameter in teacher.module.parameters())
    row.batch_norms = sum(isinstance(module, BatchNorm) for module in teacher.module.modules())
    row.attempt("synthesis", lambda: synthesis(teacher))
    row.attempt("qdq", lambda: qdq(teacher, images, scratch / "model.onnx"))
    if not row.attempt("traces", lambda: traces(row, teacher, images)):
        return row
    made: list[Student] = []
    if not row.attempt("quantizes", lambda: quantizes(row, teacher, images, made)):
        return row
    student = made[0]
    if row.attempt("finetuning", lambda: finetuning(student, teacher, scratch / "images")):
        row.attempt("integer_form", lambda: integer_form(student, images))
        row.attempt("saves", lambda: saves(student, build, images, scratch / "student"))
    return row


@torch.no_grad()
def settled(module: nn.Module, shape: tuple[int, ...]) -> nn.Module:
    """Return the network with BatchNorm statistics of its own activations of noise."""
    norms = [norm for norm in module.eval().modules() if isinstance(norm, BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train().momentum = 1.0
    module(1.5 * torch.randn(SETTLING, *shape, generator=torch.Generator().manual_seed(1)) + 0.5)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return module.eval()


def synthesis(teacher: Teacher) -> str:
    """Run one iteration of the default method and say whether the loss decreases."""
    before, after = (
        api.synthesize(
            teacher,
            num_images=IMAGES,
            batch_size=IMAGES,
            optimizer=PixelOptimizerConfig(iterations=iterations, learning_rate=0.05),
        ).manifest["shards"][0]
        for iterations in (0, 1)
    )
    losses = [shard["losses"]["total"] for shard in (before, after)]
    require(
        all(map(math.isfinite, losses)),
        f"the loss is {losses[0]:.3g} before and {losses[1]:.3g} after a step",
    )
    return "falls" if losses[1] < losses[0] else "finite"


@torch.no_grad()
def traces(row: Row, teacher: Teacher, images: Tensor) -> None:
    """Trace and describe the network, and count its MACs by fvcore as well."""
    network = normalize(teacher.module, images)
    require(torch.equal(network(images), teacher(images)), "the traced network's logits differ")
    trace = describe(network, teacher.input_shape)
    row.sites, row.macs, row.float_macs = len(trace.activations), trace.layer_macs, trace.float_macs
    row.counted_macs = count(teacher.module, images[:1])


@torch.no_grad()
def quantizes(row: Row, teacher: Teacher, images: Tensor, made: list[Student]) -> str | None:
    """Make a dynamic student, or one of fixed width, that equals its teacher when unquantized."""
    try:
        student, cell = api.quantize(teacher, activation_bits=WIDTHS), None
    except ValueError as error:
        row.reasons.append(f"quantizes: {one_sentence(error)}")
        student, cell = api.quantize(teacher, activation_bits=WIDTHS[1]), "one width"
    row.quantized_macs = quantized_macs(student)
    with student.unquantized():
        difference = (student(images) - teacher(images)).abs().max()
    require(
        float(difference) == 0.0,
        f"with quantization off its logits differ by up to {difference:.3g}",
    )
    made.append(student)
    return cell


def quantized_macs(student: Student) -> int:
    """Return the number of MACs that read quantized activations."""
    layers, sites = student.cost.trace.layers, student.site_names
    return round(
        sum(layer.macs * sum(layer.fraction_from(site) for site in sites) for layer in layers)
    )


def finetuning(student: Student, teacher: Teacher, folder: Path) -> None:
    """Calibrate and train one step on noise; every kind of parameter must move."""
    images = noise(teacher, IMAGES, folder)
    before = {name: value.detach().clone() for name, value in student.network.named_parameters()}
    history = api.finetune(student, teacher, images, schedule=STEP)
    require(math.isfinite(history["loss"].iloc[-1]), f"the loss is {history['loss'].iloc[-1]}")
    moved = {
        name
        for name, value in student.network.named_parameters()
        if not torch.equal(value, before[name])
    }
    parts = {"weights": "", "activation ranges": "sites.", "selector": "selector."}
    for part, prefix in parts.items():
        members = {name for name in before if name.startswith(prefix)}
        require(not members or bool(moved & members), f"the step moved none of the {part}")


@torch.no_grad()
def integer_form(student: Student, images: Tensor) -> str:
    """Convert, compare a batch with its images one by one, and count the parts left in float32."""
    codes = to_integer_form(student)
    left = unsafe(codes.facts)
    together, apart = codes(images), torch.cat([codes(image[None]) for image in images])
    require(bool(torch.isfinite(together).all()), "its logits are not finite")
    require(bool(left) or torch.equal(together, apart), "an image's logits depend on its batch")
    return f"yes ({len(left)})" if left else "yes"


def qdq(teacher: Teacher, images: Tensor, file: Path) -> str:
    """Write a W8A8 file for integer engines, and count the products that stay in float32 in it."""
    student = api.quantize(teacher, 8, 8, scheme="integer")
    calibrate(student, [images], extremes)
    export = export_qdq(student, file, images, timed=False)
    floats = sum(node.operator in PRODUCTS for node in export.kernels.floats)
    return f"yes ({floats})" if floats else "yes"


@torch.no_grad()
def saves(student: Student, build: Callable[[], nn.Module], images: Tensor, folder: Path) -> None:
    """Save, load into a network with other weights, and compare."""
    student.eval()
    student.save(folder)
    logits, bits = student.run(images)
    again, bits_again = load_student(folder, build()).eval().run(images)
    require(
        torch.equal(logits, again) and torch.equal(bits, bits_again),
        "the loaded student answers otherwise",
    )


def require(condition: bool, otherwise: str) -> None:
    """Raise ArithmeticError where a law is broken."""
    if not condition:
        raise ArithmeticError(otherwise)
