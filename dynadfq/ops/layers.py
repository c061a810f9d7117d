"""Which modules are layers whose weights can be quantized: `nn.Conv2d`, `nn.Linear`, and what
computes the same.
"""

from __future__ import annotations

from collections import Counter
from typing import Literal

from torch import fx, nn

LayerKind = Literal["conv", "linear"]


def layer_kind(module: nn.Module) -> LayerKind | None:
    """The kind of a quantizable layer, None for any other module.

    A subclass with a forward of its own (weight standardization, dynamic padding) computes
    something else, which replacing it by a quantized layer would lose: it counts as float.

    >>> layer_kind(nn.Conv2d(3, 8, 3)), layer_kind(nn.Linear(4, 2)), layer_kind(nn.ConvTranspose2d(3, 8, 3))
    ('conv', 'linear', None)
    """
    if _computes_like(module, nn.Conv2d):
        return "conv"
    return "linear" if _computes_like(module, nn.Linear) else None


def _computes_like(module: nn.Module, base: type[nn.Module]) -> bool:
    methods = ("forward", "_conv_forward")
    same = (getattr(type(module), name, None) is getattr(base, name, None) for name in methods)
    return isinstance(module, base) and all(same)


def own_layers(network: fx.GraphModule) -> set[str]:
    """Names of the layers that a graph calls once and whose parameters nothing else uses: they may
    be rescaled.
    """
    calls = Counter(str(node.target) for node in network.graph.nodes if node.op == "call_module")
    modules = [network.get_submodule(name) for name in calls]
    uses = Counter(
        id(parameter) for module in modules for parameter in module.parameters(recurse=False)
    )
    uses.update(
        id(network.get_parameter(str(n.target)))
        for n in network.graph.nodes
        if _reads_parameter(network, n)
    )
    return {
        name
        for name, module in zip(calls, modules, strict=True)
        if layer_kind(module)
        and calls[name] == 1
        and all(uses[id(p)] == 1 for p in module.parameters())
    }


def _reads_parameter(network: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "get_attr" and str(node.target) in dict(
        network.named_parameters(remove_duplicate=False)
    )
