"""Layers with a forward of their own that come down to one plain convolution or linear layer,
written out as such.

Examples: TensorFlow's "SAME" padding, an amount worked out from the input's size (timm's
``Conv2dSame``); weights that are standardized, masked or parametrized on every call (``StdConv2d``,
``torch.nn.utils.parametrizations``); a linear layer that looks at dtypes first (timm's
classifiers). Tracing cannot follow the first, and as layers with a forward of their own all would
stay in float. For images of one size, and weights that nobody trains, padding and weight are
numbers. A student then learns the weight that is multiplied; parameters it was made of are gone.

A layer is run once on zeros with every call of a torch function watched. It qualifies where its
input goes through zero padding and one convolution or product, and nothing else; the weight may
come about in any way that does not involve the input.
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


def write_out_layers(module: nn.Module, example: Tensor) -> None:
    """Replace such layers, in place, by plain ones that do the same for images like ``example``."""
    layers = {name: layer for name, layer in module.named_modules() if _has_its_own_way(layer)}
    if not layers:
        return
    shapes = _input_shapes(module, list(layers.values()), example)
    written: dict[nn.Module, nn.Module] = {}
    for layer, (shape, *others) in shapes.items():
        if shape and not others and (plain := _written_out(layer, example.new_zeros(shape))):
            written[layer] = plain
    for name, layer in layers.items():
        if layer in written:
            module.set_submodule(name, written[layer])


def _has_its_own_way(layer: nn.Module) -> bool:
    """A subclass with its own forward, or a layer whose weight is not a parameter but made of
    others.
    """
    if not isinstance(layer, (nn.Conv2d, nn.Linear)):
        return False
    return layer_kind(layer) is None or "weight" not in layer._parameters


def _input_shapes(
    module: nn.Module, layers: list[nn.Module], example: Tensor
) -> dict[nn.Module, set[torch.Size]]:
    """Of each layer that is called; empty where it is called with something else than one
    tensor.
    """
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


class _Watch(TorchFunctionMode):
    """Notes what is done to a tensor: zero padding, one product, and whether there was anything
    else.
    """

    def __init__(self, source: Tensor) -> None:
        super().__init__()
        self.source, self.seen = source, [source]
        self.pads = [0, 0, 0, 0]  # left, right, top, bottom
        self.product: _Product | None = None
        self.plain = True

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        seen = {id(tensor) for tensor in self.seen}
        reads = any(id(value) in seen for value in tree_leaves((args, kwargs)))
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
            self.plain = False
        elif func in _PRODUCTS:
            given = _DEFAULTS | dict(zip(_CONVOLUTION, args, strict=False)) | kwargs
            self.product = _Product(_PRODUCTS[func], given, result)
            self.seen.append(result)
        elif func is F.pad and (pads := _zeros_around(args, kwargs)):
            self.pads = [a + b for a, b in zip(self.pads, pads, strict=True)]
            self.source = result
            self.seen.append(result)
        else:
            self.plain = False


def _zeros_around(args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[int] | None:
    given = dict(zip(_PADDING, args, strict=False)) | kwargs
    pads = [int(pad) for pad in given["pad"]]
    zeros = given.get("mode", "constant") == "constant" and not given.get("value")
    return pads if zeros and len(pads) == 4 else None


def _written_out(layer: nn.Module, zeros: Tensor) -> nn.Module | None:
    """A plain layer that does what ``layer`` does to inputs of the shape of ``zeros``; None where
    there is none.
    """
    for hook in layer._forward_pre_hooks.values():
        hook(layer, (zeros,))  # where torch.nn.utils.weight_norm makes the weight
    watch = _Watch(zeros)
    with torch.no_grad(), watch:
        output = layer.forward(zeros)
    product = watch.product
    if not watch.plain or product is None or output is not product.output:
        return None
    plain: Any = product.kind.__new__(product.kind)
    plain.__dict__.update(layer.__dict__)
    _set_weights(plain, layer, product.arguments)
    if product.kind is nn.Conv2d:
        return _with_geometry(plain, product.arguments, watch.pads)
    linear: nn.Module = plain
    return linear


def _set_weights(plain: nn.Module, layer: nn.Module, given: dict[str, Any]) -> None:
    """Weight and bias as they were multiplied: the layer's own where they are, else their
    values.
    """
    own = [layer._parameters.get(name) for name in ("weight", "bias")]
    if given["weight"] is own[0] and given["bias"] is own[1]:
        return
    learned = any(parameter.requires_grad for parameter in layer.parameters())
    plain._parameters = {
        name: None
        if given[name] is None
        else nn.Parameter(given[name].detach().clone(), requires_grad=learned)
        for name in ("weight", "bias")
    }
    plain._buffers, plain._modules, plain._forward_pre_hooks = {}, {}, OrderedDict()
    plain.__dict__.pop("weight", None)


def _with_geometry(plain: Any, given: dict[str, Any], pads: list[int]) -> nn.Conv2d | None:
    """Stride, dilation, groups and padding of the convolution that was made."""
    if isinstance(given["padding"], str):
        return None
    vertical, horizontal = _two(given["padding"])
    left, right, top, bottom = (
        a + b for a, b in zip(pads, (horizontal, horizontal, vertical, vertical), strict=True)
    )
    plain.stride, plain.dilation, plain.groups = (
        _two(given["stride"]),
        _two(given["dilation"]),
        given["groups"],
    )
    plain.padding = (max(top, bottom), max(left, right))  # the larger side, for whoever asks
    # Zeros by torch's general padding: its mode "zeros" cannot pad one side more than the other.
    plain.padding_mode = "constant" if any(pads) else "zeros"
    plain._reversed_padding_repeated_twice = [left, right, top, bottom]
    convolution: nn.Conv2d = plain
    return convolution


def _two(value: Any) -> tuple[int, int]:
    first, second = value if isinstance(value, (tuple, list)) else (value, value)
    return int(first), int(second)
