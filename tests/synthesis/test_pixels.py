"""How pixels are optimized: basis and learning rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from dynadfq.losses.objective import Objective, SynthesisStep, Term
from dynadfq.methods.base import MethodContext
from dynadfq.methods.dynadfq import DynaDFQ
from dynadfq.runtime.progress import Progress
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.pixels import ImageRecipe
from dynadfq.synthesis.source import Shard
from dynadfq.teacher.similarity import class_similarity
from dynadfq.teacher.teacher import Teacher

Make = Callable[..., Shard]
FEW = {"basis": "cosines", "schedule": "linear", "beta1": 0.5, "beta2": 0.9}


@pytest.fixture
def make(teacher: Teacher) -> Make:
    """Makes four images with settings of the optimizer and parts of the recipe."""
    recipe = DynaDFQ().images.recipe(MethodContext(teacher, class_similarity(teacher), 0))

    def run(parts: dict[str, Any] | None = None, iterations: int = 6, **settings: Any) -> Shard:
        source = replace(recipe, **parts or {}).source(
            teacher, PixelOptimizerConfig(iterations=iterations, **settings)
        )
        with Progress("test", iterations) as progress:
            return source.make(4, torch.Generator().manual_seed(0), progress)

    return run


@pytest.mark.parametrize("name", FEW)
def test_each_setting_changes_the_images(make: Make, name: str) -> None:
    assert not torch.equal(make(**{name: FEW[name]}).images, make().images)


def test_the_plateau_has_no_say_in_a_linear_schedule(make: Make) -> None:
    settings = {"schedule": "linear", "decay": 0.5, "patience": 1}
    assert torch.equal(make(**settings).images, make(schedule="linear").images)


def test_the_loss_falls_in_either_basis(make: Make) -> None:
    for basis in ("pixels", "cosines"):
        losses = [make(basis=basis, iterations=n).losses["total"] for n in (0, 12)]
        assert losses[1] < 0.7 * losses[0]


def test_coefficients_give_the_images_that_are_judged(make: Make, teacher: Teacher) -> None:
    shard = make(**FEW)
    torch.testing.assert_close(teacher(shard.images), shard.logits)


def test_a_rate_below_the_least_one_stays(make: Make) -> None:
    low = {"learning_rate": 0.05, "schedule": "linear"}
    images = [make(min_learning_rate=least, **low).images for least in (0.05, 0.1)]
    assert torch.equal(*images)


def test_a_batch_stops_when_its_loss_no_longer_falls_at_the_least_rate(make: Make) -> None:
    flat = Objective[SynthesisStep]([Term("flat", 1.0, lambda step: step.images.sum() * 0.0)])
    settings = {"learning_rate": 0.1, "min_learning_rate": 0.01, "patience": 2}
    stopped = make({"objective": flat}, 20, stop=True, **settings)
    # The first step is the best one; 3 steps without a lower loss end patience, at each rate.
    assert stopped.iterations == 1 + 3 + 3
    assert make({"objective": flat}, 20, **settings).iterations == 20
    assert torch.equal(stopped.images, make({"objective": flat}, 7, **settings).images)
    assert make({"objective": flat}, 20, stop=True, schedule="linear").iterations == 20


def test_a_batch_whose_loss_falls_does_not_stop(make: Make) -> None:
    settings = {"learning_rate": 0.01, "min_learning_rate": 0.01, "patience": 1}
    assert make(iterations=12, stop=True, **settings).iterations == 12


def test_what_stops_or_is_not_optimized_counts_its_steps(make: Make) -> None:
    assert make(iterations=0).iterations == make({"optimized": False}).iterations == 0


@pytest.mark.parametrize("basis", ["pixels", "cosines"])
@pytest.mark.parametrize("clips", [False, True])
def test_pixels_are_projected_in_either_basis_clipped_or_not(
    make: Make, basis: str, clips: bool
) -> None:
    def clip(images: Tensor) -> Tensor:
        return images.clamp(-0.25, 0.5)

    images = make({"project": clip}, basis=basis, clip=clips).images
    assert images.min() >= -0.2501 and images.max() <= 0.5001
    assert make(basis=basis).images.max() > 1


@pytest.mark.parametrize("basis", ["pixels", "cosines"])
def test_clipped_images_are_what_an_image_file_can_hold(
    make: Make, teacher: Teacher, basis: str
) -> None:
    def beyond(images: Tensor) -> bool:
        pixels = teacher.preprocessing.denormalize(images)
        return bool(pixels.min() < -0.01 or pixels.max() > 255.01)

    assert beyond(make(basis=basis).images)
    assert not beyond(make(basis=basis, clip=True).images)


def test_the_rate_falls_in_equal_parts(teacher: Teacher) -> None:
    flat = Objective[SynthesisStep]([Term("flat", 1.0, lambda step: step.images.sum() * 0.0)])
    seen = []
    original = torch.optim.Adam.step

    def step(self: torch.optim.Adam, *args: Any) -> Any:
        seen.append(self.param_groups[0]["lr"])
        return original(self, *args)

    settings = PixelOptimizerConfig(
        iterations=4, learning_rate=0.5, min_learning_rate=0.1, schedule="linear"
    )
    with pytest.MonkeyPatch.context() as patch, Progress("test", 4) as progress:
        patch.setattr(torch.optim.Adam, "step", step)
        recipe = ImageRecipe(lambda count, rng: torch.eye(6)[:count], flat)
        recipe.source(teacher, settings).make(2, torch.Generator().manual_seed(0), progress)
    assert seen == pytest.approx([0.5, 0.4, 0.3, 0.2])
