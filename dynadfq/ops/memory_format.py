"""The memory layout that a network reads its images in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


@torch.no_grad()
def fastest_memory_format(module: nn.Module, input_shape: Sequence[int]) -> torch.memory_format:
    """Channels last, which convolutions are fastest in, unless the network cannot read it; two grey
    images are tried.

    A network that flattens a map of several pixels by ``x.view(len(x), -1)`` reads contiguous maps
    alone.
    """
    weight, training = next(module.parameters()), module.training
    images = torch.zeros(2, *input_shape, dtype=weight.dtype, device=weight.device)
    module.eval()
    try:
        module.forward(
            images.contiguous(memory_format=torch.channels_last)
        )  # past hooks, which wait for real images
    except RuntimeError:
        return torch.contiguous_format
    finally:
        module.train(training)
    return torch.channels_last
