"""Integer products as operators of their own, which an export writes as ONNX's ``ConvInteger`` and
``MatMulInteger``.

In torch they compute the same sums in float32. Codes are shifted by one zero point, that of the
widest candidate, so that those of all widths are unsigned bytes; ONNX subtracts it again, also from
what it pads with.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn

from dynadfq.export.multiply import CodeLayer, scaled
from dynadfq.export.products import Geometry, convolve

INT8 = range(-128, 128)


@torch.library.custom_op("dynadfq::integer_convolution", mutates_args=())
def integer_convolution(
    codes: Tensor,
    weight: Tensor,
    zero_point: int,
    stride: list[int],
    pads: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """(B, C, H, W) codes in float32 with an (out, …) int8 weight to exact (B, out, H', W') sums in
    float32.
    """
    left, right, top, bottom = pads
    geometry = Geometry(
        _two(stride), _two(dilation), groups, (left, right, top, bottom), "constant"
    )
    return convolve(codes, weight.float(), geometry).round()


@integer_convolution.register_fake
def _(
    codes: Tensor,
    weight: Tensor,
    zero_point: int,
    stride: Any,
    pads: Any,
    dilation: Any,
    groups: int,
) -> Tensor:
    left, right, top, bottom = pads
    geometry = Geometry(
        _two(stride), _two(dilation), groups, (left, right, top, bottom), "constant"
    )
    return convolve(codes, weight.float(), geometry)


@torch.library.custom_op("dynadfq::integer_product", mutates_args=())
def integer_product(codes: Tensor, weight: Tensor, zero_point: int) -> Tensor:
    """(B, features) codes in float32 with a (features, out) int8 weight to exact (B, out) sums in
    float32.
    """
    return torch.matmul(codes, weight.float()).round()


@integer_product.register_fake
def _(codes: Tensor, weight: Tensor, zero_point: int) -> Tensor:
    return torch.matmul(codes, weight.float())


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the translations of the two operators for ``torch.onnx.export``."""
    op: Any = importlib.import_module("onnxscript").opset21

    def convolution(
        codes: Any, weight: Any, zero_point: int, stride: Any, pads: Any, dilation: Any, groups: int
    ) -> Any:
        left, right, top, bottom = pads
        shifted = op.Cast(op.Add(codes, op.Constant(value_float=float(zero_point))), to=2)  # uint8
        shift = op.Cast(op.Constant(value_float=float(zero_point)), to=2)
        around = [top, left, bottom, right]
        sums = op.ConvInteger(
            shifted, weight, shift, dilations=dilation, group=groups, pads=around, strides=stride
        )
        return op.Cast(sums, to=1)  # float32

    def product(codes: Any, weight: Any, zero_point: int) -> Any:
        shifted = op.Cast(op.Add(codes, op.Constant(value_float=float(zero_point))), to=2)
        shift = op.Cast(op.Constant(value_float=float(zero_point)), to=2)
        # Without the rounding, onnxruntime would merge the multiplier behind it into the product,
        # as if one image's step were that of all.
        return op.Round(op.Cast(op.MatMulInteger(shifted, weight, shift), to=1))

    return {
        torch.ops.dynadfq.integer_convolution.default: convolution,
        torch.ops.dynadfq.integer_product.default: product,
    }


class IntegerLayer(nn.Module):
    """A ``CodeLayer`` whose sums are one of the operators above."""

    weight: Tensor

    def __init__(self, layer: CodeLayer) -> None:
        super().__init__()
        signed = layer.weight.signed(torch.float32).to(torch.int8)
        self.register_buffer("weight", signed if layer.geometry else signed.T.contiguous())
        self.geometry, self.zero_point = layer.geometry, -layer.codes[0]
        self.layer = layer

    def forward(self, codes: Tensor, step: Tensor) -> Tensor:
        """As ``CodeLayer.forward``."""
        return scaled(self.sums(codes), step, self.layer.gain, self.layer.shift)

    def sums(self, codes: Tensor) -> Tensor:
        """The exact accumulators."""
        if self.geometry is None:
            sums: Tensor = integer_product(codes, self.weight, self.zero_point)
            return sums
        stride, dilation, groups, pads, _ = self.geometry
        sums = integer_convolution(
            codes, self.weight, self.zero_point, list(stride), list(pads), list(dilation), groups
        )
        return sums


def with_integer_products(network: fx.GraphModule) -> list[str]:
    """Replace layers by such with integer products, in place; returns the names of those that
    cannot be.
    """
    kept = []
    for name, layer in list(network.named_modules()):
        if isinstance(layer, CodeLayer):
            if _fits(layer):
                network.set_submodule(name, IntegerLayer(layer))
            else:
                kept.append(name)
    return kept


def _fits(layer: CodeLayer) -> bool:
    weight, (quant_min, highest) = layer.weight.signed(torch.float64), layer.codes
    unsigned = -255 <= quant_min <= 0 and highest - quant_min <= 255
    zeros = layer.geometry is None or layer.geometry.padding_mode == "constant"
    return bool(unsigned and zeros and weight.min() >= INT8[0] and weight.max() <= INT8[-1])


def _two(values: list[int]) -> tuple[int, int]:
    first, second = values
    return first, second
