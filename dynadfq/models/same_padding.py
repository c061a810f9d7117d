"""TensorFlow's "SAME" padding (timm's ``Conv2dSame``, as in tf_efficientnet_lite0) written out for one image size.

Such a layer pads by an amount that it works out from its input's size, right and bottom more than left and top. Tracing
cannot follow that, and as a layer with a forward of its own it would stay in float. For a given image size the amounts
are numbers, and the layer is a plain convolution.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


def write_out_same_padding(module: nn.Module, example: Tensor) -> None:
    """Replace every such layer, in place, by a convolution that pads as it does for images like ``example``."""
    layers = {name: layer for name, layer in module.named_modules() if type(layer).__name__ == "Conv2dSame"}
    if not layers:
        return
    sizes: dict[nn.Module, torch.Size] = {}
    handles = [
        layer.register_forward_pre_hook(lambda layer, inputs: sizes.update({layer: inputs[0].shape[2:]}))
        for layer in layers.values()
    ]
    try:
        with torch.no_grad():
            module(example)
    finally:
        for handle in handles:
            handle.remove()
    for name, layer in layers.items():
        if layer in sizes and isinstance(layer, nn.Conv2d):
            module.set_submodule(name, _plain(layer, sizes[layer]))


def _plain(layer: nn.Conv2d, size: torch.Size) -> nn.Conv2d:
    plain = nn.Conv2d.__new__(nn.Conv2d)
    plain.__dict__.update(layer.__dict__)
    pads = [
        _total(int(length), kernel, stride, dilation)
        for length, kernel, stride, dilation in zip(size, layer.kernel_size, layer.stride, layer.dilation, strict=True)
    ]
    vertical, horizontal = pads
    plain.padding = (vertical - vertical // 2, horizontal - horizontal // 2)  # the larger side, for whoever asks
    # Zeros by torch's general padding, since its mode "zeros" cannot pad one side more than the other.
    plain.padding_mode = "constant"  # type: ignore[assignment]
    plain._reversed_padding_repeated_twice = [
        horizontal // 2,
        horizontal - horizontal // 2,
        vertical // 2,
        vertical - vertical // 2,
    ]
    return plain


def _total(length: int, kernel: int, stride: int, dilation: int) -> int:
    """Zeros added along an axis, so that the output has ceil(length / stride) elements.

    >>> _total(224, 3, 2, 1), _total(32, 3, 1, 1), _total(1, 1, 2, 1)
    (1, 2, 0)
    """
    return max((-(-length // stride) - 1) * stride + (kernel - 1) * dilation + 1 - length, 0)
