"""BatchNorm layers in eval mode: their statistics, their inputs, and a cheap backward pass.

``torch.nn.functional.batch_norm`` in eval mode sums up gradients of weight and bias even if they
are not needed, which on a CPU costs four times as much as the gradient of the input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
AnyBatchNorm = nn.modules.batchnorm._BatchNorm  # the base class, SyncBatchNorm's too
PLAIN = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


def running_statistics(layer: BatchNorm) -> tuple[Tensor, Tensor]:
    """Return the running mean and variance of a BatchNorm layer that keeps them, (C,) each."""
    assert layer.running_mean is not None and layer.running_var is not None
    return layer.running_mean, layer.running_var


def layers_with_statistics(module: nn.Module) -> tuple[list[BatchNorm], str]:
    """Return the BatchNorm layers that keep running statistics, and why there are none.

    Returns:
        The layers in the order of ``module.modules()``, and the reason as text: empty if there
        are any.

    >>> layers_with_statistics(nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False)))
    ([], 'none of its 1 BatchNorm layers keeps running statistics (track_running_stats=False)')
    """
    norms = [layer for layer in module.modules() if isinstance(layer, BatchNorm)]
    keeping = [
        layer for layer in norms if layer.running_mean is not None and layer.running_var is not None
    ]
    if keeping:
        return keeping, ""
    if norms:
        return [], (
            f"none of its {len(norms)} BatchNorm layers keeps running statistics "
            "(track_running_stats=False)"
        )
    if synchronized := sum(isinstance(layer, nn.SyncBatchNorm) for layer in module.modules()):
        return [], (
            f"its {synchronized} SyncBatchNorm layers only work in multi-GPU training; "
            "replace them by BatchNorm2d"
        )
    return [], "it has no BatchNorm layer, or they were folded into the layers before them"


def gain_and_shift(norm: AnyBatchNorm) -> tuple[Tensor, Tensor]:
    """Return gain and shift of a BatchNorm in eval mode, (C,) float64 each: x · gain + shift.

    Raises:
        ValueError: it has no running statistics, so that an image's result depends on its batch.
    """
    if norm.running_mean is None or norm.running_var is None:
        raise ValueError(
            "a BatchNorm without running statistics mixes the images of a batch; "
            "it cannot be converted"
        )
    gain = 1 / torch.sqrt(norm.running_var.double() + norm.eps)
    if norm.weight is not None:
        gain = gain * norm.weight.double()
    shift = -norm.running_mean.double() * gain
    return gain, shift if norm.bias is None else shift + norm.bias.double()


class _Affine(torch.autograd.Function):
    """(x · gain + shift, x): gradients of both outputs reach x in one pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(gain)
        ctx.set_materialize_grads(False)
        return torch.addcmul(shift, x, gain).to(x.dtype), x.view_as(x)

    @staticmethod
    def backward(
        ctx: Any, grad_y: Tensor | None, grad_x: Tensor | None
    ) -> tuple[Tensor | None, None, None]:
        (gain,) = ctx.saved_tensors
        if grad_y is None:
            return grad_x, None, None
        total = grad_y * gain if grad_x is None else torch.addcmul(grad_x, grad_y, gain)
        return total.to(grad_y.dtype), None, None


@contextmanager
def frozen_batch_norms(
    layers: Iterable[BatchNorm], on_input: Callable[[BatchNorm, Tensor], None]
) -> Iterator[None]:
    """Call ``on_input`` with the (B, C, …) input of each layer while the block runs.

    Layers of torch's own types in eval mode compute in the cheap form, without gradients of their
    parameters. Subclasses, and layers whose ``forward`` was replaced, may do more than normalize,
    and keep their own.

    Args:
        layers: BatchNorm layers.
        on_input: receives a layer and its input.
    """
    layers = list(layers)
    plain = [
        layer
        for layer in layers
        if type(layer) in PLAIN and not layer.training and "forward" not in layer.__dict__
    ]
    handles = [
        layer.register_forward_pre_hook(lambda layer, inputs: on_input(layer, inputs[0]))
        for layer in layers
        if layer not in plain
    ]
    for layer in plain:
        layer.__dict__["forward"] = _cheap_forward(layer, on_input)
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer in plain:
            del layer.__dict__["forward"]


def _cheap_forward(
    layer: BatchNorm, on_input: Callable[[BatchNorm, Tensor], None]
) -> Callable[[Tensor], Tensor]:
    """Return the layer's function, with gain and shift computed once."""
    mean, variance = running_statistics(layer)
    scale = (variance + layer.eps).rsqrt()
    gain = scale if layer.weight is None else scale * layer.weight.detach()
    bias = torch.zeros_like(gain) if layer.bias is None else layer.bias.detach()
    shift = torch.addcmul(bias, mean, gain, value=-1)  # rounded as in torch's own kernel

    def forward(x: Tensor) -> Tensor:
        shape = (-1, *[1] * (x.dim() - 2))
        y: Tensor
        y, same = _Affine.apply(x, gain.view(shape), shift.view(shape))
        on_input(layer, same)
        return y

    return forward
