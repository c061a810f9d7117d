"""Safe forms of what is neither a quantized layer nor a site: calls whose last bit depends on the
engine or the batch.

Additions, maxima, comparisons and whatever only moves values are defined to the bit and stay;
activations made of these alone are written out. Average pools, other activations and gates are
computed in float64 and rounded once; what is not known to be exact stays and is named.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx, nn

from dynadfq.export.conversion_report import Fact
from dynadfq.export.functions import composed
from dynadfq.export.modules import AveragePool, InFloat64
from dynadfq.export.products import averaging_matrix, window_matrix
from dynadfq.graph.activation_sources import called_function, module_moves_values, moves_values
from dynadfq.graph.activations import is_activation

EXACT_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.PReLU)
EXACT_WRITTEN_OUT = (nn.Hardsigmoid, nn.Hardswish)
GATES = (nn.Sigmoid, nn.Hardsigmoid, nn.Softmax)
EXACT_FUNCTIONS = frozenset(
    """
    add iadd sub isub mul imul truediv itruediv div neg abs square sqrt maximum minimum max min amax amin clamp clip
    relu relu6 hardtanh leaky_relu threshold where masked_fill eq ne gt ge lt le logical_not logical_and logical_or
    floor ceil round sign pad zeros ones full zeros_like ones_like full_like arange to float type_as
    """.split()  # noqa: SIM905 - a list this long reads better as text
)
"""Defined to the bit by IEEE 754 or by selection; without the underscores of methods and in-place
forms."""
Shapes = Mapping[str, tuple[int, ...]]


def safe_module(network: fx.GraphModule, node: fx.Node, shapes: Shapes) -> list[Fact]:
    """Replace a float module by its safe form, in place; returns what is to be told of it."""
    name, module = str(node.target), network.get_submodule(str(node.target))
    if isinstance(module, EXACT_ACTIVATIONS) or module_moves_values(module):
        return []
    if isinstance(module, (nn.AdaptiveAvgPool2d, nn.AvgPool2d)) and (
        pool := _pool(module, _input(node, shapes))
    ):
        return _use(network, node, pool, "sums of floats")
    if is_activation(module) or isinstance(module, (*GATES, nn.RReLU)):
        return _use_pointwise(network, node, module)
    return [Fact(name, "float32", reason=f"{type(module).__name__} is left as it is")]


def safe_function(network: fx.GraphModule, node: fx.Node, shapes: Shapes) -> list[Fact]:
    """The same for a call of a function or method."""
    shape, pool = _input(node, shapes), None
    called = called_function(node)
    if node.name not in shapes or moves_values(node, network):  # what is no tensor is a size
        return []
    if "avg_pool" in called and len(shape) == 4:
        given = {name: value for name, value in node.kwargs.items() if name != "input"}
        pool = _pool(_pool_module(called, node.args[1:], given), shape)
    elif called == "mean" and len(shape) == 4 and _averages_all(node):
        pool = AveragePool(averaging_matrix(shape[2], 1), averaging_matrix(shape[3], 1))
        if not _keeps_axes(node):
            with network.graph.inserting_after(node):
                flat = network.graph.call_method("flatten", (node, 1))
            node.replace_all_uses_with(flat, delete_user_cb=lambda user: user is not flat)
    if pool is not None:
        return _use(network, _as_module_call(node), pool, "sums of floats")
    if (gate := _gate(called.strip("_"), node)) is not None:
        return _use_pointwise(network, _as_module_call(node), gate)
    if called.strip("_") in EXACT_FUNCTIONS:
        return []
    return [Fact(node.name, "float32", reason=f"{called} is left as it is")]


def _gate(called: str, node: fx.Node) -> nn.Module | None:
    """The module that a call of a gate's function, or of a random activation's, stands for; None
    for any other.
    """
    if called == "sigmoid":
        return nn.Sigmoid()
    if called == "hardsigmoid":
        return nn.Hardsigmoid()
    if called == "rrelu":
        ends: dict[str, Any] = {"lower": 1 / 8, "upper": 1 / 3}
        ends |= dict(zip(ends, node.args[1:], strict=False)) | dict(node.kwargs)
        return nn.RReLU(ends["lower"], ends["upper"])
    axis = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    if called == "softmax" and isinstance(axis, int) and node.kwargs.get("dtype") is None:
        return nn.Softmax(dim=axis)
    return None


def _as_module_call(node: fx.Node) -> fx.Node:
    node.op, node.target, node.args, node.kwargs = (
        "call_module",
        node.name,
        (node.all_input_nodes[0],),
        {},
    )
    return node


def _use_pointwise(network: fx.GraphModule, node: fx.Node, module: nn.Module) -> list[Fact]:
    if isinstance(module, nn.RReLU):  # random in training only
        _put(network, node, nn.LeakyReLU((module.lower + module.upper) / 2, module.inplace))
        return []
    if type(module) in EXACT_WRITTEN_OUT:  # a subclass may compute something else
        _put(network, node, composed(module))
        return []
    return _use(
        network,
        node,
        InFloat64(composed(module)),
        f"{type(module).__name__} differs in the last bit",
    )


def _use(network: fx.GraphModule, node: fx.Node, module: nn.Module, why: str) -> list[Fact]:
    return [Fact(_put(network, node, module), "float64", reason=why)]


def _put(network: fx.GraphModule, node: fx.Node, module: nn.Module) -> str:
    """Let a call use another module, under a name of its own where others need the old one; returns
    that name.
    """
    name = str(node.target)
    if sum(other.target == name for other in network.graph.nodes if other.op == "call_module") > 1:
        name = f"{name}_{node.name}"
    network.add_submodule(name, module)
    node.target = name
    return name


def _input(node: fx.Node, shapes: Shapes) -> tuple[int, ...]:
    return shapes.get(node.all_input_nodes[0].name, ()) if node.all_input_nodes else ()


def _pool_module(called: str, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> nn.Module | None:
    if "adaptive" in called:
        return nn.AdaptiveAvgPool2d(*args, **kwargs)
    return nn.AvgPool2d(*args, **kwargs)


def _pool(module: nn.Module | None, shape: tuple[int, ...]) -> AveragePool | None:
    """A pool as matrices, where it is a product of one along each axis."""
    if len(shape) != 4 or module is None:
        return None
    if isinstance(module, nn.AdaptiveAvgPool2d):
        sizes = [
            wanted or size for wanted, size in zip(_two(module.output_size), shape[2:], strict=True)
        ]
        return AveragePool(
            *(averaging_matrix(size, out) for size, out in zip(shape[2:], sizes, strict=True))
        )
    assert isinstance(module, nn.AvgPool2d)
    if module.divisor_override:
        return None
    windows = zip(
        shape[2:], _two(module.kernel_size), _two(module.stride), _two(module.padding), strict=True
    )
    ends = module.ceil_mode, module.count_include_pad
    return AveragePool(*(window_matrix(*window, *ends) for window in windows))


def _two(value: Any) -> tuple[Any, Any]:
    first, second = value if isinstance(value, (tuple, list)) else (value, value)
    return first, second


def _averages_all(node: fx.Node) -> bool:
    axes = node.kwargs.get("dim", node.args[1] if len(node.args) > 1 else None)
    return isinstance(axes, (tuple, list)) and {
        axis % 4 for axis in axes if isinstance(axis, int)
    } == {2, 3}


def _keeps_axes(node: fx.Node) -> bool:
    return bool(node.kwargs.get("keepdim", node.args[2] if len(node.args) > 2 else False))
