"""A block of a student with soft roundings and randomly dropped quantization (QDrop)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, fx

from dynadfq.ptq.blocks import Block, allocations
from dynadfq.ptq.soft_rounding import SoftRounding
from dynadfq.quant.activation_site import ActivationFakeQuantize
from dynadfq.quant.layers import QuantizedLayer
from dynadfq.quant.model import Student


def mixed(quantized: Tensor, exact: Tensor, share: float, rng: torch.Generator) -> Tensor:
    """Return values of which each is the exact one with probability ``share`` (QDrop, Eq. 8).

    >>> mixed(torch.zeros(2), torch.ones(2), 1.0, torch.Generator())
    tensor([1., 1.])
    """
    if share == 0:
        return quantized
    kept = torch.rand(quantized.shape, generator=rng) < share
    return torch.where(kept.to(quantized.device), exact, quantized)


class SoftBlock(fx.Interpreter):
    """A block of a student with soft roundings and randomly dropped quantization.

    Args:
        student: the student, in training mode; its activation ranges receive gradients.
        block: the part of its graph that is run.
        soft: the soft rounding of each of the block's layers, by name.
        drop: probability that an element of an activation stays unquantized.
        rng: decides which do.
    """

    def __init__(
        self,
        student: Student,
        block: Block,
        soft: Mapping[str, SoftRounding],
        drop: float,
        rng: torch.Generator,
    ) -> None:
        super().__init__(student.network)
        self.block = block
        self.soft = soft
        self.drop = drop
        self.rng = rng
        self.constants = dict.fromkeys(allocations(student), student.at_target)

    def of(self, inputs: Tensor) -> Tensor:
        """Return the block's output for a (B, …) input."""
        self.env = {**self.constants, self.block.source: inputs}
        for node in self.block.nodes:
            self.env[node] = self.run_node(node)
        result: Tensor = self.env[self.block.end]
        self.env = {}
        return result

    def call_module(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Run a module; a layer that is being rounded uses its soft weight."""
        module = self.fetch_attr(target)
        if target in self.soft:
            assert isinstance(module, QuantizedLayer)
            return module.multiply(args[0], self.soft[target].weight(), module.bias)
        outcome = super().call_module(target, args, kwargs)
        if isinstance(module, ActivationFakeQuantize):
            values, scale = outcome
            return mixed(values, args[0], self.drop, self.rng), scale
        return outcome
