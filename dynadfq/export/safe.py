"""Safe forms of float calls: the last bit of some depends on the engine or the batch.

Additions, maxima, comparisons and whatever only moves values are defined to the bit and are not
changed; activations composed of these alone are written out. Average pools, other activations and
gates are computed in float64 and rounded once. What is not known to be exact stays and is reported.
With float activations, where all layers compute in float32, average pools do too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import fx, nn

from dynadfq.export.conversion_report import Fact
from dynadfq.export.functions import composed
from dynadfq.export.graph_edits import as_module_call, replace_module
from dynadfq.export.modules import AveragePool, InFloat64
from dynadfq.export.products import averaging_matrix, window_matrix
from dynadfq.graph.activation_sources import module_moves_values, moves_values
from dynadfq.graph.activations import is_activation
from dynadfq.graph.calls import called_function, named_arguments

EXACT_ACTIVATIONS = (nn.ReLU, nn.ReLU6, nn.Hardtanh, nn.LeakyReLU, nn.PReLU)
EXACT_WRITTEN_OUT = (nn.Hardsigmoid, nn.Hardswish)
GATES = (nn.Sigmoid, nn.Hardsigmoid, nn.Softmax)
# Defined to the bit by IEEE 754 or by selection; without the underscores of methods and in-place
# forms.
EXACT_FUNCTIONS = frozenset(
    """
    add iadd sub isub mul imul truediv itruediv div neg abs square sqrt maximum minimum max min
    amax amin clamp clip relu relu6 hardtanh leaky_relu threshold where masked_fill eq ne gt ge lt
    le logical_not logical_and logical_or floor ceil round sign pad zeros ones full zeros_like
    ones_like full_like arange to float type_as
    """.split()  # noqa: SIM905 - a list this long reads better as text
)
Shapes = Mapping[str, tuple[int, ...]]


def safe_module(
    network: fx.GraphModule, node: fx.Node, shapes: Shapes, float_activations: bool
) -> list[Fact]:
    """Replace a float module by its safe form, in place.

    Args:
        network: the graph's module.
        node: the call.
        shapes: shapes of the graph's tensors, by node name.
        float_activations: whether no activation is quantized.

    Returns:
        How it is computed; nothing where it is exact.
    """
    name = str(node.target)
    module = network.get_submodule(name)
    if isinstance(module, EXACT_ACTIVATIONS) or module_moves_values(module):
        return []
    if isinstance(module, (nn.AdaptiveAvgPool2d, nn.AvgPool2d)):
        pool = _average_pool(module, _input_shape(node, shapes))
        if pool is not None:
            return _replace_pool(network, node, pool, float_activations)
    if is_activation(module) or isinstance(module, (*GATES, nn.RReLU)):
        return _replace_pointwise(network, node, module)
    return [Fact(name, "float32", reason=f"{type(module).__name__} is not converted")]


def safe_function(
    network: fx.GraphModule, node: fx.Node, shapes: Shapes, float_activations: bool
) -> list[Fact]:
    """Replace a call of a function or method by its safe form, in place.

    Args and Returns as of ``safe_module``.
    """
    called = called_function(node)
    if node.name not in shapes or moves_values(node, network):  # a call without shape is a size
        return []
    pool = _function_pool(network, node, _input_shape(node, shapes))
    if pool is not None:
        return _replace_pool(network, as_module_call(node), pool, float_activations)
    gate = _gate(called.strip("_"), node)
    if gate is not None:
        return _replace_pointwise(network, as_module_call(node), gate)
    if called.strip("_") in EXACT_FUNCTIONS:
        return []
    return [Fact(node.name, "float32", reason=f"{called} is not converted")]


def _function_pool(
    network: fx.GraphModule, node: fx.Node, shape: tuple[int, ...]
) -> AveragePool | None:
    """The pool that a call of a pooling function, or of a mean over pixels, computes."""
    called = called_function(node)
    if len(shape) != 4:
        return None
    if "avg_pool" in called:
        kind: Any = nn.AdaptiveAvgPool2d if "adaptive" in called else nn.AvgPool2d
        given = {name: value for name, value in node.kwargs.items() if name != "input"}
        return _average_pool(kind(*node.args[1:], **given), shape)
    given = named_arguments(node, "input", "dim", "keepdim")
    if called == "mean" and _averages_pixels(given.get("dim")):
        if not given.get("keepdim", False):
            with network.graph.inserting_after(node):
                flat = network.graph.call_method("flatten", (node, 1))
            node.replace_all_uses_with(flat, delete_user_cb=lambda user: user is not flat)
        return AveragePool(averaging_matrix(shape[2], 1), averaging_matrix(shape[3], 1))
    return None


def _gate(called: str, node: fx.Node) -> nn.Module | None:
    """The module of a gate's function, or of a random activation's; None for any other."""
    if called == "sigmoid":
        return nn.Sigmoid()
    if called == "hardsigmoid":
        return nn.Hardsigmoid()
    if called == "rrelu":
        given = named_arguments(node, "input", "lower", "upper")
        return nn.RReLU(given.get("lower", 1 / 8), given.get("upper", 1 / 3))
    axis = named_arguments(node, "input", "dim").get("dim")
    if called == "softmax" and isinstance(axis, int) and node.kwargs.get("dtype") is None:
        return nn.Softmax(dim=axis)
    return None


def _replace_pool(
    network: fx.GraphModule, node: fx.Node, pool: AveragePool, float_activations: bool
) -> list[Fact]:
    if float_activations:
        return [Fact(replace_module(network, node, pool.float()), "float32")]
    return _replace(network, node, pool, "sums of floats")


def _replace_pointwise(network: fx.GraphModule, node: fx.Node, module: nn.Module) -> list[Fact]:
    if isinstance(module, nn.RReLU):  # random in training only
        slope = (module.lower + module.upper) / 2
        replace_module(network, node, nn.LeakyReLU(slope, module.inplace))
        return []
    if type(module) in EXACT_WRITTEN_OUT:  # a subclass may compute something else
        replace_module(network, node, composed(module))
        return []
    reason = f"{type(module).__name__} differs in the last bit"
    return _replace(network, node, InFloat64(composed(module)), reason)


def _replace(network: fx.GraphModule, node: fx.Node, module: nn.Module, reason: str) -> list[Fact]:
    return [Fact(replace_module(network, node, module), "float64", reason=reason)]


def _input_shape(node: fx.Node, shapes: Shapes) -> tuple[int, ...]:
    return shapes.get(node.all_input_nodes[0].name, ()) if node.all_input_nodes else ()


def _average_pool(
    module: nn.AdaptiveAvgPool2d | nn.AvgPool2d, shape: tuple[int, ...]
) -> AveragePool | None:
    """A pool as one matrix per axis, where it can be one."""
    if len(shape) != 4:
        return None
    sizes = shape[2:]
    if isinstance(module, nn.AdaptiveAvgPool2d):
        outputs = _pair(module.output_size)
        return AveragePool(
            *(averaging_matrix(size, out or size) for size, out in zip(sizes, outputs, strict=True))
        )
    if module.divisor_override:
        return None
    pairs = (_pair(module.kernel_size), _pair(module.stride), _pair(module.padding))
    ends = (module.ceil_mode, module.count_include_pad)
    return AveragePool(
        *(window_matrix(*window, *ends) for window in zip(sizes, *pairs, strict=True))
    )


def _pair(value: Any) -> tuple[Any, Any]:
    first, second = value if isinstance(value, (tuple, list)) else (value, value)
    return first, second


def _averages_pixels(axes: Any) -> bool:
    if not isinstance(axes, (tuple, list)):
        return False
    return {axis % 4 for axis in axes if isinstance(axis, int)} == {2, 3}
