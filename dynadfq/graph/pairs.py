"""Pairs of layers between which channels can be rescaled (DFQ, Sec. 4.1).

A pair is a layer and the only layer that reads it, with operations between them for which f(s · x)
= s · f(x) holds for s > 0 in each channel: ReLU, PReLU and LeakyReLU, pooling, flatten, dropout.
ReLU6 is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from torch import fx, nn

from dynadfq.graph.calls import called_function, called_module, only_user
from dynadfq.ops.layers import own_layers

_RECTIFIERS = (nn.ReLU, nn.PReLU, nn.LeakyReLU)
_POINTWISE = (nn.Identity, nn.modules.dropout._DropoutNd)
_POOLS = (
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
)
_POOL_FUNCTIONS = ("max_pool2d", "adaptive_max_pool2d", "adaptive_avg_pool2d")


@dataclass(frozen=True)
class Pair:
    """Two layers by name."""

    first: str  # its channels can be rescaled
    second: str  # the only layer that reads them
    # Whether an activation lies between them that is the identity for x ≥ 0; otherwise only linear
    # operations and maxima do.
    rectified: bool
    padded: bool  # whether zeros are padded to what the second layer reads


def find_pairs(network: fx.GraphModule) -> list[Pair]:
    """Return all pairs of a normalized graph, in execution order of their first layers.

    Layers that are called several times, or share weights with others, are in none.
    """
    own = own_layers(network)
    nodes = [node for node in network.graph.nodes if _is_call_of(node, own)]
    found = (_pair_from(network, node, own) for node in nodes)
    return [pair for pair in found if pair is not None]


def find_chains(network: fx.GraphModule) -> list[tuple[Pair, ...]]:
    """Return the pairs of a graph as (pair,), those around a depthwise convolution as (pair, pair).

    Such a convolution and its neighbours are balanced at once.
    """
    pairs = find_pairs(network)
    from_layer = {pair.first: pair for pair in pairs}
    chains: list[tuple[Pair, ...]] = []
    taken: set[Pair] = set()
    for pair in pairs:
        if pair in taken:
            continue
        following = from_layer.get(pair.second)
        if following is not None and is_depthwise(network.get_submodule(pair.second)):
            chains.append((pair, following))
            taken.add(following)
        else:
            chains.append((pair,))
    return chains


def is_depthwise(layer: nn.Module) -> bool:
    """Return whether a layer is a convolution with one input and one output channel per group."""
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels == layer.out_channels


def _is_call_of(node: fx.Node, layers: set[str]) -> bool:
    return node.op == "call_module" and str(node.target) in layers


def _pair_from(network: fx.GraphModule, node: fx.Node, own: set[str]) -> Pair | None:
    """The pair whose first layer ``node`` calls."""
    name = str(node.target)
    first = network.get_submodule(name)
    steps: set[str] = set()
    reader = only_user(node)
    while reader is not None and not _is_call_of(reader, own):
        kinds = _kinds(network, reader)
        if not kinds:
            return None
        steps.update(kinds)
        reader = only_user(reader)
    if reader is None:
        return None
    second = network.get_submodule(str(reader.target))
    if not _channels_fit(first, second, steps):
        return None
    padded = "padding" in steps or _pads_zeros(second)
    return Pair(name, str(reader.target), "rectifier" in steps, padded)


def _kinds(network: fx.GraphModule, node: fx.Node) -> tuple[str, ...]:
    """Properties of an operation between two layers; empty if it does not commute with scaling."""
    module = called_module(node, network)
    if module is None:
        return _kinds_of_function(node)
    if type(module) in _RECTIFIERS:
        return ("rectifier",)
    if isinstance(module, _POINTWISE):
        return ("pointwise",)
    if isinstance(module, _POOLS):
        return ("spatial", "padding") if _averages_zeros(module) else ("spatial",)
    if isinstance(module, nn.ZeroPad2d):
        return ("spatial", "padding")
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        return ("spatial", "flat")
    return ()


def _kinds_of_function(node: fx.Node) -> tuple[str, ...]:
    function = called_function(node)
    arguments = [*node.args[1:], *node.kwargs.values()]
    if function in ("dropout", "dropout2d", "contiguous"):
        return ("pointwise",)
    if function in _POOL_FUNCTIONS:
        return ("spatial",)
    if function == "avg_pool2d":  # may pad, which only prevents absorption
        return ("spatial", "padding")
    if function == "flatten" and arguments in ([1], [1, -1]):
        return ("spatial", "flat")
    if function == "mean" and arguments:
        axes = arguments[0] if isinstance(arguments[0], Sequence) else [arguments[0]]
        if {axis % 4 for axis in axes if isinstance(axis, int)} == {2, 3}:
            return ("spatial", "flat")
    return ()


def _averages_zeros(pool: nn.Module) -> bool:
    if not isinstance(pool, nn.modules.pooling._AvgPoolNd) or not pool.count_include_pad:
        return False
    padding = pool.padding
    return any(padding if isinstance(padding, Sequence) else (padding,))


def _pads_zeros(layer: nn.Module) -> bool:
    if not isinstance(layer, nn.Conv2d) or layer.padding_mode not in ("zeros", "constant"):
        return False
    if isinstance(layer.padding, str):
        return layer.padding == "same" and math.prod(layer.kernel_size) > 1
    return any(layer.padding)


def _channels_fit(first: nn.Module, second: nn.Module, steps: set[str]) -> bool:
    """Whether each input of the second layer is of one channel of the first, in order."""
    if isinstance(second, nn.Conv2d):
        same = isinstance(first, nn.Conv2d) and second.in_channels == first.out_channels
        return same and "flat" not in steps
    assert isinstance(second, nn.Linear)
    if isinstance(first, nn.Linear):
        return "spatial" not in steps and second.in_features == first.out_features
    assert isinstance(first, nn.Conv2d)
    return "flat" in steps and second.in_features % first.out_channels == 0
