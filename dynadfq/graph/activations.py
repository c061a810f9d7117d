"""Activations: the table of modules and functions whose outputs are sites.

A *site* is the output of an activation, i.e. of a pointwise non-linearity that a feature map passes
through on its way to the next layer. A *gate* is none: the sigmoid of a squeeze-excite block is
multiplied into a feature map and never feeds a layer, so rounding it would save no bit-FLOPs and
only add error. Hence ``Sigmoid``, ``Hardsigmoid``, ``Softmax`` and a hard sigmoid written by hand
(``relu6(x + 3) / 6``) are absent. A user's activation is recognized if it subclasses one of these,
or has a usual name (``Swish``, ``HSwish``, as in pytorchcv) and neither parameters nor children.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional as F

from dynadfq.graph.calls import ADDITIONS, called_module, named_arguments

_FUNCTIONS: Mapping[str, tuple[type[nn.Module], tuple[str, ...]]] = {
    # function or method, without the in-place underscore: module type, arguments after the input
    "relu": (nn.ReLU, ()),
    "relu6": (nn.ReLU6, ()),
    "hardtanh": (nn.Hardtanh, ("min_val", "max_val")),
    "leaky_relu": (nn.LeakyReLU, ("negative_slope",)),
    "elu": (nn.ELU, ("alpha",)),
    "selu": (nn.SELU, ()),
    "celu": (nn.CELU, ("alpha",)),
    "gelu": (nn.GELU, ("approximate",)),
    "silu": (nn.SiLU, ()),
    "mish": (nn.Mish, ()),
    "hardswish": (nn.Hardswish, ()),
    "softplus": (nn.Softplus, ("beta", "threshold")),
    "tanh": (nn.Tanh, ()),
}

ACTIVATIONS: tuple[type[nn.Module], ...] = (*(kind for kind, _ in _FUNCTIONS.values()), nn.PReLU)
"""Module types whose outputs are sites (PReLU has weights, so it exists as a module only)."""

_USUAL_NAMES = {kind.__name__.lower() for kind in ACTIVATIONS} | {"swish", "hswish"}


@dataclass(frozen=True)
class FunctionalActivation:
    """A functional activation call as a module would make it."""

    name: str
    module: nn.Module
    input: fx.Node
    inplace: bool


def is_activation(module: nn.Module) -> bool:
    """Return whether a module is an activation, by type or by a usual name.

    >>> is_activation(nn.ReLU6()), is_activation(nn.Sigmoid())
    (True, False)
    """
    if isinstance(module, ACTIVATIONS):
        return True
    has_state = any(True for _ in module.children()) or any(True for _ in module.parameters())
    return not has_state and type(module).__name__.lower() in _USUAL_NAMES


def is_activation_call(node: fx.Node, root: nn.Module) -> bool:
    """Return whether a node of a normalized graph is a site: an activation that is no gate."""
    module = called_module(node, root)
    return module is not None and is_activation(module) and not is_hard_gate(node)


def is_hard_gate(node: fx.Node) -> bool:
    """Return whether a call reads ``x + 3``, as in a hard sigmoid or hard swish written by hand."""
    source = node.args[0] if node.args else None
    if not isinstance(source, fx.Node) or source.target not in ADDITIONS:
        return False
    return any(isinstance(term, (int, float)) and term == 3 for term in source.args)


def functional_activation(node: fx.Node) -> FunctionalActivation | None:
    """Return the module for a call such as ``F.relu(x)``, ``torch.relu_(x)`` or ``x.relu()``.

    None for any other node.
    """
    function = _function_name(node)
    name = function.removesuffix("_")
    kind, parameters = _FUNCTIONS.get(name, (None, ()))
    if kind is None or is_hard_gate(node):
        return None
    arguments = named_arguments(node, "input", *parameters, "inplace")
    source = arguments.pop("input")
    inplace = bool(arguments.pop("inplace", False)) or function.endswith("_")
    computed = any(isinstance(value, fx.Node) for value in arguments.values())
    if computed or not isinstance(source, fx.Node):
        return None
    return FunctionalActivation(name, kind(**arguments), source, inplace)


def _function_name(node: fx.Node) -> str:
    if node.op == "call_method" and hasattr(Tensor, str(node.target)):
        return str(node.target)
    if node.op == "call_function" and callable(node.target):
        return _NAME_OF.get(node.target, "")
    return ""


def _names_of_functions() -> dict[Callable[..., Any], str]:
    names = [name + suffix for name in _FUNCTIONS for suffix in ("", "_")]
    return {
        getattr(space, name): name for space in (torch, F) for name in names if hasattr(space, name)
    }


_NAME_OF = _names_of_functions()
