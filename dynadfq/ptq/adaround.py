"""AdaRound: learn whether each weight is rounded up or down, layer by layer.

Nagel et al., "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML 2020,
arXiv 2004.10568. Any images will do; labels are not used. The loss of a layer is asymmetric (Eq.
25): its inputs come from the student, whose earlier layers are rounded already, its targets from
the float model on float inputs. The student's activations are quantized, each at its target width;
the paper quantizes them afterwards, which costs accuracy at few bits (QDrop, arXiv 2203.05740).

The paper folds BatchNorm into the layer. Here it stays after the layer, in the student and in the
float model, and both are compared after it, and after the activation that directly follows:
a(BN(W̃x̃ + b)) with a(BN(Wx + b)). BN is frozen and affine, and a channel's qparams scale with the
channel: with one scale per channel, folding changes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import Tensor

from dynadfq.ptq.calibration import CALIBRATION_BATCH
from dynadfq.ptq.config import AdaRoundConfig
from dynadfq.ptq.layerwise import LayerCall, LayerData, LayerwiseForward, layer_calls, layer_data
from dynadfq.ptq.soft_rounding import SoftRounding, least_error_qparams, rounding_regularizer
from dynadfq.quant.model import Student
from dynadfq.runtime.progress import Progress, require_finite
from dynadfq.runtime.seeding import generator
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

FIRST_BETA = 20.0
LAST_BETA = 2.0


def regularizer_exponent(config: AdaRoundConfig, iteration: int) -> float | None:
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
    qparams = least_error_qparams(
        layer.weight, layer.weight_bits, layer.granularity, layer.symmetric
    )
    soft = SoftRounding(layer.weight, layer.weight_bits, qparams, layer.symmetric)
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
    student: Student, teacher: Teacher, images: SyntheticSet, seed: int, settings: AdaRoundConfig
) -> None:
    """Round the weights of a calibrated student by AdaRound, in place and in forward order.

    Raises:
        ValueError: a layer's weight is rounded already.
    """
    calls = layer_calls(student)
    _require_unrounded(student, calls)
    student.eval()
    floating = deepcopy(student)
    order = torch.randperm(len(images), generator=generator(seed, "adaround"))
    chosen = order[: settings.num_images]
    quantized_pass, float_pass = (
        LayerwiseForward(network, _batches(images, chosen), len(chosen))
        for network in (student, floating)
    )
    with Progress("adaround", len(calls) * settings.iterations) as progress:
        for number, call in enumerate(calls):
            data = layer_data(quantized_pass, float_pass, call)
            rng = generator(seed, "adaround", number)
            soft = learn_rounding(student, call, data, settings, rng, progress)
            call.layer(student).freeze_weight(soft.codes(), (soft.scale, soft.quant_min))


def _batches(images: SyntheticSet, chosen: Tensor) -> Iterator[Tensor]:
    return (images.take(part).images for part in chosen.split(CALIBRATION_BATCH))


def _require_unrounded(student: Student, calls: list[LayerCall]) -> None:
    for call in calls:
        if call.layer(student).frozen_qparams is not None:
            raise ValueError(
                f"the weights of {call.name} are rounded already, so AdaRound cannot round them; "
                "set rounding to nearest for a method that rounds"
            )
