"""Quantized layers: subclasses of torch's own, so that parameter names and float checkpoints keep
working.

In training (``layer.training``) values are fake-quantized and gradients flow. In evaluation a layer
that reads a quantized activation convolves integer codes, whose sums are exact in any order, and
scales afterwards; a layer that reads floats works in float64. Either way an image's codes do not
depend on the batch it came in (docs/decisions/0005).
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dynadfq.quant.bits import BitAllocation
from dynadfq.quant.fake_quantize import FakeQuantize
from dynadfq.quant.quantize import (
    Granularity,
    QParams,
    choose_qparams,
    fake_quantize_weight,
    levels,
    quantize,
    quantize_weight,
    weight_qparams,
)

EXACT_IN_FLOAT32 = 2.0**24  # integers up to here, and all their sums, are exact
WIDEST_ACTIVATION = 8  # bits

Layer = TypeVar("Layer", bound="QuantizedLayer")


class QuantizedLayer(nn.Module):
    """What quantized convolutions and linear layers share: weights on a grid, and exact evaluation.

    There is a grid an output channel, or one a tensor (``granularity``). It follows the weights'
    extremes at every forward pass until ``freeze_weight`` fixes it; a fixed one is part of the
    layer's state.
    """

    weight: Tensor
    bias: Tensor | None
    weight_bits: int
    granularity: Granularity
    quantizing: bool
    weight_scale: Tensor | None  # (out or 1, 1, …) of a fixed grid
    weight_quant_min: Tensor | None  # (out or 1, 1, …), quant_min of a fixed grid
    channel_axis: int  # of the output

    @classmethod
    def from_float(
        cls: type[Layer], layer: nn.Module, weight_bits: int, granularity: Granularity = "channel"
    ) -> Layer:
        """Return a quantized layer that takes over the parameters of a float one."""
        quantized = cls.__new__(cls)
        quantized.__dict__.update(layer.__dict__)
        quantized.weight_bits, quantized.granularity, quantized.quantizing = (
            weight_bits,
            granularity,
            True,
        )
        quantized._buffers = {**layer._buffers, "weight_scale": None, "weight_quant_min": None}
        return quantized

    @property
    def frozen_qparams(self) -> QParams | None:
        """(scale, quant_min), (out or 1, 1, …) each, of a grid that is fixed; None while it follows
        the weights.
        """
        if self.weight_scale is None or self.weight_quant_min is None:
            return None
        return self.weight_scale, self.weight_quant_min

    @property
    def qparams(self) -> QParams:
        """(scale, quant_min) that the weight is on: the fixed grid, or the one of its own
        extremes.
        """
        return self.frozen_qparams or weight_qparams(
            self.weight, self.weight_bits, self.granularity
        )

    @property
    def values(self) -> Tensor:
        """The weight as evaluation uses it, (out, …): codes times their step, without a
        gradient.
        """
        codes, step = quantize_weight(self.weight, self.weight_bits, self.qparams)
        return codes * step

    @torch.no_grad()
    def freeze_weight(self, codes: Tensor, grid: QParams) -> None:
        """Set the weight to (out, …) codes on a grid, and fix the grid; the weight encodes to these
        codes again.
        """
        scale, quant_min = grid
        self.weight.copy_(codes * scale)
        self.weight_scale, self.weight_quant_min = (
            scale.detach().clone(),
            quant_min.detach().clone(),
        )

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """A state says by what it holds whether the grid is fixed; the layer follows."""
        for name in ("weight_scale", "weight_quant_min"):
            given = state_dict.get(prefix + name)
            self._buffers[name] = (
                None if given is None else torch.empty_like(given, device=self.weight.device)
            )
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """The layer's own product with another weight."""
        raise TypeError(f"{type(self).__name__} must say how it multiplies")

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """(B, …) input, and the (B or 1,) step it lies on when it comes from a quantized
        activation.
        """
        if not self.quantizing:
            return self.multiply(x, self.weight, self.bias)
        if self.training:
            return self.multiply(
                x, fake_quantize_weight(self.weight, self.weight_bits, self.qparams), self.bias
            )
        return self.in_float64(x).float() if scale is None else self._multiply_codes(x, scale)

    def in_float64(self, x: Tensor) -> Tensor:
        """(B, …) input that lies on no grid to the layer's output, computed in float64."""
        bias = None if self.bias is None else self.bias.double()
        return self.multiply(x.double(), self.values.double(), bias)

    def _multiply_codes(self, x: Tensor, scale: Tensor) -> Tensor:
        weight_codes, step = quantize_weight(self.weight, self.weight_bits, self.qparams)
        scale = scale.view(-1, *[1] * (x.dim() - 1))
        codes = torch.round(x / scale)
        largest_sum = (2.0**WIDEST_ACTIVATION - 1) * weight_codes.abs().flatten(1).sum(dim=1).max()
        dtype = torch.float32 if largest_sum < EXACT_IN_FLOAT32 else torch.float64
        # The sums are integers; rounding undoes what a Winograd or Fourier algorithm may have left
        # of an error.
        sums = self.multiply(codes.to(dtype), weight_codes.to(dtype), None).round().float()
        channels = [1] * sums.dim()
        channels[self.channel_axis] = -1
        y = sums * (scale.view(-1, *[1] * (sums.dim() - 1)) * step.view(channels))
        return y if self.bias is None else y + self.bias.view(channels)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, weight_bits={self.weight_bits}"


class QuantConv2d(QuantizedLayer, nn.Conv2d):
    """A convolution with quantized weights."""

    channel_axis = 1

    def multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        product: Tensor = self._conv_forward(x, weight, bias)
        return product


class QuantLinear(QuantizedLayer, nn.Linear):  # type: ignore[misc]  # torch takes Linear.bias to be never None
    """A linear layer with quantized weights."""

    channel_axis = -1

    def multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return nn.functional.linear(x, weight, bias)


class ActivationFakeQuantize(nn.Module):
    """One activation site: puts a tensor on its grid, at the width its image was allocated.

    Args:
        site: column of this site in a bit allocation.
        bits: width where no allocation arrives: of a fixed-width student, or of the sites before
            the bit selector.
    """

    low: Tensor
    high: Tensor

    def __init__(self, site: int, bits: int, learned_range: bool) -> None:
        super().__init__()
        self.site, self.bits = site, bits
        self.low = nn.Parameter(torch.zeros(()), requires_grad=learned_range)
        self.high = nn.Parameter(torch.ones(()), requires_grad=learned_range)
        self.quantizing = True
        self.observer: Any = None  # set inside `calibration.observing` alone

    def forward(
        self, x: Tensor, allocation: BitAllocation | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """(B, …) activations to their values on the grid and, in evaluation, the (B or 1,) step of
        each image.
        """
        if self.observer is not None:
            self.observer.update(x)
        if not self.quantizing:
            return x, None
        if self.training:
            return FakeQuantize.apply(
                x, self.low, self.high, *self._candidates(allocation, x)
            ), None
        bits = (
            x.new_full((1,), self.bits)
            if allocation is None
            else allocation.bits[:, self.site].detach().to(x)
        )
        scale, quant_min = choose_qparams(self.low, self.high, bits)
        shape = (-1, *[1] * (x.dim() - 1))
        step = scale.view(shape)
        codes = quantize(x, step, quant_min.view(shape), levels(bits).view(shape))
        return codes * step, scale

    def _candidates(self, allocation: BitAllocation | None, x: Tensor) -> tuple[Tensor, Tensor]:
        """Probabilities and widths, (B or 1, M) each; M is 1 where nothing is learned."""
        if allocation is None:
            return x.new_ones(1, 1), x.new_full((1, 1), self.bits)
        if allocation.probabilities is None or allocation.widths is None:
            widths = allocation.bits[:, self.site, None].detach().to(x)
            return torch.ones_like(widths), widths
        return allocation.probabilities[:, self.site], allocation.widths[None].to(x)

    def extra_repr(self) -> str:
        return f"site={self.site}, bits={self.bits}, range=[{self.low.item():.4g}, {self.high.item():.4g}]"
