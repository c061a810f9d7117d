"""Calls in a graph: what a node calls, with which arguments, where, and which node reads it."""

from __future__ import annotations

import operator
from typing import Any

import torch
from torch import fx, nn

ADDITIONS = (operator.add, operator.iadd, torch.add, "add", "add_")
PRODUCTS = (operator.mul, operator.imul, torch.mul, "mul", "mul_")
AVERAGE_POOLS = (nn.modules.pooling._AvgPoolNd, nn.modules.pooling._AdaptiveAvgPoolNd)


def called_module(node: fx.Node, network: nn.Module) -> nn.Module | None:
    """Return the module that a node calls; None for any other node."""
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def called_function(node: fx.Node) -> str:
    """Return the name of the function or method that a node calls; empty for any other node."""
    if node.op not in ("call_function", "call_method"):
        return ""
    return str(getattr(node.target, "__name__", node.target))


def named_arguments(node: fx.Node, *names: str) -> dict[str, Any]:
    """Return a call's arguments by name, where ``names`` are those of its positional ones."""
    return dict(zip(names, node.args, strict=False)) | dict(node.kwargs)


def calling_block(node: fx.Node) -> str:
    """Return the path of the module whose forward makes a call, with a dot; empty for the root."""
    blocks = list((node.meta.get("nn_module_stack") or {}).values())
    return f"{blocks[-1][0]}." if blocks and blocks[-1][0] else ""


def only_user(node: fx.Node) -> fx.Node | None:
    """Return the node that reads a node, if it is the only one."""
    return next(iter(node.users)) if len(node.users) == 1 else None
