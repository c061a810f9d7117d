"""Layers that read another layer's output through nothing that minds a scaling of its channels
(DFQ, Sec. 4.1).

A pair is a layer and the only layer that reads it, with operations between them for which f(s · x)
= s · f(x) holds for s > 0 in each channel: ReLU, PReLU and LeakyReLU, pooling, flatten, dropout.
ReLU6 is none.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import fx, nn

from dynadfq.graph.activation_sources import called_function
from dynadfq.ops.layers import own_layers

_RECTIFIERS = (nn.ReLU, nn.PReLU, nn.LeakyReLU)
_POINTWISE = (nn.Identity, nn.modules.dropout._DropoutNd)
_POOLS = (
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.modules.pooling._AvgPoolNd,
    nn.modules.pooling._AdaptiveAvgPoolNd,
)
_POOL_NAMES = ("max_pool2d", "adaptive_max_pool2d", "adaptive_avg_pool2d")


@dataclass(frozen=True)
class Pair:
    """Two layers by name.

    rectified: an activation lies between them that passes what is at least 0 unchanged; else
        nothing but linear operations and maxima do.
    padded: zeros are put around what the second layer reads, on the way or by itself.
    """

    first: str
    second: str
    rectified: bool
    padded: bool


def find_pairs(network: fx.GraphModule) -> list[Pair]:
    """All pairs of a normalized graph, in execution order of their first layers.

    Layers that are called several times, or share weights with others, are in none.
    """
    own = own_layers(network)
    nodes = [
        node for node in network.graph.nodes if node.op == "call_module" and str(node.target) in own
    ]
    found = (_pair_from(network, node, own) for node in nodes)
    return [pair for pair in found if pair is not None]


def find_chains(network: fx.GraphModule) -> list[tuple[Pair, ...]]:
    """The pairs of a graph, those around a depthwise convolution together: (pair,) or (pair,
    pair).
    """
    pairs = find_pairs(network)
    from_layer = {pair.first: pair for pair in pairs}
    chains: list[tuple[Pair, ...]] = []
    taken: set[Pair] = set()
    for pair in pairs:
        onward = from_layer.get(pair.second)
        if pair in taken:
            continue
        if onward is not None and is_depthwise(network.get_submodule(pair.second)):
            chains.append((pair, onward))
            taken.add(onward)
        else:
            chains.append((pair,))
    return chains


def is_depthwise(layer: nn.Module) -> bool:
    """Whether a layer is a convolution with one input and one output channel a group."""
    return isinstance(layer, nn.Conv2d) and layer.groups == layer.in_channels == layer.out_channels


def _pair_from(network: fx.GraphModule, node: fx.Node, own: set[str]) -> Pair | None:
    name, first = str(node.target), network.get_submodule(str(node.target))
    steps: set[str] = set()
    while len(node.users) == 1:
        (node,) = node.users
        if node.op == "call_module" and str(node.target) in own:
            second = network.get_submodule(str(node.target))
            if not _channels_fit(first, second, steps):
                return None
            padded = "padding" in steps or _pads_zeros(second)
            return Pair(name, str(node.target), "rectifier" in steps, padded)
        step = _step(network, node)
        if not step:
            return None
        steps.update(step)
    return None


def _step(network: fx.GraphModule, node: fx.Node) -> tuple[str, ...]:
    """What an operation between two layers is, in words; nothing for one that scaling does not
    pass.
    """
    if node.op != "call_module":
        return _functional_step(node)
    module = network.get_submodule(str(node.target))
    if type(module) in _RECTIFIERS:
        return ("rectifier",)
    if isinstance(module, _POINTWISE):
        return ("pointwise",)
    if isinstance(module, _POOLS):
        return ("spatial", "padding") if _averages_zeros(module) else ("spatial",)
    if isinstance(module, nn.ZeroPad2d):
        return "spatial", "padding"
    if isinstance(module, nn.Flatten) and (module.start_dim, module.end_dim) == (1, -1):
        return "spatial", "flat"
    return ()


def _functional_step(node: fx.Node) -> tuple[str, ...]:
    name = called_function(node)
    given = [*node.args[1:], *node.kwargs.values()]
    if name in ("dropout", "dropout2d", "contiguous"):
        return ("pointwise",)
    if name in _POOL_NAMES:
        return ("spatial",)
    if name == "avg_pool2d":
        return (
            "spatial",
            "padding",
        )  # its arguments are not looked into: at worst nothing is absorbed
    if name == "flatten" and given in ([1], [1, -1]):
        return "spatial", "flat"
    if name == "mean" and given and _axes(given[0]) == {2, 3}:
        return "spatial", "flat"
    return ()


def _axes(value: Any) -> set[int]:
    axes = value if isinstance(value, Sequence) else [value]
    return {axis % 4 for axis in axes if isinstance(axis, int)}


def _averages_zeros(pool: nn.Module) -> bool:
    if not isinstance(pool, nn.modules.pooling._AvgPoolNd):
        return False
    padding = pool.padding
    return bool(pool.count_include_pad) and any(
        padding if isinstance(padding, Sequence) else (padding,)
    )


def _pads_zeros(layer: nn.Module) -> bool:
    if not isinstance(layer, nn.Conv2d) or layer.padding_mode not in ("zeros", "constant"):
        return False
    if isinstance(layer.padding, str):
        return layer.padding == "same" and math.prod(layer.kernel_size) > 1
    return any(layer.padding)


def _channels_fit(first: nn.Module, second: nn.Module, steps: set[str]) -> bool:
    if isinstance(second, nn.Conv2d):
        return (
            isinstance(first, nn.Conv2d)
            and "flat" not in steps
            and second.in_channels == first.out_channels
        )
    assert isinstance(second, nn.Linear)
    if isinstance(first, nn.Linear):
        return "spatial" not in steps and second.in_features == first.out_features
    assert isinstance(first, nn.Conv2d)
    return "flat" in steps and second.in_features % first.out_channels == 0
