"""A forward pass of many images through a student that is changed on the way, layer after layer."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx

from dynadfq.quant.bits import uniform
from dynadfq.quant.model import Student
from dynadfq.runtime.spill import spill


class LayerwiseForward:
    """One forward pass, stopped before a layer for as long as it takes; every module runs once on
    every image.

    What later modules still read is held for all images, a batch at a time in memory where that is
    much. Each activation has its target width.

    batches: (B, C, H, W) images, of which there are ``count`` in all; they are gone through once,
    in the beginning.
    """

    def __init__(self, student: Student, batches: Iterable[Tensor], count: int) -> None:
        self.student, self.count = student, count
        self._interpreter = fx.Interpreter(student.network)
        self._nodes = list(student.network.graph.nodes)
        place = {node: index for index, node in enumerate(self._nodes)}
        self._last_read = {
            node: max((place[user] for user in node.users), default=-1) for node in self._nodes
        }
        images, allocation = (node for node in self._nodes if node.op == "placeholder")
        bits = uniform(student.scheme.target_bits, len(student.sites))
        self._values: list[dict[fx.Node, Any]] = [
            {images: self._held(batch), allocation: bits} for batch in batches
        ]
        self._done = 0

    @torch.no_grad()
    def before(self, layer: str) -> list[Tensor]:
        """Go on to the first call of a layer, by name, and return the batches that it will read.

        Raises:
            ValueError: the pass has left that call behind.
        """
        calls = (
            i
            for i, node in enumerate(self._nodes)
            if node.op == "call_module" and node.target == layer
        )
        stop = next(calls)
        if stop < self._done:
            raise ValueError(
                f"the forward pass is beyond {layer}; take the layers in the order of their calls"
            )
        for values in self._values:
            self._go_on(values, stop)
        self._done = stop
        source = self._nodes[stop].args[0]
        assert isinstance(source, fx.Node)
        return [values[source] for values in self._values]

    def _go_on(self, values: dict[fx.Node, Any], stop: int) -> None:
        """One batch, to the stop; of its values, those remain that are read from there on."""
        device = next(self.student.parameters()).device
        env = {
            node: value.to(device) if isinstance(value, Tensor) else value
            for node, value in values.items()
        }
        self._interpreter.env = env
        for index in range(self._done, stop):
            node = self._nodes[index]
            if node.op != "placeholder":
                env[node] = self._interpreter.run_node(node)
            for read in (*node.all_input_nodes, node):
                if self._last_read[read] <= index:
                    env.pop(read, None)
        self._interpreter.env = {}
        for node in values.keys() - env.keys():
            del values[node]
        for node in env.keys() - values.keys():
            values[node] = self._held(env[node])

    def _held(self, value: Any) -> Any:
        """A value of one batch; tensors that have a row an image may be many images' worth of
        memory.
        """
        has_rows = isinstance(value, Tensor) and value.dim() and len(value)
        return spill(value, -(-self.count // len(value))) if has_rows else value
