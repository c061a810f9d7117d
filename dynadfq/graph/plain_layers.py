"""Replacement of custom layers by the plain convolution or linear layer that they amount to.

Examples: TensorFlow's "SAME" padding, whose amount depends on the input's size (timm's
``Conv2dSame``); weights that are standardized, masked or parametrized on every call (``StdConv2d``,
``torch.nn.utils.parametrizations``); a linear layer that checks dtypes first (timm's classifiers).
Tracing cannot follow the first, and as layers with their own forward all would stay in float. For
images of one size, and weights that are not trained, padding and weight are constants. A student
then learns the resulting weight; the parameters that it was computed from are gone.

Each such layer runs once on zeros while all calls of torch functions are recorded. It qualifies if
its input goes through zero padding and one convolution or product, and nothing else; the weight may
be computed in any way that does not involve the input.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from dynadfq.ops.layers import layer_kind

_PRODUCTS: dict[Callable[..., Any], type[nn.Module]] = {
    F.conv2d: nn.Conv2d,
    torch.conv2d: nn.Conv2d,
    F.linear: nn.Linear,
}
_CONVOLUTION = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_DEFAULTS = {"bias": None, "stride": 1, "padding": 0, "dilation": 1, "groups": 1}
_PADDING = ("input", "pad", "mode", "value")


def replace_by_plain_layers(module: nn.Module, example: Tensor) -> None:
    """Replace custom layers in place by plain ones that do the same for images like ``example``."""
    named = module.named_modules(remove_duplicate=False)  # a layer may have several names
    layers = {name: layer for name, layer in named if _is_custom(layer)}
    if not layers:
        return
    shapes = _input_shapes(module, list(layers.values()), example)
    plain = {
        layer: _plain_layer(layer, example.new_zeros(shape.pop()))
        for layer, shape in shapes.items()
        if len(shape) == 1 and torch.Size() not in shape
    }
    for name, layer in layers.items():
        replacement = plain.get(layer)
        if replacement is not None:
            module.set_submodule(name, replacement)


def _is_custom(layer: nn.Module) -> bool:
    """Whether a layer has its own forward, or a weight that is computed from other parameters."""
    if not isinstance(layer, (nn.Conv2d, nn.Linear)):
        return False
    return layer_kind(layer) is None or "weight" not in layer._parameters


def _input_shapes(
    module: nn.Module, layers: list[nn.Module], example: Tensor
) -> dict[nn.Module, set[torch.Size]]:
    """Input shapes of each layer that is called; an empty one for a call with several inputs."""
    shapes: dict[nn.Module, set[torch.Size]] = {}

    def note(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
        shapes.setdefault(layer, set()).add(inputs[0].shape if len(inputs) == 1 else torch.Size())

    handles = [layer.register_forward_pre_hook(note) for layer in dict.fromkeys(layers)]
    try:
        with torch.no_grad():
            module(example.clone())
    finally:
        for handle in handles:
            handle.remove()
    return shapes


class _Product(NamedTuple):
    """The one convolution or linear product of a layer's input."""

    kind: type[nn.Module]
    arguments: dict[str, Any]
    output: Tensor


class _Recorder(TorchFunctionMode):
    """Records what is done to a tensor: zero padding, one product, or something else."""

    def __init__(self, source: Tensor) -> None:
        super().__init__()
        self.source = source
        self.derived = [source]
        self.pads = [0, 0, 0, 0]  # left, right, top, bottom
        self.product: _Product | None = None
        self.something_else = False

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        derived = {id(tensor) for tensor in self.derived}
        reads = any(id(value) in derived for value in tree_leaves((args, kwargs)))
        if reads and any(isinstance(value, Tensor) for value in tree_leaves(result)):
            self._note(func, args, kwargs, result)
        return result

    def _note(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], result: Any
    ) -> None:
        first = args[0] if args else kwargs.get("input")
        if result is first is self.source:  # such as contiguous()
            return
        if self.product is not None or first is not self.source:
            self.something_else = True
        elif func in _PRODUCTS:
            arguments = _DEFAULTS | dict(zip(_CONVOLUTION, args, strict=False)) | kwargs
            self.product = _Product(_PRODUCTS[func], arguments, result)
            self.derived.append(result)
        elif func is F.pad and (pads := _zero_padding(args, kwargs)):
            self.pads = [a + b for a, b in zip(self.pads, pads, strict=True)]
            self.source = result
            self.derived.append(result)
        else:
            self.something_else = True


def _zero_padding(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[int] | None:
    arguments = dict(zip(_PADDING, args, strict=False)) | kwargs
    pads = [int(pad) for pad in arguments["pad"]]
    zeros = arguments.get("mode", "constant") == "constant" and not arguments.get("value")
    return pads if zeros and len(pads) == 4 else None


def _plain_layer(layer: nn.Module, zeros: Tensor) -> nn.Module | None:
    """A plain layer that does the same to inputs like ``zeros``; None if there is none."""
    for hook in layer._forward_pre_hooks.values():
        hook(layer, (zeros,))  # where torch.nn.utils.weight_norm computes the weight
    recorder = _Recorder(zeros)
    with torch.no_grad(), recorder:
        output = layer.forward(zeros)
    product = recorder.product
    if recorder.something_else or product is None or output is not product.output:
        return None
    plain: Any = product.kind.__new__(product.kind)
    plain.__dict__.update(layer.__dict__)
    _set_weights(plain, layer, product.arguments)
    if product.kind is nn.Conv2d and not _set_geometry(plain, product.arguments, recorder.pads):
        return None
    result: nn.Module = plain
    return result


def _set_weights(plain: nn.Module, layer: nn.Module, arguments: dict[str, Any]) -> None:
    """Set weight and bias of the product: the layer's own parameters if they are, else copies."""
    own = layer._parameters
    if arguments["weight"] is own.get("weight") and arguments["bias"] is own.get("bias"):
        return
    learned = any(parameter.requires_grad for parameter in layer.parameters())
    plain._parameters = {}
    for name in ("weight", "bias"):
        value = arguments[name]
        plain._parameters[name] = (
            None if value is None else nn.Parameter(value.detach().clone(), requires_grad=learned)
        )
    plain._buffers = {}
    plain._modules = {}
    plain._forward_pre_hooks = OrderedDict()
    plain.__dict__.pop("weight", None)


def _set_geometry(plain: Any, arguments: dict[str, Any], pads: list[int]) -> bool:
    """Set stride, dilation, groups and padding; return False if the padding is named by a word."""
    if isinstance(arguments["padding"], str):
        return False
    vertical, horizontal = _pair(arguments["padding"])
    own = (horizontal, horizontal, vertical, vertical)
    left, right, top, bottom = (a + b for a, b in zip(pads, own, strict=True))
    plain.stride = _pair(arguments["stride"])
    plain.dilation = _pair(arguments["dilation"])
    plain.groups = arguments["groups"]
    plain.padding = (max(top, bottom), max(left, right))  # the larger side, for other readers
    # Zeros by torch's general padding: its mode "zeros" cannot pad one side more than the other.
    plain.padding_mode = "constant" if any(pads) else "zeros"
    plain._reversed_padding_repeated_twice = [left, right, top, bottom]
    return True


def _pair(value: Any) -> tuple[int, int]:
    first, second = value if isinstance(value, (tuple, list)) else (value, value)
    return int(first), int(second)
