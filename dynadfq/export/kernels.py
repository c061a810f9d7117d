"""Products of codes by oneDNN's 8-bit kernels: unsigned bytes times signed bytes, exact sums as
float32.

The kernels come with torch and run on x86 CPUs. Those without VNNI add pairs of products in 16
bits, which saturate: a layer is exact there only if (2^a - 1) · 2 · max|w| ≤ 32767. Beyond that
rule, each layer is tried before it is used.
"""

from __future__ import annotations

import platform

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from dynadfq.export.multiply import CodeLayer, scaled
from dynadfq.export.products import Geometry
from dynadfq.runtime.timing import interleaved

BYTE, SIGNED_BYTE, SIXTEEN_BITS = 255, range(-128, 128), 32767
POINTWISE = Geometry((1, 1), (1, 1), 1, (0, 0, 0, 0), "constant")
SLOWER = 1.5  # times the product of floats: a grouped kernel beyond that is none to use
RUNS = 3


def unavailable() -> str:
    """Why this machine or this torch has no such kernels; empty where it has."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return f"torch has 8-bit kernels for x86 CPUs, and this one is {platform.machine()}"
    if not torch.backends.mkldnn.is_available():
        return "this torch was built without oneDNN"
    missing = [
        name
        for name in ("qconv_prepack", "qconv2d_pointwise")
        if not hasattr(torch.ops.onednn, name)
    ]
    return f"torch {torch.__version__} has no onednn::{missing[0]}" if missing else ""


class ByteProduct(nn.Module):
    """A convolution of bytes, its weight packed for one zero point.

    Args:
        weight: (out, in / groups, h, w) int8.
        zero_point: the byte that stands for 0.0 in the input, and that it is padded with.
        shape: (B, C, H, W) of an input; others work too.
    """

    packed: Tensor
    ones: Tensor
    zeros: Tensor

    def __init__(
        self, weight: Tensor, geometry: Geometry, zero_point: int, shape: tuple[int, ...]
    ) -> None:
        super().__init__()
        left, right, top, bottom = geometry.pads
        even = (left, top) == (right, bottom)
        self.around, self.padding = (
            ([0] * 4, [top, left]) if even else (list(geometry.pads), [0, 0])
        )
        self.stride, self.dilation = list(geometry.stride), list(geometry.dilation)
        self.groups, self.zero_point = geometry.groups, zero_point
        self.register_buffer("ones", torch.ones(len(weight)))
        self.register_buffer("zeros", torch.zeros(len(weight), dtype=torch.int32))
        padded = F.pad(torch.empty(shape, device="meta"), self.around).shape
        fixed = (self.stride, self.padding, self.dilation, self.groups, list(padded))
        self.packed = torch.ops.onednn.qconv_prepack(weight, self.ones, 1.0, zero_point, *fixed)

    def forward(self, codes: Tensor) -> Tensor:
        """(B, C, H, W) bytes to exact (B, out, H', W') sums in float32, channels last."""
        if any(self.around):
            codes = F.pad(codes, self.around, value=self.zero_point)
        sums: Tensor = torch.ops.onednn.qconv2d_pointwise(
            codes.contiguous(memory_format=torch.channels_last), 1.0, self.zero_point,
            self.packed, self.ones, self.zeros, None, self.stride, self.padding, self.dilation,
            self.groups, 1.0, 0, torch.float32, "none", [], "",
        )  # fmt: skip
        return sums


class ByteLayer(nn.Module):
    """A ``CodeLayer`` that reads bytes and sums them by a kernel. A linear layer is a convolution
    of one pixel.

    ``zero_point`` is the byte of code 0, that of the widest candidate, so that one batch may mix
    widths.
    """

    gain: Tensor
    shift: Tensor

    def __init__(self, layer: CodeLayer, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.linear, self.zero_point = layer.geometry is None, -layer.codes[0]
        self.register_buffer("gain", layer.gain)
        self.register_buffer("shift", layer.shift)
        weight = layer.weight.signed(torch.float32).to(torch.int8)
        if layer.geometry is None:
            weight, shape = weight[..., None, None], (shape[0], shape[-1], 1, 1)
        self.product = ByteProduct(weight, layer.geometry or POINTWISE, self.zero_point, shape)

    def forward(self, codes: Tensor, step: Tensor) -> Tensor:
        """(B, …) bytes and the step they lie on to (B, out, …) values, as ``CodeLayer.forward``
        does.
        """
        return scaled(self.sums(codes), step, self.gain, self.shift)

    def sums(self, codes: Tensor) -> Tensor:
        """The exact accumulators, whole numbers in float32."""
        if not self.linear:
            sums: Tensor = self.product(codes)
            return sums
        pixels: Tensor = self.product(codes.reshape(-1, codes.shape[-1], 1, 1))
        return pixels.reshape(*codes.shape[:-1], -1)


def byte_layer(layer: CodeLayer, shape: tuple[int, ...]) -> tuple[ByteLayer | None, str]:
    """A layer on an 8-bit kernel where that is exact, and no slower, on this machine; else None and
    the reason.

    ``shape`` is that of one image's input, (1, …).
    """
    if reason := _unfit(layer):
        return None, reason
    try:
        fast = ByteLayer(layer, shape)
        wrong = [
            name
            for name, codes in extreme_codes(layer, shape).items()
            if not _exact(layer, fast, codes)
        ]
        slower = (
            _slowdown(layer, fast, shape) if layer.geometry and layer.geometry.groups > 1 else 0.0
        )
    except (RuntimeError, TypeError) as error:  # a torch whose operator takes other arguments
        return None, f"the kernel refuses it: {str(error).strip().splitlines()[0]}"
    if wrong:
        return None, f"the kernel's sums of {', '.join(wrong)} codes are not exact on this CPU"
    if layer.geometry and slower > SLOWER:
        groups = layer.geometry.groups
        return None, f"the kernel for {groups} groups takes {slower:.1f} times as long"
    return fast, ""


def extreme_codes(layer: CodeLayer, shape: tuple[int, ...]) -> dict[str, Tensor]:
    """Bytes of ``shape`` that a kernel is tried on, by name.

    A pair of products is largest where all codes are: what saturates on any codes does so on these,
    unless two errors cancel.
    """
    largest = layer.codes[1] - layer.codes[0]
    number = torch.arange(torch.Size(shape).numel(), dtype=torch.int32).view(shape)
    random = torch.randint(0, largest + 1, shape, generator=torch.Generator().manual_seed(0))
    found = {
        "largest": torch.full(shape, largest),
        "smallest": torch.zeros(shape),
        "alternating": number % 2 * largest,
        "random": random,
    }
    return {name: codes.to(torch.uint8) for name, codes in found.items()}


def _unfit(layer: CodeLayer) -> str:
    """Why a layer's numbers or its geometry are none for the kernel."""
    weight, (lowest, highest) = layer.weight.signed(torch.float64), layer.codes
    if layer.wide:
        return "its sums are not exact in float32"
    if not lowest <= 0 <= highest or highest - lowest > BYTE:
        return f"codes from {lowest} to {highest} do not fit a byte with a zero point"
    if not (weight.min() >= SIGNED_BYTE[0] and weight.max() <= SIGNED_BYTE[-1]):
        return f"weights from {weight.min():.0f} to {weight.max():.0f} do not fit a signed byte"
    if layer.geometry is not None and layer.geometry.padding_mode != "constant":
        return f"the kernel pads with zeros, not by {layer.geometry.padding_mode!r}"
    pairs = (highest - lowest) * 2 * int(weight.abs().max())
    if pairs > SIXTEEN_BITS and not torch.cpu._is_vnni_supported():
        return f"this CPU has no VNNI and adds pairs in 16 bits, which {pairs} does not fit"
    return ""


def _exact(layer: CodeLayer, fast: ByteLayer, codes: Tensor) -> bool:
    return torch.equal(fast.sums(codes), layer.sums(codes.float() - fast.zero_point))


def _slowdown(layer: CodeLayer, fast: ByteLayer, shape: tuple[int, ...]) -> float:
    """Time of the kernel relative to the product of floats: best of a few runs each."""
    codes = torch.zeros(shape, dtype=torch.uint8)
    floats = codes.float()
    times = interleaved(
        {"bytes": lambda: fast.sums(codes), "floats": lambda: layer.sums(floats)}, RUNS
    )
    return times["bytes"].best / times["floats"].best
