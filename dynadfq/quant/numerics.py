"""Arithmetic of uniform quantization: integer codes, their values, and gradients through them.

A tensor with range [low, high] at b bits has ``levels = 2**b - 1`` steps of size ``scale = (high - low) / levels``.
Its codes are the integers ``lowest … lowest + levels`` with ``lowest = round(low / scale)``, so that 0.0 is always
code 0 (the zero point is ``-lowest``) and a value is ``scale * code``. With low = 0, as after every ReLU, this is
DynaDFQ, Eq. 2; else the grid is shifted by less than half a step.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

SMALLEST_RANGE = 1e-8

Grid = tuple[Tensor, Tensor]  # (scale, lowest code)
Granularity = Literal["channel", "tensor"]  # what shares a weight grid: an output channel, or the whole weight


def levels(bits: Tensor | int) -> Tensor:
    """Number of steps of a grid, ``2**bits - 1``, as a float tensor.

    >>> levels(torch.tensor([2, 8]))
    tensor([  3., 255.])
    """
    bits = torch.as_tensor(bits)
    return torch.exp2(bits if bits.is_floating_point() else bits.float()).round() - 1


def grid(low: Tensor, high: Tensor, bits: Tensor | int) -> Grid:
    """Return (scale, lowest code) of the range [low, high]; shapes broadcast.

    >>> scale, lowest = grid(torch.tensor(-0.5), torch.tensor(1.0), 3)
    >>> scale.item(), lowest.item()
    (0.2142857164144516, -2.0)
    """
    scale = (high - low).clamp(min=SMALLEST_RANGE) / levels(bits).to(low.device)
    return scale, torch.round(low / scale)


def encode(x: Tensor, scale: Tensor, lowest: Tensor, levels: Tensor) -> Tensor:
    """Nearest integer codes of x on a grid, in the float type of x; values outside take the outermost code."""
    return torch.minimum(torch.maximum(torch.round(x / scale), lowest), lowest + levels)


def fake_quantize_reference(x: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
    """Values of x on its grid, with straight-through gradients to x, low and high, written to be read.

    The tested reference of ``FakeQuantize``. Rounding has gradient 1; comparisons are strict and made on codes, so
    that the zeros of a ReLU, which lie exactly on the lower bound, pass their whole gradient to x (``clamp`` and
    ``maximum`` would share it).
    """

    def rounded(v: Tensor) -> Tensor:
        return v + (torch.round(v) - v).detach()

    n = levels(bits).to(x)
    scale = (high - low).clamp(min=SMALLEST_RANGE) / n
    lowest = rounded(low / scale)
    code = rounded(x / scale)
    code = torch.where(code < lowest, lowest, torch.where(code > lowest + n, lowest + n, code))
    return code * scale


class FakeQuantize(torch.autograd.Function):
    """Quantize each image at its most probable width; gradients are those of the blend Σ_m p_m q_m(x) (DynaDFQ, Eq. 9).

    The forward pass quantizes once. The backward pass recomputes the candidates, so that x is all that is kept for it.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, low: Tensor, high: Tensor, probabilities: Tensor, widths: Tensor) -> Tensor:
        """(B, …) values, scalar bounds, (B or 1, M) probabilities and widths in bits to (B, …) values on the grid."""
        ctx.save_for_backward(x, low, high, probabilities, widths)
        chosen = probabilities.argmax(dim=1, keepdim=True)
        bits = widths.expand_as(probabilities).gather(1, chosen) if widths.shape[1] > 1 else widths
        scale, lowest, n = _per_image(x, low, high, bits[:, 0])
        return encode(x, scale, lowest, n) * scale

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, low, high, probabilities, widths = ctx.saved_tensors
        to_x = torch.zeros_like(x)
        to_low, to_high = torch.zeros_like(low), torch.zeros_like(high)
        to_p = []
        for m in range(probabilities.shape[1]):
            scale, lowest, n = _per_image(x, low, high, widths[:, m])
            p = _expand(probabilities[:, m], x)
            v = x / scale
            code = encode(x, scale, lowest, n)
            inside = code == torch.round(v)
            weighted = grad * p
            to_x += weighted * inside
            by_scale = weighted * (code - torch.where(inside, v, low / scale))
            to_range = (by_scale / n).sum()
            to_high += to_range
            to_low += (weighted * ~inside).sum() - to_range
            to_p.append((grad * code * scale).flatten(1).sum(dim=1))
        gradient = torch.stack(to_p, dim=1) if ctx.needs_input_grad[3] else None
        return to_x, to_low, to_high, gradient, None


def _expand(per_image: Tensor, x: Tensor) -> Tensor:
    """(B,) to (B, 1, …) with as many axes as x."""
    return per_image.view(-1, *[1] * (x.dim() - 1))


def _per_image(x: Tensor, low: Tensor, high: Tensor, bits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Scale, lowest code and levels of each image, shaped to broadcast over x."""
    per_image = _expand(bits, x).to(x.dtype)
    scale, lowest = grid(low, high, per_image)
    return scale, lowest, levels(per_image).to(x)


def weight_grid(weight: Tensor, bits: int, granularity: Granularity = "channel") -> Grid:
    """Return (scale, lowest code) from the smallest and largest weight: of each output channel, or of all.

    Both are (out, 1, …) for a grid an output channel, (1, 1, …) for one grid.
    """
    flat = weight.detach().flatten(1) if granularity == "channel" else weight.detach().reshape(1, -1)
    shape = (-1, *[1] * (weight.dim() - 1))
    return grid(flat.amin(dim=1).view(shape), flat.amax(dim=1).view(shape), bits)


def encode_weight(weight: Tensor, bits: int, grid: Grid | None = None) -> tuple[Tensor, Tensor]:
    """Return (codes, scale) of a weight, one grid an output channel: integers (out, …) in float, and (out, 1, …).

    Without a ``grid``, it is that of the weight's own extremes.
    """
    scale, lowest = weight_grid(weight, bits) if grid is None else grid
    return encode(weight.detach(), scale, lowest, levels(bits).to(weight)), scale


def fake_quantize_weight(weight: Tensor, bits: int, grid: Grid | None = None) -> Tensor:
    """Weight values on the grid of ``encode_weight``; every weight passes its gradient on unchanged."""
    codes, scale = encode_weight(weight, bits, grid)
    return (codes * scale).detach() + (weight - weight.detach())
