import pytest
import torch
from torch import nn

from dynadfq.losses.budget import MULTIPLIER_RATE, Budget


def gradient(budget, ratios):
    """∂ of the whole term with respect to each image's ratio, as the student's objective builds
    it."""
    ratio = torch.tensor(ratios, requires_grad=True)
    value = budget.value(ratio)
    (found,) = torch.autograd.grad(budget.factor(value) * value, ratio)
    return found


def test_the_penalty_is_the_papers():
    budget = Budget("penalty", 100.0)
    value = budget.value(torch.tensor([1.5, 0.5, 1.0, 1.1]))
    assert value.item() == pytest.approx((0.5 + 0.1) / 4)
    assert budget.factor(value) == 100.0
    assert budget.factor(value) * value.item() == pytest.approx(15.0)
    assert gradient(budget, [1.5, 0.5, 1.0, 1.1]).tolist() == pytest.approx([25.0, 0, 0, 25.0])
    budget.update(value)
    assert budget.multiplier == 0 and budget.factor(value) == 100.0


def test_the_penalty_says_nothing_at_or_below_the_target():
    budget = Budget("penalty", 100.0)
    assert budget.value(torch.tensor([1.0, 0.3])).item() == 0
    assert gradient(budget, [1.0, 0.3]).tolist() == [0, 0]


@pytest.mark.parametrize("multiplier", [0.0, 0.7, -0.7])
@pytest.mark.parametrize("ratios", [[1.2, 1.4], [0.5, 0.9], [1.0, 1.0], [0.5, 1.5]])
def test_the_constraints_gradient_is_the_multiplier_and_a_pull_to_the_mean(multiplier, ratios):
    budget = Budget("constraint", 2.0, multiplier)
    off = sum(ratios) / 2 - 1
    assert budget.value(torch.tensor(ratios)).item() == pytest.approx(off, abs=1e-7)
    share = 1 / len(ratios)  # of an image in the mean
    assert gradient(budget, ratios).tolist() == pytest.approx(
        [share * (multiplier + 2.0 * off)] * 2, abs=1e-6
    )

    ratio = torch.tensor(ratios, requires_grad=True)
    lagrangian = multiplier * (ratio.mean() - 1) + 0.5 * 2.0 * (ratio.mean() - 1).square()
    (expected,) = torch.autograd.grad(lagrangian, ratio)
    torch.testing.assert_close(gradient(budget, ratios), expected, atol=1e-6, rtol=0)


def test_the_multiplier_rises_above_the_target_and_falls_below_it():
    budget = Budget("constraint", 2.0)
    multipliers = []
    for mean in (1.3, 1.0, 0.8, 0.8):
        budget.update(budget.value(torch.tensor([mean - 0.1, mean + 0.1])))
        multipliers.append(budget.multiplier)
    steps = [0.3, 0.3, 0.1, -0.1]
    assert multipliers == pytest.approx([MULTIPLIER_RATE * 2.0 * step for step in steps], abs=1e-7)
    assert multipliers[-1] < 0


@pytest.mark.parametrize("start", [-1.0, 2.5])
@pytest.mark.parametrize("wish", [-0.8, 0.0, 0.8])
def test_the_mean_comes_to_the_target_from_both_sides(start, wish):
    """A linear selector of which the rest of the objective wants more, or less, than the target.

    At the solution the multiplier is that wish: the multiplier of the constraint.
    """
    rng = torch.Generator().manual_seed(0)
    features = torch.randn(32, 3, generator=rng)
    selector = nn.Linear(3, 1)
    nn.init.normal_(selector.weight, std=0.1, generator=rng)
    nn.init.constant_(selector.bias, start)
    budget = Budget("constraint", 3.0)
    sgd = torch.optim.SGD(selector.parameters(), lr=0.05)
    means = []
    for _ in range(1500):
        ratio = selector(features)[:, 0]
        value = budget.value(ratio)
        loss = (
            -wish * ratio.mean()
            + (ratio - ratio.mean()).square().mean()
            + budget.factor(value) * value
        )
        sgd.zero_grad()
        loss.backward()
        sgd.step()
        budget.update(value)
        means.append(ratio.mean().item())
    assert abs(means[0] - 1) > 1
    assert means[-1] == pytest.approx(1, abs=1e-3)
    assert budget.multiplier == pytest.approx(wish, abs=1e-2)


@pytest.mark.parametrize("multiplier", [0.0, 0.7])
def test_the_value_that_is_logged_is_the_whole_form(multiplier):
    value = torch.tensor(0.3)
    constraint = Budget("constraint", 2.0, multiplier)
    penalty = Budget("penalty", 2.0)
    logged = constraint.factor(value) * value - constraint.surplus(value)
    assert logged.item() == pytest.approx(multiplier * 0.3 + 2.0 / 2 * 0.3**2)
    assert penalty.surplus(value) == 0
