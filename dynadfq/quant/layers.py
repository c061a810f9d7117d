"""Quantized layers: subclasses of torch's layers that keep parameter names and float checkpoints.

In training (``layer.training``) values are fake-quantized and gradients flow. In evaluation a layer
that reads a quantized activation convolves integer codes, whose sums are exact in any order, and
scales afterwards; a layer that reads floats computes in float64. Either way an image's codes do not
depend on its batch (docs/decisions/0005). Where no activation has codes, layers compute in float32,
as the float network's do.
"""

from __future__ import annotations

from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dynadfq.ops.batch_norm import AnyBatchNorm, gain_and_shift
from dynadfq.quant.config import Granularity
from dynadfq.quant.quantize import (
    QParams,
    broadcast_first,
    fake_quantize_weight,
    quantize_weight,
    weight_levels,
    weight_qparams,
)

EXACT_IN_FLOAT32 = 2.0**24  # integers below this, and their sums, are exact
WIDEST_ACTIVATION = 8  # bits
LARGEST_BIAS = 2.0**30  # in units of the sums; the other half of int32 is left for the sums

Layer = TypeVar("Layer", bound="QuantizedLayer")


class QuantizedLayer(nn.Module):
    """Base of quantized convolutions and linear layers: quantized weights and exact evaluation.

    The weight's qparams, one pair per output channel or per tensor (``granularity``), follow its
    extremes at every forward pass until ``freeze_weight`` fixes them; frozen qparams are part of
    the layer's state.
    """

    weight: Tensor
    bias: Tensor | None
    weight_bits: int
    granularity: Granularity
    symmetric: bool  # codes are symmetric around 0
    exact: bool  # evaluation computes in float64 what it reads as floats
    norm: AnyBatchNorm | None  # of scheme "integer": the one that alone reads it; no submodule
    quantizing: bool
    weight_scale: Tensor | None  # (out or 1, 1, …), of a frozen weight
    weight_quant_min: Tensor | None  # (out or 1, 1, …), of a frozen weight
    channel_axis: int  # of the output

    @classmethod
    def from_float(
        cls: type[Layer],
        layer: nn.Module,
        weight_bits: int,
        granularity: Granularity = "channel",
        symmetric: bool = False,
        exact: bool = True,
    ) -> Layer:
        """Return a quantized layer that takes over the parameters of a float one."""
        quantized = cls.__new__(cls)
        quantized.__dict__.update(layer.__dict__)
        quantized.weight_bits = weight_bits
        quantized.granularity = granularity
        quantized.symmetric = symmetric
        quantized.exact = exact
        quantized.__dict__["norm"] = None
        quantized.quantizing = True
        quantized._buffers = {**layer._buffers, "weight_scale": None, "weight_quant_min": None}
        return quantized

    @property
    def frozen_qparams(self) -> QParams | None:
        """(scale, quant_min) of a frozen weight, (out or 1, 1, …) each; else None."""
        if self.weight_scale is None or self.weight_quant_min is None:
            return None
        return self.weight_scale, self.weight_quant_min

    @property
    def qparams(self) -> QParams:
        """(scale, quant_min) of the weight: the frozen ones, or those of its extremes."""
        return self.frozen_qparams or weight_qparams(
            self.weight, self.weight_bits, self.granularity, self.symmetric
        )

    @property
    def weight_levels(self) -> Tensor:
        """The largest code of the weight minus the smallest."""
        return weight_levels(self.weight_bits, self.symmetric)

    def weight_codes(self) -> tuple[Tensor, Tensor]:
        """Return the codes of the weight, integers (out, …) in float, and their scale."""
        return quantize_weight(self.weight, self.weight_bits, self.qparams, self.symmetric)

    @property
    def quantized_weight(self) -> Tensor:
        """The (out, …) quantized values of the weight, without a gradient."""
        codes, scale = self.weight_codes()
        return codes * scale

    @torch.no_grad()
    def freeze_weight(self, codes: Tensor, qparams: QParams) -> None:
        """Set the weight to the values of codes, and freeze its qparams.

        Quantizing the weight again gives the same codes.

        Args:
            codes: (out, …) integers.
            qparams: (scale, quant_min), (out or 1, 1, …) each.
        """
        scale, quant_min = qparams
        self.weight.copy_(codes * scale)
        self.weight_scale = scale.detach().clone()
        self.weight_quant_min = quant_min.detach().clone()

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *rest: Any) -> None:
        """Freeze the weight if the state has qparams; unfreeze it if not."""
        for name in ("weight_scale", "weight_quant_min"):
            given = state_dict.get(prefix + name)
            self._buffers[name] = (
                None if given is None else torch.empty_like(given, device=self.weight.device)
            )
        super()._load_from_state_dict(state_dict, prefix, *rest)

    def multiply(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Return the layer's product with another weight."""
        raise NotImplementedError(f"{type(self).__name__} must implement multiply")

    def forward(self, x: Tensor, scale: Tensor | None = None) -> Tensor:
        """Return the layer's output.

        Args:
            x: (B, …) input.
            scale: (B or 1,) scale of the input where it is a quantized activation.
        """
        if not self.quantizing:
            return self.multiply(x, self.weight, self.bias)
        if self.training:
            weight = fake_quantize_weight(
                self.weight, self.weight_bits, self.qparams, self.symmetric
            )
            return self.multiply(x, weight, self.rounded_bias(scale))
        if scale is None and not self.exact:
            return self.multiply(x, self.quantized_weight, self.bias)
        if scale is None:
            return self.in_float64(x).float()
        return self._multiply_codes(x, scale)

    def in_float64(self, x: Tensor) -> Tensor:
        """Return the output for a (B, …) float input, computed in float64."""
        bias = None if self.bias is None else self.bias.double()
        return self.multiply(x.double(), self.quantized_weight.double(), bias)

    def _multiply_codes(self, x: Tensor, scale: Tensor) -> Tensor:
        weight_codes, weight_scale = self.weight_codes()
        codes = torch.round(x / broadcast_first(scale, x.dim()))
        largest_sum = (2.0**WIDEST_ACTIVATION - 1) * weight_codes.abs().flatten(1).sum(dim=1).max()
        dtype = torch.float32 if largest_sum < EXACT_IN_FLOAT32 else torch.float64
        # The sums are integers; rounding removes the error of a Winograd or Fourier algorithm.
        sums = self.multiply(codes.to(dtype), weight_codes.to(dtype), None).round().float()
        channels = [1] * sums.dim()
        channels[self.channel_axis] = -1
        y = sums * (broadcast_first(scale, sums.dim()) * weight_scale.view(channels))
        bias = self.rounded_bias(scale)
        return y if bias is None else y + bias.view(channels)

    def rounded_bias(self, scale: Tensor | None) -> Tensor | None:
        """Return the bias with which the BatchNorm's output is offset by whole units of the sums.

        Asymmetric weights, and inputs with a scale per image, have the bias as it is. The gradient
        goes straight through.

        Args:
            scale: (B or 1,) scale of the input.
        """
        if scale is None or len(scale) != 1 or not self.symmetric:
            return self.bias
        with torch.no_grad():
            gain = self.qparams[0].double().flatten()
            factor, shift = gain.new_ones(()), gain.new_zeros(len(self.weight))
            if self.bias is not None:
                shift = self.bias.double()
            if self.norm is not None:
                factor, offset = gain_and_shift(self.norm)
                shift = shift * factor + offset
            step = scale.double() * (gain * factor.abs())
            fits = shift.abs() < LARGEST_BIAS * step
            whole = torch.round(shift / step) * step
            error = torch.where(fits, (whole - shift) / factor, 0.0).to(self.weight)
        return error if self.bias is None else self.bias + error

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
