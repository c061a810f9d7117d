from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from dynadfq.ptq.calibration import calibrate, extremes
from dynadfq.quant.build import build_student
from dynadfq.quant.config import Scheme
from dynadfq.quant.model import Student
from dynadfq.quant.selector_config import SelectorShape
from dynadfq.quant.sensitivity import site_sensitivity
from dynadfq.runtime.progress import Progress
from dynadfq.teacher.teacher import Teacher
from dynadfq.training import selector_warm_up as module
from dynadfq.training.config import SelectorTrainingConfig
from dynadfq.training.selector_warm_up import pooled_features, warm_up_selector

Build = Callable[..., Student]
SHORT = SelectorTrainingConfig(warm_up_images=24, warm_up_steps=20)


def state(student):
    return {name: tensor.clone() for name, tensor in student.state_dict().items()}


def parts(student):
    """Names of the selector's tensors, and of all others."""
    assert student.selector is not None
    own = {id(tensor) for tensor in student.selector.state_dict(keep_vars=True).values()}
    tensors = student.state_dict(keep_vars=True)
    selector = {name for name, tensor in tensors.items() if id(tensor) in own}
    return selector, set(tensors) - selector


def mean_ratio(student, images):
    return student.bit_flops_ratio(student.run(images)[1]).mean().item()


@pytest.mark.parametrize(("widths", "count"), [((3, 4, 5), 0), ((4,), 24)])
def test_nothing_changes_when_off_or_without_a_selector(
    make_student, teacher, synthetic, monkeypatch, widths, count
):
    student = make_student(*widths)
    before = state(student)
    monkeypatch.setattr(
        module, "site_sensitivity", lambda *_: pytest.fail("nothing is to be measured")
    )
    warm_up_selector(student, teacher, synthetic, SelectorTrainingConfig(warm_up_images=count), 0)
    after = state(student)
    assert set(before) == set(after) and all(
        torch.equal(before[name], after[name]) for name in before
    )
    assert not student.training


def test_the_selector_alone_is_taught(make_student, teacher, synthetic):
    student = make_student()
    before = state(student)
    (selector, others) = parts(student)
    warm_up_selector(student, teacher, synthetic, SHORT, 0)
    after = state(student)
    assert len(selector) == 4 and {name.split(".")[-1] for name in others} >= {
        "low",
        "high",
        "running_mean",
        "weight",
    }
    assert all(torch.equal(before[name], after[name]) for name in others)
    assert all(not torch.equal(before[name], after[name]) for name in selector)
    assert all(
        not any(part.training for part in part_of.modules())
        for part_of in (student, student.network)
    )
    apart = [p for name, p in student.named_parameters() if name in others]
    assert apart and all(p.grad is None for p in apart)


def test_the_seed_decides(make_student, teacher, synthetic):
    students = [make_student() for _ in range(3)]
    outside = torch.get_rng_state()
    for student, seed in zip(students, (0, 0, 1), strict=True):
        warm_up_selector(student, teacher, synthetic, SHORT, seed)
    same, again, other = map(state, students)
    assert all(torch.equal(same[name], again[name]) for name in same)
    assert any(not torch.equal(same[name], other[name]) for name in same)
    assert torch.equal(torch.get_rng_state(), outside)


@pytest.mark.parametrize("count", [10, 1000])
def test_as_many_images_are_measured_as_there_are_at_most(
    make_student, teacher, synthetic, monkeypatch, count
):
    student = make_student()
    bars = list[tuple[Progress, Tensor]]()

    def measure(student, teacher, batches, progress):
        batches = list(batches)
        table = site_sensitivity(student, teacher, batches, progress)
        assert torch.equal(torch.cat(batches), synthetic.take(torch.arange(len(table))).images)
        bars.append((progress, table))
        return table

    monkeypatch.setattr(module, "site_sensitivity", measure)
    monkeypatch.setattr(module, "BATCH", 7)
    warm_up_selector(
        student,
        teacher,
        synthetic,
        SelectorTrainingConfig(warm_up_images=count, warm_up_steps=1),
        0,
    )
    ((progress, table),) = bars
    assert table.shape == (min(count, 24), student.dynamic_sites, 3)
    assert progress.done == progress.total


class Chain(nn.Module):
    """Six convolutions of the same cost, so that all sites but the last cost the same."""

    def __init__(self):
        super().__init__()
        convolutions = [nn.Conv2d(3 if i == 0 else 6, 6, 3, padding=1) for i in range(6)]
        self.features = nn.Sequential(
            *(part for conv in convolutions for part in (conv, nn.ReLU()))
        )
        self.classifier = nn.Linear(6, 6)

    def forward(self, images):
        logits = self.classifier(self.features(images).mean(dim=(2, 3)))
        return logits


@pytest.fixture
def chain(images):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        teacher = Teacher(Chain().eval(), (3, 8, 8), 6, (0,) * 3, (1,) * 3)
    student = build_student(teacher, Scheme(selector=SelectorShape(pool=2, hidden=16, dropout=0.0)))
    calibrate(student, images.split(64), extremes)
    assert student.cost.per_site[1:5].unique().numel() == 1
    return SimpleNamespace(teacher=teacher, student=student)


@pytest.mark.parametrize("bias", [-4.0, 4.0])
def test_the_mean_cost_comes_to_the_target(chain, synthetic, last_linear_of_selector, bias):
    student = chain.student
    layer = last_linear_of_selector(chain.student)
    with torch.no_grad():  # everything at the narrowest, or the widest width at first
        layer.bias.copy_(torch.tensor([-bias, 0.0, bias]).repeat(len(layer.bias) // 3))
    lowest, highest = (
        student.bit_flops_ratio(torch.full((6,), width)).item() for width in (3.0, 5.0)
    )
    span = highest - lowest
    measured = synthetic.take(torch.arange(24)).images
    before = mean_ratio(student, measured)
    assert abs(before - 1) > 0.3 * span
    warm_up_selector(
        student,
        chain.teacher,
        synthetic,
        SelectorTrainingConfig(warm_up_images=24, warm_up_steps=800, warm_up_learning_rate=1e-2),
        0,
    )
    assert abs(mean_ratio(student, measured) - 1) < 0.1 * span


@pytest.mark.parametrize("sensitive", [1, 2, 3, 4])
def test_bits_go_where_a_narrow_width_hurts(chain, synthetic, monkeypatch, sensitive):
    harm = torch.tensor([0.02, 0.01, 0.0]).repeat(24, 5, 1)  # of 3, 4 and 5 bits
    harm[:, sensitive - 1] = torch.tensor([9.0, 3.0, 0.0])
    monkeypatch.setattr(module, "site_sensitivity", lambda *_: harm)
    warm_up_selector(
        chain.student,
        chain.teacher,
        synthetic,
        SelectorTrainingConfig(warm_up_images=24, warm_up_steps=400, warm_up_learning_rate=1e-2),
        0,
    )
    measured = synthetic.take(torch.arange(24)).images
    bits = chain.student.run(measured)[1].mean(dim=0)
    others = [site for site in (1, 2, 3, 4) if site != sensitive]
    assert bits[sensitive] == 5
    assert all(bits[site] < bits[sensitive] for site in others)
    assert mean_ratio(chain.student, measured) == pytest.approx(1, abs=0.05)


def test_only_what_an_image_suffers_beyond_its_best_counts(chain, synthetic, monkeypatch):
    harm = torch.rand(24, 5, 3, generator=torch.Generator().manual_seed(3))
    start = state(chain.student)
    found = []
    for offset in (0.0, torch.arange(24.0)[:, None, None]):
        chain.student.load_state_dict(start)
        monkeypatch.setattr(module, "site_sensitivity", lambda *_, offset=offset: harm + offset)
        warm_up_selector(chain.student, chain.teacher, synthetic, SHORT, 0)
        found.append(chain.student.run(synthetic.take(torch.arange(24)).images)[1])
    assert torch.equal(*found)


def test_features_are_what_the_selector_reads(make_student, teacher, synthetic):
    student = make_student()
    assert student.selector is not None
    images = synthetic.take(torch.arange(24)).images
    features = pooled_features(student, student.selector, list(images.split(10)))
    assert (
        features.shape == (24, student.selector.hidden.in_features)
        and features.dtype == torch.float32
    )
    choice = student.selector.logits(features.double()).argmax(dim=2)
    assert torch.equal(student.selector.widths[choice], student.run(images)[1][:, 1:])


@pytest.mark.parametrize("fails", [False, True])
def test_the_student_is_in_its_exact_form_afterwards(
    make_student, teacher, synthetic, monkeypatch, fails
):
    student = make_student()
    if fails:

        def interrupted(bits):
            assert student.selector.training
            raise KeyboardInterrupt

        monkeypatch.setattr(student, "bit_flops_ratio", interrupted)
        with pytest.raises(KeyboardInterrupt):
            warm_up_selector(student, teacher, synthetic, SHORT, 0)
    else:
        warm_up_selector(student, teacher, synthetic, SHORT, 0)
    assert not any(part.training for part in student.modules())
