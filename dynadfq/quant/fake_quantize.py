"""The quantizer of fine-tuning: one step of the grid forward, gradients of all candidates backward.

``dynadfq.quant.quantize.fake_quantize_reference`` is the readable form of one candidate; tests blend
it (DynaDFQ, Eq. 9) and compare. Here every pass works in place on a piece of the batch that stays
in the cache, masks are numbers (arithmetic on booleans is several times slower on a CPU), and all
sums are of products with the incoming gradient: docs/performance.md says what that brought.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dynadfq.ops.moments import chunks
from dynadfq.quant.quantize import choose_qparams, levels


class FakeQuantize(torch.autograd.Function):
    """Quantize each image at its most probable width; gradients are those of the blend Σ_m p_m
    q_m(x) (DynaDFQ, Eq. 9).

    The forward pass quantizes once. The backward pass recomputes the candidates, so that x is all
    that is kept for it. Steps and sums are in the float type of the bounds, whatever that of x is.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, low: Tensor, high: Tensor, probabilities: Tensor, widths: Tensor
    ) -> Tensor:
        """(B, …) values, scalar bounds, (B or 1, M) probabilities and widths in bits to (B, …)
        values on the grid.
        """
        widths, chosen = widths.to(low), probabilities.argmax(dim=1, keepdim=True)
        ctx.save_for_backward(x, low, high, probabilities, widths)
        bits = widths.expand_as(probabilities).gather(1, chosen) if widths.shape[1] > 1 else widths
        (candidate,), out = _candidates(low, high, bits, x.dim()), torch.empty_like(x)
        for images in chunks(x):
            scale, quant_min, highest = candidate.of(images)
            code = torch.div(x[images], scale).round_()
            torch.minimum(torch.maximum(code, quant_min, out=code), highest, out=code)
            torch.mul(code, scale, out=out[images])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, low, high, probabilities, widths = ctx.saved_tensors
        candidates, scale = (
            _candidates(low, high, widths, x.dim()),
            choose_qparams(low, high, widths)[0],
        )
        to_x, sums = _inner_products(x, _laid_out_as(grad, x), probabilities, candidates)
        outside = sums.grad - sums.inside
        by_scale = sums.code - sums.inside_x / scale - outside * (low / scale)
        to_high = (probabilities * by_scale / levels(widths)).sum()
        to_low = (probabilities * outside).sum() - to_high
        return to_x, to_low, to_high, sums.code * scale if ctx.needs_input_grad[3] else None, None


class _Candidate(NamedTuple):
    """One width's grid, (B or 1, 1, …) each: its step, and its codes from ``quant_min`` to
    ``highest``.
    """

    scale: Tensor
    quant_min: Tensor
    highest: Tensor

    def of(self, images: slice) -> tuple[Tensor, ...]:
        """The grid of some images."""
        return self if len(self.scale) == 1 else tuple(values[images] for values in self)


class _Sums(NamedTuple):
    """Sums over the elements of an image, where g is the incoming gradient: (B, M), the last (B,
    1).
    """

    code: Tensor  # g · code
    inside: Tensor  # g where the code is the nearest integer
    inside_x: Tensor  # g · x there
    grad: Tensor  # g


def _candidates(low: Tensor, high: Tensor, widths: Tensor, dimensions: int) -> list[_Candidate]:
    """The M grids of (B or 1, M) widths."""
    scale, quant_min = choose_qparams(low, high, widths)
    columns = zip(
        *(_columns(t, dimensions) for t in (scale, quant_min, quant_min + levels(widths))),
        strict=True,
    )
    return [_Candidate(*column) for column in columns]


def _columns(values: Tensor, dimensions: int) -> list[Tensor]:
    """(B or 1, M) to M times (B or 1, 1, …)."""
    return [column.view(-1, *[1] * (dimensions - 1)) for column in values.unbind(1)]


def _inner_products(
    x: Tensor, grad: Tensor, probabilities: Tensor, candidates: list[_Candidate]
) -> tuple[Tensor, _Sums]:
    """Gradient to x, (B, …), and the sums that all other gradients are made of."""
    to_x, axes, sums = torch.empty_like(x), tuple(range(1, x.dim())), []
    weights = _columns(probabilities.expand(len(x), -1), x.dim())
    room: tuple[Tensor, ...] = ()
    for images in chunks(x):
        values, g = (t[images].to(candidates[0].scale) for t in (x, grad))
        room = room or (torch.empty_like(values), torch.empty_like(values))
        nearest, code = (t[: len(values)] for t in room)
        into, row = to_x[images], list[Tensor]()
        for number, (candidate, weight) in enumerate(zip(candidates, weights, strict=True)):
            scale, quant_min, highest = candidate.of(images)
            torch.div(values, scale, out=nearest).round_()
            torch.minimum(torch.maximum(nearest, quant_min, out=code), highest, out=code)
            inside = torch.eq(code, nearest, out=nearest).mul_(g)
            row += [
                code.mul_(g).sum(axes),
                inside.sum(axes),
                torch.mul(inside, values, out=code).sum(axes),
            ]
            torch.mul(inside, weight[images], out=into) if number == 0 else into.addcmul_(
                inside, weight[images]
            )
        sums.append(torch.stack([*row, g.sum(axes)], dim=1))
    every = torch.cat(sums)
    by_code, inside, inside_x = every[:, :-1].unflatten(1, (-1, 3)).unbind(2)
    return to_x, _Sums(by_code, inside, inside_x, every[:, -1:])


def _laid_out_as(grad: Tensor, x: Tensor) -> Tensor:
    """The same values in the memory layout of x, so that passes over both are sequential."""
    return grad if grad.stride() == x.stride() else torch.empty_like(x).copy_(grad)
