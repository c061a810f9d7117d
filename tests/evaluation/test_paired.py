"""Paired comparisons: against McNemar's test, and against every possible outcome."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from scipy.stats import binomtest

from dynadfq.evaluation.paired import paired


def test_with_one_answer_it_is_the_sign_test() -> None:
    right = torch.tensor([1, 1, 1, 0, 1, 1, 1, 1, 0, 0], dtype=torch.bool)
    other = torch.tensor([1, 0, 0, 0, 0, 0, 0, 1, 1, 0], dtype=torch.bool)
    found = paired(right, other)
    assert (found.gained, found.lost) == (5, 1)
    assert found.p_value == pytest.approx(binomtest(5, 6).pvalue)
    assert found.difference == pytest.approx(40.0)
    gains = right.double().numpy() - other.double().numpy()
    assert found.standard_error == pytest.approx(100 * gains.std(ddof=1) / np.sqrt(10))


def test_equal_answers_are_no_difference() -> None:
    right = torch.arange(8) % 3 == 0
    found = paired(right, right.expand(4, -1))
    assert (found.gained, found.lost) == (None, None)  # each of the four would have its own
    assert (found.difference, found.standard_error, found.p_value) == (0.0, 0.0, 1.0)


def test_with_several_answers_it_counts_all_choices_of_the_first() -> None:
    answers = torch.rand(4, 5, generator=torch.Generator().manual_seed(3)) < 0.5
    counts = [sum(int(answers[k, i]) for i, k in enumerate(p)) for p in product(range(4), repeat=5)]
    chance = np.bincount(counts, minlength=6) / 4**5
    for first in range(4):
        others = answers[[k for k in range(4) if k != first]]
        found = paired(answers[first], others)
        likely = chance[int(answers[first].sum())]
        assert found.p_value == pytest.approx(chance[chance <= likely * (1 + 1e-9)].sum())


def test_the_size_of_the_test_is_what_it_says() -> None:
    rng = torch.Generator().manual_seed(0)
    chances = torch.rand(60, generator=rng)
    answers = torch.rand(400, 4, 60, generator=rng) < chances
    p = [paired(one[0], one[1:]).p_value for one in answers]
    assert 0.02 < np.mean(np.array(p) <= 0.05) <= 0.06
    assert 0.3 < np.mean(np.array(p) <= 0.5) <= 0.56
