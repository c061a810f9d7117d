"""The tensors that integer engines need on a grid (docs/decisions/0013): scheme ``integer``.

An *integer operation* is a convolution or linear layer, an addition or product of two activations,
a concatenation, or an average pool. Each of its operands, and its result, is a site. A BatchNorm
and a clipping activation (ReLU, ReLU6, …) that alone read a result belong to the operation: the
site is behind them. Operations that only move values keep the grid of what they move. What follows
the last integer operation, such as the logits, stays float.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from torch import fx, nn

from dynadfq.graph.activation_sources import moves_values
from dynadfq.graph.calls import (
    ADDITIONS,
    AVERAGE_POOLS,
    PRODUCTS,
    called_function,
    called_module,
    only_user,
)
from dynadfq.graph.gaussian import clipping
from dynadfq.ops.layers import layer_kind

JOINS = ("cat", "concat", "concatenate", "stack")
UNLIMITED = (-math.inf, math.inf)
CLIPPING = (nn.ReLU, nn.ReLU6, nn.Hardtanh)  # not their subclasses, which may do something else
WITHOUT_EFFECT = (nn.Identity, nn.modules.dropout._DropoutNd)  # in eval mode

Limits = tuple[float, float]


@dataclass(frozen=True)
class Grid:
    """A tensor that scheme ``integer`` quantizes.

    node: whose output it is.
    wide: it has 8 bits whatever the width of other activations: what precedes the first layer, a
        result of any operation but a layer, and what not only layers read.
    limits: values outside which it never lies, because an activation clips to them.
    """

    node: fx.Node
    wide: bool
    limits: Limits


def clip_limits(module: nn.Module | None) -> Limits:
    """Return the bounds of an activation that clips and keeps 0; unlimited for any other module.

    >>> clip_limits(nn.ReLU6()), clip_limits(nn.SiLU())
    ((0.0, 6.0), (-inf, inf))
    """
    if module is None or type(module) not in CLIPPING:
        return UNLIMITED
    low, high = clipping(module) or UNLIMITED
    return (low, high) if low <= 0 <= high else UNLIMITED


class IntegerSites:
    """The sites of scheme ``integer`` in a normalized float network.

    Args:
        network: the graph.
        tensors: names of the nodes whose output is one tensor.
        nests: names of the nodes whose output is a nest of tensors.
    """

    def __init__(
        self, network: fx.GraphModule, tensors: Collection[str], nests: Collection[str]
    ) -> None:
        self.network = network
        self.tensors = tensors
        self.nests = nests
        self.nodes = list(network.graph.nodes)
        self.computed = self._computed()

    def grids(self) -> list[Grid]:
        """Return the sites in execution order."""
        operations = {node for node in self.nodes if self._is_operation(node)}
        before = self._ancestors(operations)
        quantized = {self.source(node) for one in operations for node in self._operands(one)}
        wide = quantized - self._after_layers()
        for operation in operations & before:
            result = self._result(operation)
            quantized.add(result)
            if not self._is_layer(operation):
                wide.add(result)
        return [
            Grid(node, node in wide or not self._only_layers_read(node), self._limits(node))
            for node in self.nodes
            if node in quantized
        ]

    def source(self, node: fx.Node) -> fx.Node:
        """Return the tensor whose values a tensor has, behind operations that move them.

        A concatenation counts as computing.
        """
        found = node
        while self._moves(node):
            node = node.all_input_nodes[0]
            found = node if node.name in self.tensors else found
        return found

    def _computed(self) -> set[fx.Node]:
        """Tensors that depend on the images, as opposed to constants."""
        found: set[fx.Node] = set()
        for node in self.nodes:
            depends = node.op == "placeholder" or any(n in found for n in node.all_input_nodes)
            if depends and (node.name in self.tensors or node.name in self.nests):
                found.add(node)
        return found

    def _moves(self, node: fx.Node) -> bool:
        if node.op in ("placeholder", "get_attr", "output") or not node.all_input_nodes:
            return False
        return moves_values(node, self.network) and called_function(node) not in JOINS

    def _is_layer(self, node: fx.Node) -> bool:
        module = called_module(node, self.network)
        return module is not None and layer_kind(module) is not None

    def _is_operation(self, node: fx.Node) -> bool:
        if node not in self.computed or node.op in ("placeholder", "output"):
            return False
        function = called_function(node)
        if node.target in ADDITIONS or node.target in PRODUCTS:
            return sum(n in self.computed for n in node.args) == 2 and not node.kwargs
        averages = isinstance(called_module(node, self.network), AVERAGE_POOLS)
        pools = averages or "avg_pool" in function or function == "mean"
        return self._is_layer(node) or pools or function in JOINS

    def _operands(self, operation: fx.Node) -> Iterator[fx.Node]:
        return (node for node in operation.all_input_nodes if node in self.computed)

    def _ancestors(self, operations: set[fx.Node]) -> set[fx.Node]:
        """Nodes whose values reach an operation."""
        found: set[fx.Node] = set()
        for node in reversed(self.nodes):
            if any(user in operations or user in found for user in node.users):
                found.add(node)
        return found

    def _after_layers(self) -> set[fx.Node]:
        """Nodes whose values come from a layer, as opposed to the images alone."""
        found: set[fx.Node] = set()
        for node in self.nodes:
            if self._is_layer(node) or any(source in found for source in node.all_input_nodes):
                found.add(node)
        return found

    def _result(self, operation: fx.Node) -> fx.Node:
        """Return the node at which an operation's result is quantized."""
        result = operation
        after = self._reader(result)
        if self._is_layer(operation) and after is not None and self._is_batch_norm(after):
            result = after
            after = self._reader(result)
        return result if after is None or self._limits(after) == UNLIMITED else after

    def _reader(self, node: fx.Node) -> fx.Node | None:
        """The only reader of a node, behind operations without effect in eval mode."""
        reader = only_user(node)
        while reader is not None and isinstance(
            called_module(reader, self.network), WITHOUT_EFFECT
        ):
            reader = only_user(reader)
        return reader

    def _is_batch_norm(self, node: fx.Node) -> bool:
        module = called_module(node, self.network)
        is_module = isinstance(module, nn.modules.batchnorm._BatchNorm)
        return is_module or called_function(node) == "batch_norm"

    def _limits(self, node: fx.Node) -> Limits:
        return clip_limits(called_module(node, self.network))

    def _only_layers_read(self, node: fx.Node) -> bool:
        return all(self._is_layer(reader) for reader in self._readers(node))

    def _readers(self, node: fx.Node) -> Iterator[fx.Node]:
        """Readers of a tensor's values, wherever these are moved to."""
        for user in node.users:
            if self._moves(user):
                yield from self._readers(user)
            elif user.op == "output" or user.name in self.tensors or user.name in self.nests:
                yield user
