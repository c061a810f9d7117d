"""BatchNorm folded into the layer before it, as integer inference does it (Jacob et al., CVPR 2018,
Sec. 3.2).

With W' = W · γ/√(var + ε) and b' = β + (b - mean) · γ/√(var + ε) for each output channel, the layer
computes what layer and BatchNorm computed. What is known of the BatchNorm's output, N(β, γ²), is
then known of the layer's.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

from dynadfq.graph.activations import is_activation_call
from dynadfq.graph.gaussian import Gaussian, batch_norm_gaussian
from dynadfq.graph.normalize import normalize
from dynadfq.ops.layers import layer_kind, own_layers


class Folded(NamedTuple):
    """A network without the BatchNorms that follow a layer, and what they said: layer name to
    output distribution.
    """

    network: fx.GraphModule
    gaussians: dict[str, Gaussian]


def fold(module: nn.Module, example: Tensor, relu6_as_relu: bool = False) -> Folded:
    """A normalized copy of a float classifier in which BatchNorms are part of the layers before
    them.

    A BatchNorm is folded where it alone reads the output of a layer and both are called once;
    others stay. Every layer of the copy has a bias, so that it may be corrected. Which parameters
    there are depends on the architecture alone, not on their values. ``module`` is not changed.

    Args:
        module: the network.
        example: one batch of inputs, (B, C, H, W).
        relu6_as_relu: replace every ReLU6 by a ReLU, which commutes with scaling but is another
            function above 6.
    """
    network = normalize(module, example)
    own, gaussians = own_layers(network), {}
    for node in list(network.graph.nodes):
        source = _folds_into(network, node, own)
        if source is not None:
            gaussians[str(source.target)] = _fold(network, source, node)
    for node in network.graph.nodes:
        if (
            node.op == "call_module"
            and layer_kind(network.get_submodule(str(node.target))) is not None
        ):
            _add_bias(network.get_submodule(str(node.target)))
        elif relu6_as_relu and is_activation_call(node, network):
            _replace_relu6(network, str(node.target))
    network.graph.lint()
    network.recompile()
    return Folded(network.eval(), gaussians)


def _folds_into(network: fx.GraphModule, node: fx.Node, own: set[str]) -> fx.Node | None:
    """The layer call that a BatchNorm call may become part of."""
    if (
        node.op != "call_module"
        or batch_norm_gaussian(network.get_submodule(str(node.target))) is None
    ):
        return None
    source = node.all_input_nodes[0]
    called_once = sum(other.target == node.target for other in network.graph.nodes) == 1
    alone = str(source.target) in own and len(source.users) == 1 and called_once
    return source if alone else None


def _fold(network: fx.GraphModule, source: fx.Node, node: fx.Node) -> Gaussian:
    """Move a BatchNorm into its layer, and return the distribution of the output."""
    layer, norm = network.get_submodule(str(source.target)), network.get_submodule(str(node.target))
    gaussian = batch_norm_gaussian(norm)
    assert gaussian is not None and isinstance(norm, nn.modules.batchnorm._BatchNorm)
    assert norm.running_mean is not None and norm.running_var is not None
    _add_bias(layer)
    with torch.no_grad():
        gain = torch.ones_like(norm.running_var) if norm.weight is None else norm.weight
        factor = gain / torch.sqrt(norm.running_var + norm.eps)
        weight, bias = layer.weight, layer.bias
        assert isinstance(weight, Tensor) and isinstance(bias, Tensor)
        weight.mul_(factor.view(-1, *[1] * (weight.dim() - 1)))
        bias.copy_(gaussian.mean + (bias - norm.running_mean) * factor)
    node.replace_all_uses_with(source)
    network.graph.erase_node(node)
    network.delete_submodule(str(node.target))
    return gaussian


def _add_bias(layer: nn.Module) -> None:
    """Give a layer a bias of zeros where it has none."""
    if layer.bias is None:
        weight = layer.weight
        assert isinstance(weight, Tensor)
        layer.bias = nn.Parameter(weight.new_zeros(len(weight)), requires_grad=weight.requires_grad)


def _replace_relu6(network: fx.GraphModule, name: str) -> None:
    if isinstance(network.get_submodule(name), nn.ReLU6):
        network.set_submodule(name, nn.ReLU())
