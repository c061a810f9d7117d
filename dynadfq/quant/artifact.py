"""A student as tensors on file: packed weight codes with their grids, everything else as it is
(docs/format.md).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from dynadfq.quant.insert import site_nodes
from dynadfq.quant.layers import ActivationFakeQuantize, QuantizedLayer
from dynadfq.quant.packing import pack, unpack
from dynadfq.quant.quantize import choose_qparams, quantize_weight
from dynadfq.zoo.unshare import apart

FORMAT = "dynadfq-codes/1"
WEIGHT = ("weight_codes", "weight_scale", "weight_zero_point")
SITES = ("low", "high", "scale", "zero_point")
UNUSED = "num_batches_tracked"  # BatchNorm counts batches in training alone


def quantized_layers(network: nn.Module) -> dict[str, QuantizedLayer]:
    """All layers with weights on a grid, the selector's included, by name."""
    return {
        name: m
        for name, m in network.named_modules(remove_duplicate=False)
        if isinstance(m, QuantizedLayer)
    }


@torch.no_grad()
def to_tensors(network: nn.Module, widths: Sequence[int]) -> dict[str, Tensor]:
    """The tensors of ``model.safetensors``; ``widths`` are the candidate widths of activations.

    Raises:
        ArithmeticError: a channel's weights lie so close together that float32 cannot tell their
            codes apart.
    """
    tensors = {name: value.detach() for name, value in _others(network).items()} | _sites(
        network, widths
    )
    for name, layer in quantized_layers(network).items():
        tensors |= {f"{name}.{part}": value for part, value in _weight(name, layer).items()}
    return apart(tensors)


def describe_layers(network: nn.Module) -> dict[str, dict[str, Any]]:
    """What unpacking needs to know: width in bits and shape of each layer's weight."""
    layers = quantized_layers(network).items()
    return {
        name: {"bits": layer.weight_bits, "shape": list(layer.weight.shape)}
        for name, layer in layers
    }


@torch.no_grad()
def load_tensors(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a student's network what ``to_tensors`` made of one of the same scheme; its weight grids
    are then fixed.

    Raises:
        ValueError: names or shapes are not those of this network.
    """
    _check_names(network, tensors)
    for name, value in _others(network).items():
        value.copy_(tensors[name])
    for name, layer in quantized_layers(network).items():
        codes, scale, zero_point = (tensors[f"{name}.{part}"] for part in WEIGHT)
        shape, quant_min = layer.weight.shape, -zero_point.to(scale)
        signed = unpack(codes, layer.weight_bits, shape.numel()).view(shape).to(scale) + quant_min
        layer.freeze_weight(
            signed.to(layer.weight), (scale.to(layer.weight), quant_min.to(layer.weight))
        )
    for index, site in enumerate(site_nodes(network)):
        site.low.copy_(tensors["sites.low"][index])
        site.high.copy_(tensors["sites.high"][index])


def _check_names(network: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    shapes = {name: value.shape for name, value in _others(network).items()}
    layers, sites = quantized_layers(network), len(site_nodes(network))
    expected = {
        *shapes,
        *(f"{name}.{part}" for name in layers for part in WEIGHT),
        *(f"sites.{part}" for part in SITES),
    }
    wrong = sorted(expected ^ set(tensors)) + [
        name for name in shapes if name in tensors and tensors[name].shape != shapes[name]
    ]
    wrong += [
        name
        for name in ("sites.low", "sites.high")
        if name in tensors and tensors[name].shape != (sites,)
    ]
    for name, layer in layers.items():
        size = tensors.get(f"{name}.{WEIGHT[0]}", torch.empty(0)).numel()
        wrong += [name] if size != (layer.weight.numel() * layer.weight_bits + 7) // 8 else []
    if wrong:
        raise ValueError(
            f"model.safetensors does not fit the network that student.json describes: {len(wrong)} tensors differ, "
            f"such as {wrong[0]}; load it with the architecture it was made from"
        )


def _weight(name: str, layer: QuantizedLayer) -> dict[str, Tensor]:
    scale, quant_min = layer.qparams
    codes, _ = quantize_weight(layer.weight, layer.weight_bits, (scale, quant_min))
    try:
        packed = pack(codes - quant_min, layer.weight_bits)
    except ArithmeticError as error:
        raise ArithmeticError(
            f"{name}: {error}; a channel's weights are all but equal: set them equal"
        ) from error
    return dict(zip(WEIGHT, (packed, scale, _narrowest(-quant_min)), strict=True))


def _others(network: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers that are neither a layer's weight nor a site's range."""
    weights = {
        f"{name}.{key}" for name in quantized_layers(network) for key in ("weight", "weight_scale")
    }
    weights |= {f"{name}.weight_quant_min" for name in quantized_layers(network)}
    sites = {name for name, m in network.named_modules() if isinstance(m, ActivationFakeQuantize)}
    return {
        name: value
        for name, value in network.state_dict(keep_vars=True).items()
        if name not in weights
        and name.rpartition(".")[0] not in sites
        and not name.endswith(UNUSED)
    }


def _sites(network: nn.Module, widths: Sequence[int]) -> dict[str, Tensor]:
    """Ranges, (S,) each, and what follows from them at every candidate width, (S, M) each."""
    sites = site_nodes(network)
    low, high = (
        torch.stack([site.low for site in sites]),
        torch.stack([site.high for site in sites]),
    )
    scale, quant_min = choose_qparams(
        low[:, None], high[:, None], torch.tensor(widths, device=low.device)
    )
    values = (low, high, scale, _narrowest(-quant_min))
    return {f"sites.{part}": value for part, value in zip(SITES, values, strict=True)}


def _narrowest(integers: Tensor) -> Tensor:
    """Whole numbers in the smallest integer type that holds them all."""
    for dtype in (torch.int8, torch.int16, torch.int32):
        limits = torch.iinfo(dtype)
        if integers.numel() == 0 or (integers.min() >= limits.min and integers.max() <= limits.max):
            return integers.to(dtype)
    return integers.to(torch.int64)
