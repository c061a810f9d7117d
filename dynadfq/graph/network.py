"""The description of a float network: its activations, its layers with MACs, and which activation
feeds which layer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from dynadfq.ops.layers import LayerKind

Placement = Literal["relu_output", "layer_input"]


@dataclass(frozen=True)
class Site:
    """A tensor that activations can be quantized at: the output of graph node `node`."""

    name: str
    node: str
    channels: int
    elements: int
    """Values per image."""
    axes: int
    """Of a batch of it: 4 where it is a map (B, C, H, W)."""
    rows: int = 1
    """Length of its first axis for one image: more where patches are counted there."""


@dataclass(frozen=True)
class Layer:
    """One call of a convolution or linear layer."""

    name: str
    """Path of the module; twice in a trace if the module is called twice."""
    node: str
    kind: LayerKind
    macs: int
    """Multiply-accumulates per image."""
    weight_shape: tuple[int, ...]
    fed_by: Mapping[str, float]
    """Activation name to the fraction of this layer's input that is its output, directly; the rest
    is float32."""
    input_site: str | None
    """Name of the `layer_input` site this layer reads; None for the network input."""

    def fraction_from(self, site: str) -> float:
        """Fraction of the input that comes from a site of either placement."""
        return 1.0 if site == self.input_site else self.fed_by.get(site, 0.0)


@dataclass(frozen=True)
class FloatCall:
    """A call with MACs that is no quantizable layer: `F.conv2d`, a matrix product, attention, a
    module kept whole, …
    """

    name: str
    operation: str
    macs: int


@dataclass(frozen=True)
class NetworkTrace:
    """One image's way through a network, in execution order."""

    input_shape: tuple[int, ...]
    activations: tuple[Site, ...]
    layer_inputs: tuple[Site, ...]
    layers: tuple[Layer, ...]
    float_calls: tuple[FloatCall, ...]
    batch_norm_elements: int
    """Output elements of all BatchNorms."""
    activation_elements: int
    """Output elements of all activations."""
    average_pool_elements: int
    """Input elements of all average pools."""

    def sites(self, placement: Placement = "relu_output") -> tuple[Site, ...]:
        """After each activation; or at each tensor but the network input that a layer reads (layers
        may share one).
        """
        return self.activations if placement == "relu_output" else self.layer_inputs

    @property
    def layer_macs(self) -> int:
        """MACs of all quantizable layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def float_macs(self) -> int:
        """MACs of all calls that stay in float32."""
        return sum(call.macs for call in self.float_calls)

    @property
    def elementwise_operations(self) -> int:
        """One per BatchNorm output, activation output and average-pool input element."""
        return self.batch_norm_elements + self.activation_elements + self.average_pool_elements
