import pytest
import torch

from dynadfq.losses.bn_statistics import bn_statistics_norm
from dynadfq.losses.image_priors import image_norm, total_variation_l1, total_variation_l2
from dynadfq.losses.objective import SynthesisStep, soft_cross_entropy
from dynadfq.methods.base import MethodContext
from dynadfq.methods.deepinversion import DeepInversion, Images
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.similarity import class_similarity


def context(teacher):
    return MethodContext(teacher, class_similarity(teacher), 0)


def make(teacher, folder, **settings):
    recipe = Images(**settings).recipe(context(teacher))
    source = recipe.source(teacher, PixelOptimizerConfig(iterations=20, learning_rate=0.1))
    return synthesize_set(source, 8, 8, 0, folder, Scratch(None))


def test_the_objective_is_its_weighted_parts(teacher, images):
    images, labels = images[:8], torch.eye(6)[torch.arange(8) % 6]
    settings = Images(bn_weight=0.05, first_layer=10.0, total_variation_l1=0.3, norm_weight=1e-2)
    with teacher.recording() as recording:
        logits = teacher(images)
        total, _ = settings.recipe(context(teacher)).objective(
            SynthesisStep(images, labels, logits, recording)
        )
        expected = (
            soft_cross_entropy(logits, labels).mean()
            + 0.05 * bn_statistics_norm(recording, 10.0)
            + 2.5e-5 * total_variation_l2(images)
            + 0.3 * total_variation_l1(images)
            + 1e-2 * image_norm(images)
        )
    torch.testing.assert_close(total, expected)


@pytest.mark.parametrize("clip", [False, True])
def test_clipped_images_stay_pictures_after_every_step(teacher, tmp_path, clip):
    images = make(teacher, tmp_path, clip=clip).take(torch.arange(8)).images
    mean = torch.tensor(teacher.mean).view(3, 1, 1)
    std = torch.tensor(teacher.std).view(3, 1, 1)
    pixels = images * std + mean
    assert (pixels.min() > -1e-6 and pixels.max() < 1 + 1e-6) == clip


def test_smoother_images_at_a_higher_weight(teacher, tmp_path):
    rough, smooth = (
        make(teacher, tmp_path / str(weight), total_variation=weight).take(torch.arange(8)).images
        for weight in (0.0, 0.1)
    )
    assert total_variation_l2(smooth) < 0.9 * total_variation_l2(rough)


def test_the_student_learns_label_and_teacher():
    terms = {term.name: term.weight for term in DeepInversion().student.terms()}
    assert terms == {"label": 1.0, "distillation": 20.0}
