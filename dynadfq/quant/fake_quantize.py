"""The activation quantizer of fine-tuning: the chosen candidate forward, the blend backward.

``dynadfq.quant.quantize.fake_quantize_reference`` is the readable form of one candidate; tests
blend it (DynaDFQ, Eq. 9) and compare. Here every pass works in place on a chunk of the batch that
stays in the cache, masks are numbers (arithmetic on booleans is several times slower on a CPU), and
all sums are of products with the incoming gradient (docs/performance.md has the measurements).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dynadfq.ops.moments import chunks
from dynadfq.quant.quantize import broadcast_first, choose_qparams, levels

Candidate = tuple[Tensor, Tensor, Tensor]  # scale, quant_min, quant_max, (B or 1, 1, …) each


class FakeQuantize(torch.autograd.Function):
    """Quantize each image at its most probable width, with the gradients of a blend of all widths.

    The blend is Σ_m p_m q_m(x) (DynaDFQ, Eq. 9). The forward pass quantizes once. The backward pass
    recomputes the candidates, so that only x is kept for it. Scales and sums are in the float type
    of the bounds, whatever the type of x.
    """

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, low: Tensor, high: Tensor, probabilities: Tensor, widths: Tensor
    ) -> Tensor:
        """Return the (B, …) quantized values of x.

        Args:
            ctx: autograd's context.
            x: (B, …) activations.
            low: lower bound of the range: () of all widths, (M,) of each candidate, or (B or 1, 1)
                of each image's only one.
            high: upper bound, of the same shape.
            probabilities: (B or 1, M) over the candidates.
            widths: (B or 1, M) candidate widths in bits.
        """
        widths = widths.to(low)
        ctx.save_for_backward(x, low, high, probabilities, widths)
        own_low, own_high, bits = low, high, widths
        if widths.shape[1] > 1:
            index = probabilities.argmax(dim=1, keepdim=True)
            own_low, own_high, bits = (
                _at(values, index, probabilities) for values in (low, high, widths)
            )
        (candidate,) = _candidates(own_low, own_high, bits, x.dim())
        out = torch.empty_like(x)
        for images in chunks(x):
            scale, quant_min, quant_max = _of_images(candidate, images)
            code = torch.div(x[images], scale).round_()
            torch.minimum(torch.maximum(code, quant_min, out=code), quant_max, out=code)
            torch.mul(code, scale, out=out[images])
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients to x, low, high and probabilities; widths have none."""
        x, low, high, probabilities, widths = ctx.saved_tensors
        candidates = _candidates(low, high, widths, x.dim())
        scale, _ = choose_qparams(low, high, widths)
        to_x, sums, by_grad = _inner_products(
            x, _with_layout_of(x, grad), probabilities, candidates
        )
        by_code, inside, inside_x = sums
        outside = by_grad - inside
        by_scale = by_code - inside_x / scale - outside * (low / scale)
        to_high = _sum_to(probabilities * by_scale / levels(widths), high)
        to_low = _sum_to(probabilities * outside, low) - to_high
        to_probabilities = by_code * scale if ctx.needs_input_grad[3] else None
        return to_x, to_low, to_high, to_probabilities, None


class PassGradient(torch.autograd.Function):
    """Quantized values whose gradient reaches x as it is, clipped or not.

    Probabilities keep theirs (DynaDFQ, Eq. 9).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, values: Tensor) -> Tensor:
        """Return the quantized values."""
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        """Return the gradients to x and to the quantized values."""
        return grad, grad


def _at(values: Tensor, index: Tensor, probabilities: Tensor) -> Tensor:
    """The chosen of (M,) or (1, M) values, (B, 1); what all candidates share stays ()."""
    return values.expand_as(probabilities).gather(1, index) if values.dim() else values


def _sum_to(gradients: Tensor, bound: Tensor) -> Tensor:
    """Sum (B, M) gradients over what shares a bound."""
    return gradients.sum_to_size(bound.shape) if bound.dim() else gradients.sum()


def _candidates(low: Tensor, high: Tensor, widths: Tensor, dimensions: int) -> list[Candidate]:
    """The qparams of M candidates from (B or 1, M) widths."""
    scale, quant_min = choose_qparams(low, high, widths)
    quant_max = quant_min + levels(widths)
    return [
        (
            broadcast_first(scale[:, column], dimensions),
            broadcast_first(quant_min[:, column], dimensions),
            broadcast_first(quant_max[:, column], dimensions),
        )
        for column in range(widths.shape[1])
    ]


def _of_images(candidate: Candidate, images: slice) -> Candidate:
    """The qparams of a slice of images; qparams that all images share are not sliced."""
    scale, quant_min, quant_max = candidate
    if len(scale) == 1:
        return candidate
    return scale[images], quant_min[images], quant_max[images]


def _inner_products(
    x: Tensor, grad: Tensor, probabilities: Tensor, candidates: list[Candidate]
) -> tuple[Tensor, tuple[Tensor, ...], Tensor]:
    """The gradient to x, (B, …), and the sums that make up all other gradients.

    The sums are over the elements of an image, where g is the incoming gradient: (B, M) of
    g · code, of g where x is within the range, and of g · x there; and (B, 1) of g.
    """
    to_x = torch.empty_like(x)
    axes = tuple(range(1, x.dim()))
    weights = [
        broadcast_first(column, x.dim()) for column in probabilities.expand(len(x), -1).unbind(1)
    ]
    sums = []
    buffers: tuple[Tensor, ...] = ()
    for images in chunks(x):
        values = x[images].to(candidates[0][0])
        g = grad[images].to(candidates[0][0])
        buffers = buffers or (torch.empty_like(values), torch.empty_like(values))
        nearest, code = (buffer[: len(values)] for buffer in buffers)
        row: list[Tensor] = []
        for number, (candidate, weight) in enumerate(zip(candidates, weights, strict=True)):
            scale, quant_min, quant_max = _of_images(candidate, images)
            torch.div(values, scale, out=nearest).round_()
            torch.minimum(torch.maximum(nearest, quant_min, out=code), quant_max, out=code)
            inside = torch.eq(code, nearest, out=nearest).mul_(g)
            row.append(code.mul_(g).sum(axes))
            row.append(inside.sum(axes))
            row.append(torch.mul(inside, values, out=code).sum(axes))
            if number == 0:
                torch.mul(inside, weight[images], out=to_x[images])
            else:
                to_x[images].addcmul_(inside, weight[images])
        sums.append(torch.stack([*row, g.sum(axes)], dim=1))
    every = torch.cat(sums)
    return to_x, every[:, :-1].unflatten(1, (-1, 3)).unbind(2), every[:, -1:]


def _with_layout_of(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient in the memory layout of x, so that passes over both are sequential."""
    return grad if grad.stride() == x.stride() else torch.empty_like(x).copy_(grad)
