"""A forward pass of many images that stops before each layer, so that layers can be changed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx

from dynadfq.quant.bits import uniform
from dynadfq.quant.model import Student
from dynadfq.runtime.spill import spill


class LayerwiseForward:
    """One forward pass through a student; every module runs once on every image.

    Values that later modules read are kept for all images; where that is too much memory, they are
    in temporary files, and one batch at a time is in memory. Activations have the target width.

    Args:
        student: the student.
        batches: (B, C, H, W) images; they are read once, at the start.
        count: number of images in all batches.
    """

    def __init__(self, student: Student, batches: Iterable[Tensor], count: int) -> None:
        self.student = student
        self.count = count
        self._interpreter = fx.Interpreter(student.network)
        self._nodes = list(student.network.graph.nodes)
        position = {node: index for index, node in enumerate(self._nodes)}
        self._last_read = {
            node: max((position[user] for user in node.users), default=-1) for node in self._nodes
        }
        images, allocation = (node for node in self._nodes if node.op == "placeholder")
        bits = uniform(student.scheme.target_bits, len(student.sites))
        self._values: list[dict[fx.Node, Any]] = [
            {images: self._kept(batch), allocation: bits} for batch in batches
        ]
        self._done = 0

    @torch.no_grad()
    def before(self, layer: str) -> list[Tensor]:
        """Continue to the first call of a layer, by name, and return its input, batch by batch.

        Raises:
            ValueError: the pass has already run the layer.
        """
        stop = next(
            index
            for index, node in enumerate(self._nodes)
            if node.op == "call_module" and node.target == layer
        )
        if stop < self._done:
            raise ValueError(
                f"layer: the forward pass is beyond {layer}; take the layers in the order of calls"
            )
        for values in self._values:
            self._continue(values, stop)
        self._done = stop
        source = self._nodes[stop].all_input_nodes[0]
        return [values[source] for values in self._values]

    def _continue(self, values: dict[fx.Node, Any], stop: int) -> None:
        """Run one batch up to a node; keep those of its values that are read from there on."""
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
            values[node] = self._kept(env[node])

    def _kept(self, value: Any) -> Any:
        """A value of one batch, in a temporary file if those of all batches need much memory."""
        has_rows = isinstance(value, Tensor) and value.dim() and len(value)
        return spill(value, -(-self.count // len(value))) if has_rows else value
