"""BatchNorm layers that do not learn: one multiplication and one addition, and a gradient to the
input alone.

``torch.nn.functional.batch_norm`` in eval mode sums up gradients of gain and bias whether or not
they are asked for, which on a CPU costs four times as much as the gradient to the input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

BatchNorm = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d
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
        count = len(norms)
        return [], (
            f"none of its {count} BatchNorm layers keeps running statistics "
            "(track_running_stats=False)"
        )
    if synchronized := sum(isinstance(layer, nn.SyncBatchNorm) for layer in module.modules()):
        return [], (
            f"its {synchronized} SyncBatchNorm layers only work in multi-GPU training; "
            "replace them by BatchNorm2d"
        )
    return [], "it has no BatchNorm layer, or they were folded into the layers before them"


class _Affine(torch.autograd.Function):
    """x · gain + shift, and x once more: what arrives at the second x joins the gradient in the
    same pass.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, gain: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        ctx.save_for_backward(gain)
        ctx.set_materialize_grads(False)
        return torch.addcmul(shift, x, gain).to(x.dtype), x.view_as(x)

    @staticmethod
    def backward(
        ctx: Any, to_y: Tensor | None, to_x: Tensor | None
    ) -> tuple[Tensor | None, None, None]:
        (gain,) = ctx.saved_tensors
        if to_y is None:
            return to_x, None, None
        total = to_y * gain if to_x is None else torch.addcmul(to_x, to_y, gain)
        return total.to(to_y.dtype), None, None


@contextmanager
def frozen(
    layers: Iterable[BatchNorm], keep: Callable[[BatchNorm, Tensor], None]
) -> Iterator[None]:
    """Within this block ``keep`` is given every layer's (B, C, …) input; nothing is left behind.

    Layers of torch's own types in eval mode compute in the cheap form, which gives their parameters
    no gradient. Subclasses may do more than normalize, and compute as they always do.
    """
    layers, handles = list(layers), []
    plain = [layer for layer in layers if type(layer) in PLAIN and not layer.training]
    for layer in plain:
        layer.__dict__["forward"] = _forward(layer, keep)
    for layer in (other for other in layers if other not in plain):
        handles.append(
            layer.register_forward_pre_hook(lambda layer, inputs: keep(layer, inputs[0]))
        )
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        for layer in plain:
            del layer.__dict__["forward"]


def _forward(
    layer: BatchNorm, keep: Callable[[BatchNorm, Tensor], None]
) -> Callable[[Tensor], Tensor]:
    """The layer's function, with its gain and shift computed once."""
    assert layer.running_mean is not None and layer.running_var is not None
    scale = (layer.running_var + layer.eps).rsqrt()
    gain = scale if layer.weight is None else scale * layer.weight.detach()
    bias = torch.zeros_like(gain) if layer.bias is None else layer.bias.detach()
    shift = torch.addcmul(
        bias, layer.running_mean, gain, value=-1
    )  # rounded as torch's own kernel does

    def forward(x: Tensor) -> Tensor:
        shape = (-1, *[1] * (x.dim() - 2))
        y, same = _Affine.apply(x, gain.view(shape), shift.view(shape))
        keep(layer, same)
        out: Tensor = y
        return out

    return forward
