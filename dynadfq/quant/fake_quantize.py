"""The activation quantizer of fine-tuning: the chosen candidate forward, the blend backward.

``dynadfq.quant.quantize.fake_quantize_reference`` is the readable form of one candidate; tests
blend it (DynaDFQ, Eq. 9) and compare. Here every pass works in place on a chunk of the batch that
stays in the cache, masks are numbers (arithmetic on booleans is several times slower on a CPU), and
all sums are of products with the incoming gradient (docs/performance.md has the measurements).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dynadfq.ops.moments import chunks
from dynadfq.quant.quantize import SMALLEST_RANGE, broadcast_first, choose_qparams, levels


class Candidate(NamedTuple):
    """The qparams of one candidate width, (B or 1, 1, …) each.

    numbers: (quant_min, quant_max) where all images share them and no GPU has to be awaited.
    """

    scale: Tensor
    quant_min: Tensor
    quant_max: Tensor
    numbers: tuple[float, float] | None

    def of(self, images: slice) -> Candidate:
        """Return the qparams of a slice of images; what all images share is not sliced."""
        if len(self.scale) == 1:
            return self
        return Candidate(self.scale[images], self.quant_min[images], self.quant_max[images], None)

    def clip(self, codes: Tensor, out: Tensor) -> None:
        """Clip codes: between numbers in one pass over them, between tensors in two."""
        if self.numbers is None:
            torch.minimum(torch.maximum(codes, self.quant_min, out=out), self.quant_max, out=out)
        else:
            torch.clamp(codes, *self.numbers, out=out)


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
        scale, quant_min = choose_qparams(low, high, widths)
        qparams = [scale, quant_min, quant_min + levels(widths)]
        ctx.save_for_backward(x, low, high, probabilities, *qparams)
        if widths.shape[1] > 1:
            index = probabilities.argmax(dim=1, keepdim=True)
            qparams = [part.expand_as(probabilities).gather(1, index) for part in qparams]
        (candidate,) = _candidates(qparams, x.dim())
        out = torch.empty_like(x)
        for images in chunks(x):
            own = candidate.of(images)
            values = x[images].to(own.scale)
            code = out[images] if x.dtype == values.dtype else torch.empty_like(values)
            torch.div(values, own.scale, out=code).round_()
            own.clip(code, out=code)
            code.mul_(own.scale)
            if x.dtype != values.dtype:
                out[images].copy_(code)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients to x, low, high and probabilities; widths have none."""
        x, low, high, probabilities, *qparams = ctx.saved_tensors
        own_ranges = low.dim() == 1
        to_x, sums = _inner_products(
            x,
            _with_layout_of(x, grad),
            probabilities,
            _candidates(qparams, x.dim()),
            own_ranges,
            summed=any(ctx.needs_input_grad[1:4]),
        )
        if sums is None:
            return to_x, None, None, None, None
        by_code, passed, passed_x, by_grad = sums
        scale, quant_min, quant_max = qparams
        shares = probabilities if own_ranges else probabilities.sum(dim=1, keepdim=True)
        outside = shares * by_grad - passed
        by_size = (passed_x + outside * low) / (high - low).clamp(min=SMALLEST_RANGE)
        by_level = probabilities * by_code / (quant_max - quant_min)
        to_high = _sum_to(by_level, high) - _sum_to(by_size, high)
        to_low = _sum_to(outside, low) - to_high
        return to_x, to_low, to_high, by_code * scale, None


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


def _sum_to(gradients: Tensor, bound: Tensor) -> Tensor:
    """Sum (B, M) gradients over what shares a bound."""
    return gradients.sum_to_size(bound.shape) if bound.dim() else gradients.sum()


def _candidates(qparams: Sequence[Tensor], dimensions: int) -> list[Candidate]:
    """M candidates, from the (B or 1, M) scale, quant_min and quant_max of all."""
    return [
        Candidate(
            broadcast_first(scale, dimensions),
            broadcast_first(quant_min, dimensions),
            broadcast_first(quant_max, dimensions),
            _numbers(quant_min, quant_max),
        )
        for scale, quant_min, quant_max in zip(*(part.unbind(1) for part in qparams), strict=True)
    ]


def _numbers(quant_min: Tensor, quant_max: Tensor) -> tuple[float, float] | None:
    if len(quant_min) > 1 or quant_min.device.type != "cpu":
        return None
    return quant_min.item(), quant_max.item()


def _inner_products(
    x: Tensor,
    grad: Tensor,
    probabilities: Tensor,
    candidates: list[Candidate],
    own_ranges: bool,
    summed: bool,
) -> tuple[Tensor, Sequence[Tensor] | None]:
    """The gradient to x, (B, …), and the sums that make up all other gradients.

    Scale times levels is the size of the range. Therefore the gradient of a range that candidates
    share needs no sum of each, but only one of the gradient that all pass to x.

    Args:
        x: (B, …) activations.
        grad: the incoming gradient g, in the layout of x.
        probabilities: (B or 1, M) over the candidates.
        candidates: their qparams.
        own_ranges: whether each candidate has a range of its own.
        summed: whether sums are needed.

    Returns:
        The gradient to x, and None or sums over the elements of an image: (B, M) of g · code;
        (B, R) of what each of R ranges passes to x, and of that times x; and (B, 1) of g.
    """
    to_x = torch.empty_like(x)
    direct = x.dtype == candidates[0].scale.dtype
    axes = tuple(range(1, x.dim()))
    weights = probabilities.to(candidates[0].scale).expand(len(x), -1).unbind(1)
    weighted = [
        (candidate, broadcast_first(weight, x.dim()))
        for candidate, weight in zip(candidates, weights, strict=True)
    ]
    ranges = [[one] for one in weighted] if own_ranges else [weighted]
    sums = []
    buffers: list[Tensor] = []
    for images in chunks(x):
        values = x[images].to(candidates[0].scale)
        g = grad[images].to(values)
        needed = 2 + own_ranges + (not direct)
        buffers = buffers or [torch.empty_like(values) for _ in range(needed)]
        nearest, code, *others = (buffer[: len(values)] for buffer in buffers)
        total = to_x[images] if direct else others[-1]
        by_code: list[Tensor] = []
        by_range: list[Tensor] = []
        for number, members in enumerate(ranges):
            passed = others[0] if number else total
            for member, (candidate, weight) in enumerate(members):
                own = candidate.of(images)
                torch.div(values, own.scale, out=nearest).round_()
                own.clip(nearest, out=code)
                inside = torch.eq(code, nearest, out=nearest)
                if member == 0:
                    torch.mul(inside, weight[images], out=passed)
                else:
                    passed.addcmul_(inside, weight[images])
                if summed:
                    by_code.append(code.mul_(g).sum(axes))
            passed.mul_(g)
            if number:
                total.add_(passed)
            if summed:
                by_range += [passed.sum(axes), torch.mul(passed, values, out=code).sum(axes)]
        if not direct:
            to_x[images].copy_(total)
        if summed:
            row = [*by_code, *by_range[::2], *by_range[1::2], g.sum(axes)]
            sums.append(torch.stack(row, dim=1))
    counts = [len(weighted), len(ranges), len(ranges), 1]
    return to_x, torch.cat(sums).split(counts, dim=1) if summed else None


def _with_layout_of(x: Tensor, grad: Tensor) -> Tensor:
    """The gradient in the memory layout of x, so that passes over both are sequential."""
    return grad if grad.stride() == x.stride() else torch.empty_like(x).copy_(grad)
