"""Clipped activations pass their gradient on where the setting says so and ranges are fixed."""

import pytest
import torch
from finetuning import SCHEDULE, changed, finetune, state
from interrupts import killed_after

from dynadfq.methods.zeroq import ZeroQ
from dynadfq.quant.activation_site import ActivationFakeQuantize
from dynadfq.quant.bits import BitAllocation
from dynadfq.quant.config import Scheme
from dynadfq.training.prepare import new_student, prepare_student

RECIPE = ZeroQ().student.recipe()


def gradients(passes, learned=False):
    """Values of a site at 2 bits on [0, 3], and the gradient to what it reads."""
    site = ActivationFakeQuantize(0, 2, learned)
    site.set_range(torch.tensor(0.0), torch.tensor(3.0))
    site.passes_clipped = passes
    x = torch.tensor([[-2.0, 0.0, 1.2, 3.0, 7.0]], requires_grad=True)
    values, _ = site(x)
    (values * torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0])).sum().backward()
    return values.tolist(), x.grad.tolist()


def test_the_gradient_by_hand():
    values = [[0.0, 0.0, 1.0, 3.0, 3.0]]
    assert gradients(False) == (values, [[0.0, 2.0, 3.0, 4.0, 0.0]])
    assert gradients(True) == (values, [[1.0, 2.0, 3.0, 4.0, 5.0]])
    assert gradients(True, learned=True) == gradients(False, learned=True)


def test_probabilities_keep_their_gradient():
    x = 4 * torch.rand(6, 3, generator=torch.Generator().manual_seed(0))
    probabilities = torch.full((6, 1, 2), 0.5)
    found = []
    for passes in (False, True):
        site = ActivationFakeQuantize(0, 3, False)
        site.set_range(torch.tensor(0.0), torch.tensor(3.0))
        site.passes_clipped = passes
        chances = probabilities.clone().requires_grad_()
        bits = torch.full((6, 1), 3.0)
        values, _ = site(x, BitAllocation(bits, chances, torch.tensor([2.0, 3.0])))
        found.append((values, *torch.autograd.grad(values.square().sum(), chances)))
    assert all(torch.equal(off, on) for off, on in zip(*found, strict=True))


@pytest.mark.parametrize("learned", [False, True], ids=["fixed", "learned"])
def test_only_students_of_fixed_ranges_learn_otherwise_and_nothing_is_left(
    learned, teacher, synthetic
):
    states = []
    for passes in (False, True):
        scheme = Scheme(activation_bits=(3,), target_bits=3, learned_ranges=learned)
        student = new_student(teacher, RECIPE, scheme, 0)
        prepare_student(student, teacher, synthetic, RECIPE, 0)
        schedule = changed(SCHEDULE, epochs=1, clipped_gradient=passes)
        finetune(student, teacher, synthetic, RECIPE, schedule)
        assert not any(site.passes_clipped for site in student.sites)
        states.append(state(student))
    assert (states[0] == states[1]) == learned


def test_a_stop_leaves_no_site_passing_gradients(teacher, synthetic, monkeypatch):
    student = new_student(teacher, RECIPE, Scheme(activation_bits=(3,), target_bits=3), 0)
    prepare_student(student, teacher, synthetic, RECIPE, 0)
    with killed_after(monkeypatch, 1):
        finetune(student, teacher, synthetic, RECIPE, changed(SCHEDULE, clipped_gradient=True))
    assert not any(site.passes_clipped for site in student.sites)
