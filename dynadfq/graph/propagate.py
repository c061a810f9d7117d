"""Moments and ranges of a network's tensors, propagated from its BatchNorm layers.

Each element of a tensor has a mean, a variance and an interval (statistics.py), which start at the
modules whose output distribution is known and follow the graph from there:

* operations that only move or select values move the statistics (concatenation, flatten, split,
  max-pooling, …);
* averages average them, the variance as if what is averaged varied together, its upper bound;
* activations map normal moments to those of their output, and the interval's ends likewise;
* additions add means and variances, as of independent normal variables; gates multiply independent
  ones;
* layers without a known output distribution map the mean exactly, zero padding included, and the
  variance as of independent inputs.

Everything else, and the network's input, is unknown, which is written NaN. Nothing here is random,
and no data is needed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_map, tree_map_only

from dynadfq.graph.activation_sources import moves_values
from dynadfq.graph.calls import ADDITIONS, AVERAGE_POOLS, PRODUCTS, called_function, called_module
from dynadfq.graph.gaussian import Gaussian, batch_norm_gaussians
from dynadfq.graph.statistics import (
    Statistics,
    activated,
    added,
    is_pointwise,
    multiplied,
    normal,
    unknown,
    variance_after,
)
from dynadfq.ops.layers import layer_kind

_GATES = {"sigmoid": nn.Sigmoid, "hardsigmoid": nn.Hardsigmoid}
_AVERAGES = ("mean", "avg_pool2d", "adaptive_avg_pool2d")


def propagate(
    network: fx.GraphModule,
    input_shape: Sequence[int],
    gaussians: Mapping[str, Gaussian] | None = None,
    sigmas: float = 6.0,
) -> dict[str, Statistics]:
    """Return the statistics of every tensor of a normalized float network, by node name.

    Args:
        network: the graph.
        input_shape: (C, H, W).
        gaussians: distributions of module outputs by module name, for layers whose BatchNorm was
            folded into them. Those of BatchNorm layers in the graph are added.
        sigmas: standard deviations from the mean of a normal variable to the ends of its interval.
    """
    known = {**batch_norm_gaussians(network), **(gaussians or {})}
    propagation = _Propagation(network, known, sigmas)
    weight = next(network.parameters())
    with torch.no_grad():
        propagation.run(unknown(torch.empty(1, *input_shape, device=weight.device)))
    return propagation.found


class _Propagation(fx.Interpreter):
    """Runs the graph on statistics in place of values."""

    def __init__(
        self, network: fx.GraphModule, gaussians: Mapping[str, Gaussian], sigmas: float
    ) -> None:
        super().__init__(network)
        self.gaussians = gaussians
        self.sigmas = sigmas
        self.found: dict[str, Statistics] = {}

    def run_node(self, n: fx.Node) -> Any:
        if n.op in ("placeholder", "get_attr", "output"):
            result = super().run_node(n)
        else:
            result = self._call(n)
        if isinstance(result, Statistics):
            self.found[n.name] = result
        return result

    def _call(self, n: fx.Node) -> Any:
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        module = called_module(n, self.module)
        if module is None:
            module = _GATES.get(called_function(n), nn.Module)()
        binary = len(args) == 2 and not kwargs

        def on(part: int) -> Any:
            """Apply the operation to one part of all statistics: 0 mean, 1 variance, 2, 3 ends."""
            values, named = tree_map_only(
                Statistics, lambda s: s.parts[part].clone(), (args, kwargs)
            )
            return getattr(self, n.op)(n.target, values, named)

        if n.op == "call_module" and str(n.target) in self.gaussians:
            return self._of_gaussian(self.gaussians[str(n.target)], on(0), module)
        if is_pointwise(module):
            return activated(module, args[0])
        if layer_kind(module) is not None:
            return normal(on(0), variance_after(module, args[0].variance), self.sigmas)
        if binary and n.target in ADDITIONS and any(isinstance(x, Statistics) for x in args):
            return added(args[0], args[1], self.sigmas)
        if binary and n.target in PRODUCTS and all(isinstance(x, Statistics) for x in args):
            return multiplied(args[0], args[1])
        averages = isinstance(module, AVERAGE_POOLS) or called_function(n) in _AVERAGES
        if averages or moves_values(n, self.module):
            return tree_map(_statistics, *(on(part) for part in range(4)))
        return tree_map(unknown, on(0))

    def _of_gaussian(self, gaussian: Gaussian, like: Tensor, module: nn.Module) -> Statistics:
        shape = [1] * like.dim()
        shape[-1 if isinstance(module, nn.Linear) else 1] = -1
        mean = gaussian.mean.to(like).view(shape).expand_as(like).contiguous()
        std = gaussian.std.to(like).view(shape).expand_as(like).contiguous()
        return normal(mean, std.square(), self.sigmas)


def _statistics(*parts: Any) -> Any:
    """Return four tensors as statistics; anything else, such as a size, unchanged."""
    return Statistics(*parts) if isinstance(parts[0], Tensor) else parts[0]
