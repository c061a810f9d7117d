"""The multiple-choice knapsack, against all choices."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from dynadfq.quant.knapsack import Limit, choose


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_best_of_all_choices(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = (3, 2, 4, 3)
    harm = [rng.random(count) for count in counts]
    harm[2][1] = np.inf
    pair = rng.random((3, 4))
    limits = [
        Limit([rng.random(count) for count in counts], 0.8, 2.3, {(0, 2): pair}),
        Limit([rng.random(count) for count in counts], 0.0, 2.0),
    ]

    def cost(limit: Limit, options: tuple[int, ...]) -> float:
        own = sum(limit.own[g][o] for g, o in enumerate(options))
        shared = sum(m[options[g], options[h]] for (g, h), m in limit.shared.items())
        return float(own + shared)

    possible = {
        options: sum(harm[g][o] for g, o in enumerate(options))
        for options in product(*map(range, counts))
        if all(limit.lowest <= cost(limit, options) <= limit.highest for limit in limits)
    }
    found = choose(harm, limits)
    assert found is not None
    assert possible[tuple(found)] == pytest.approx(min(possible.values()), rel=2e-4)


def test_what_is_impossible_is_none() -> None:
    assert choose([np.zeros(2)], [Limit([np.array([1.0, 2.0])], 3.0, 4.0)]) is None
