"""One option per group, of least harm within limits of cost: a multiple-choice knapsack.

    minimize    Σ_g harm[g][o_g]
    subject to  lowest ≤ Σ_g own[g][o_g] + Σ_(g, h) shared[g, h][o_g, o_h] ≤ highest

Products of two choices are linear in variables z of their own, whose sums over either choice are
the other's (Glover and Woolsey, Operations Research 22, 1974); z needs no integrality.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.optimize import LinearConstraint

Floats = NDArray[np.float64]
PRECISION = 1e-4  # harm beyond the least that is possible, as a share of it


@dataclass(frozen=True)
class Limit:
    """A cost of all choices together, and its limits.

    own: for each group, the cost of each of its options.
    lowest, highest: limits of the sum.
    shared: for two groups (g, h), the (options of g, options of h) cost of both choices.
    """

    own: Sequence[Floats]
    lowest: float
    highest: float
    shared: Mapping[tuple[int, int], Floats] = field(default_factory=dict)


def choose(harm: Sequence[Floats], limits: Sequence[Limit]) -> list[int] | None:
    """Return the option of each group with the least sum of harm; None where none is possible.

    Args:
        harm: for each group, the harm of each of its options; infinity excludes an option.
        limits: what holds for the costs of all choices.
    """
    from scipy.optimize import Bounds, milp  # its import takes a quarter as long as torch's

    counts = [len(options) for options in harm]
    starts = np.cumsum([0, *counts])
    choices = int(starts[-1])
    pairs = list(dict.fromkeys(pair for limit in limits for pair in limit.shared))
    sizes = [counts[g] * counts[h] for g, h in pairs]
    ends = choices + np.cumsum([0, *sizes])
    place = dict(zip(pairs, ends.tolist(), strict=False))
    variables = int(ends[-1])
    rows: list[tuple[NDArray[np.int64], Floats, float, float]] = []
    for group, count in enumerate(counts):
        rows.append((starts[group] + np.arange(count), np.ones(count), 1.0, 1.0))
    for (g, h), start in place.items():
        block = start + np.arange(counts[g] * counts[h]).reshape(counts[g], counts[h])
        for group, lines in ((g, block), (h, block.T)):
            for option, line in enumerate(lines):
                columns = np.append(line, starts[group] + option)
                rows.append((columns, np.append(np.ones(len(line)), -1.0), 0.0, 0.0))
    for limit in limits:
        columns = np.arange(choices)
        values = np.concatenate(list(limit.own))
        for pair, cost in limit.shared.items():
            columns = np.append(columns, place[pair] + np.arange(cost.size))
            values = np.append(values, cost.ravel())
        unit = float(np.abs(values).max(initial=0)) or 1.0
        rows.append((columns, values / unit, limit.lowest / unit, limit.highest / unit))
    possible = np.concatenate([np.isfinite(options) for options in harm])
    objective = np.zeros(variables)
    objective[:choices] = np.where(possible, np.concatenate(list(harm)), 0.0)
    upper = np.ones(variables)
    upper[:choices] = possible
    found = milp(
        objective,
        integrality=np.arange(variables) < choices,
        bounds=Bounds(0.0, upper),
        constraints=_constraint(rows, variables),
        options={"mip_rel_gap": PRECISION},
    )
    if found.x is None:
        return None
    groups = zip(starts, counts, strict=False)
    return [int(np.argmax(found.x[start : start + count])) for start, count in groups]


def _constraint(
    rows: Sequence[tuple[NDArray[np.int64], Floats, float, float]], variables: int
) -> LinearConstraint:
    """Return rows of (columns, values, lowest, highest) as scipy's constraint."""
    from scipy.optimize import LinearConstraint
    from scipy.sparse import csr_array

    columns, values, lowest, highest = zip(*rows, strict=True)
    row = np.repeat(np.arange(len(rows)), [len(part) for part in columns])
    place = (row, np.concatenate(columns))
    matrix = csr_array((np.concatenate(values), place), shape=(len(rows), variables))
    return LinearConstraint(matrix, np.array(lowest), np.array(highest))
