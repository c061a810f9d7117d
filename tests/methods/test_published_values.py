"""Presets and published schedules: the papers' and released codes' values, as they wrote them."""

from typing import Any

import pytest

from dynadfq.methods import METHODS
from dynadfq.methods.schedules import SCHEDULES, schedule
from dynadfq.params.loading import check
from dynadfq.params.rules import lookup
from dynadfq.params.sections import PRESETS
from dynadfq.synthesis.config import PixelOptimizerConfig


def settings(method: str, preset: str) -> dict[str, Any]:
    """The hyperparameters of a method under a preset, as a parameter file gives them."""
    params, problems = check({"method": {"name": method, "preset": preset}})
    assert problems == []
    return {**params.method.images.model_dump(), **params.method.student.model_dump()}


@pytest.mark.parametrize(
    ("method", "preset", "expected"),
    [
        ("hast", "default", {"attention_weight": 1000, "perturbation": 0.01, "class_weight": 10}),
        ("hast", "cifar100", {"attention_weight": 2000, "perturbation": 0.02, "class_weight": 10}),
        ("hast", "imagenet", {"attention_weight": 4000, "perturbation": 0.01, "crop_scale": 0.4}),
        ("synq", "default", {"hardest_label": 0.7, "perturbed_attention": False}),
        ("synq", "cifar100", {"hardest_label": 0.5, "perturbed_attention": False}),
        ("synq", "imagenet-resnet18", {"hardest_label": 0.5, "perturbed_attention": True}),
        ("adadfq", "cifar100", {"lower_margin": 0.1, "disagreement_weight": 0.2}),
        ("adadfq", "imagenet-resnet18", {"lower_margin": 0.1, "disagreement_weight": 0.2}),
        ("adadfq", "imagenet-resnet18-w4", {"lower_margin": 0.3, "disagreement_weight": 0.2}),
        ("adadfq", "imagenet-resnet18-w5", {"lower_margin": 0.3, "disagreement_weight": 0.3}),
        ("adadfq", "imagenet-mobilenetv2-w4", {"lower_margin": 0.1, "disagreement_weight": 0.3}),
        ("adadfq", "imagenet-resnet50", {"lower_margin": 0.4, "disagreement_weight": 0.2}),
        ("adadfq", "imagenet-resnet50-w4", {"lower_margin": 0.3, "disagreement_weight": 0.1}),
        ("adadfq", "imagenet-resnet50-w5", {"lower_margin": 0.3, "temperature": 5}),
        ("qimera", "cifar100", {"superposed_classes": 10, "embedding": "classifier"}),
        ("qimera", "cifar100-w5", {"superposed_classes": 50, "embedding": "classifier"}),
        ("qimera", "imagenet-resnet50-w4", {"superposed_classes": 500, "superposed_share": 0.7}),
        ("intraq", "imagenet-resnet18-w4", {"lowest_target": 0.9, "margin_low": 0.3}),
    ],
)
def test_presets(method: str, preset: str, expected: dict[str, Any]) -> None:
    found = settings(method, preset)
    assert {key: found[key] for key in expected} == expected


def test_own_values_come_after_a_preset() -> None:
    own = {"name": "adadfq", "preset": "imagenet-resnet18-w5", "student": {"lower_margin": 0.2}}
    student = check({"method": own})[0].method.student.model_dump()
    assert (student["lower_margin"], student["disagreement_weight"]) == (0.2, 0.3)


@pytest.mark.parametrize(
    ("method", "rate", "imagenet_rate", "updates", "imagenet_updates"),
    [
        ("intraq", 1e-4, 1e-6, 29_400, 29_400),
        ("hast", 1e-5, 1e-6, 29_400, 29_400),
        ("synq", None, 1e-6, 19_400, 19_400),
        ("gdfq", 1e-4, 1e-6, 79_200, 70_000),
        ("qimera", 1e-4, 1e-6, 79_200, 70_000),
        ("adadfq", 1e-4, 1e-5, 79_200, 70_000),
    ],
)
def test_published_schedules(
    method: str, rate: float | None, imagenet_rate: float, updates: int, imagenet_updates: int
) -> None:
    cifar, imagenet = (schedule(method, name) for name in ("cifar100", "imagenet-resnet18-w4"))
    assert cifar == schedule(method, "default")
    assert cifar.get("finetune.learning_rate") == rate
    assert imagenet["finetune.learning_rate"] == imagenet_rate
    assert imagenet["finetune.batch_size"] == 16
    for values, steps in ((cifar, updates), (imagenet, imagenet_updates)):
        assert int(values["finetune.epochs"]) * int(values["finetune.steps_per_epoch"]) == steps
    pixels = [cifar.get(f"synthesis.{key}") for key in ("batch_size", "iterations", "patience")]
    online = METHODS[method].trains_generator
    assert pixels == ([None, 800, None] if online else [256, 1000, 50])


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("method", SCHEDULES)
def test_a_published_schedule_is_a_valid_experiment(method: str, preset: str) -> None:
    values = schedule(method, preset)
    document: dict[str, Any] = {"method": {"name": method, "preset": preset}}
    for key, value in values.items():
        *groups, last = (f"method.{key}" if key.startswith("student.") else key).split(".")
        group = document
        for name in groups:
            group = group.setdefault(name, {})
        group[last] = value
    params, problems = check(document)
    assert problems == []
    placed = {k: f"method.{k}" if k.startswith("student.") else k for k in values}
    assert {key: lookup(params, path) for key, path in placed.items()} == values


@pytest.mark.parametrize("method", ["intraq", "hast", "synq"])
def test_a_published_schedule_leaves_nothing_of_the_optimizer_to_the_grid(method: str) -> None:
    stated = {key.removeprefix("synthesis.") for key in schedule(method, "default")}
    assert set(PixelOptimizerConfig.model_fields) <= stated


@pytest.mark.parametrize(
    ("preset", "first_steps", "epochs", "decay_every"),
    [
        ("imagenet-resnet50", 20_000, 300, 150),
        ("imagenet-resnet50-w4", 10_000, 350, 150),
        ("imagenet-resnet50-w5", 10_000, 350, 300),
    ],
)
def test_the_lengths_of_adadfq_s_resnet50(
    preset: str, first_steps: int, epochs: int, decay_every: int
) -> None:
    values = schedule("adadfq", preset)
    keys = ("synthesis.iterations", "finetune.epochs", "finetune.decay_every")
    assert [values[key] for key in keys] == [first_steps, epochs, decay_every]
