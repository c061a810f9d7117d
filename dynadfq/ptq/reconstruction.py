"""Data of layerwise reconstruction: inputs in the student, targets from the float model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

from dynadfq.graph.activations import is_activation_call
from dynadfq.graph.calls import called_module, only_user
from dynadfq.ptq.layerwise import LayerwiseForward
from dynadfq.quant.layers import QuantizedLayer
from dynadfq.quant.model import Student
from dynadfq.runtime.spill import spill_concatenated


@dataclass(frozen=True)
class LayerCall:
    """A quantized layer and the modules that alone and directly follow it, by name.

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
    device = next(model.parameters()).device
    with model.unquantized():
        exact = (batch.to(device) for batch in float_pass.before(call.name))
        targets = (call.follow(model, call.layer(model)(batch)) for batch in exact)
        return LayerData(inputs, spill_concatenated(targets, float_pass.count))
