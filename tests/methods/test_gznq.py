import math

import pytest
import torch

from dynadfq.losses.bn_statistics import batch_statistics
from dynadfq.losses.objective import SynthesisStep, soft_cross_entropy
from dynadfq.methods.base import MethodContext
from dynadfq.methods.gznq import (
    Images,
    bn_divergence,
    ensemble_loss,
    gaussian_divergence,
    resampled,
)
from dynadfq.runtime.progress import Progress
from dynadfq.runtime.resume import Scratch
from dynadfq.runtime.seeding import generator
from dynadfq.synthesis.compressed import compressed, low_rank, pruned, rounded
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.similarity import class_similarity


@pytest.fixture
def weight():
    return torch.randn(6, 4, 3, 3, generator=torch.Generator().manual_seed(0))


def composed(teacher, **settings):
    return Images(**settings).recipe(MethodContext(teacher, class_similarity(teacher), 0))


def test_divergence_is_zero_at_equality_alone():
    mean = torch.linspace(-2, 2, 5)
    variance = torch.linspace(0.1, 3, 5)
    assert torch.equal(gaussian_divergence(mean, variance, mean, variance), torch.zeros(5))
    assert (gaussian_divergence(mean, variance, mean + 0.1, variance) > 0).all()
    assert (gaussian_divergence(mean, variance, mean, 1.1 * variance) > 0).all()


def test_divergence_by_hand():
    found = gaussian_divergence(*(torch.tensor(x) for x in (1.0, 4.0, 3.0, 2.0)))
    assert float(found) == pytest.approx(0.5 * math.log(2 / 4) + (4 + (1 - 3) ** 2) / (2 * 2) - 0.5)


def test_divergence_agrees_with_torch():
    mean = torch.randn(2, 50)
    target = torch.randn(2, 50).exp()
    ours, theirs = (torch.distributions.Normal(mean[i], target[i].sqrt()) for i in (0, 1))
    torch.testing.assert_close(
        gaussian_divergence(mean[0], target[0], mean[1], target[1]),
        torch.distributions.kl_divergence(ours, theirs),
    )


def test_drawn_statistics_scatter_like_those_of_samples():
    mean = torch.full((40_000,), 3.0)
    variance = torch.full((40_000,), 4.0)
    count = 9
    drawn_mean, drawn_variance = resampled(mean, variance, count, torch.Generator().manual_seed(0))
    assert float(drawn_mean.mean()) == pytest.approx(3, abs=0.02)
    assert float(drawn_mean.var()) == pytest.approx(4 / 9, rel=0.03)
    assert float(drawn_variance.mean()) == pytest.approx(4, rel=0.02)
    assert float(drawn_variance.var()) == pytest.approx(
        2 * 4**2 / 8, rel=0.05
    )  # of χ² over its degrees of freedom


def test_many_samples_have_the_statistics_themselves():
    mean = torch.randn(50)
    variance = torch.rand(50) + 0.5
    drawn = resampled(mean, variance, 10**9, torch.Generator().manual_seed(0))
    torch.testing.assert_close(drawn[0], mean, rtol=0, atol=1e-3)
    torch.testing.assert_close(drawn[1], variance, rtol=1e-3, atol=0)


def test_bn_divergence_draws_targets_from_the_shards_stream(teacher, images):
    with teacher.recording() as recording:
        step = SynthesisStep(
            images, torch.ones(256, 6) / 6, teacher(images), recording, rng=generator(0, "shard")
        )
        one = bn_divergence(step, 16)
        other = bn_divergence(step, 16)
        again = bn_divergence(step._replace(rng=generator(0, "shard")), 16)
        expected = [
            gaussian_divergence(
                m, v + layer.eps, layer.running_mean, layer.running_var + layer.eps
            ).mean()
            for (layer, _), (m, v) in zip(
                recording.batch_norms, batch_statistics(recording), strict=True
            )
        ]
        exact = bn_divergence(step, 10**9)
    assert one == again != other
    torch.testing.assert_close(exact, torch.stack(expected).mean(), rtol=1e-3, atol=1e-5)


def test_rounded_weights_lie_on_a_grid_with_zero(weight):
    weight[:, 0, 0, 0] = 0
    found = rounded(weight, 3)
    assert (found[:, 0, 0, 0] == 0).all()
    assert all(len(channel.unique()) <= 8 for channel in found)
    step = (weight.flatten(1).amax(dim=1) - weight.flatten(1).amin(dim=1)) / 7
    assert ((found - weight).abs().flatten(1).amax(dim=1) <= step).all()
    assert torch.equal(rounded(torch.zeros(2, 3), 4), torch.zeros(2, 3))
    torch.testing.assert_close(rounded(weight.abs(), 8), weight.abs(), rtol=0, atol=0.02)


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_pruning_takes_the_smallest_weights(weight, share):
    found = pruned(weight, share)
    gone = found == 0
    assert int(gone.sum()) == round(share * weight.numel())
    assert torch.equal(found[~gone], weight[~gone])
    if 0 < share < 1:
        assert weight[gone].abs().max() <= weight[~gone].abs().min()


def test_low_rank_weights_have_the_rank_and_are_the_nearest(weight):
    found = low_rank(weight, 0.5)
    assert int(torch.linalg.matrix_rank(found.flatten(1))) == 3
    values = torch.linalg.svdvals(weight.flatten(1))
    torch.testing.assert_close((found - weight).norm(), values[3:].norm())  # Eckart and Young
    torch.testing.assert_close(low_rank(weight, 1.0), weight)


def test_a_compressed_copy_leaves_the_teacher_as_it_is(teacher, images):
    before = {name: tensor.clone() for name, tensor in teacher.module.state_dict().items()}
    copy = compressed(teacher.module, lambda weight: pruned(weight, 1.0))
    assert all(
        torch.equal(before[name], tensor) for name, tensor in teacher.module.state_dict().items()
    )
    assert not copy.training and not any(parameter.requires_grad for parameter in copy.parameters())
    torch.testing.assert_close(
        copy(images[:3]), teacher.module.fc.bias.expand(3, 6)
    )  # nothing but biases is left
    assert torch.equal(compressed(teacher.module, lambda weight: weight)(images), teacher(images))


def test_ensemble_loss_is_the_mean_over_networks(teacher, images):
    labels = torch.eye(6)[torch.arange(256) % 6]
    networks = [teacher.module, compressed(teacher.module, lambda weight: pruned(weight, 1.0))]
    with teacher.recording() as recording:
        step = SynthesisStep(images, labels, teacher(images), recording)
        found = ensemble_loss(step, networks)
        assert len(recording.batch_norms) == 8  # the teacher twice; its copies are not recorded
    expected = [soft_cross_entropy(network(images), labels).mean() for network in networks]
    torch.testing.assert_close(found, (expected[0] + expected[1]) / 2)


@pytest.mark.parametrize("after", [2, 5])
def test_a_killed_run_goes_on_to_the_same_bytes(after, teacher, monkeypatch, tmp_path):
    def run(name, scratch=None):
        source = composed(teacher).source(teacher, PixelOptimizerConfig(iterations=4))
        synthesize_set(source, 10, 4, 0, tmp_path / name, Scratch(scratch))
        return {path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())}

    whole = run("whole")
    original = Progress.step
    steps = iter(range(1000))

    def step(self, **losses):
        if next(steps) == after:
            raise KeyboardInterrupt
        original(self, **losses)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progress, "step", step)
        run("killed", tmp_path / "scratch")
    assert run("resumed", tmp_path / "scratch") == whole


def test_it_says_that_it_is_a_reconstruction():
    import dynadfq.methods.gznq as file

    assert file.__doc__ and "not a reproduction" in file.__doc__
