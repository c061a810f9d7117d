import pytest
import torch
from torch.nn.functional import cross_entropy

from dynadfq.losses.objective import StudentStep
from dynadfq.methods.base import MethodContext
from dynadfq.methods.intraq import Images, IntraQ, soft_inception
from dynadfq.runtime.progress import Progress
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.similarity import class_similarity

RNG = torch.Generator().manual_seed(0)
NARROW = {"margin_low": 0.4, "margin_high": 0.5}  # narrow enough to hold in the tiny network


def make(teacher, folder, images=12, scratch=None, iterations=3, **settings):
    recipe = Images(**settings).recipe(MethodContext(teacher, class_similarity(teacher), 0))
    source = recipe.source(teacher, PixelOptimizerConfig(iterations=iterations, learning_rate=0.1))
    return synthesize_set(source, images, 4, 0, folder, Scratch(scratch))


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_target_that_is_met_costs_nothing():
    logits = torch.randn(5, 7, generator=RNG, dtype=torch.float64)
    logits[torch.arange(5), torch.arange(5)] += 8  # the class beyond 1/2
    logits.requires_grad_()
    loss = soft_inception(logits, logits.detach().softmax(dim=1))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 0 and not gradient.any()


def test_soft_inception_by_hand():
    """Predictions 0.8 and 0.5 where 0.95 and 1 are asked; what the other classes get is free."""
    logits = torch.tensor([[0.8, 0.15, 0.05], [0.5, 0.2, 0.3]]).log()
    labels = torch.tensor([[0.95, 0.025, 0.025], [1.0, 0.0, 0.0]])
    assert soft_inception(logits, labels).item() == pytest.approx((0.15**2 + 0.5**2) / 2)
    other = torch.tensor([[0.8, 0.05, 0.15], [0.5, 0.5, 0.0]]).log()
    assert soft_inception(other, labels).item() == pytest.approx((0.15**2 + 0.5**2) / 2)


def test_the_student_learns_the_class_for_certain():
    logits, teacher_logits = torch.randn(2, 3, 4, generator=RNG)
    labels = torch.tensor([[0.01, 0.97, 0.01, 0.01], [1.0, 0, 0, 0], [0.1, 0.1, 0.1, 0.7]])
    label, distillation = IntraQ().student.terms()
    step = StudentStep(labels, logits, teacher_logits, torch.ones(3))
    torch.testing.assert_close(label.value(step), cross_entropy(logits, torch.tensor([1, 0, 3])))
    assert (label.weight, distillation.weight) == (1.0, 20.0)


def test_the_paper_lowers_every_target_and_the_code_half_of_them(teacher, tmp_path):
    def certain(share):
        images = make(teacher, tmp_path / str(share), 60, iterations=0, soft_share=share)
        labels = images.take(torch.arange(60)).soft_labels
        assert labels.amax(dim=1).min() >= 0.95
        return int((labels.amax(dim=1) == 1).sum())

    assert certain(1.0) == 0 and certain(0.0) == 60 and 15 < certain(0.5) < 45


def test_a_shard_keeps_its_distance_to_those_before_it(teacher, tmp_path):
    """The first shard has no centres; the second depends on the first by its centres alone."""
    near = make(teacher, tmp_path / "near")
    far = make(teacher, tmp_path / "far", **NARROW)
    first = "shard-00000.safetensors"
    second = "shard-00001.safetensors"
    assert near.manifest["shards"][0]["losses"]["margin"] == 0
    assert files(near.folder)[first] == files(far.folder)[first]
    assert files(near.folder)[second] != files(far.folder)[second]
    assert far.manifest["shards"][1]["losses"]["margin"] > 0


def test_without_margins_shards_are_independent(teacher, tmp_path):
    recipe = Images(margin_low=0.0, margin_high=2.0).recipe(
        MethodContext(teacher, class_similarity(teacher), 0)
    )
    assert (
        recipe.remember is None
        and not recipe.source(teacher, PixelOptimizerConfig(iterations=3)).sequential
    )
    losses = make(teacher, tmp_path / "free", margin_low=0.0, margin_high=2.0).manifest["shards"][
        1
    ]["losses"]
    assert set(losses) == {"bn_statistics", "class", "total"}


@pytest.mark.parametrize("after", [1, 4, 7])
@pytest.mark.parametrize("scratch", [False, True])
def test_an_interrupted_run_ends_with_the_same_bytes(
    teacher, tmp_path, monkeypatch, after, scratch
):
    expected = files(make(teacher, tmp_path / "whole", **NARROW).folder)
    waiting = tmp_path / "scratch"
    steps = iter(range(1000))

    def interrupt(self, **losses):
        if next(steps) == after:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progress, "step", interrupt)
        make(teacher, tmp_path / "parts", scratch=waiting if scratch else None, **NARROW)
    resumed = make(teacher, tmp_path / "parts", scratch=waiting if scratch else None, **NARROW)
    assert files(resumed.folder) == expected


def test_local_objects_are_seen_now_and_then(teacher):
    augment = IntraQ().images.recipe(MethodContext(teacher, class_similarity(teacher), 0)).augment
    assert augment is not None
    images = torch.randn(4, 3, 8, 8, generator=RNG)
    whole = sum(torch.equal(augment(images, RNG), images) for _ in range(200))
    assert 70 < whole < 130
