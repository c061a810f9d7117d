"""Bias correction: weight quantization shifts the mean of a layer's output; the bias removes it.

Nagel et al., ICCV 2019, arXiv 1906.04721, Sec. 4.2. With ε = W̃ - W, a layer's output is off by
E[ỹ] - E[y] = ε · E[x].

* ``analytic_correction`` takes E[x] from BatchNorm statistics, through activations and additions.
  It needs no image. Zeros that pad the input count as such, position by position, where the paper's
  formula takes all of ε. A corrected layer has the teacher's mean again, so the layers do not
  depend on each other, and the teacher's statistics hold.
* ``empirical_correction`` measures E[ỹ] - E[y] on synthetic images, layer by layer, the earlier
  ones quantized and corrected (the paper's appendix D; the default of AIMET). It also corrects the
  shift of quantized activations.

A layer without a bias is corrected in the running mean of the BatchNorm that reads it. Layers that
are called several times have no single expectation, and are not changed.
"""

from __future__ import annotations

from collections import Counter
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, fx, nn

from dynadfq.graph.calls import called_module, only_user
from dynadfq.graph.propagate import propagate
from dynadfq.ptq.ranges import layer_gaussians, quantized_network
from dynadfq.quant.layers import QuantizedLayer
from dynadfq.quant.model import Student
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher


@torch.no_grad()
def analytic_correction(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet | None = None,
    seed: int = 0,
    scratch: Scratch | None = None,
) -> None:
    """Correct every layer with a known expected input by BatchNorm statistics.

    Args:
        student: its biases are corrected in place.
        teacher: the network that was quantized.
        images, seed, scratch: not used.

    Raises:
        ValueError: a layer has neither a bias nor a BatchNorm of its own.
    """
    network = quantized_network(student, teacher)
    found = propagate(network, teacher.input_shape, layer_gaussians(teacher))
    for node in _corrected_calls(network, student):
        layer = _layer(student, node)
        weight = network.get_submodule(str(node.target)).weight
        assert isinstance(weight, Tensor)
        mean = found[node.all_input_nodes[0].name].mean
        shift = layer.multiply(mean, layer.quantized_weight - weight, None)
        amount = -_channel_mean(shift, layer).nan_to_num(nan=0.0)
        _add_to_output(student, network, node, amount)


@torch.no_grad()
def empirical_correction(
    student: Student,
    teacher: Teacher,
    images: SyntheticSet,
    seed: int = 0,
    scratch: Scratch | None = None,
    count: int = 256,
) -> None:
    """Correct every layer during one forward pass at the target width.

    Args:
        student: its biases are corrected in place.
        teacher: the network that was quantized.
        images: the synthetic images.
        seed, scratch: not used.
        count: number of images, in one batch.

    Raises:
        ValueError: a layer has neither a bias nor a BatchNorm of its own.
    """
    batch = next(images.batches(count)).images.to(teacher.device)
    network = quantized_network(student, teacher)
    calls = _corrected_calls(network, student)
    expected = _output_means(network, calls, student, batch)
    student.eval()
    with ExitStack() as hooks:
        for node in calls:
            hook = _correcting_hook(student, network, node, expected[str(node.target)])
            hooks.enter_context(_layer(student, node).register_forward_hook(hook))
        student.run(batch, student.at_target)


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
    """The (C,) mean of each channel over images and positions."""
    return output.movedim(layer.channel_axis, 0).flatten(1).mean(dim=1)


def _output_means(
    network: fx.GraphModule, calls: list[fx.Node], student: Student, batch: Tensor
) -> dict[str, Tensor]:
    """The (C,) mean output of each called layer of the float network, by name."""
    means: dict[str, Tensor] = {}

    def hook_of(node: fx.Node) -> Any:
        def keep(module: nn.Module, inputs: tuple[Any, ...], output: Tensor) -> None:
            means[str(node.target)] = _channel_mean(output, _layer(student, node))

        return keep

    with ExitStack() as hooks:
        for node in calls:
            layer = network.get_submodule(str(node.target))
            hooks.enter_context(layer.register_forward_hook(hook_of(node)))
        network(batch)
    return means


def _correcting_hook(
    student: Student, network: fx.GraphModule, node: fx.Node, expected: Tensor
) -> Any:
    """A hook that corrects a layer after its call, and its output for the layers after it."""

    def correct(layer: QuantizedLayer, inputs: tuple[Any, ...], output: Tensor) -> Tensor:
        missing = expected - _channel_mean(output, layer)
        _add_to_output(student, network, node, missing)
        if layer.bias is None:
            return output  # the BatchNorm that reads it has been corrected
        shape = [1] * output.dim()
        shape[layer.channel_axis] = -1
        return output + missing.view(shape)

    return correct


def _add_to_output(
    student: Student, network: fx.GraphModule, node: fx.Node, amount: Tensor
) -> None:
    """Add (C,) to a layer's output: to its bias, or by the BatchNorm that reads it."""
    layer = _layer(student, node)
    if layer.bias is not None:
        layer.bias.add_(amount)
        return
    norm = _own_reader(student, network, node)
    if not isinstance(norm, nn.modules.batchnorm._BatchNorm) or norm.running_mean is None:
        raise ValueError(
            f"{node.target} has no bias to correct, and no BatchNorm of its own after it; fold the "
            "BatchNorms first (dynadfq.teacher.transforms.fold_batch_norms), which gives every "
            "layer a bias"
        )
    norm.running_mean.sub_(amount)


def _own_reader(student: Student, network: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """The module that is the only reader of a node, if nothing else calls it."""
    user = only_user(node)
    if user is None or sum(other.target == user.target for other in network.graph.nodes) > 1:
        return None
    return called_module(user, student.network)
