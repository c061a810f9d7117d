"""Names of the modules whose features student and teacher are compared on, found in the teacher's
graph.
"""

from __future__ import annotations

import operator
from math import prod

import torch
from torch import Tensor, fx, nn

from dynadfq.graph.trace import trace
from dynadfq.ops.batch_norm import BatchNorm
from dynadfq.ops.layers import layer_kind
from dynadfq.teacher.classifier import find_classifier
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.loss import record_outputs

_SUMS = (operator.add, operator.iadd, torch.add, "add", "add_")
_PRODUCTS = (operator.mul, operator.imul, torch.mul, "mul", "mul_")


def residual_branches(teacher: Teacher) -> tuple[str, ...]:
    """Names of the modules that end the residual units' branches, in order (HAST's feature
    alignment).

    Before each sum, the last layer or BatchNorm of the longer of its two ways; in MobileNetV2 also
    of the bottlenecks without a shortcut. A network without such units answers with the last
    BatchNorm of each resolution.
    """
    network = trace(teacher.module, torch.zeros(1, *teacher.input_shape, device=teacher.device))
    length: dict[fx.Node, int] = {}  # modules on the longest way to a node
    ends: list[str | None] = []
    for node in network.graph.nodes:
        sources = node.all_input_nodes
        length[node] = (node.op == "call_module") + max(
            (length[source] for source in sources), default=0
        )
        if node.target in _SUMS and len(sources) == 2 and all(length[source] for source in sources):
            ends.append(_end(max(sources, key=length.__getitem__), network, length))
        elif _is_pointwise(node, network) and _is_pointwise_and_normalized(sources[0], network):
            ends.append(str(sources[0].target))
    return tuple(dict.fromkeys(name for name in ends if name)) or _last_of_each_resolution(teacher)


def _end(node: fx.Node, network: fx.GraphModule, length: dict[fx.Node, int]) -> str | None:
    """The last layer or BatchNorm on the way to a node; of a gated map, on the map's own way."""
    while node.op != "call_module" or not _has_channels(network.get_submodule(str(node.target))):
        sources = [source for source in node.all_input_nodes if source.op != "get_attr"]
        if not sources:
            return None
        # A gate is computed from the map it multiplies, so its way is the longer one.
        node = (min if node.target in _PRODUCTS else max)(sources, key=length.__getitem__)
    return str(node.target)


def _has_channels(module: nn.Module) -> bool:
    return isinstance(module, BatchNorm) or layer_kind(module) is not None


def _is_pointwise(node: fx.Node, network: fx.GraphModule) -> bool:
    module = network.get_submodule(str(node.target)) if node.op == "call_module" else None
    return isinstance(module, nn.Conv2d) and module.kernel_size == (1, 1)


def _is_pointwise_and_normalized(node: fx.Node, network: fx.GraphModule) -> bool:
    if node.op != "call_module" or not isinstance(
        network.get_submodule(str(node.target)), BatchNorm
    ):
        return False
    return _is_pointwise(node.all_input_nodes[0], network)


def last_convolution(teacher: Teacher) -> str:
    """Name of the last convolution whose output still is a map: what Grad-CAM looks at. A 1×1
    classifier is none.

    Raises:
        ValueError: the network has no such convolution.
    """
    classifier = find_classifier(teacher.module, teacher.num_classes)
    layers = teacher.module.named_modules()
    names = [
        name for name, layer in layers if isinstance(layer, nn.Conv2d) and layer is not classifier
    ]
    maps = [name for name, output in _outputs(teacher, names).items() if prod(output.shape[2:]) > 1]
    if not maps:
        raise ValueError(
            "the network has no convolution with an output of more than one pixel to look at"
        )
    return maps[-1]


def _last_of_each_resolution(teacher: Teacher) -> tuple[str, ...]:
    names = [name for name, layer in teacher.module.named_modules() if isinstance(layer, BatchNorm)]
    return tuple(
        {output.shape[2:]: name for name, output in _outputs(teacher, names).items()}.values()
    )


@torch.no_grad()
def _outputs(teacher: Teacher, names: list[str]) -> dict[str, Tensor]:
    """Outputs of named modules for one image, in execution order."""
    with record_outputs(teacher.module, names) as outputs:
        teacher(torch.zeros(1, *teacher.input_shape, device=teacher.device))
    return dict(outputs)
