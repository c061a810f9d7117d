"""AdaRound: whether each weight is rounded up or down is learned, a layer at a time (Nagel et al.,
ICML 2020).

"Up or Down? Adaptive Rounding for Post-Training Quantization", arXiv 2004.10568. Any images will
do; labels are not used. The loss of a layer is asymmetric (Eq. 25): its inputs come from the
student, whose earlier layers are rounded already, its targets from the float model on float inputs.
The student's activations are quantized, each at its target width; the paper quantizes them
afterwards, which costs accuracy at few bits (QDrop, arXiv 2203.05740).

The paper folds BatchNorm into the layer. Here it stays behind the layer, in the student and in the
float model, and both are compared behind it, and behind the activation if that directly follows:
a(BN(W̃x̃ + b)) with a(BN(Wx + b)). BN is frozen and affine, and a channel's grid scales with the
channel: with a grid a channel, folding changes nothing.
"""

from __future__ import annotations

import math
from copy import deepcopy
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from dynadfq.ptq.calibration import CALIBRATION_BATCH
from dynadfq.ptq.layerwise import LayerwiseForward
from dynadfq.ptq.preparation import Preparation
from dynadfq.ptq.reconstruction import LayerCall, LayerData, layer_calls, layer_data
from dynadfq.ptq.soft_rounding import SoftRounding, least_error_qparams, rounding_regularizer
from dynadfq.quant.model import Student
from dynadfq.runtime.progress import Progress, require_finite
from dynadfq.runtime.seeding import generator
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

FIRST_BETA, LAST_BETA = 20.0, 2.0

Annealing = Literal["cosine", "linear"]


@dataclass(frozen=True)
class AdaRound:
    """How roundings are learned.

    iterations: steps a layer.
    num_images: at most so many are used; a layer's inputs and outputs on all of them are held, in
        temporary files (TMPDIR) where they are large.
    regularization: λ, weight of the term that pushes roundings to 0 or 1.
    warm_start: share of the iterations without that term.
    annealing: how its exponent β falls from 20 to 2.
    """

    iterations: int = 10_000
    num_images: int = 1024
    batch_size: int = 32
    learning_rate: float = 1e-3
    regularization: float = 0.01
    warm_start: float = 0.2
    annealing: Annealing = "cosine"

    def beta(self, iteration: int) -> float | None:
        """The regularizer's exponent; None during the warm start.

        >>> [AdaRound(10, warm_start=0.2, annealing="linear").beta(i) for i in (1, 2, 6)]
        [None, 20.0, 11.0]
        """
        start = self.warm_start * self.iterations
        if iteration < start:
            return None
        progress = (iteration - start) / (self.iterations - start)
        share = progress if self.annealing == "linear" else (1 - math.cos(math.pi * progress)) / 2
        return FIRST_BETA + share * (LAST_BETA - FIRST_BETA)


def reconstruction_error(y: Tensor, target: Tensor, channel_axis: int) -> Tensor:
    """Squared error, summed over channels and averaged over everything else."""
    return (y - target).square().sum(dim=channel_axis).mean()


def learn_rounding(
    student: Student,
    call: LayerCall,
    data: LayerData,
    settings: AdaRound,
    rng: torch.Generator,
    progress: Progress,
) -> SoftRounding:
    """Learn the roundings of one layer; neither layer nor student is changed.

    Raises:
        NonFiniteLoss: the loss is NaN or infinite.
    """
    layer = call.layer(student)
    on = least_error_qparams(layer.weight, layer.weight_bits, layer.granularity)
    soft = SoftRounding(layer.weight, layer.weight_bits, on)
    bias = None if layer.bias is None else layer.bias.detach()
    adam = torch.optim.Adam([soft.v], lr=settings.learning_rate)
    for iteration in range(settings.iterations):
        chosen = torch.randperm(len(data.inputs), generator=rng)[: settings.batch_size]
        inputs, targets = (part[chosen.to(part.device)].to(layer.weight.device) for part in data)
        y = call.follow(student, layer.multiply(inputs, soft.weight(), bias))
        error = reconstruction_error(y, targets, layer.channel_axis)
        beta = settings.beta(iteration)
        rounding = error.new_zeros(()) if beta is None else rounding_regularizer(soft.share, beta)
        loss = error + settings.regularization * rounding
        require_finite({"reconstruction": error, "rounding": rounding}, iteration)
        (soft.v.grad,) = torch.autograd.grad(loss, soft.v)
        adam.step()
        progress.step(reconstruction=float(error.detach()), rounding=float(rounding.detach()))
    return soft


def adaround(settings: AdaRound) -> Preparation:
    """A preparation that rounds the weights of a calibrated student by AdaRound, in place and in
    forward order.
    """

    def adaround_rounding(
        student: Student, teacher: Teacher, images: SyntheticSet, seed: int
    ) -> None:
        calls = layer_calls(student)
        _require_float(student, calls)
        student.eval()
        floating = deepcopy(student)
        chosen = torch.randperm(len(images), generator=generator(seed, "adaround"))[
            : settings.num_images
        ]
        parts = chosen.split(CALIBRATION_BATCH)
        rounded, exact = (
            LayerwiseForward(one, (images.take(p).images for p in parts), len(chosen))
            for one in (student, floating)
        )
        with Progress("adaround", len(calls) * settings.iterations) as progress:
            for number, call in enumerate(calls):
                data = layer_data(rounded, exact, call)
                soft = learn_rounding(
                    student, call, data, settings, generator(seed, "adaround", number), progress
                )
                call.layer(student).freeze_weight(soft.codes(), (soft.scale, soft.quant_min))

    return adaround_rounding


def _require_float(student: Student, calls: list[LayerCall]) -> None:
    rounded = [call.name for call in calls if call.layer(student).frozen_qparams is not None]
    if rounded:
        raise ValueError(
            f"the weights of {rounded[0]} are rounded already, so that AdaRound has none to choose a rounding of; "
            "set quantization.rounding to nearest for a method that rounds"
        )
