"""The norm of the weights' gradient: recorded, limited, and checked before it moves anything."""

import math

import pytest
import torch
from finetuning import SCHEDULE, changed, finetune, state
from torch import nn

from dynadfq.methods import dynadfq as method
from dynadfq.runtime.progress import NonFiniteLoss
from dynadfq.training.optimizer import clip_gradient, gradient_norm, weights

RECIPE = method.Student(mixup_share=0.0).recipe()
ONE_STEP = changed(SCHEDULE, epochs=1, steps_per_epoch=1, weight_decay=0.0)


def moved(student, before):
    """How far each parameter went, by name."""
    parameters = student.network.named_parameters()
    return {name: parameter.detach() - before[name] for name, parameter in parameters}


def test_a_gradient_is_scaled_as_a_whole_by_hand():
    parameters = [
        nn.Parameter(torch.zeros(2)),
        nn.Parameter(torch.zeros(1)),
        nn.Parameter(torch.ones(1)),
    ]
    parameters[0].grad, parameters[1].grad = torch.tensor([2.0, 3.0]), torch.tensor([6.0])
    assert gradient_norm(parameters) == 7  # √(4 + 9 + 36); the last one has none
    for limit in (0.0, 8.0):
        clip_gradient(parameters, torch.tensor(7.0), limit)
        assert parameters[0].grad.tolist() == [2, 3] and parameters[1].grad.tolist() == [6]
    clip_gradient(parameters, torch.tensor(7.0), 3.5)
    assert parameters[0].grad.tolist() == pytest.approx([1, 1.5])
    assert parameters[1].grad.tolist() == pytest.approx([3])


def test_a_large_gradient_of_finite_numbers_has_a_finite_norm():
    parameter = nn.Parameter(torch.zeros(2))
    parameter.grad = torch.tensor([3e30, -4e30])  # squares of float32 end at 3e38
    assert gradient_norm([parameter]).item() == pytest.approx(5e30)
    clip_gradient([parameter], gradient_norm([parameter]), 10.0)
    assert parameter.grad.tolist() == pytest.approx([6, -8])
    parameter.grad = torch.tensor([1.0, math.inf])
    assert gradient_norm([parameter]) == math.inf


@pytest.mark.parametrize("widths", [(3, 4, 5), (4,)], ids=["dynamic", "fixed"])
def test_a_limit_that_no_gradient_reaches_changes_nothing(make_student, teacher, synthetic, widths):
    free, wide = make_student(*widths), make_student(*widths)
    history = finetune(free, teacher, synthetic, RECIPE)
    above = 2 * SCHEDULE.steps_per_epoch * history["gradient_norm"].max()
    finetune(wide, teacher, synthetic, RECIPE, changed(SCHEDULE, max_gradient_norm=above))
    assert state(wide) == state(free)


@pytest.mark.parametrize(("widths", "momentum"), [((3, 4, 5), 0.9), ((4,), 0.0)])
def test_the_limit_bounds_a_step_of_the_weights_and_of_nothing_else(
    make_student, teacher, synthetic, widths, momentum
):
    steps = []
    for limit in (0.0, 0.5):
        student = make_student(*widths)
        before = {name: p.detach().clone() for name, p in student.network.named_parameters()}
        schedule = changed(ONE_STEP, max_gradient_norm=limit, momentum=momentum)
        norm = finetune(student, teacher, synthetic, RECIPE, schedule)["gradient_norm"].item()
        bounded = {id(p) for p in weights(student)}
        names = {name for name, p in student.network.named_parameters() if id(p) in bounded}
        steps.append((moved(student, before), names, norm))
    (free, names, norm), (limited, _, again) = steps
    assert norm == again > 0.5  # what is recorded is the norm before
    nesterov = ONE_STEP.learning_rate * (1 + momentum)  # of a first step
    for step, length in ((free, norm), (limited, 0.5)):
        squares = sum(step[name].double().square().sum().item() for name in names)
        assert math.sqrt(squares) == pytest.approx(nesterov * length, rel=1e-3)
    others = free.keys() - names
    assert others and all(torch.equal(free[name], limited[name]) for name in others)
    assert any(free[name].any() for name in others)


def test_a_limit_keeps_a_high_rate_from_destroying_the_student(make_student, teacher, synthetic):
    high = changed(SCHEDULE, epochs=8, learning_rate=0.3, decay_every=8)
    losses = {}
    for limit in (0.0, 0.5):
        schedule = changed(high, max_gradient_norm=limit)
        history = finetune(make_student(4), teacher, synthetic, RECIPE, schedule)
        losses[limit] = history["loss"].tolist()
    assert losses[0.0][-1] > losses[0.0][0]
    assert losses[0.5][-1] < losses[0.5][0]


@pytest.mark.parametrize("of", ["network", "range", "selector"])
def test_a_gradient_that_is_not_finite_moves_nothing(make_student, teacher, synthetic, of):
    student = make_student()
    parameter = {
        "network": weights(student)[0],
        "range": next(p for p in student.sites[-1].parameters() if p.requires_grad),
        "selector": next(student.selector.parameters()),
    }[of]
    parameter.register_hook(lambda slope: slope * torch.nan)
    before = state(student)
    with pytest.raises(NonFiniteLoss, match="step 0: gradient = nan; lower the learning rate"):
        finetune(student, teacher, synthetic, RECIPE)
    assert state(student) == before
