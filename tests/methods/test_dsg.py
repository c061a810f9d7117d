import pytest
import torch

from dynadfq.losses.bn_statistics import bn_statistics_per_image
from dynadfq.losses.objective import SynthesisStep
from dynadfq.losses.slack import distances_beyond, layerwise_enhanced, measure_slack
from dynadfq.methods.base import MethodContext
from dynadfq.methods.dsg import DSG, Images
from dynadfq.runtime.resume import Scratch
from dynadfq.runtime.seeding import generator
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.similarity import class_similarity


def context(teacher, seed=0):
    return MethodContext(teacher, class_similarity(teacher), seed)


def losses(teacher, images, settings, seed=0):
    objective = settings.recipe(context(teacher, seed)).objective
    with torch.no_grad(), teacher.recording() as recording:
        logits = teacher(images)
        _, values = objective(
            SynthesisStep(images, torch.eye(6)[torch.arange(len(images)) % 6], logits, recording)
        )
    return values


def test_the_noise_that_sets_the_slack_is_inside_it_but_for_its_tail(teacher):
    noise = torch.randn(64, 3, 8, 8, generator=generator(0, "dsg", "slack"))
    inside, tail = (
        losses(teacher, noise, Images(slack_quantile=q))["bn_statistics"] for q in (1.0, 0.9)
    )
    with torch.no_grad(), teacher.recording() as recording:
        teacher(noise)
        whole = bn_statistics_per_image(recording, noise)
    assert inside.item() == 0 < tail.item() < 0.2 * whole.item()


def test_slack_follows_the_seed(teacher, images):
    first, again = (losses(teacher, images[:8], Images())["bn_statistics"] for _ in range(2))
    assert torch.equal(first, again)
    assert not torch.equal(first, losses(teacher, images[:8], Images(), seed=1)["bn_statistics"])


@pytest.mark.parametrize("enhancement", [0.0, 1.0, 3.0])
def test_each_image_counts_its_own_layer_more(teacher, images, enhancement):
    """Four layers; 3 is the released code's, whose residual is doubled before it is squared: four
    times in all."""
    noise = torch.randn(64, 3, 8, 8, generator=generator(0, "dsg", "slack"))
    slack = measure_slack(teacher, noise, 0.9, "layer")
    with torch.no_grad(), teacher.recording() as recording:
        teacher(images[:10])
        each = distances_beyond(slack, recording)
    weights = torch.ones(10, 4)
    weights[torch.arange(10), torch.arange(10) % 4] += enhancement
    found = losses(teacher, images[:10], Images(enhancement=enhancement))["bn_statistics"]
    torch.testing.assert_close(found, (weights * each).sum() / 10)


def test_enhancement_3_is_the_released_codes_up_to_as_many_images_as_layers():
    """There, the residuals of image i in layer i are doubled for the first images alone."""
    residuals = torch.arange(1.0, 25.0).view(6, 4)  # of six images in four layers
    doubled = residuals * (1 + torch.eye(6, 4))
    for images in (3, 4):
        code = doubled[:images].square().sum() / images
        torch.testing.assert_close(layerwise_enhanced(residuals[:images].square(), 3.0), code)
    rest = 3 * (residuals[4, 0] ** 2 + residuals[5, 1] ** 2)  # which only ours enhances
    ours = layerwise_enhanced(residuals.square(), 3.0)
    torch.testing.assert_close(ours, (doubled.square().sum() + rest) / 6)


def test_an_images_own_statistics_have_no_slack(teacher):
    values = losses(teacher, torch.zeros(4, 3, 8, 8), Images())
    assert values["image_statistics"].item() == pytest.approx(
        3, rel=1e-2
    )  # mean 0, deviation 0 instead of 1


def test_labels_are_dsg_ils_alone(teacher, images):
    assert set(losses(teacher, images[:4], Images())) == {"bn_statistics", "image_statistics"}
    everything = losses(teacher, images[:4], Images(class_weight=1.0, prior_weight=0.01))
    assert set(everything) == {"bn_statistics", "image_statistics", "class", "image_prior"}
    assert [term.name for term in DSG().student.terms() if term.weight] == ["distillation"]


def test_images_of_dsg_are_less_alike_than_zeroqs(teacher, tmp_path):
    from dynadfq.methods.zeroq import Images as ZeroQImages

    def spread(settings, name):
        source = settings.recipe(context(teacher)).source(
            teacher, PixelOptimizerConfig(iterations=150, learning_rate=0.1)
        )
        made = synthesize_set(source, 16, 16, 0, tmp_path / name, Scratch(None)).take(
            torch.arange(16)
        )
        with torch.no_grad(), teacher.recording() as recording:
            teacher(made.images)
            return sum(float(x.mean((2, 3)).std(dim=0).mean()) for _, x in recording.batch_norms)

    assert spread(Images(), "dsg") > 1.2 * spread(ZeroQImages(), "zeroq")
