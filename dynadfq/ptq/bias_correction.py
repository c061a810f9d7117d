"""Bias correction: quantized weights shift the mean of a layer's output, and its bias takes the
shift back.

Nagel et al., ICCV 2019, arXiv 1906.04721, Sec. 4.2. With ε = W̃ - W, a layer's output is off by
E[ỹ] - E[y] = ε · E[x].

* ``AnalyticCorrection`` takes E[x] from BatchNorm statistics, through activations and additions. It
  needs no image. Zeros that pad the input count as such, position by position, where the paper's
  formula takes all of ε. A corrected layer again has the teacher's mean, so the layers do not
  depend on each other, and the teacher's statistics hold.
* ``EmpiricalCorrection`` measures E[ỹ] - E[y] on synthetic images, layer by layer, the earlier ones
  quantized and corrected (the paper's appendix D; the default of AIMET). It also takes back what
  activations' rounding shifts.

A layer without a bias is corrected in the running mean of the BatchNorm that reads it. Layers that
are called several times have no single expectation, and stay as they are.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from dynadfq.graph.propagate import propagate
from dynadfq.ptq.bn_ranges import layer_gaussians, quantized_network
from dynadfq.quant.bits import uniform
from dynadfq.quant.layers import QuantizedLayer
from dynadfq.quant.model import Student
from dynadfq.quant.quantize import quantize_weight
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher


@dataclass(frozen=True)
class AnalyticCorrection:
    """A preparation that corrects biases by BatchNorm statistics; images are not looked at."""

    @torch.no_grad()
    def __call__(
        self, student: Student, teacher: Teacher, images: SyntheticSet | None = None, seed: int = 0
    ) -> None:
        """Correct every layer whose expected input is known; ``teacher`` is the network that was
        quantized.

        Raises:
            ValueError: a layer has neither a bias nor a BatchNorm of its own.
        """
        network = quantized_network(student, teacher)
        found = propagate(network, teacher.input_shape, layer_gaussians(teacher))
        for node in _corrected_calls(network, student):
            layer, weight = _layer(student, node), network.get_submodule(str(node.target)).weight
            assert isinstance(weight, Tensor)
            mean = found[node.all_input_nodes[0].name].mean
            shift = _channel_mean(
                layer.multiply(mean, quantized_weight(layer) - weight, None), layer
            )
            _add_to_output(student, network, node, -shift.nan_to_num(nan=0.0))


@dataclass(frozen=True)
class EmpiricalCorrection:
    """A preparation that corrects biases by what is measured on synthetic images.

    images: how many of them, in one batch.
    """

    images: int = 256

    @torch.no_grad()
    def __call__(
        self, student: Student, teacher: Teacher, images: SyntheticSet, seed: int = 0
    ) -> None:
        """Correct every layer on the way of one forward pass at the target width; ``teacher`` is
        what was quantized.

        Raises:
            ValueError: a layer has neither a bias nor a BatchNorm of its own.
        """
        batch = next(images.batches(self.images)).images.to(teacher.device)
        network = quantized_network(student, teacher)
        calls = _corrected_calls(network, student)
        expected = _output_means(network, [str(node.target) for node in calls], student, batch)
        student.eval()
        with ExitStack() as hooks:
            for node in calls:
                hook = _correcting_hook(student, network, node, expected[str(node.target)])
                hooks.callback(_layer(student, node).register_forward_hook(hook).remove)
            student.run(batch, uniform(student.scheme.target_bits, len(student.sites)))


def quantized_weight(layer: QuantizedLayer) -> Tensor:
    """A layer's weight as it is multiplied: values on its grid."""
    codes, scale = quantize_weight(layer.weight, layer.weight_bits, layer.qparams)
    return codes * scale


def _corrected_calls(network: fx.GraphModule, student: Student) -> list[fx.Node]:
    """Calls of quantized layers that are called once, in execution order."""
    calls = Counter(layer.name for layer in student.cost.trace.layers)
    nodes = {node.name: node for node in network.graph.nodes}
    return [nodes[layer.node] for layer in student.cost.trace.layers if calls[layer.name] == 1]


def _layer(student: Student, node: fx.Node) -> QuantizedLayer:
    layer = student.network.get_submodule(str(node.target))
    assert isinstance(layer, QuantizedLayer)
    return layer


def _channel_mean(output: Tensor, layer: QuantizedLayer) -> Tensor:
    """Mean of each channel, (C,), over images and positions."""
    return output.movedim(layer.channel_axis, 0).flatten(1).mean(dim=1)


def _output_means(
    network: fx.GraphModule, names: list[str], student: Student, batch: Tensor
) -> dict[str, Tensor]:
    """The (C,) mean output of each named layer of the float network."""
    means: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        like = student.network.get_submodule(name)
        assert isinstance(like, QuantizedLayer)
        return lambda module, inputs, output: means.update({name: _channel_mean(output, like)})

    with ExitStack() as hooks:
        for name in names:
            hooks.callback(network.get_submodule(name).register_forward_hook(keep(name)).remove)
        network(batch)
    return means


def _correcting_hook(
    student: Student, network: fx.GraphModule, node: fx.Node, expected: Tensor
) -> Any:
    """Corrects a layer after it was called, and what it answered, so that later layers see it
    corrected.
    """

    def correct(layer: QuantizedLayer, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        missing = expected - _channel_mean(output, layer)
        _add_to_output(student, network, node, missing)
        if layer.bias is None:
            return output  # the BatchNorm that comes next has been corrected
        shape = [1] * output.dim()
        shape[layer.channel_axis] = -1
        return output + missing.view(shape)

    return correct


def _add_to_output(
    student: Student, network: fx.GraphModule, node: fx.Node, amount: Tensor
) -> None:
    """Add (C,) to a layer's output: to its bias, or by way of the BatchNorm behind it."""
    layer, users = _layer(student, node), list(node.users)
    if layer.bias is not None:
        layer.bias.add_(amount)
        return
    alone = (
        len(users) == 1
        and sum(other.target == users[0].target for other in network.graph.nodes) == 1
    )
    norm = (
        student.network.get_submodule(str(users[0].target))
        if alone and users[0].op == "call_module"
        else None
    )
    if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or norm.running_mean is None:
        raise ValueError(
            f"{node.target} has no bias to correct, and no BatchNorm of its own behind it; fold the BatchNorms first "
            "(dynadfq.teacher.transforms.fold_batch_norms), which gives every layer a bias"
        )
    norm.running_mean.sub_(amount)
