import pytest
import torch

from dynadfq.losses.objective import StudentStep
from dynadfq.methods.base import MethodContext
from dynadfq.methods.student import UnlabelledStudent
from dynadfq.methods.zeroq import Images, ZeroQ, faint
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.similarity import class_similarity

STEP = StudentStep(torch.eye(4), torch.randn(4, 4), torch.randn(4, 4), torch.ones(4))


def make(teacher, folder, iterations, **settings):
    recipe = Images(**settings).recipe(MethodContext(teacher, class_similarity(teacher), 0))
    return synthesize_set(
        recipe.source(teacher, PixelOptimizerConfig(iterations=iterations)),
        8,
        8,
        0,
        folder,
        Scratch(None),
    )


def test_the_released_start_is_faint_and_even():
    pixels = faint((4, 3, 32, 32), torch.Generator().manual_seed(0))
    assert pixels.abs().max() <= 0.02353 and abs(pixels.mean()) < 3e-4
    torch.testing.assert_close(pixels.std(), torch.tensor(0.02353 / 3**0.5), rtol=0.02, atol=0)
    quarters = torch.histc(pixels, 4, -0.02353, 0.02353) / pixels.numel()
    torch.testing.assert_close(quarters, torch.full((4,), 0.25), atol=0.02, rtol=0)


def test_the_start_is_where_images_start(teacher, tmp_path):
    untouched = (
        make(teacher, tmp_path / "uniform", 0, initial="uniform").take(torch.arange(8)).images
    )
    assert 0.02 < untouched.abs().max() < 0.024
    noise = make(teacher, tmp_path / "gaussian", 0).take(torch.arange(8)).images
    assert 0.9 < noise.std() < 1.1


def test_labels_shape_images_and_teach_in_zeroq_il_alone(teacher, tmp_path):
    plain = make(teacher, tmp_path / "plain", 3)
    labelled = make(teacher, tmp_path / "il", 3, class_weight=1.0)
    losses = [images.manifest["shards"][0]["losses"] for images in (plain, labelled)]
    assert set(losses[0]) == {"bn_statistics", "total"}
    assert losses[1]["total"] == pytest.approx(losses[1]["bn_statistics"] + losses[1]["class"])
    assert plain.one_hot_recognized is None and labelled.one_hot_recognized is not None
    terms = {term.name: term.weight for term in UnlabelledStudent(label_weight=1.0).terms()}
    assert terms == {"label": 1.0, "distillation": 20.0}
    assert {term.name for term in ZeroQ().student.terms() if term.weight} == {"distillation"}


def test_a_prior_smoothes(teacher, tmp_path):
    def roughness(weight):
        images = (
            make(teacher, tmp_path / str(weight), 40, prior_weight=weight)
            .take(torch.arange(8))
            .images
        )
        return images.diff(dim=3).square().mean().item()

    assert roughness(1.0) < 0.5 * roughness(0.0)
