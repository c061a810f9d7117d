"""What layer-wise reconstruction works on: a layer's inputs in the student and its outputs in the
float model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, fx, nn

from dynadfq.graph.activations import is_activation_call
from dynadfq.ptq.layerwise import LayerwiseForward
from dynadfq.quant.layers import QuantizedLayer
from dynadfq.quant.model import Student
from dynadfq.runtime.spill import spill_concatenated


@dataclass(frozen=True)
class LayerCall:
    """A quantized layer, by name, and the modules that alone and directly follow it: BatchNorm,
    activation.
    """

    name: str
    followers: tuple[str, ...] = ()

    def layer(self, student: Student) -> QuantizedLayer:
        """The layer of a student."""
        layer = student.network.get_submodule(self.name)
        assert isinstance(layer, QuantizedLayer)
        return layer

    def follow(self, student: Student, y: Tensor) -> Tensor:
        """What becomes of the layer's output, (B, …), behind its BatchNorm and activation."""
        for name in self.followers:
            y = student.network.get_submodule(name)(y)
        return y


class LayerData(NamedTuple):
    """Inputs of a layer and what its followers should answer, an image each; much of it lies in
    temporary files.
    """

    inputs: Tensor  # (N, …), in the quantized student
    targets: Tensor  # (N, …), in the float model


def layer_calls(student: Student) -> list[LayerCall]:
    """The layers with quantized weights in the order in which they are called first."""
    network, calls = student.network, dict[str, LayerCall]()
    for node in network.graph.nodes:
        name = str(node.target)
        if (
            node.op == "call_module"
            and name not in calls
            and isinstance(network.get_submodule(name), QuantizedLayer)
        ):
            calls[name] = LayerCall(name, tuple(_followers(network, node)))
    return list(calls.values())


def _followers(network: fx.GraphModule, node: fx.Node) -> Iterator[str]:
    after = _only_user(node)
    if after is not None and _is_batch_norm(network, after):
        yield str(after.target)
        after = _only_user(after)
    if after is not None and is_activation_call(after, network):
        yield str(after.target)


def _only_user(node: fx.Node) -> fx.Node | None:
    return next(iter(node.users)) if len(node.users) == 1 else None


def _is_batch_norm(network: fx.GraphModule, node: fx.Node) -> bool:
    return node.op == "call_module" and isinstance(
        network.get_submodule(str(node.target)), nn.modules.batchnorm._BatchNorm
    )


@torch.no_grad()
def layer_data(student: LayerwiseForward, floating: LayerwiseForward, call: LayerCall) -> LayerData:
    """What a layer, ahead of both passes, is to reconstruct.

    ``student`` walks through a network that is quantized up to the layer, every activation at its
    target width; ``floating`` through the same network before any weight was rounded, which
    computes in float here.
    """
    inputs = spill_concatenated(student.before(call.name), student.count)
    model, device = floating.student, next(floating.student.parameters()).device
    with model.unquantized():
        exact = (batch.to(device) for batch in floating.before(call.name))
        targets = (call.follow(model, call.layer(model)(batch)) for batch in exact)
        return LayerData(inputs, spill_concatenated(targets, floating.count))
