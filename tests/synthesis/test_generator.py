import json
from collections.abc import Callable

import pytest
import safetensors.torch
import torch
from interrupts import counted_steps, files, killed_after

from dynadfq.losses.objective import Objective, Term
from dynadfq.methods.gdfq import Images
from dynadfq.runtime.artifact import DamagedArtifact
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.progress import NonFiniteLoss, Progress
from dynadfq.runtime.resume import Scratch
from dynadfq.runtime.seeding import generator
from dynadfq.synthesis import generator as module
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.generator import GeneratorSource, GeneratorTraining
from dynadfq.synthesis.generator_network import ConditionalBatchNorm, GeneratorNetwork
from dynadfq.synthesis.latent import (
    LabelledNoise,
    PlainNoise,
    SingleClasses,
    SuperposedEmbeddings,
    mix,
)
from dynadfq.synthesis.synthesize import synthesize_set

CLASSES = 6
SHAPES = [(1, 28, 28), (3, 32, 32), (1, 16, 16), (3, 8, 8), (3, 33, 33), (3, 9, 14), (3, 4, 4)]
GDFQ = Images(generator_batch_size=8, latent_features=10)

Synthesize = Callable[..., SyntheticSet]


@pytest.fixture
def synthesize(teacher, tmp_path):
    def run(name="set", seed=0, scratch=None, iterations=7):
        source = GDFQ.generator(teacher).source(
            teacher, PixelOptimizerConfig(iterations=iterations)
        )
        return synthesize_set(source, 10, 4, seed, tmp_path / name, Scratch(scratch))

    return run


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def superposition():
    return mix(torch.tensor([[0, 3], [5, 5]]), torch.tensor([[0.25, 0.75], [0.5, 0.5]]), CLASSES)


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
def test_images_have_the_asked_size_and_each_batch_mean_0_and_variance_1(shape, conditional):
    torch.manual_seed(0)
    network = GeneratorNetwork(LabelledNoise(CLASSES, 10), shape, CLASSES, conditional)
    mixture = SingleClasses(CLASSES)(16, rng())
    images = network(mixture, network.latent.noise(mixture, rng()))
    assert images.shape == (16, *shape)
    torch.testing.assert_close(images.mean(dim=(0, 2, 3)), torch.zeros(shape[0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(
        images.var(dim=(0, 2, 3), correction=0), torch.ones(shape[0]), atol=1e-2, rtol=0
    )  # less eps


def test_the_network_is_the_published_one_and_keeps_nothing_but_parameters():
    network = GeneratorNetwork(LabelledNoise(10, 100), (3, 32, 32), 10, conditional=False)
    linear = 101 * 128 * 8 * 8
    convolutions = (128 * 9 + 1) * 128 + (128 * 9 + 1) * 64 + (64 * 9 + 1) * 3
    assert sum(p.numel() for p in network.parameters()) == 10 * 100 + linear + convolutions + 2 * (
        128 + 128 + 64
    )
    assert not list(network.buffers())
    assert [norm.eps for norm in network.norms] == [1e-5, 0.8, 0.8]
    large = GeneratorNetwork(PlainNoise(100), (3, 32, 32), 10, conditional=True)
    assert sum(p.numel() for p in large.parameters()) == linear + convolutions + 2 * 10 * (
        128 + 128 + 64
    )
    mixture = SingleClasses(10)(4, rng())
    noise = network.latent.noise(mixture, rng())
    assert torch.equal(network.train()(mixture, noise), network.eval()(mixture, noise))


def test_class_conditional_batch_norm_weighs_gains_and_biases():
    norm = ConditionalBatchNorm(2, 1e-5, CLASSES)
    with torch.no_grad():
        norm.gain.copy_(torch.arange(12.0).view(CLASSES, 2))
        norm.bias.copy_(-torch.arange(12.0).view(CLASSES, 2))
    x = torch.randn(2, 2, 3, 3, generator=rng())
    plain = (x - x.mean((0, 2, 3), keepdim=True)) / (
        x.var((0, 2, 3), correction=0, keepdim=True) + 1e-5
    ).sqrt()
    gain = torch.tensor([[0.25 * 0 + 0.75 * 6, 0.25 * 1 + 0.75 * 7], [10.0, 11.0]])[
        :, :, None, None
    ]
    torch.testing.assert_close(norm(x, superposition().soft_labels), plain * gain - gain)


def test_the_published_mean_of_gains_is_the_sum_divided_by_the_number_of_classes():
    torch.manual_seed(0)
    networks = {
        m: GeneratorNetwork(PlainNoise(5), (1, 8, 8), CLASSES, True, m) for m in ("sum", "mean")
    }
    seen = {}
    mixture = superposition()
    for mixing, network in networks.items():
        network.norms[0].register_forward_pre_hook(
            lambda _, inputs, m=mixing: seen.update({m: inputs[1]})
        )
        network(mixture, network.latent.noise(mixture, rng()))
    assert torch.equal(seen["sum"], mixture.soft_labels) and torch.equal(
        seen["mean"], mixture.soft_labels / 2
    )


def test_labelled_noise_is_the_product_of_class_and_noise():
    latent = LabelledNoise(CLASSES, 4)
    mixture = SingleClasses(CLASSES)(5, rng())
    noise = latent.noise(mixture, rng())
    assert noise.shape == (5, 1, 4)
    assert torch.equal(
        latent(mixture, noise), latent.embedding.weight[mixture.classes[:, 0]] * noise[:, 0]
    )
    assert torch.equal(PlainNoise(4)(mixture, noise), noise[:, 0])


def test_superposed_embeddings_are_weighted_sums_of_normalized_vectors():
    rows = torch.randn(CLASSES, 7, generator=rng())
    latent = SuperposedEmbeddings(rows, None, 0.5)
    mixture = superposition()
    noise = latent.noise(mixture, rng())
    vectors = rows[mixture.classes] + 0.5 * noise
    vectors = (vectors - vectors.mean(2, keepdim=True)) / (
        vectors.var(2, correction=0, keepdim=True) + 1e-5
    ).sqrt()
    torch.testing.assert_close(
        latent(mixture, noise), (mixture.weights[..., None] * vectors).sum(1)
    )
    assert latent.features == 7 and latent.embedding.weight.requires_grad
    mapped = SuperposedEmbeddings(rows, 3, 0.5)
    assert mapped.features == 3
    torch.testing.assert_close(mapped(mixture, noise), mapped.mapping(latent(mixture, noise)))
    with torch.no_grad():
        latent.embedding.weight.zero_()
    assert (
        torch.isfinite(rows).all() and rows.abs().sum() > 0
    )  # the teacher's own weights are left alone


def test_three_steps_are_finite_and_lower_the_objective(teacher):
    training = GeneratorTraining(teacher, Images(generator_batch_size=32).generator(teacher))

    def loss():
        with torch.no_grad():
            return float(training.losses(training.draw(64, rng(9)))[0])

    before = loss()
    for number in range(3):
        taught = training.step(32, rng(number), number)
        assert taught.images.shape == (32, 3, 8, 8) and not taught.images.requires_grad
        assert set(taught.losses) == {"total", "class", "bn_statistics"}
        expected = taught.losses["class"] + 0.1 * taught.losses["bn_statistics"]
        assert taught.losses["total"] == pytest.approx(expected, rel=1e-5)
        assert torch.equal(taught.logits, teacher(taught.images))
    assert loss() < before
    assert all(parameter.grad is None for parameter in teacher.module.parameters())


def test_the_images_of_a_step_are_those_before_it(teacher):
    training = GeneratorTraining(teacher, GDFQ.generator(teacher))
    expected = training.draw(8, rng())
    taught = training.step(8, rng(), 0)
    assert torch.equal(taught.images, expected.images) and torch.equal(
        taught.soft_labels, expected.soft_labels
    )
    assert not torch.isclose(training.draw(8, rng()).images, expected.images).all()


def test_the_seed_alone_decides(synthesize):
    first = synthesize("first")
    torch.manual_seed(123)
    assert files(first.folder) == files(synthesize("again").folder)
    other = synthesize("other", seed=1)
    assert not torch.isclose(
        first.take(torch.arange(10)).images, other.take(torch.arange(10)).images
    ).any()


def test_the_set_holds_the_generator_and_vouches_for_it(synthesize, teacher):
    images = synthesize().check()
    assert len(images) == 10 and [shard["num_images"] for shard in images.manifest["shards"]] == [
        4,
        4,
        2,
    ]
    card = json.loads((images.folder / "generator.json").read_text())
    assert card["method"] == "gdfq" and Images(**card["images"]) == GDFQ
    training = GeneratorTraining(teacher, Images(**card["images"]).generator(teacher))
    training.network.load_state_dict(
        safetensors.torch.load_file(images.folder / "generator.safetensors")
    )
    with torch.no_grad():
        drawn = training.draw(
            8, generator(0, "synthesis", 2)
        )  # the last shard is the beginning of a whole batch
    assert torch.equal(drawn.images[:2].contiguous(), images.take(torch.tensor([8, 9])).images)
    assert torch.equal(drawn.soft_labels[:2], images.take(torch.tensor([8, 9])).soft_labels)
    path = images.folder / "generator.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(DamagedArtifact, match=r"generator\.safetensors has been altered"):
        images.check()


@pytest.mark.parametrize("after", [0, 2, 5, 6])
def test_a_run_killed_in_the_first_training_ends_with_the_same_bytes(
    synthesize, tmp_path, monkeypatch, after
):
    monkeypatch.setattr(module, "CHECKPOINT_STEPS", 3)
    expected = files(synthesize("whole").folder)
    with killed_after(monkeypatch, after):
        synthesize("parts", scratch=tmp_path / "scratch")
    with counted_steps(monkeypatch) as steps:
        resumed = synthesize("parts", scratch=tmp_path / "scratch")
    assert files(resumed.folder) == expected
    assert (
        len(steps) == {0: 7, 2: 4, 5: 1, 6: 0}[after]
    )  # a state is saved before its step is counted
    assert not (tmp_path / "scratch").exists()


def test_a_run_killed_between_shards_does_not_train_again(synthesize, tmp_path, monkeypatch):
    expected = files(synthesize("whole").folder)
    made = iter(range(100))
    original = GeneratorSource.make

    def make(self, *rest):
        if next(made) == 1:
            raise KeyboardInterrupt
        return original(self, *rest)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(GeneratorSource, "make", make)
        synthesize("parts", scratch=tmp_path / "scratch")
    monkeypatch.setattr(GeneratorTraining, "step", None)
    assert files(synthesize("parts", scratch=tmp_path / "scratch").folder) == expected


def test_nan_stops_and_names_the_term(teacher):
    recipe = GDFQ.generator(teacher)
    training = GeneratorTraining(teacher, recipe)
    poisoned = Objective(
        [*recipe.objective.terms, Term("poison", 1.0, lambda step: step.logits.sum() * torch.nan)]
    )
    object.__setattr__(recipe, "objective", poisoned)
    before = [parameter.clone() for parameter in training.network.parameters()]
    with pytest.raises(NonFiniteLoss, match="step 4: poison = nan"):
        training.step(8, rng(), 4)
    assert all(
        torch.equal(a, b) for a, b in zip(before, training.network.parameters(), strict=True)
    )
    source = GeneratorSource(teacher, recipe, 4)
    source.training = training
    with pytest.raises(NonFiniteLoss, match=r"step 4: .*poison = nan"):
        source.make(8, rng(), Progress("synthesize", 1))


def test_an_objective_without_any_weight_is_refused(teacher):
    settings = Images(generator_batch_size=8, latent_features=10, class_weight=0, bn_weight=0)
    with pytest.raises(InvalidArgument, match="method: all terms of its images' loss"):
        GeneratorTraining(teacher, settings.generator(teacher))


def test_progress_counts_what_an_earlier_run_made():
    with Progress("stage", 10) as progress:
        progress.skip(4)
        progress.step(loss=1.0)
        assert progress.done == 5
