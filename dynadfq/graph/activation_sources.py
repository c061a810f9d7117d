"""Which activation a tensor's values come from, found by sending labels through the network in
place of numbers.

Each element of a label tensor says where that element was made. Operations that only move or select
values (max-pooling, flatten, concatenation, split, channel shuffle, …) are applied to the labels
themselves, so that any arrangement of channels is followed exactly; every other operation makes new
float32 values.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map

ZERO, FLOAT, INPUT, FIRST_SITE = 0, 1, 2, 3
"""Labels: zero padding (exact on every grid), a float32 result, the network input, the first
activation; others follow.

Activations have the largest labels: max-pooling over zero padding must keep them.
"""

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
_MOVING_NAMES = """
    cat concat concatenate stack chunk split tensor_split unbind getitem narrow select index_select
    view reshape reshape_as flatten unflatten permute transpose swapaxes movedim t squeeze unsqueeze expand expand_as
    repeat
    max_pool1d max_pool2d max_pool3d adaptive_max_pool1d adaptive_max_pool2d adaptive_max_pool3d
    dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout stochastic_depth
    channel_shuffle pixel_shuffle pixel_unshuffle contiguous clone detach getattr size dim
""".split()  # noqa: SIM905 - a list this long reads better as text


def moves_values(node: fx.Node, root: nn.Module) -> bool:
    """Whether a node of an eval-mode graph only moves or selects values: its output lies on its
    input's grid.
    """
    if node.op in ("placeholder", "output"):
        return True
    if node.op == "call_module":
        return module_moves_values(root.get_submodule(str(node.target)))
    name = called_function(node)
    if name == "pad":
        return _pads_with_zeros_or_values(node)
    return name in _MOVING_NAMES or (name == "interpolate" and _repeats_pixels(node))


def module_moves_values(module: nn.Module) -> bool:
    """Whether a module, in eval mode, only moves or selects values.

    >>> module_moves_values(nn.Upsample(scale_factor=2)), module_moves_values(nn.AvgPool2d(2))
    (True, False)
    """
    return isinstance(module, _MOVING_MODULES) or (
        isinstance(module, nn.Upsample) and module.mode in _REPEATING
    )


def called_function(node: fx.Node) -> str:
    """The name of the function or method that a node calls; empty for any other node."""
    if node.op not in ("call_function", "call_method"):
        return ""
    return str(getattr(node.target, "__name__", node.target))


def relabel(output: Any, inputs: list[Any], label: int) -> Any:
    """`output` (a tensor or a nest of tensors) with every element labelled `label`.

    An output that is one of the inputs was computed in place: that tensor is overwritten, for all
    its readers.
    """

    def relabel_tensor(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if any(value is tensor for tensor in inputs):
            return value.fill_(label)
        return torch.full_like(value, label)

    return tree_map(relabel_tensor, output)


def fractions(labels: Tensor) -> dict[int, float]:
    """The share of elements with each label, zero padding left out.

    >>> fractions(torch.tensor([0, 3, 3, 1, 3]))
    {1: 0.25, 3: 0.75}
    """
    found, counts = labels[labels != ZERO].unique(return_counts=True)
    return {
        int(label): int(count) / int(counts.sum())
        for label, count in zip(found, counts, strict=True)
    }


def _pads_with_zeros_or_values(node: fx.Node) -> bool:
    arguments = dict(zip(("input", "pad", "mode", "value"), node.args, strict=False)) | dict(
        node.kwargs
    )
    return bool(arguments.get("mode", "constant") != "constant" or not arguments.get("value"))


def _repeats_pixels(node: fx.Node) -> bool:
    names = ("input", "size", "scale_factor", "mode")
    arguments = dict(zip(names, node.args, strict=False)) | dict(node.kwargs)
    return arguments.get("mode", "nearest") in _REPEATING
