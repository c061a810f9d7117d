"""Features that student and teacher are compared on: where they are, and how they are recorded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import prod

import torch
from torch import Tensor, fx, nn

from dynadfq.graph.calls import ADDITIONS, PRODUCTS, called_module
from dynadfq.graph.trace import trace
from dynadfq.ops.batch_norm import BatchNorm
from dynadfq.ops.layers import layer_kind
from dynadfq.ops.precision import to_float32
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.teacher.teacher import Teacher


@contextmanager
def record_outputs(network: nn.Module, names: Iterable[str]) -> Iterator[dict[str, Tensor]]:
    """Record the outputs of named modules in the forward passes of this block.

    A recorded output lies on the way to the logits, so that they can be differentiated with respect
    to it. The hooks are removed at the end of the block.
    """
    outputs: dict[str, Tensor] = {}

    def recorder(name: str) -> object:
        def record(module: nn.Module, inputs: object, output: Tensor) -> Tensor:
            outputs[name] = to_float32(output)
            return outputs[name].clone()  # the next module may work in place

        return record

    handles = [
        network.get_submodule(name).register_forward_hook(recorder(name))  # type: ignore[arg-type]
        for name in names
    ]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def residual_branches(teacher: Teacher) -> tuple[str, ...]:
    """Return the names of the modules that end the branches of residual units (HAST), in order.

    They are the last layer or BatchNorm before each sum, on the longer of its two paths; in
    MobileNetV2 also those of bottlenecks without a shortcut. Without such units, they are the
    BatchNorms of pointwise convolutions behind depthwise ones, as in MobileNetV1; without these,
    the last BatchNorm of each resolution. Vectors without pixels, as in a head, are left out.

    Raises:
        ValueError: the network has no such module.
    """
    network = trace(teacher.module, teacher.example)
    length: dict[fx.Node, int] = {}  # modules on the longest path to a node
    ends: list[str | None] = []
    separable: list[str] = []
    for node in network.graph.nodes:
        sources = node.all_input_nodes
        longest = max((length[source] for source in sources), default=0)
        length[node] = longest + (node.op == "call_module")
        if (
            node.target in ADDITIONS
            and len(sources) == 2
            and all(length[source] for source in sources)
        ):
            ends.append(_branch_end(max(sources, key=length.__getitem__), network, length))
        elif _is_pointwise(node, network) and _is_pointwise_and_normalized(sources[0], network):
            ends.append(str(sources[0].target))
        if _is_pointwise_and_normalized(node, network) and _is_behind_depthwise(
            sources[0].all_input_nodes[0], network
        ):
            separable.append(str(node.target))
    outputs = _maps(teacher, list(dict.fromkeys(name for name in ends if name)) or separable)
    names = tuple(outputs) or _last_of_each_resolution(teacher)
    if not names:
        raise ValueError(
            "the network has neither residual units nor BatchNorm layers whose feature maps could "
            "be compared; choose a method that compares none"
        )
    return names


def transfer_branches(teacher: Teacher, attention_transfer: float) -> tuple[str, ...]:
    """Return the names of the modules whose attentions are compared; none where the weight is 0.

    Args:
        teacher: the float network.
        attention_transfer: weight of the comparison.

    Raises:
        InvalidArgument: the network has no maps to compare.
    """
    if not attention_transfer:
        return ()
    try:
        return residual_branches(teacher)
    except ValueError as error:
        reason = str(error).partition(";")[0]
        raise InvalidArgument(
            "attention_transfer", f"{attention_transfer:g} given, and {reason}; set it to 0"
        ) from error


def last_convolution(teacher: Teacher) -> str:
    """Return the name of the last convolution whose output has several pixels, for Grad-CAM.

    Raises:
        ValueError: the network has no such convolution besides its classifier.
    """
    names = [
        name
        for name, layer in teacher.module.named_modules()
        if isinstance(layer, nn.Conv2d) and layer is not teacher.classifier
    ]
    maps = [name for name, output in _outputs(teacher, names).items() if prod(output.shape[2:]) > 1]
    if not maps:
        raise ValueError(
            "the network has no convolution with an output of more than one pixel; choose a method "
            "that compares no class activation maps"
        )
    return maps[-1]


def _branch_end(node: fx.Node, network: fx.GraphModule, length: dict[fx.Node, int]) -> str | None:
    """The last layer or BatchNorm on the path to a node; of a gated map, on the map's own path."""
    while True:
        module = called_module(node, network)
        if isinstance(module, BatchNorm) or (module is not None and layer_kind(module)):
            return str(node.target)
        sources = [source for source in node.all_input_nodes if source.op != "get_attr"]
        if not sources:
            return None
        # A gate is computed from the map that it multiplies, so that its path is the longer one.
        choose = min if node.target in PRODUCTS else max
        node = choose(sources, key=length.__getitem__)


def _is_pointwise(node: fx.Node, network: fx.GraphModule) -> bool:
    module = called_module(node, network)
    return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)


def _is_pointwise_and_normalized(node: fx.Node, network: fx.GraphModule) -> bool:
    is_norm = isinstance(called_module(node, network), BatchNorm)
    return is_norm and _is_pointwise(node.all_input_nodes[0], network)


def _is_behind_depthwise(node: fx.Node, network: fx.GraphModule) -> bool:
    """Whether a node is a depthwise convolution, or BatchNorm and activation after one."""
    while True:
        module = called_module(node, network)
        if isinstance(module, nn.Conv2d):
            return module.groups == module.in_channels > 1
        if len(node.all_input_nodes) != 1 or (module is not None and layer_kind(module)):
            return False
        node = node.all_input_nodes[0]


def _last_of_each_resolution(teacher: Teacher) -> tuple[str, ...]:
    names = [name for name, layer in teacher.module.named_modules() if isinstance(layer, BatchNorm)]
    last = {output.shape[2:]: name for name, output in _maps(teacher, names).items()}
    return tuple(last.values())


def _maps(teacher: Teacher, names: list[str]) -> dict[str, Tensor]:
    """Outputs of named modules that have pixels or tokens, in execution order."""
    return {name: output for name, output in _outputs(teacher, names).items() if output.ndim > 2}


@torch.no_grad()
def _outputs(teacher: Teacher, names: list[str]) -> dict[str, Tensor]:
    """Outputs of named modules for one image, in execution order."""
    with record_outputs(teacher.module, names) as outputs:
        teacher(teacher.example)
    return outputs
