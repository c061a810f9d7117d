"""Block reconstruction: learn roundings, weight scales and activation ranges block by block.

The loss of a block is the squared error of its output against the float network's (BRECQ, Li et
al., ICLR 2021, arXiv 2102.05426, Eq. 10 without the Fisher weights, as its released code runs).
Learned are the rounding of each weight (AdaRound, dynadfq.ptq.soft_rounding); with it, the scale of
each weight, while the integers it was rounded from stay as they were (Genie-M, Jeon et al., CVPR
2023, arXiv 2212.07155, Eq. 9); and the range of each activation. Meanwhile each element of an
activation stays unquantized with some probability, and each element of the block's input is the
float network's with the same probability (QDrop, Wei et al., ICLR 2022, arXiv 2203.05740, Sec. 4).

As in dynadfq.ptq.adaround, BatchNorms stay unfolded and activations have the target width.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn

from dynadfq.graph.calls import called_module
from dynadfq.ptq.adaround import (
    chosen_batches,
    load_rounded,
    reconstruction_error,
    regularizer_exponent,
    require_unrounded,
    save_rounded,
)
from dynadfq.ptq.blocks import Block, blocks
from dynadfq.ptq.layerwise import LayerwiseForward
from dynadfq.ptq.soft_block import SoftBlock, mixed
from dynadfq.ptq.soft_rounding import SoftRounding, rounding_regularizer
from dynadfq.quant.activation_site import ActivationFakeQuantize
from dynadfq.quant.layers import QuantizedLayer
from dynadfq.quant.model import Student
from dynadfq.quant.rounding_config import BlockReconstructionConfig
from dynadfq.runtime.progress import Progress, require_finite
from dynadfq.runtime.resume import Scratch
from dynadfq.runtime.seeding import generator
from dynadfq.runtime.spill import spill_concatenated
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher


class BlockData:
    """What a block reads and what it should return, for N images.

    inputs: (N, …) in the quantized student.
    exact_inputs: (N, …) in the float network.
    targets: (N, …) outputs of the float network.
    """

    def __init__(self, inputs: Tensor, exact_inputs: Tensor, targets: Tensor) -> None:
        self.inputs = inputs
        self.exact_inputs = exact_inputs
        self.targets = targets

    def batch(
        self, size: int, drop: float, rng: torch.Generator, device: torch.device
    ) -> tuple[Tensor, Tensor]:
        """Return the mixed inputs and the targets of random images."""
        chosen = torch.randperm(len(self.inputs), generator=rng)[:size]
        quantized, exact, targets = (
            part[chosen.to(part.device)].to(device)
            for part in (self.inputs, self.exact_inputs, self.targets)
        )
        return mixed(quantized, exact, drop, rng), targets


def learn_block(
    student: Student,
    block: Block,
    data: BlockData,
    settings: BlockReconstructionConfig,
    rng: torch.Generator,
    progress: Progress,
) -> dict[str, SoftRounding]:
    """Learn the roundings of a block's layers, by name; only its activation ranges change.

    A block of layers that earlier blocks have, without ranges to learn, takes no step.

    Raises:
        NonFiniteLoss: the loss is NaN or infinite.
    """
    soft = {}
    for name in block.layers:
        layer = student.network.get_submodule(name)
        assert isinstance(layer, QuantizedLayer)
        soft[name] = SoftRounding.of(layer)
    if not soft and not _learned_ranges(student, block):
        progress.skip(settings.iterations)
        return soft
    run = SoftBlock(student, block, soft, settings.drop, rng)
    adam, rates = _optimizer(student, block, soft, settings)
    sites = _sites(student, block)
    axis = -1 if data.targets.dim() == 3 else 1  # tokens, or channels of a map
    student.train()
    try:
        for iteration in range(settings.iterations):
            inputs, targets = data.batch(settings.batch_size, settings.drop, rng, student.device)
            error = reconstruction_error(run.of(inputs), targets, axis)
            beta = regularizer_exponent(settings, iteration)
            rounding = error.new_zeros(())
            if beta is not None:
                rounding = sum(
                    (rounding_regularizer(s.share, beta) for s in soft.values()), rounding
                )
            require_finite({"reconstruction": error, "rounding": rounding}, iteration)
            adam.zero_grad()
            (error + settings.regularization * rounding).backward()
            adam.step()
            rates.step()
            for site in sites:
                site.set_range(site.low, site.high)
            progress.step(reconstruction=float(error.detach()), rounding=float(rounding.detach()))
    finally:
        student.eval().zero_grad()
    return soft


def _optimizer(
    student: Student,
    block: Block,
    soft: Mapping[str, SoftRounding],
    settings: BlockReconstructionConfig,
) -> tuple[torch.optim.Adam, torch.optim.lr_scheduler.LambdaLR]:
    """Adam on roundings, scales and ranges; the rates of the last two fall to 0 as a cosine."""
    scales = [s.log_growth.requires_grad_() for s in soft.values()] if settings.scale_rate else []
    ranges = _learned_ranges(student, block)

    def constant(iteration: int) -> float:
        return 1.0

    def cosine(iteration: int) -> float:
        return (1 + math.cos(math.pi * iteration / settings.iterations)) / 2

    groups = [
        ([s.v for s in soft.values()], settings.learning_rate, constant),
        (scales, settings.scale_rate, cosine),
        (ranges, settings.range_rate, cosine),
    ]
    filled = [group for group in groups if group[0]]
    adam = torch.optim.Adam([{"params": tensors, "lr": rate} for tensors, rate, _ in filled])
    return adam, torch.optim.lr_scheduler.LambdaLR(adam, [falls for _, _, falls in filled])


def _sites(student: Student, block: Block) -> list[ActivationFakeQuantize]:
    modules = (called_module(node, student.network) for node in block.nodes)
    return [module for module in modules if isinstance(module, ActivationFakeQuantize)]


def _learned_ranges(student: Student, block: Block) -> list[nn.Parameter]:
    return [p for site in _sites(student, block) for p in site.parameters() if p.requires_grad]


def block_reconstruction(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet,
    seed: int,
    scratch: Scratch,
    settings: BlockReconstructionConfig,
) -> None:
    """Round the weights of a calibrated student block by block, in place and in forward order.

    After each block the student is saved to ``scratch``; a run that was interrupted goes on with
    the next block, and gives the same student.

    Raises:
        ValueError: a layer's weight is rounded already.
    """
    require_unrounded(student)
    floating = deepcopy(student.eval())
    parts = blocks(student)
    done = load_rounded(student, scratch)
    count, batches = chosen_batches(images, settings.num_images, seed, "blocks")
    quantized_pass = LayerwiseForward(student, batches(), count)
    float_pass = LayerwiseForward(floating, batches(), count)
    with Progress("blocks", len(parts) * settings.iterations, done * settings.iterations) as bar:
        for number, block in list(enumerate(parts))[done:]:
            data = _block_data(quantized_pass, float_pass, block)
            rng = generator(seed, "blocks", number)
            for name, soft in learn_block(student, block, data, settings, rng, bar).items():
                layer = student.network.get_submodule(name)
                assert isinstance(layer, QuantizedLayer)
                layer.freeze_weight(soft.codes(), (soft.scale.detach(), soft.quant_min))
            save_rounded(student, scratch, number + 1)


@torch.no_grad()
def _block_data(
    quantized_pass: LayerwiseForward, float_pass: LayerwiseForward, block: Block
) -> BlockData:
    """The data of a block that both passes have not run yet."""
    quantized_pass.student.eval()
    inputs = spill_concatenated(quantized_pass.after(block.source), quantized_pass.count)
    with float_pass.student.unquantized():
        exact, targets = (
            spill_concatenated(float_pass.after(node), float_pass.count)
            for node in (block.source, block.end)
        )
    return BlockData(inputs, exact, targets)
