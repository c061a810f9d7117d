"""AdaRound: learn whether each weight is rounded up or down, layer by layer.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020,
arXiv 2004.10568. Any images will do; labels are not used. The loss of a layer is asymmetric (Eq.
25): its inputs come from the student, whose earlier layers are rounded already, its targets from
the float model on float inputs. The paper leaves activations in float or quantizes them afterwards,
which costs accuracy at few bits (QDrop, arXiv 2203.05740). Here the student's activations are
quantized, each at its target width, or stay float32 (``target_bits: 32``).

The paper folds BatchNorm into the layer. Here it stays after the layer, in the student and in the
float model, and both are compared after it, and after the activation that directly follows:
a(BN(W̃x̃ + b)) with a(BN(Wx + b)). BN is frozen and affine, and a channel's qparams scale with the
channel: with one scale per channel, folding changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from copy import deepcopy

import torch
from torch import Tensor

from dynadfq.ptq.calibration import CALIBRATION_BATCH
from dynadfq.ptq.config import AdaRoundConfig
from dynadfq.ptq.layerwise import LayerCall, LayerData, LayerwiseForward, layer_calls, layer_data
from dynadfq.ptq.soft_rounding import SoftRounding, rounding_regularizer
from dynadfq.quant.model import Student
from dynadfq.quant.rounding_config import LearnedRounding
from dynadfq.runtime.progress import Progress, require_finite
from dynadfq.runtime.resume import Scratch
from dynadfq.runtime.seeding import generator
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

FIRST_BETA = 20.0
LAST_BETA = 2.0


def regularizer_exponent(config: LearnedRounding, iteration: int) -> float | None:
    """Return the regularizer's exponent β at a step; None during the warm start.

    >>> config = AdaRoundConfig(iterations=10, warm_start=0.2, annealing="linear")
    >>> [regularizer_exponent(config, i) for i in (1, 2, 6)]
    [None, 20.0, 11.0]
    """
    start = config.warm_start * config.iterations
    if iteration < start:
        return None
    share = (iteration - start) / (config.iterations - start)
    if config.annealing == "cosine":
        share = (1 - math.cos(math.pi * share)) / 2
    return FIRST_BETA + share * (LAST_BETA - FIRST_BETA)


def reconstruction_error(y: Tensor, target: Tensor, channel_axis: int) -> Tensor:
    """Return the squared error, summed over channels and averaged over everything else."""
    return (y - target).square().sum(dim=channel_axis).mean()


def learn_rounding(
    student: Student,
    call: LayerCall,
    data: LayerData,
    settings: AdaRoundConfig,
    rng: torch.Generator,
    progress: Progress,
) -> SoftRounding:
    """Learn the roundings of one layer without changing the layer or the student.

    Raises:
        NonFiniteLoss: the loss is NaN or infinite.
    """
    layer = call.layer(student)
    soft = SoftRounding.of(layer)
    bias = None if layer.bias is None else layer.bias.detach()
    adam = torch.optim.Adam([soft.v], lr=settings.learning_rate)
    for iteration in range(settings.iterations):
        chosen = torch.randperm(len(data.inputs), generator=rng)[: settings.batch_size]
        inputs, targets = (part[chosen.to(part.device)].to(layer.weight.device) for part in data)
        y = call.follow(student, layer.multiply(inputs, soft.weight(), bias))
        error = reconstruction_error(y, targets, layer.channel_axis)
        beta = regularizer_exponent(settings, iteration)
        rounding = error.new_zeros(()) if beta is None else rounding_regularizer(soft.share, beta)
        loss = error + settings.regularization * rounding
        require_finite({"reconstruction": error, "rounding": rounding}, iteration)
        (soft.v.grad,) = torch.autograd.grad(loss, soft.v)
        adam.step()
        progress.step(reconstruction=float(error.detach()), rounding=float(rounding.detach()))
    return soft


def adaround(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet,
    seed: int,
    scratch: Scratch,
    settings: AdaRoundConfig,
) -> None:
    """Round the weights of a calibrated student by AdaRound, in place and in forward order.

    After each layer the student is saved to ``scratch``; a run that was interrupted goes on with
    the next layer, and gives the same student.

    Raises:
        ValueError: a layer's weight is rounded already.
    """
    require_unrounded(student)
    calls = layer_calls(student)
    floating = deepcopy(student.eval())
    count, batches = chosen_batches(images, settings.num_images, seed, "adaround")
    quantized_pass = LayerwiseForward(student, batches(), count)
    float_pass = LayerwiseForward(floating, batches(), count)
    done = load_rounded(student, scratch)
    with Progress("adaround", len(calls) * settings.iterations, done * settings.iterations) as bar:
        for number, call in list(enumerate(calls))[done:]:
            data = layer_data(quantized_pass, float_pass, call)
            rng = generator(seed, "adaround", number)
            soft = learn_rounding(student, call, data, settings, rng, bar)
            call.layer(student).freeze_weight(soft.codes(), (soft.scale, soft.quant_min))
            save_rounded(student, scratch, number + 1)


def chosen_batches(
    images: SyntheticSet, most: int, seed: int, stream: str
) -> tuple[int, Callable[[], Iterator[Tensor]]]:
    """Return a number of random images, and a function that reads them batch by batch.

    Args:
        images: the set.
        most: images to choose at most.
        seed: of the choice.
        stream: name of the choice.
    """
    chosen = torch.randperm(len(images), generator=generator(seed, stream))[:most]
    parts = chosen.split(CALIBRATION_BATCH)
    return len(chosen), lambda: (images.take(part).images for part in parts)


def require_unrounded(student: Student) -> None:
    """Check that no weight was rounded before.

    Raises:
        ValueError: one was.
    """
    for call in layer_calls(student):
        if call.layer(student).frozen_qparams is not None:
            raise ValueError(
                f"the weights of {call.name} are rounded already, so their rounding cannot be "
                "learned; set rounding to nearest for a method that rounds"
            )


def load_rounded(student: Student, scratch: Scratch) -> int:
    """Load what ``save_rounded`` saved, and return how many parts are rounded; 0 at the start."""
    state = scratch.load()
    if state is None:
        return 0
    student.load_state_dict(state["student"])
    return int(state["rounded"])


def save_rounded(student: Student, scratch: Scratch, parts: int) -> None:
    """Save a student of which the first layers or blocks are rounded."""
    scratch.save({"rounded": parts, "student": student.state_dict()})
