"""Bit-FLOPs: the cost of inference as a function of bit-widths.

    B = Σ_layers MACs · weight bits · input bits + 1024 · E,    1024 = 32 · 32 for float32 operands

E counts one operation per BatchNorm output, activation output and average-pool input element;
residual additions, max-pooling and biases are free. A layer's input has the bits of the activation
it comes from, directly or through operations that only move values (several activations share a
concatenated input by channels), else 32. This reproduces the totals and percentages printed in the
DynaDFQ paper for ResNet-20 and ResNet-18. Percentages are relative to the float model, whose MACs
cost 1024 each.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from functools import cached_property

import pandas as pd
import torch
from torch import Tensor, fx, nn

from dynadfq.graph.config import FLOAT_BITS, Placement
from dynadfq.graph.description import Layer, NetworkTrace
from dynadfq.graph.network import describe
from dynadfq.graph.normalize import normalize
from dynadfq.runtime.errors import InvalidArgument

FLOAT_OPERATION = FLOAT_BITS * FLOAT_BITS  # bit-FLOPs of one float32 operation


@dataclass(frozen=True)
class BitFlops:
    """The cost of one image."""

    total: float  # bit-FLOPs
    percent: float  # of the float model's bit-FLOPs
    # One row per layer call: layer, kind, macs, weight_bits, input_bits (mean over the input's
    # channels), bit_flops. The rest of ``total`` is elementwise operations and calls that are not
    # quantizable layers.
    layers: pd.DataFrame


@dataclass(frozen=True, eq=False)
class CostModel:
    """Bit-FLOPs of a network as an affine, differentiable function of its sites' bits.

    Raises:
        ValueError: there is no such site.
    """

    trace: NetworkTrace  # description of the network
    # Names of the S quantized sites, in the order in which bits are given; other activations stay
    # float32.
    sites: tuple[str, ...]
    weight_bits: int  # of all layers but these
    layer_bits: Mapping[str, int] = field(default_factory=dict)  # by the layer's name

    def __post_init__(self) -> None:
        trace = self.trace
        known = [
            site.name
            for sites in (trace.activations, trace.layer_inputs, trace.integer_sites)
            for site in sites
        ]
        for name in self.sites:
            if name not in known:
                nearest = get_close_matches(name, known, n=1, cutoff=0.0)
                raise ValueError(
                    f"sites: {name!r} is not a site of this network; "
                    f"nearest: {', '.join(nearest) or 'none'}"
                )

    def total(self, bits: Tensor) -> Tensor:
        """Return bit-FLOPs per image: (B, S) activation bits to (B,) float64, (S,) to a scalar.

        Raises:
            ValueError: the last axis does not have one element per site.
        """
        if bits.shape[-1:] != (len(self.sites),):
            raise ValueError(
                f"bits: shape {tuple(bits.shape)} must end in the number of sites, "
                f"{len(self.sites)}"
            )
        return self.constant + bits.double() @ self.per_site.to(bits.device)

    def percent(self, bits: Tensor) -> Tensor:
        """Return percent of the float model's bit-FLOPs, from bits as for ``total``."""
        return self.total(bits) * (100.0 / self.float_total)

    def at(self, activation_bits: int | Sequence[float] | Tensor) -> BitFlops:
        """Return the cost of one image at one width, or at one width per site in order.

        Raises:
            ValueError: a width is outside 1 … 32, or their number is not that of the sites.
        """
        _require_widths("activation_bits", activation_bits)
        bits = torch.as_tensor(activation_bits, dtype=torch.float64).detach().cpu()
        if bits.ndim == 0:
            bits = bits.expand(len(self.sites))
        input_bits = FLOAT_BITS + self._fractions @ (bits - FLOAT_BITS)
        layers = self.trace.layers
        table = pd.DataFrame(
            {
                "layer": [layer.name for layer in layers],
                "kind": [layer.kind for layer in layers],
                "macs": [layer.macs for layer in layers],
                "weight_bits": [self.bits_of(layer) for layer in layers],
                "input_bits": input_bits.numpy(),
                "bit_flops": (self._bit_macs * input_bits).numpy(),
            }
        )
        return BitFlops(self.total(bits).item(), self.percent(bits).item(), table)

    @cached_property
    def per_site(self) -> Tensor:
        """Bit-FLOPs per bit at each site, (S,) float64."""
        return self._bit_macs @ self._fractions

    @cached_property
    def macs_per_site(self) -> Tensor:
        """MACs that read each site, (S,) float64."""
        return self._macs @ self._fractions

    @property
    def percent_per_bit(self) -> Tensor:
        """Percent of the float model's bit-FLOPs per bit at each site, (S,) float64."""
        return self.per_site * (100.0 / self.float_total)

    @cached_property
    def constant(self) -> float:
        """Bit-FLOPs that do not depend on activation bits: float inputs and float operations."""
        on_float_inputs = FLOAT_BITS * float(self._bit_macs @ self._float_fractions)
        return on_float_inputs + self.float_operations

    @property
    def float_operations(self) -> float:
        """Bit-FLOPs of what is never quantized: elementwise operations and other calls."""
        operations = self.trace.elementwise_operations + self.trace.float_macs
        return float(FLOAT_OPERATION * operations)

    def bits_of(self, layer: Layer) -> int:
        """Return the width of a layer's weight."""
        return self.layer_bits.get(layer.name, self.weight_bits)

    @property
    def float_total(self) -> float:
        """Bit-FLOPs of the float model."""
        trace = self.trace
        operations = trace.layer_macs + trace.float_macs + trace.elementwise_operations
        return float(FLOAT_OPERATION * operations)

    @property
    def float_input_macs_percent(self) -> float:
        """Percent of all MACs that read float32 inputs."""
        float_macs = float(self._macs @ self._float_fractions) + self.trace.float_macs
        return 100.0 * float_macs / max(self.trace.layer_macs + self.trace.float_macs, 1)

    @cached_property
    def _macs(self) -> Tensor:
        return torch.tensor([layer.macs for layer in self.trace.layers], dtype=torch.float64)

    @cached_property
    def _fractions(self) -> Tensor:
        """Fraction of each layer's input that comes from each site, (layers, S) float64."""
        rows = [[layer.fraction_from(site) for site in self.sites] for layer in self.trace.layers]
        return torch.tensor(rows, dtype=torch.float64).reshape(len(rows), len(self.sites))

    @cached_property
    def _bit_macs(self) -> Tensor:
        bits = [self.bits_of(layer) for layer in self.trace.layers]
        return self._macs * torch.tensor(bits, dtype=torch.float64)

    @property
    def _float_fractions(self) -> Tensor:
        return 1.0 - self._fractions.sum(dim=1)


def bit_flops(
    model: nn.Module,
    input_shape: Sequence[int],
    weight_bits: int,
    activation_bits: int | Sequence[float],
    placement: Placement,
) -> BitFlops:
    """Return the cost of one image if a float model were quantized to these widths.

    Args:
        model: the network, normalized (``normalize``) or not.
        input_shape: (C, H, W) of the image.
        weight_bits: of all layers.
        activation_bits: one width for all sites of ``placement``, or one per site.
        placement: where activations are quantized.

    Raises:
        ValueError: a width is outside 1 … 32.
    """
    _require_widths("weight_bits", weight_bits)
    if not isinstance(model, fx.GraphModule):
        weight = next(model.parameters(), torch.empty(0))
        example = torch.zeros(1, *input_shape, dtype=weight.dtype, device=weight.device)
        model = normalize(model, example)
    trace = describe(model, input_shape)
    sites = tuple(site.name for site in trace.sites(placement))
    return CostModel(trace, sites, weight_bits).at(activation_bits)


def _require_widths(argument: str, bits: int | Sequence[float] | Tensor) -> None:
    """Check that all widths are 1 … 32 bits."""
    given = torch.as_tensor(bits, dtype=torch.float64)
    outside = given[~((given >= 1) & (given <= FLOAT_BITS))]
    if len(outside):
        raise InvalidArgument(
            argument, f"{outside[0].item():g} is outside 1 … {FLOAT_BITS} bits (32 is float)"
        )
