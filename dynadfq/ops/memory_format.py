"""The memory format of images that a network is fastest in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


@torch.no_grad()
def fastest_memory_format(module: nn.Module, input_shape: Sequence[int]) -> torch.memory_format:
    """Return channels last, the fastest for convolutions, unless the network cannot read it.

    A network that flattens a map by ``x.view(len(x), -1)`` needs contiguous maps. Two images of
    zeros are tried; hooks do not run.

    Args:
        module: the network.
        input_shape: (C, H, W).
    """
    weight = next(module.parameters())
    training = module.training
    images = torch.zeros(2, *input_shape, dtype=weight.dtype, device=weight.device)
    module.eval()
    try:
        module.forward(images.contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        return torch.contiguous_format
    finally:
        module.train(training)
    return torch.channels_last
