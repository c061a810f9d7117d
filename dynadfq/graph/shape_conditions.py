"""Conditions on sizes, answered while a network is traced: `if x.shape[-1] < 7` has one answer for
images of one size.

The graph that has been written so far is run on example images as far as the condition needs it. A
condition on values is not answered, nor one on the number of images.
"""

from __future__ import annotations

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, fx, nn

_MEASURES = ("shape", "ndim", "dtype", "device", "size", "dim")
_CALL, _GETATTR = nn.Module.__call__, nn.Module.__getattr__  # tracing replaces them


class Conditions:
    """Runs unfinished graphs of a module on the images of ``example``, (B, C, H, W), and on one
    image more.
    """

    def __init__(self, module: nn.Module, example: Tensor) -> None:
        batches = (example, torch.cat([example, example[:1]]))
        self.walks = [_Walk(module, batch) for batch in batches]

    def answer(self, condition: fx.Node) -> bool | None:
        """Whether a condition holds; None where that is not a matter of sizes."""
        if _depends_on_values(condition) or _counts_images(condition):
            return None
        answers = {bool(walk.value(condition)) for walk in self.walks}
        return answers.pop() if len(answers) == 1 else None


class _Walk:
    """The values of a graph's nodes for one batch, worked out as the graph grows."""

    def __init__(self, module: nn.Module, batch: Tensor) -> None:
        self.module, self.batch = module, batch
        self.values: dict[fx.Node, Any] = {}

    def value(self, wanted: fx.Node) -> Any:
        with torch.no_grad(), _untraced():
            for node in wanted.graph.nodes:
                if node not in self.values:
                    self.values[node] = self._run(node)
        return self.values[wanted]

    def _run(self, node: fx.Node) -> Any:
        if node.op == "placeholder":
            return self.batch.clone()  # a network that works in place may write into its input
        args: Any = fx.map_arg(node.args, self.values.__getitem__)
        kwargs: Any = fx.map_arg(node.kwargs, self.values.__getitem__)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        if callable(node.target):
            return node.target(*args, **kwargs)
        found = self._attribute(str(node.target))
        return found if node.op == "get_attr" else found(*args, **kwargs)

    def _attribute(self, path: str) -> Any:
        found: Any = self.module
        for name in path.split("."):
            found = getattr(found, name)
        return found


def _depends_on_values(condition: fx.Node) -> bool:
    """Whether there is a way from the images to a condition that does not lead through a size or
    the like.
    """
    waiting, seen = [condition], {condition}
    while waiting:
        node = waiting.pop()
        if node.op == "placeholder":
            return True
        if not _measures(node):
            waiting += [source for source in node.all_input_nodes if source not in seen]
            seen.update(node.all_input_nodes)
    return False


def _counts_images(condition: fx.Node) -> bool:
    """Whether a condition asks for the length of a first axis, which may hold any number of
    images.
    """
    waiting = [condition]
    while waiting:
        node = waiting.pop()
        if node.op == "call_method" and node.target == "size" and node.args[1:] == (0,):
            return True
        if (
            node.target is operator.getitem
            and node.args[1] == 0
            and _measures(cast(fx.Node, node.args[0]))
        ):
            return True
        waiting += [] if _measures(node) else node.all_input_nodes
    return False


def _measures(node: fx.Node) -> bool:
    if node.op == "call_method":
        return node.target in _MEASURES
    return node.op == "call_function" and node.target is getattr and node.args[1] in _MEASURES


@contextmanager
def _untraced() -> Iterator[None]:
    """Modules that are called in this block compute, also while a tracer is at work."""
    traced = nn.Module.__call__, nn.Module.__getattr__
    nn.Module.__call__, nn.Module.__getattr__ = _CALL, _GETATTR  # type: ignore[method-assign]
    try:
        yield
    finally:
        nn.Module.__call__, nn.Module.__getattr__ = traced  # type: ignore[method-assign]
