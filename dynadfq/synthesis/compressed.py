"""Compressed copies of a network, which make mistakes on hard images."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import torch
from torch import Tensor, nn

from dynadfq.ops.layers import layer_kind


@torch.no_grad()
def compressed(module: nn.Module, compress: Callable[[Tensor], Tensor]) -> nn.Module:
    """Return a frozen copy whose convolutions and linear layers have compressed weights."""
    copy = deepcopy(module).eval().requires_grad_(False)
    for layer in copy.modules():
        if layer_kind(layer) is not None and isinstance(layer.weight, Tensor):
            layer.weight.copy_(compress(layer.weight))
    return copy


def rounded(weight: Tensor, bits: int) -> Tensor:
    """Return (out, …) weights rounded to 2^bits levels over each output channel's range with 0."""
    flat = weight.flatten(1)
    low = flat.amin(dim=1).clamp(max=0)
    high = flat.amax(dim=1).clamp(min=0)
    levels = 2**bits - 1
    scale = (high - low).clamp(min=1e-8) / levels
    zero = (-low / scale).round().clamp(0, levels).int()
    return torch.fake_quantize_per_channel_affine(weight, scale, zero, 0, 0, levels)


def pruned(weight: Tensor, share: float) -> Tensor:
    """Return weights with a share of them, the smallest by magnitude, set to 0.

    >>> pruned(torch.tensor([[0.5, -0.1], [0.2, -3.0]]), 0.5)
    tensor([[ 0.5000, -0.0000],
            [ 0.0000, -3.0000]])
    """
    smallest = weight.abs().flatten().argsort(stable=True)[: round(share * weight.numel())]
    keep = torch.ones(weight.numel(), device=weight.device).index_fill(0, smallest, 0)
    return weight * keep.view(weight.shape)


def low_rank(weight: Tensor, share: float) -> Tensor:
    """Return the weight, as a matrix (out, inputs), from a share of its singular values."""
    matrix = weight.flatten(1)
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    rank = max(1, round(share * len(values)))
    nearest: Tensor = (left[:, :rank] * values[:rank]) @ right[:rank]
    return nearest.view(weight.shape)
