"""BatchNorm folding into the layer before it, as in integer inference.

Jacob et al., CVPR 2018, Sec. 3.2: with W' = W · γ/√(var + ε) and b' = β + (b - mean) · γ/√(var + ε)
for each output channel, the layer computes what layer and BatchNorm computed. The distribution of
the BatchNorm's output, N(β, γ²), then is that of the layer's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from dynadfq.graph.activations import is_activation_call
from dynadfq.graph.calls import called_module
from dynadfq.graph.gaussian import Gaussian, batch_norm_gaussian
from dynadfq.graph.normalize import normalize
from dynadfq.ops.batch_norm import gain_and_shift
from dynadfq.ops.layers import layer_kind, own_layers


class Folded(NamedTuple):
    """A network with folded BatchNorms, and the output distributions of their layers by name."""

    network: fx.GraphModule
    gaussians: dict[str, Gaussian]


def fold(module: nn.Module, example: Tensor, relu6_as_relu: bool = False) -> Folded:
    """Return a normalized copy of a float classifier with BatchNorms folded.

    A BatchNorm is folded if it alone reads the output of a layer, normalizes the layer's output
    channels, and both are called once; others stay. Every layer of the copy has a bias, so that it
    may be corrected. Which parameters exist depends on the architecture alone, not on their values.

    Args:
        module: the network; it is not changed.
        example: (B, C, H, W) images.
        relu6_as_relu: replace every ReLU6 by a ReLU, which commutes with scaling but differs
            above 6.
    """
    network = normalize(module, example)
    own = own_layers(network)
    ShapeProp(network).propagate(example)
    gaussians = {}
    for node in list(network.graph.nodes):
        source = _layer_before(network, node, own)
        if source is not None:
            gaussians[str(source.target)] = _fold(network, source, node)
    for node in network.graph.nodes:
        called = called_module(node, network)
        if called is not None and layer_kind(called) is not None:
            _add_bias(called)
        elif relu6_as_relu and isinstance(called, nn.ReLU6) and is_activation_call(node, network):
            network.set_submodule(str(node.target), nn.ReLU())
    network.graph.lint()
    network.recompile()
    return Folded(network.eval(), gaussians)


def _layer_before(network: fx.GraphModule, node: fx.Node, own: set[str]) -> fx.Node | None:
    """The layer call that a BatchNorm call can be folded into."""
    if batch_norm_gaussian(called_module(node, network)) is None:
        return None
    source = node.all_input_nodes[0]
    called_once = sum(other.target == node.target for other in network.graph.nodes) == 1
    if not (called_once and str(source.target) in own and len(source.users) == 1):
        return None
    linear = isinstance(called_module(source, network), nn.Linear)
    tokens = linear and len(source.meta["tensor_meta"].shape) > 2  # axis 1 are no features then
    return None if tokens else source


def _fold(network: fx.GraphModule, source: fx.Node, node: fx.Node) -> Gaussian:
    """Fold a BatchNorm call into a layer call, and return the output distribution."""
    layer = network.get_submodule(str(source.target))
    norm = network.get_submodule(str(node.target))
    gaussian = batch_norm_gaussian(norm)
    assert gaussian is not None and isinstance(norm, nn.modules.batchnorm._BatchNorm)
    _add_bias(layer)
    with torch.no_grad():
        gain, shift = gain_and_shift(norm)
        weight = layer.weight
        bias = layer.bias
        assert isinstance(weight, Tensor) and isinstance(bias, Tensor)
        weight.copy_(weight * gain.view(-1, *[1] * (weight.dim() - 1)))
        bias.copy_(bias * gain + shift)
    node.replace_all_uses_with(source)
    network.graph.erase_node(node)
    network.delete_submodule(str(node.target))
    return gaussian


def _add_bias(layer: nn.Module) -> None:
    """Add a bias of zeros to a layer without one."""
    if layer.bias is None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        layer.bias = nn.Parameter(weight.new_zeros(len(weight)), requires_grad=weight.requires_grad)
