"""What the description of a float network consists of: sites, layers, and their counts.

Nothing here knows about quantization.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dynadfq.graph.config import SiteSet
from dynadfq.graph.integer_sites import UNLIMITED
from dynadfq.ops.layers import LayerKind

IMAGES = "images"  # name of the site at the network's input


@dataclass(frozen=True)
class Site:
    """A tensor at which activations can be quantized."""

    name: str  # of the activation module, or ``<layer>.input``; no two sites share one
    node: str  # name of the graph node whose output it is
    channels: int  # length of its second axis
    elements: int  # values per image
    axes: int  # of a batch of it, 4 for a map (B, C, H, W)
    # Length of its first axis for one image; more than 1 if patches are counted there.
    rows: int = 1
    wide: bool = False  # 8 bits, whatever the width of other sites (scheme "integer")
    limits: tuple[float, float] = UNLIMITED  # to which an activation clips it (scheme "integer")


@dataclass(frozen=True)
class Layer:
    """One call of a convolution or linear layer."""

    name: str  # path of the module; it occurs twice if the module is called twice
    node: str  # name of the graph node
    kind: LayerKind  # of the layer
    macs: int  # multiply-accumulates per image
    # Activation name to the fraction of the layer's input that is its output; the rest is float32.
    fed_by: Mapping[str, float]
    # Name of the ``layer_input`` site that it reads; None for the network's input.
    input_site: str | None
    grid: str | None = None  # name of the ``integer`` site that it reads; None for a constant

    def fraction_from(self, site: str) -> float:
        """Return the fraction of the input that comes from a site of any set."""
        return 1.0 if site in (self.input_site, self.grid) else self.fed_by.get(site, 0.0)


@dataclass(frozen=True)
class FloatCall:
    """A call with MACs other than of a quantizable layer, such as a matrix product or attention."""

    name: str
    operation: str
    macs: int


@dataclass(frozen=True)
class NetworkTrace:
    """The calls of a network for one image, in execution order."""

    input_shape: tuple[int, ...]  # (C, H, W)
    activations: tuple[Site, ...]  # sites of placement "relu_output"
    layer_inputs: tuple[Site, ...]  # sites of placement "layer_input"
    integer_sites: tuple[Site, ...]  # sites of scheme "integer"
    layers: tuple[Layer, ...]  # quantizable layers
    float_calls: tuple[FloatCall, ...]  # other calls with MACs
    batch_norm_elements: int  # output elements of all BatchNorms
    average_pool_elements: int  # input elements of all average pools

    def sites(self, which: SiteSet) -> tuple[Site, ...]:
        """Return the outputs of activations, the tensors that layers read, integer sites, or none.

        Layers may share an input; the network's input is a site of "integer" alone.
        """
        if which == "none":
            return ()
        if which == "integer":
            return self.integer_sites
        return self.activations if which == "relu_output" else self.layer_inputs

    @property
    def layer_macs(self) -> int:
        """MACs of all quantizable layers."""
        return sum(layer.macs for layer in self.layers)

    @property
    def float_macs(self) -> int:
        """MACs of all calls that stay in float32."""
        return sum(call.macs for call in self.float_calls)

    @property
    def activation_elements(self) -> int:
        """Output elements of all activations."""
        return sum(site.elements for site in self.activations)

    @property
    def elementwise_operations(self) -> int:
        """One per BatchNorm output, activation output and average-pool input element."""
        return self.batch_norm_elements + self.activation_elements + self.average_pool_elements
