"""Activations and gates composed of operators that every engine has in float64.

These are arithmetic, exp, log, sigmoid and where: onnxruntime's CPU has no float64 erf, softplus,
elu, selu, celu, leaky_relu or hardsigmoid. Composed functions agree between engines to about 1e-15,
and so, except for a tie in 1e8, to the same float32. Arguments are those of
``torch.nn.functional``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import reduce

import torch
from torch import Tensor, fx, nn

from dynadfq.graph.calls import called_function

# J. F. Hart et al., Computer Approximations (1968), no. 5666, as printed in G. West, "Better
# approximations to cumulative normal functions", Wilmott (2005); highest power first. All are
# positive, so that nothing cancels, and the ratio of the first two is 1 / sqrt(2 pi), so that the
# form is right for any large x.
# fmt: off
NUMERATOR = (
    3.52624965998911e-02, 0.700383064443688, 6.37396220353165, 33.912866078383, 112.079291497871,
    221.213596169931, 220.206867912376,
)
DENOMINATOR = (
    8.83883476483184e-02, 1.75566716318264, 16.064177579207, 86.7807322029461, 296.564248779674,
    637.333633378831, 793.826512519948, 440.413735824752,
)
# fmt: on
SELU_ALPHA = 1.6732632423543772  # as in torch
SELU_SCALE = 1.0507009873554805
FLAT = 20.0  # from here on tanh(softplus(x)) is 1 in float64


def number(value: float) -> Tensor:
    """Return a float64 constant, since torch.onnx.export rounds Python's floats to float32."""
    return torch.tensor(value, dtype=torch.float64)


def normal_tail(x: Tensor) -> Tensor:
    """Return the probability that a standard normal variable exceeds x >= 0."""
    return torch.exp(x * x * -0.5) * _polynomial(x, NUMERATOR) / _polynomial(x, DENOMINATOR)


def _polynomial(x: Tensor, coefficients: tuple[float, ...]) -> Tensor:
    return reduce(lambda value, c: value * x + c, map(number, coefficients))


def erf(x: Tensor) -> Tensor:
    """Return the error function."""
    return torch.sign(x) * (1 - normal_tail(x.abs() * number(math.sqrt(2))) * 2)


def gelu(x: Tensor, approximate: str = "none") -> Tensor:
    """Return x Phi(x) with the normal distribution's Phi, or the approximation by a tanh.

    The tanh is written as a sigmoid.
    """
    if approximate == "tanh":
        cubic = x + x * x * x * number(0.044715)
        return x * torch.sigmoid(cubic * number(math.sqrt(8 / math.pi)))
    size = x.abs()
    return x.clamp(min=0) - size * normal_tail(size)


def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """Return log(1 + exp(beta x)) / beta, and x where beta x exceeds the threshold."""
    scaled = x * number(beta)
    curve = (scaled.clamp(min=0) + torch.log(torch.exp(-scaled.abs()) + 1)) / number(beta)
    return torch.where(scaled > threshold, x, curve)


def mish(x: Tensor, inplace: bool = False) -> Tensor:
    """Return x tanh(softplus(x)), a ratio of polynomials in exp(x)."""
    grown = torch.exp(x.clamp(max=FLAT))
    part = grown * (grown + 2)
    return x * (part / (part + 2))


def elu(x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return x where it is positive, elsewhere alpha (exp(x) - 1)."""
    return torch.where(x > 0, x, (torch.exp(x) - 1) * number(alpha))


def selu(x: Tensor, inplace: bool = False) -> Tensor:
    """Return a scaled ELU."""
    return elu(x, SELU_ALPHA) * number(SELU_SCALE)


def celu(x: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """Return x where it is positive, elsewhere alpha (exp(x / alpha) - 1)."""
    return torch.where(x > 0, x, (torch.exp(x / number(alpha)) - 1) * number(alpha))


def leaky_relu(x: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """Return x where it is positive, elsewhere x times a slope."""
    return torch.where(x > 0, x, x * number(negative_slope))


def hardsigmoid(x: Tensor, inplace: bool = False) -> Tensor:
    """Return the ramp (x + 3) / 6 within 0 … 1, in torch's order of operations: bit for bit."""
    return (x + 3).clamp(0, 6) / 6


def hardswish(x: Tensor, inplace: bool = False) -> Tensor:
    """Return x times its hard sigmoid, in torch's order of operations: bit for bit."""
    return x * (x + 3).clamp(0, 6) / 6


COMPOSED: Mapping[str, Callable[..., Tensor]] = {
    function.__name__: function
    for function in (erf, gelu, softplus, mish, elu, selu, celu, leaky_relu, hardsigmoid, hardswish)
}


class _EveryCall(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return False


def composed(module: nn.Module) -> nn.Module:
    """Return a pointwise module with composed functions in place of those it calls.

    A module that cannot be traced is returned itself.
    """
    try:
        graph = _EveryCall().trace(module)
    except Exception:  # a user's forward may do anything with a proxy; torch still runs it
        return module
    for node in graph.nodes:
        name = called_function(node)
        if name in COMPOSED:
            node.op = "call_function"
            node.target = COMPOSED[name]
    return fx.GraphModule(module, graph, class_name=type(module).__name__)
