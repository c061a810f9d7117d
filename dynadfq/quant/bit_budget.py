"""The bit budget: run one trained student at any cost in its range, by a Lagrange multiplier.

A site takes the width of argmax(log p - λ · cost), where λ is the Lagrange multiplier in nats per
percentage point of the float model's bit-FLOPs. What the selector reads does not depend on λ, so
its logits for some images give their cost at every λ.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, fx

from dynadfq.graph.calls import called_module
from dynadfq.quant.selector import BitSelector
from dynadfq.runtime.errors import InvalidArgument

BISECTION_STEPS = 80  # beyond the resolution of float64
TOLERANCE = 1e-9  # percentage points, between two sums of the same costs in another order


class BudgetSetting(NamedTuple):
    """A Lagrange multiplier and the cost that it gives on the images it was chosen on.

    multiplier: nats per percentage point of the float model's bit-FLOPs.
    bit_flops_percent: mean cost of these images, in percent of the float model.
    asked: the budget, in percent of the float model.
    images: number of images.
    """

    multiplier: float
    bit_flops_percent: float
    asked: float
    images: int


@dataclass(frozen=True, eq=False)
class CostCurve:
    """The cost of N images as a function of the Lagrange multiplier.

    selector: the bit selector; it is not changed.
    logits: (N, dynamic sites, M) logits of the selector.
    percent: cost of images, (N, S) bits to (N,) percent of the float model.
    """

    selector: BitSelector
    logits: Tensor
    percent: Callable[[Tensor], Tensor]

    def cost(self, multiplier: float) -> Tensor:
        """Return the (N,) cost of each image, which never rises with the multiplier."""
        return self.percent(self.selector.choose(self.logits, multiplier))

    def mean_cost(self, multiplier: float) -> float:
        """Return the mean cost of the images in percent of the float model."""
        return float(self.cost(multiplier).mean())

    @property
    def lowest(self) -> float:
        """Mean cost with the cheapest candidate at every site that has a choice."""
        return self.mean_cost(self._multiplier_range[1])

    @property
    def highest(self) -> float:
        """Mean cost with the most expensive candidate at every site that has a choice."""
        return self.mean_cost(self._multiplier_range[0])

    def setting(self, bit_flops_percent: float) -> BudgetSetting:
        """Return the smallest multiplier whose mean cost is within a budget, by bisection.

        Where 0 gives the same cost, the multiplier is 0.

        Args:
            bit_flops_percent: the budget, mean cost of an image in percent of the float model.

        Raises:
            ValueError: the budget is outside the student's range.
        """
        lowest = self.lowest
        highest = self.highest
        if not lowest - TOLERANCE <= bit_flops_percent <= highest + TOLERANCE:
            if _round_up(lowest) > _round_down(highest):
                raise InvalidArgument(
                    "bit_flops_percent",
                    f"{bit_flops_percent:g} cannot be reached: every image costs {lowest:.4f} "
                    "percent, since no layer reads a site whose width is chosen",
                )
            raise InvalidArgument(
                "bit_flops_percent",
                f"{bit_flops_percent:g} is outside "
                f"{_round_up(lowest):g} … {_round_down(highest):g} percent, the range from the "
                "cheapest widths to the most expensive; choose a budget within it",
            )
        low, high = self._multiplier_range
        for _ in range(BISECTION_STEPS):
            middle = (low + high) / 2
            if self.mean_cost(middle) <= bit_flops_percent + TOLERANCE:
                high = middle
            else:
                low = middle
        reached = self.mean_cost(high)
        multiplier = 0.0 if self.mean_cost(0.0) == reached else high
        return BudgetSetting(multiplier, reached, bit_flops_percent, len(self.logits))

    @property
    def _multiplier_range(self) -> tuple[float, float]:
        """Multipliers that give every image its most expensive and its cheapest widths.

        A site changes its choice where the gain in logits equals λ times the extra cost; comparing
        neighbouring candidates gives the extremes.
        """
        gains = self.logits.double().diff(dim=2)
        costs = self.selector.costs.diff(dim=1)
        has_cost = (costs > 0).all(dim=1)
        if not has_cost.any():
            return 0.0, 0.0
        changes = gains[:, has_cost] / costs[has_cost]
        low = changes.min().item()
        high = changes.max().item()
        margin = 1e-6 * (1 + max(abs(low), abs(high)))
        return low - margin, high + margin


def before_selector(network: fx.GraphModule) -> fx.GraphModule:
    """Return the part of a student's graph that computes the selector's input.

    It maps (images, None) to a (B, C, H, W) activation and shares its modules with the student.
    """
    graph = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in network.graph.nodes:
        if isinstance(called_module(node, network), BitSelector):
            graph.output(copies[node.all_input_nodes[0]])
            break
        copies[node] = graph.node_copy(node, copies.__getitem__)
    return fx.GraphModule(network, graph)


def _round_up(value: float) -> float:
    """Round to four decimals such that the bound itself is allowed."""
    return math.ceil(value * 1e4) / 1e4


def _round_down(value: float) -> float:
    return math.floor(value * 1e4) / 1e4
