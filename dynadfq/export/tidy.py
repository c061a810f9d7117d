"""Before a conversion: assertions out, functional BatchNorms (as in timm) as modules, so that they
are found.
"""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F


def tidy(network: fx.GraphModule) -> None:
    """Rewrite a graph in place; it computes the same."""
    for node in list(network.graph.nodes):
        if node.op == "call_function" and node.target is torch._assert:
            network.graph.erase_node(node)
        elif node.op == "call_function" and node.target is F.batch_norm:
            _as_module(network, node)
    network.graph.eliminate_dead_code()
    network.recompile()


def _as_module(network: fx.GraphModule, node: fx.Node) -> None:
    names = (
        "input",
        "running_mean",
        "running_var",
        "weight",
        "bias",
        "training",
        "momentum",
        "eps",
    )
    given = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    source, parts = given["input"], {name: _tensor(network, given.get(name)) for name in names[1:5]}
    if given.get("training") or parts["running_mean"] is None or parts["running_var"] is None:
        return
    norm = nn.BatchNorm2d(
        len(parts["running_mean"]), eps=float(str(given.get("eps", 1e-5))), affine=False
    ).eval()
    norm.running_mean, norm.running_var = parts["running_mean"], parts["running_var"]
    for name in ("weight", "bias"):
        if (value := parts[name]) is not None:
            norm.register_parameter(name, nn.Parameter(value, requires_grad=False))
    network.add_submodule(node.name, norm)
    assert isinstance(source, fx.Node)
    node.op, node.target, node.args, node.kwargs = "call_module", node.name, (source,), {}


def _tensor(network: fx.GraphModule, value: object) -> Tensor | None:
    """The tensor that a ``get_attr`` node reads."""
    if not isinstance(value, fx.Node) or value.op != "get_attr":
        return None
    owner, _, name = str(value.target).rpartition(".")
    tensor: Tensor | None = getattr(network.get_submodule(owner), name)
    return None if tensor is None else tensor.detach()
