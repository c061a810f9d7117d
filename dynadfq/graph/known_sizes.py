"""Sizes, and conditions on them, evaluated while a network is traced.

``x.shape[-1]`` is one number for images of one size, and ``if x.shape[-1] < 7`` has one answer: the
part of the graph that has been traced is run on example images. A condition on values has no such
answer, nor has one on the number of images.
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


class KnownSizes:
    """Evaluates sizes and conditions on sizes of a module that is being traced.

    Args:
        module: the network.
        example: (B, C, H, W) images; all is evaluated for B and for B + 1 of them, and is known
            where both give the same.
    """

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        self.module = module
        self.batches = (example, torch.cat([example, example[:1]]))
        self.interpreters: list[_PartialInterpreter] = []

    def answer(self, condition: fx.Node) -> bool | None:
        """Return whether a condition holds; None if that does not depend on sizes alone."""
        if _depends_on_values(condition) or _depends_on_batch_size(condition):
            return None
        answers = {bool(value) for value in self._values(condition)}
        return answers.pop() if len(answers) == 1 else None

    def number(self, node: fx.Node) -> int | torch.Size | None:
        """Return the size that a node reads; None if it reads none, or that of a batch."""
        if not _is_size(node):
            return None
        one, more = self._values(node)
        return one if one == more and isinstance(one, (int, torch.Size)) else None

    def _values(self, node: fx.Node) -> list[Any]:
        """The values of a node for both batches."""
        if not self.interpreters:
            self.interpreters = [
                _PartialInterpreter(self.module, node.graph, batch) for batch in self.batches
            ]
        return [interpreter.value(node) for interpreter in self.interpreters]


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


def _is_size(node: fx.Node) -> bool:
    """Whether a node is a size or several: ``x.size(1)``, ``x.dim()``, ``x.shape[2:]``."""
    if node.target is operator.getitem and isinstance(node.args[0], fx.Node):
        source = node.args[0]
        return _is_size(source) or (_reads_size(source) and not isinstance(node.args[1], fx.Node))
    if node.op != "call_method":
        return False
    return node.target == "dim" or (node.target == "size" and len(node.args) + len(node.kwargs) > 1)


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
