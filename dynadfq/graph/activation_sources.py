"""The activations that the values of a tensor come from.

A network runs on labels instead of numbers: each element of a label tensor says where that element
was computed. Operations that only move or select values (max-pooling, flatten, concatenation,
split, channel shuffle, …) are applied to the labels themselves, so that any arrangement of channels
is followed exactly. Every other operation makes new float32 values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

from dynadfq.graph.calls import called_function, called_module, named_arguments

# Labels. Activations have the largest ones: max-pooling over zero padding must keep them.
ZERO = 0  # zero padding, which every quantizer represents exactly
FLOAT = 1  # a float32 result
INPUT = 2  # the network's input
FIRST_SITE = 3  # the first activation; others follow

_MOVING_MODULES = (
    nn.Identity,
    nn.modules.dropout._DropoutNd,
    nn.modules.pooling._MaxPoolNd,
    nn.modules.pooling._AdaptiveMaxPoolNd,
    nn.Flatten,
    nn.Unflatten,
    nn.ChannelShuffle,
    nn.PixelShuffle,
    nn.PixelUnshuffle,
    nn.ZeroPad2d,
    nn.ReflectionPad2d,
    nn.ReplicationPad2d,
)
_REPEATING = ("nearest", "nearest-exact")  # modes of interpolation
_MOVING_FUNCTIONS = frozenset(
    """
    cat concat concatenate stack chunk split tensor_split unbind getitem narrow select index_select
    view reshape reshape_as flatten unflatten permute transpose swapaxes movedim t squeeze unsqueeze
    expand expand_as repeat
    max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout stochastic_depth
    channel_shuffle pixel_shuffle pixel_unshuffle contiguous clone detach getattr size dim
    """.split()  # noqa: SIM905 - so many names read better as text
)


def moves_values(node: fx.Node, root: nn.Module) -> bool:
    """Return whether a node only moves or selects values of its input.

    Args:
        node: of a graph in eval mode.
        root: the module of the graph.
    """
    if node.op in ("placeholder", "output"):
        return True
    module = called_module(node, root)
    if module is not None:
        return module_moves_values(module)
    function = called_function(node)
    if function == "pad":
        arguments = named_arguments(node, "input", "pad", "mode", "value")
        return arguments.get("mode", "constant") != "constant" or not arguments.get("value")
    if function == "interpolate":
        arguments = named_arguments(node, "input", "size", "scale_factor", "mode")
        return arguments.get("mode", "nearest") in _REPEATING
    return function in _MOVING_FUNCTIONS


def module_moves_values(module: nn.Module) -> bool:
    """Return whether a module in eval mode only moves or selects values.

    >>> module_moves_values(nn.Upsample(scale_factor=2)), module_moves_values(nn.AvgPool2d(2))
    (True, False)
    """
    if isinstance(module, nn.Upsample):
        return module.mode in _REPEATING
    return isinstance(module, _MOVING_MODULES)


def relabel(output: Any, inputs: list[Any], label: int) -> Any:
    """Return ``output`` with every element labelled ``label``.

    Args:
        output: a tensor or a nest of tensors.
        inputs: of the operation. An output that is one of them was computed in place: that tensor
            is overwritten, for all its readers.
        label: of the new values.
    """

    def relabel_tensor(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if any(value is tensor for tensor in inputs):
            return value.fill_(label)
        return torch.full_like(value, label)

    return tree_map(relabel_tensor, output)


def fractions(labels: Tensor) -> dict[int, float]:
    """Return the fraction of elements with each label, apart from zero padding.

    >>> fractions(torch.tensor([0, 3, 3, 1, 3]))
    {1: 0.25, 3: 0.75}
    """
    found, counts = labels[labels != ZERO].unique(return_counts=True)
    total = int(counts.sum())
    return {int(label): int(count) / total for label, count in zip(found, counts, strict=True)}
