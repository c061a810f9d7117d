"""The budget: one trained student at any cost between its cheapest and its dearest, by a multiplier
on bit-FLOPs.

The multiplier shifts the selector's logits, so that a site takes the width of argmax(log p -
multiplier · cost). What the selector sees does not depend on the multiplier; one pass over some
images therefore tells their cost at every multiplier.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, fx

from dynadfq.quant.selector import BitSelector
from dynadfq.synthesis.dataset import SyntheticSet

if TYPE_CHECKING:
    from dynadfq.quant.model import Student

HALVINGS = 80  # of an interval of multipliers: more than float64 can tell apart
EQUAL = 1e-9  # percentage points between two means of the same costs, summed differently


class BudgetSetting(NamedTuple):
    """Where the budget stands, and what that means for the images it was set on.

    multiplier: nats for each percentage point of the float model's bit-FLOPs.
    bit_flops_percent: mean cost reached on these images, in percent of the float model.
    asked: the budget.
    images: how many they were.
    """

    multiplier: float
    bit_flops_percent: float
    asked: float
    images: int


@dataclass(frozen=True, eq=False)
class CostCurve:
    """The cost of N images as a function of the multiplier.

    selector: whose multiplier is looked for; it is not changed.
    logits: (N, dynamic sites, M), its answers to the images.
    percent: cost of images, (N, S) bits to (N,) percent of the float model.
    """

    selector: BitSelector
    logits: Tensor
    percent: Callable[[Tensor], Tensor]

    @classmethod
    @torch.no_grad()
    def of(cls, student: Student, images: SyntheticSet, batch_size: int = 128) -> CostCurve:
        """The budget of a dynamic student on these images; it runs as far as the selector.

        Raises:
            ValueError: the student has one width, or images are of another shape than it reads.
        """
        selector = student.selector
        if selector is None:
            raise ValueError("a student of one width has no budget")
        before, device = before_selector(student.network), selector.costs.device
        training, logits = student.training, []
        student.eval()
        try:
            for batch in images.batches(batch_size):
                student.require_shape(batch.images)
                logits.append(selector.answer(before(batch.images.to(device), None)))
        finally:
            student.train(training)
        return cls(selector, torch.cat(logits), student.bit_flops_percent)

    def cost(self, multiplier: float) -> Tensor:
        """(N,) cost of each image at a multiplier; it never rises with the multiplier."""
        return self.percent(self.selector.choose(self.logits, multiplier))

    def mean_cost(self, multiplier: float) -> float:
        """Mean cost at a multiplier."""
        return float(self.cost(multiplier).mean())

    @property
    def lowest(self) -> float:
        """Cost with the cheapest width wherever there is a choice."""
        return self.mean_cost(self._ends[1])

    @property
    def highest(self) -> float:
        """Cost with the dearest width wherever there is a choice."""
        return self.mean_cost(self._ends[0])

    def setting(self, bit_flops_percent: float) -> BudgetSetting:
        """The lowest multiplier at which the mean cost is within a budget, by bisection; 0 where
        that costs the same.

        Raises:
            ValueError: the budget is outside what the student can choose.
        """
        cheap, dear = self.lowest, self.highest
        if not cheap - EQUAL <= bit_flops_percent <= dear + EQUAL:
            raise ValueError(
                f"bit_flops_percent: {bit_flops_percent:g} is outside {_up(cheap):g} … {_down(dear):g} percent, from "
                "the cheapest width everywhere to the dearest; ask for a budget in between"
            )
        low, high = self._ends
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            if self.mean_cost(middle) <= bit_flops_percent + EQUAL:
                high = middle
            else:
                low = middle
        reached = self.mean_cost(high)
        multiplier = 0.0 if self.mean_cost(0.0) == reached else high
        return BudgetSetting(multiplier, reached, bit_flops_percent, len(self.logits))

    @property
    def _ends(self) -> tuple[float, float]:
        """Prices at and beyond which every image takes the dearest and the cheapest widths.

        A choice changes where a logit gained by a wider candidate is worth its cost; neighbours
        give the extremes.
        """
        gains, costs = self.logits.double().diff(dim=2), self.selector.costs.diff(dim=1)
        paid = (costs > 0).all(dim=1)
        if not paid.any():
            return 0.0, 0.0
        changes = gains[:, paid] / costs[paid]
        low, high = changes.min().item(), changes.max().item()
        margin = 1e-6 * (1 + max(abs(low), abs(high)))
        return low - margin, high + margin


def cost_range(student: Student) -> dict[str, float]:
    """Bit-FLOPs in percent of the float model: with the cheapest choices, the target width
    everywhere, the dearest.
    """
    scheme, sites = student.scheme, len(student.sites)
    before = student.selector.fixed_sites if student.selector else 0
    ends = {"cheapest": scheme.activation_bits[0], "dearest": scheme.activation_bits[-1]}
    bits = {
        name: [scheme.activation_bits[-1]] * before + [width] * (sites - before)
        for name, width in ends.items()
    }
    bits = {
        "cheapest": bits["cheapest"],
        "target": [scheme.target_bits] * sites,
        "dearest": bits["dearest"],
    }
    return {name: student.cost.at(allocation).percent for name, allocation in bits.items()}


def before_selector(network: fx.GraphModule) -> fx.GraphModule:
    """The part of a student's graph that the selector reads, with shared modules: (images, None) to
    (B, C, H, W).
    """
    graph, copies = fx.Graph(), dict[fx.Node, fx.Node]()
    for node in network.graph.nodes:
        if node.op == "call_module" and isinstance(
            network.get_submodule(str(node.target)), BitSelector
        ):
            source = node.args[0]
            assert isinstance(source, fx.Node)
            graph.output(copies[source])
            break
        copies[node] = graph.node_copy(node, copies.__getitem__)
    return fx.GraphModule(network, graph)


def _up(value: float) -> float:
    """Rounded to four decimals so that the bound itself is allowed."""
    return math.ceil(value * 1e4) / 1e4


def _down(value: float) -> float:
    return math.floor(value * 1e4) / 1e4
