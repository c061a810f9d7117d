"""Edits of a graph before and during a conversion."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from dynadfq.graph.calls import named_arguments

BATCH_NORM_ARGUMENTS = (
    "input",
    "running_mean",
    "running_var",
    "weight",
    "bias",
    "training",
    "momentum",
    "eps",
)


def replace_module(
    network: fx.GraphModule, node: fx.Node, module: nn.Module, args: tuple[Any, ...] | None = None
) -> str:
    """Let a call use another module, and return the module's name.

    It has the name of the old module, or a new one where other calls need the old module.

    Args:
        network: the graph.
        node: a call of a module.
        module: the new module.
        args: new arguments of the call; None keeps the old ones.
    """
    name = str(node.target)
    if len(network.graph.find_nodes(op="call_module", target=name)) > 1:
        name = f"{name}_{node.name}"
    network.add_submodule(name, module)
    node.target = name
    if args is not None:
        node.args = args
        node.kwargs = {}
    return name


def as_module_call(node: fx.Node) -> fx.Node:
    """Turn a call, in place, into a call of the module with the node's name on its first input."""
    node.op = "call_module"
    node.target = node.name
    node.args = (node.all_input_nodes[0],)
    node.kwargs = {}
    return node


def tidy(network: fx.GraphModule) -> None:
    """Remove assertions and make functional BatchNorms (as in timm) modules, in place."""
    for node in list(network.graph.nodes):
        if node.op == "call_function" and node.target is torch._assert:
            network.graph.erase_node(node)
        elif node.op == "call_function" and node.target is F.batch_norm:
            _batch_norm_as_module(network, node)
    network.graph.eliminate_dead_code()
    network.recompile()


def _batch_norm_as_module(network: fx.GraphModule, node: fx.Node) -> None:
    given = named_arguments(node, *BATCH_NORM_ARGUMENTS)
    mean = _tensor(network, given["running_mean"])
    variance = _tensor(network, given["running_var"])
    if given.get("training") or mean is None or variance is None:
        return
    epsilon = float(str(given.get("eps", 1e-5)))
    norm = nn.BatchNorm2d(len(mean), eps=epsilon, affine=False).eval()
    norm.running_mean = mean
    norm.running_var = variance
    for name in ("weight", "bias"):
        value = _tensor(network, given.get(name))
        if value is not None:
            norm.register_parameter(name, nn.Parameter(value, requires_grad=False))
    network.add_submodule(node.name, norm)
    as_module_call(node).args = (given["input"],)


def _tensor(network: fx.GraphModule, value: object) -> Tensor | None:
    """The tensor that a ``get_attr`` node reads."""
    if not isinstance(value, fx.Node) or value.op != "get_attr":
        return None
    owner, _, name = str(value.target).rpartition(".")
    tensor: Tensor | None = getattr(network.get_submodule(owner), name)
    return None if tensor is None else tensor.detach()
