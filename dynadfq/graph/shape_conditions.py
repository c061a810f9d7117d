"""Conditions on sizes, evaluated while a network is traced.

``if x.shape[-1] < 7`` has one answer for images of one size: the part of the graph that has been
traced is run on example images. A condition on values has no such answer, nor has one on the number
of images.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

_SIZES = ("shape", "ndim", "dtype", "device", "size", "dim")
# Originals of what a tracer replaces.
_CALL = nn.Module.__call__
_GETATTR = nn.Module.__getattr__


class ShapeConditions:
    """Evaluates conditions of a module that is being traced.

    Args:
        module: the network.
        example: (B, C, H, W) images; conditions are evaluated for B and for B + 1 of them.
    """

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        self.module = module
        self.batches = (example, torch.cat([example, example[:1]]))
        self.interpreters: list[_PartialInterpreter] = []

    def answer(self, condition: fx.Node) -> bool | None:
        """Return whether a condition holds; None if that does not depend on sizes alone."""
        if _depends_on_values(condition) or _depends_on_batch_size(condition):
            return None
        if not self.interpreters:
            self.interpreters = [
                _PartialInterpreter(self.module, condition.graph, batch) for batch in self.batches
            ]
        answers = {bool(interpreter.value(condition)) for interpreter in self.interpreters}
        return answers.pop() if len(answers) == 1 else None


class _PartialInterpreter(fx.Interpreter):
    """Runs a graph for one batch as it grows."""

    def __init__(self, module: nn.Module, graph: fx.Graph, batch: Tensor) -> None:
        super().__init__(module, garbage_collect_values=False, graph=graph)
        self.batch = batch

    def value(self, wanted: fx.Node) -> Any:
        """Return the value of a node, after running all nodes that have not run yet."""
        with torch.no_grad(), _untraced():
            for node in self.graph.nodes:
                if node not in self.env:
                    self.env[node] = self.run_node(node)
        return self.env[wanted]

    def placeholder(self, target: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
        return self.batch.clone()  # a network that works in place may write into its input


def _depends_on_values(condition: fx.Node) -> bool:
    """Whether images reach a condition other than through their sizes."""
    waiting = [condition]
    seen = {condition}
    while waiting:
        node = waiting.pop()
        if node.op == "placeholder":
            return True
        if not _reads_size(node):
            waiting += [source for source in node.all_input_nodes if source not in seen]
            seen.update(node.all_input_nodes)
    return False


def _depends_on_batch_size(condition: fx.Node) -> bool:
    """Whether a condition reads the length of a first axis."""
    waiting = [condition]
    while waiting:
        node = waiting.pop()
        if node.op == "call_method" and node.target == "size" and node.args[1:] == (0,):
            return True
        first = node.target is operator.getitem and node.args[1] == 0
        if first and _reads_size(cast(fx.Node, node.args[0])):
            return True
        if not _reads_size(node):
            waiting += node.all_input_nodes
    return False


def _reads_size(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in _SIZES
    return node.op == "call_function" and node.target is getattr and node.args[1] in _SIZES


@contextmanager
def _untraced() -> Iterator[None]:
    """Undo the tracer's patches for the block, so that modules compute values."""
    traced = (nn.Module.__call__, nn.Module.__getattr__)
    nn.Module.__call__ = _CALL  # type: ignore[method-assign]
    nn.Module.__getattr__ = _GETATTR  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__call__, nn.Module.__getattr__ = traced  # type: ignore[method-assign]
