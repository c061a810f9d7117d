"""Operators of their own, which an export writes as ONNX's ``QuantizeLinear``/``DequantizeLinear``.

In torch they compute on values. In the file each is the pairs around a product that engines merge
into an integer kernel: int8 weights and int32 biases with one scale per output channel, and
activations as unsigned bytes with one scale and zero point, which are scalars.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dynadfq.export.products import Geometry, convolve

BYTE = 255  # largest code of 8 bits


def _operator(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Make a function an operator of torch, which an exported program calls as a whole."""
    operator = torch.library.custom_op(f"dynadfq::{function.__name__}", function, mutates_args=())
    operator.register_fake(function)
    return operator


@_operator
def fake_quantize(x: Tensor, scale: float, zero_point: int, largest: int) -> Tensor:
    """Return the values of the nearest codes in 0 … largest, of the shape of x.

    Args:
        x: (B, …) activations.
        scale: of one step.
        zero_point: the code of 0.0.
        largest: the largest code, 255 at 8 bits.
    """
    return (torch.round(x / scale) + zero_point).clamp(0, largest).sub(zero_point) * scale


@_operator
def convolution(
    x: Tensor,
    codes: Tensor,
    scale: Tensor,
    bias: Tensor,
    bias_scale: Tensor,
    stride: list[int],
    pads: list[int],
    dilation: list[int],
    groups: int,
) -> Tensor:
    """Return the (B, out, H', W') convolution of (B, C, H, W) with quantized weights.

    Args:
        x: activations.
        codes: (out, C / groups, h, w) int8.
        scale: (out,) scale of the codes.
        bias: (out,) int32.
        bias_scale: (out,) scale of the bias.
        stride: vertical, horizontal.
        pads: with zeros: left, right, top, bottom.
        dilation: vertical, horizontal.
        groups: of channels.
    """
    left, right, top, bottom = pads
    around = (left, right, top, bottom)
    geometry = Geometry(
        (stride[0], stride[1]), (dilation[0], dilation[1]), groups, around, "constant"
    )
    sums = convolve(x, codes * scale.view(-1, 1, 1, 1), geometry)
    return sums + (bias * bias_scale).view(-1, 1, 1)


@_operator
def product(x: Tensor, codes: Tensor, scale: Tensor, bias: Tensor, bias_scale: Tensor) -> Tensor:
    """Return the (B, …, out) product of (B, …, features) with quantized weights.

    Args:
        x: activations.
        codes: (features, out) int8.
        scale: (out,) scale of the codes.
        bias: (out,) int32.
        bias_scale: (out,) scale of the bias.
    """
    return x @ (codes * scale) + bias * bias_scale


def translations() -> dict[Callable[..., Any], Callable[..., Any]]:
    """Return the translations of the operators, and of pools, for ``torch.onnx.export``."""
    import onnx_ir
    import onnxscript

    op: Any = onnxscript.opset21

    def scalar(value: float, dtype: type) -> Any:
        return op.Constant(value=onnx_ir.tensor(np.array(value, dtype)))

    def quantized(x: Any, scale: float, zero_point: int, largest: int) -> Any:
        step, zero = scalar(scale, np.float32), scalar(zero_point, np.uint8)
        codes = op.QuantizeLinear(x, step, zero)
        if largest < BYTE:
            codes = op.Clip(codes, scalar(0, np.uint8), scalar(largest, np.uint8))
        return op.DequantizeLinear(codes, step, zero)

    def weight_and_bias(
        codes: Any, scale: Any, bias: Any, bias_scale: Any, axis: int
    ) -> tuple[Any, Any]:
        # Without a zero point of its own, onnxruntime does not merge it into QGemm.
        zero = op.Constant(value=onnx_ir.tensor(np.zeros(codes.shape[axis], np.int8)))
        weight = op.DequantizeLinear(codes, scale, zero, axis=axis)
        return weight, op.DequantizeLinear(bias, bias_scale, axis=0)

    def convolved(
        x: Any,
        codes: Any,
        scale: Any,
        bias: Any,
        bias_scale: Any,
        stride: Any,
        pads: Any,
        dilation: Any,
        groups: int,
    ) -> Any:
        left, right, top, bottom = pads
        inputs = (x, *weight_and_bias(codes, scale, bias, bias_scale, axis=0))
        around = [top, left, bottom, right]
        return op.Conv(*inputs, dilations=dilation, group=groups, pads=around, strides=stride)

    def multiplied(x: Any, codes: Any, scale: Any, bias: Any, bias_scale: Any) -> Any:
        weight, shift = weight_and_bias(codes, scale, bias, bias_scale, axis=1)
        if len(x.shape) == 2:
            return op.Gemm(x, weight, shift)
        return op.Add(op.MatMul(x, weight), shift)

    def averaged(x: Any, dim: Any, keepdim: bool = False, dtype: int = -1) -> Any:
        if len(x.shape) == 4 and {axis % 4 for axis in dim} == {2, 3}:
            pooled = op.GlobalAveragePool(x)
            return pooled if keepdim else op.Flatten(pooled)
        return op.ReduceMean(x, op.Constant(value_ints=list(dim)), keepdims=int(keepdim))

    return {
        torch.ops.dynadfq.fake_quantize.default: quantized,
        torch.ops.dynadfq.convolution.default: convolved,
        torch.ops.dynadfq.product.default: multiplied,
        torch.ops.aten.mean.dim: averaged,
    }
