"""Layers whose weights can be quantized: ``nn.Conv2d``, ``nn.Linear`` and equivalent subclasses."""

from __future__ import annotations

from collections import Counter
from typing import Literal

from torch import fx, nn

LayerKind = Literal["conv", "linear"]


def layer_kind(module: nn.Module) -> LayerKind | None:
    """Return the kind of a quantizable layer, None for any other module.

    A subclass with its own forward (weight standardization, dynamic padding) computes something
    else, which a quantized layer in its place would lose: it is not quantizable.

    >>> layer_kind(nn.Conv2d(3, 8, 3)), layer_kind(nn.Linear(4, 2))
    ('conv', 'linear')
    >>> layer_kind(nn.ConvTranspose2d(3, 8, 3)) is None
    True
    """
    if _computes_like(module, nn.Conv2d):
        return "conv"
    if _computes_like(module, nn.Linear):
        return "linear"
    return None


def _computes_like(module: nn.Module, base: type[nn.Module]) -> bool:
    methods = ("forward", "_conv_forward")
    same = (getattr(type(module), name, None) is getattr(base, name, None) for name in methods)
    return isinstance(module, base) and all(same)


def own_layers(network: fx.GraphModule) -> set[str]:
    """Return the names of layers that may be rescaled.

    These are called once, and nothing else uses their parameters.
    """
    calls = Counter(str(node.target) for node in network.graph.nodes if node.op == "call_module")
    modules = {name: network.get_submodule(name) for name in calls}
    parameters = dict(network.named_parameters(remove_duplicate=False))
    uses = Counter(id(p) for m in modules.values() for p in m.parameters(recurse=False))
    uses.update(
        id(parameters[str(node.target)])
        for node in network.graph.nodes
        if node.op == "get_attr" and str(node.target) in parameters
    )
    return {
        name
        for name, module in modules.items()
        if layer_kind(module)
        and calls[name] == 1
        and all(uses[id(parameter)] == 1 for parameter in module.parameters())
    }
