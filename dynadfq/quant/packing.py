"""A student's network as tensors for a file: weights as packed codes with their qparams.

Codes of b bits form a stream of bits without gaps: two 4-bit codes in a byte, eight 3-bit codes in
three bytes. Code i takes bits i·b … (i+1)·b - 1 of the stream, its lowest bit first; bit j of the
stream is bit j % 8 of byte j // 8, counted from the lowest. The last byte is filled with zeros
(docs/format.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from dynadfq.quant.activation_site import ActivationFakeQuantize
from dynadfq.quant.insert import site_nodes
from dynadfq.quant.layers import QuantizedLayer
from dynadfq.quant.quantize import choose_qparams
from dynadfq.zoo.weights import unshare

CHUNK = 2**20  # codes at a time, a multiple of 8, so that chunks end at a byte; bounds memory
WEIGHT = ("weight_codes", "weight_scale", "weight_zero_point")
LAYER_STATE = ("weight", "weight_scale", "weight_quant_min")
SITES = ("low", "high", "scale", "zero_point")
FLOAT = (torch.float32,)
CODES = (torch.uint8,)
INTEGERS = (torch.int8, torch.int16, torch.int32, torch.int64)
UNUSED = "num_batches_tracked"  # counted by BatchNorm in training only


def pack(codes: Tensor, bits: int) -> Tensor:
    """Return codes of any shape, integers in 0 … 2^bits - 1, as (bytes,) uint8.

    >>> [f"{byte:08b}" for byte in pack(torch.tensor([1, 15, 2]), 4)]
    ['11110001', '00000010']

    Raises:
        ArithmeticError: a code does not fit.
    """
    flat = codes.detach().cpu().flatten()
    if len(flat) and not (flat.min() >= 0 and flat.max() < 2**bits):
        raise ArithmeticError(f"codes {flat.min():.0f} … {flat.max():.0f} do not fit {bits} bits")
    return torch.cat([_pack(part, bits) for part in flat.to(torch.uint8).split(CHUNK)])


def unpack(packed: Tensor, bits: int, count: int) -> Tensor:
    """Return the first ``count`` codes of (bytes,) uint8, (count,) uint8.

    >>> unpack(pack(torch.tensor([5, 0, 7]), 3), 3, 3)
    tensor([5, 0, 7], dtype=torch.uint8)
    """
    parts = [_unpack(part, bits) for part in packed.split(CHUNK // 8 * bits)]
    return torch.cat(parts)[:count]


def _pack(codes: Tensor, bits: int) -> Tensor:
    stream = np.unpackbits(codes.numpy()[:, None], axis=1, count=bits, bitorder="little")
    return torch.from_numpy(np.packbits(stream, bitorder="little"))


def _unpack(packed: Tensor, bits: int) -> Tensor:
    stream = np.unpackbits(packed.numpy(), bitorder="little")
    codes = stream[: len(stream) // bits * bits].reshape(-1, bits)
    return torch.from_numpy(np.packbits(codes, axis=1, bitorder="little")[:, 0].copy())


def quantized_layers(network: nn.Module) -> dict[str, QuantizedLayer]:
    """Return all layers with quantized weights by name, those of the bit selector included."""
    return {
        name: module
        for name, module in network.named_modules(remove_duplicate=False)
        if isinstance(module, QuantizedLayer)
    }


@torch.no_grad()
def to_tensors(network: nn.Module, widths: Sequence[int]) -> dict[str, Tensor]:
    """Return the tensors of ``model.safetensors``.

    Args:
        network: a student's network.
        widths: candidate activation widths in bits.

    Raises:
        ArithmeticError: the weights of a channel are so close together that float32 cannot
            represent their codes.
    """
    tensors = {name: value.detach() for name, value in _other_state(network).items()}
    tensors |= _site_tensors(network, widths)
    for name, layer in quantized_layers(network).items():
        tensors |= _weight_tensors(name, layer)
    return unshare(tensors)


@torch.no_grad()
def load_tensors(network: nn.Module, tensors: Mapping[str, Tensor], widths: Sequence[int]) -> None:
    """Load what ``to_tensors`` returned into a network of the same scheme, and freeze its weights.

    Args:
        network: a student's network.
        tensors: by name.
        widths: candidate activation widths in bits.

    Raises:
        ValueError: names, shapes, types or values are not such as ``to_tensors`` returns for this
            network.
    """
    _require_match(network, tensors, len(widths))
    _require_values(tensors)
    for name, value in _other_state(network).items():
        value.copy_(tensors[name])
    for name, layer in quantized_layers(network).items():
        packed, scale, zero_point = (tensors[f"{name}.{part}"] for part in WEIGHT)
        shape = layer.weight.shape
        quant_min = -zero_point.to(scale)
        unsigned = unpack(packed, layer.weight_bits, shape.numel()).view(shape)
        codes = (unsigned.to(scale) + quant_min).to(layer.weight)
        layer.freeze_weight(codes, (scale.to(layer.weight), quant_min.to(layer.weight)))
    for index, site in enumerate(site_nodes(network)):
        site.low.copy_(tensors["sites.low"][index])
        site.high.copy_(tensors["sites.high"][index])


def _require_match(network: nn.Module, tensors: Mapping[str, Tensor], candidates: int) -> None:
    expected: dict[str, tuple[torch.Size, tuple[torch.dtype, ...]]] = {
        name: (value.shape, FLOAT if value.is_floating_point() else (value.dtype,))
        for name, value in _other_state(network).items()
    }
    if sites := site_nodes(network):
        ranges = torch.Size([len(sites), *sites[0].low.shape])
        expected |= {f"sites.{part}": (ranges, FLOAT) for part in ("low", "high")}
        widths = torch.Size([len(sites), candidates])
        expected |= {"sites.scale": (widths, FLOAT), "sites.zero_point": (widths, INTEGERS)}
    for name, layer in quantized_layers(network).items():
        codes, scale, zero_point = (f"{name}.{part}" for part in WEIGHT)
        packed_bytes = (layer.weight.numel() * layer.weight_bits + 7) // 8
        shared = layer.qparams[0].shape
        expected[codes] = torch.Size([packed_bytes]), CODES
        expected |= {scale: (shared, FLOAT), zero_point: (shared, INTEGERS)}
    wrong = sorted(set(expected) ^ set(tensors))
    wrong += [
        name
        for name, (shape, types) in expected.items()
        if name in tensors and (tensors[name].shape != shape or tensors[name].dtype not in types)
    ]
    if wrong:
        raise ValueError(
            f"{len(wrong)} tensors differ from those of the network that student.json describes, "
            f"such as {wrong[0]}; load it with the architecture it was made from"
        )


def _require_values(tensors: Mapping[str, Tensor]) -> None:
    """Check the values that no student has; NaN and infinity were refused before."""
    for name, value in tensors.items():
        if name.endswith((".weight_scale", "sites.scale")) and (value <= 0).any():
            raise ValueError(f"{name} has a scale that is not above 0")
        if name.endswith("running_var") and (value < 0).any():
            raise ValueError(f"{name} has a negative variance")
    if "sites.low" in tensors and (tensors["sites.low"] > tensors["sites.high"]).any():
        raise ValueError("sites.low is above sites.high")


def _weight_tensors(name: str, layer: QuantizedLayer) -> dict[str, Tensor]:
    scale, quant_min = layer.qparams
    codes, _ = layer.weight_codes()
    try:
        packed = pack(codes - quant_min, layer.weight_bits)
    except ArithmeticError as error:
        raise ArithmeticError(
            f"{name}: {error}; the weights of a channel are almost equal: set them equal"
        ) from error
    values = (packed, scale, _smallest_integer_type(-quant_min))
    return {f"{name}.{part}": value for part, value in zip(WEIGHT, values, strict=True)}


def _other_state(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers other than quantized weights and activation ranges."""
    written = {f"{name}.{key}" for name in quantized_layers(network) for key in LAYER_STATE}
    sites = {name for name, m in network.named_modules() if isinstance(m, ActivationFakeQuantize)}
    return {
        name: value
        for name, value in network.state_dict(keep_vars=True).items()
        if name not in written
        and name.rpartition(".")[0] not in sites
        and not name.endswith(UNUSED)
    }


def _site_tensors(network: nn.Module, widths: Sequence[int]) -> dict[str, Tensor]:
    """Ranges, (S,) or (S, M), and scale and zero point at every candidate width, (S, M) each.

    There are none without sites.
    """
    sites = site_nodes(network)
    if not sites:
        return {}
    low = torch.stack([site.low for site in sites])
    high = torch.stack([site.high for site in sites])
    bits = torch.tensor(
        [
            [site.bits if site.wide or len(widths) == 1 else width for width in widths]
            for site in sites
        ],
        device=low.device,
    )
    scale, quant_min = choose_qparams(low.view(len(sites), -1), high.view(len(sites), -1), bits)
    values = (low, high, scale, _smallest_integer_type(-quant_min))
    return {f"sites.{part}": value for part, value in zip(SITES, values, strict=True)}


def _smallest_integer_type(integers: Tensor) -> Tensor:
    """Integers in the smallest signed integer type that holds them all."""
    for dtype in (torch.int8, torch.int16, torch.int32):
        limits = torch.iinfo(dtype)
        if integers.numel() == 0 or (integers.min() >= limits.min and integers.max() <= limits.max):
            return integers.to(dtype)
    return integers.to(torch.int64)
