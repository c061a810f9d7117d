"""Layerwise reconstruction: a forward pass that stops before each layer, and a layer's data."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn

from dynadfq.graph.activations import is_activation_call
from dynadfq.graph.calls import called_module, only_user
from dynadfq.quant.layers import QuantizedLayer
from dynadfq.quant.model import Student
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.spill import spill, spill_concatenated


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
        bits = student.at_target
        self._values: list[dict[fx.Node, Any]] = [
            {images: self._kept(batch), allocation: bits} for batch in batches
        ]
        self._done = 0

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
            raise InvalidArgument(
                "layer",
                f"the forward pass is beyond {layer}; take the layers in the order of calls",
            )
        self._advance(stop)
        source = self._nodes[stop].all_input_nodes[0]
        return [values[source] for values in self._values]

    def after(self, node: fx.Node) -> list[Tensor]:
        """Run a node, if it was not yet, and return its value, batch by batch.

        The node may be of another student's graph of the same network. Its value must still be
        read later in the graph.
        """
        stop = next(i for i, own in enumerate(self._nodes) if own.name == node.name)
        self._advance(max(self._done, stop + 1))
        return [values[self._nodes[stop]] for values in self._values]

    @torch.no_grad()
    def _advance(self, stop: int) -> None:
        for values in self._values:
            self._continue(values, stop)
        self._done = stop

    def _continue(self, values: dict[fx.Node, Any], stop: int) -> None:
        """Run one batch up to a node; keep those of its values that are read from there on."""
        device = self.student.device
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


@dataclass(frozen=True)
class LayerCall:
    """A quantized layer and the modules that directly follow it as its only readers, by name.

    Followers are its BatchNorm and its activation, where it has them.
    """

    name: str
    followers: tuple[str, ...] = ()

    def layer(self, student: Student) -> QuantizedLayer:
        """Return the layer of a student."""
        layer = student.network.get_submodule(self.name)
        assert isinstance(layer, QuantizedLayer)
        return layer

    def follow(self, student: Student, y: Tensor) -> Tensor:
        """Return the (B, …) output of the followers for an output of the layer."""
        for name in self.followers:
            y = student.network.get_submodule(name)(y)
        return y


class LayerData(NamedTuple):
    """Inputs of a layer and targets of its followers' outputs, for N images.

    Where they are large, they are in temporary files.
    """

    inputs: Tensor  # (N, …), in the quantized student
    targets: Tensor  # (N, …), in the float model


def layer_calls(student: Student) -> list[LayerCall]:
    """Return the layers with quantized weights in the order of their first calls."""
    network = student.network
    calls: dict[str, LayerCall] = {}
    for node in network.graph.nodes:
        if isinstance(called_module(node, network), QuantizedLayer):
            name = str(node.target)
            calls.setdefault(name, LayerCall(name, tuple(_followers(network, node))))
    return list(calls.values())


def _followers(network: fx.GraphModule, node: fx.Node) -> Iterator[str]:
    after = only_user(node)
    if after and isinstance(called_module(after, network), nn.modules.batchnorm._BatchNorm):
        yield str(after.target)
        after = only_user(after)
    if after and is_activation_call(after, network):
        yield str(after.target)


@torch.no_grad()
def layer_data(
    quantized_pass: LayerwiseForward, float_pass: LayerwiseForward, call: LayerCall
) -> LayerData:
    """Return the data of a layer that both passes have not run yet.

    Args:
        quantized_pass: through a student that is quantized up to the layer.
        float_pass: through the same student before any weight was rounded; it computes in float.
        call: the layer.
    """
    inputs = spill_concatenated(quantized_pass.before(call.name), quantized_pass.count)
    model = float_pass.student
    with model.unquantized():
        exact = (batch.to(model.device) for batch in float_pass.before(call.name))
        targets = (call.follow(model, call.layer(model)(batch)) for batch in exact)
        return LayerData(inputs, spill_concatenated(targets, float_pass.count))
