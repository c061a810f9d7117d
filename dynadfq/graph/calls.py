"""Questions about the nodes of a graph."""

from __future__ import annotations

from torch import fx, nn


def called_module(node: fx.Node, network: nn.Module) -> nn.Module | None:
    """Return the module that a node calls; None where it calls none."""
    return network.get_submodule(str(node.target)) if node.op == "call_module" else None


def only_user(node: fx.Node) -> fx.Node | None:
    """Return the node that reads a node, if it is the only one."""
    return next(iter(node.users)) if len(node.users) == 1 else None
