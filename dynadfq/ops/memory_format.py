"""The memory format of images that a network is fastest in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


@torch.no_grad()
def fastest_memory_format(module: nn.Module, input_shape: Sequence[int]) -> torch.memory_format:
    """Return channels last, the fastest for convolutions, unless the network cannot read it.

    A network that flattens a map by ``x.view(len(x), -1)`` needs contiguous maps. Two images of
    zeros are tried; the network's own hooks do not run, those of its parts do.

    Args:
        module: the network.
        input_shape: (C, H, W).
    """
    weight = next(module.parameters())
    training = [part for part in module.modules() if part.training]
    images = torch.zeros(2, *input_shape, dtype=weight.dtype, device=weight.device)
    module.eval()
    try:
        module.forward(images.contiguous(memory_format=torch.channels_last))
    except RuntimeError:
        return torch.contiguous_format
    finally:
        for part in training:
            part.training = True
    return torch.channels_last
