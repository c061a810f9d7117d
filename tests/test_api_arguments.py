"""Arguments that public functions share, and arguments that have no effect."""

from __future__ import annotations

from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dynadfq.api import finetune, quantize, quantize_model, synthesize
from dynadfq.methods import METHODS
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import FinetuneConfig

Call = Callable[[Any], object]


def weights(student: Any) -> Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in student.parameters()])


@pytest.mark.parametrize("seed", [np.int64(3), np.array(3), torch.tensor(3)], ids=repr)
def test_equal_seeds_of_any_library_give_equal_results(
    teacher: Teacher, synthetic: SyntheticSet, seed: Any
) -> None:
    def images(seed: Any) -> Tensor:
        made = synthesize(teacher, num_images=4, iterations=1, batch_size=4, seed=seed)
        return made.take(torch.arange(4)).images

    def student(seed: Any) -> Tensor:
        made = quantize(teacher, seed=seed)
        finetune(made, teacher, synthetic, steps=1, batch_size=8, learning_rate=0.1, seed=seed)
        return weights(made)

    for result in (images, student):
        assert torch.equal(result(seed), result(3))
        assert not torch.equal(result(seed), result(4))


@pytest.mark.parametrize("seed", [0.0, True, None, "0", -1, 2**63], ids=repr)
def test_other_seeds_are_refused(
    teacher: Teacher, synthetic: SyntheticSet, tmp_path: Path, seed: Any
) -> None:
    calls: list[Call] = [
        lambda seed: synthesize(teacher, num_images=4, iterations=1, seed=seed),
        lambda seed: quantize(teacher, seed=seed),
        lambda seed: finetune(quantize(teacher), teacher, synthetic, seed=seed),
        lambda seed: quantize_model(teacher, tmp_path / "int8.onnx", seed=seed),
    ]
    for call in calls:
        with pytest.raises(InvalidArgument, match=r"^seed: must be (a whole number|in 0 … 9223)"):
            call(seed)
    assert not list(tmp_path.iterdir()), "refused before any work"


def test_no_argument_hides_a_setting_of_a_method() -> None:
    """``finetune`` passes these three on to the methods that have them."""
    shared = {"adaround": {"batch_size", "learning_rate"}, "dfq": {"ranges"}}
    functions: tuple[tuple[Callable[..., object], str], ...] = (
        (synthesize, "images"),
        (quantize, "student"),
        (finetune, "student"),
    )
    for function, part in functions:
        for name, method in METHODS.items():
            fields = set(type(getattr(method(), part)).model_fields)
            hidden = fields & set(signature(function).parameters)
            assert hidden == (shared.get(name, set()) if function is finetune else set())


def test_arguments_that_the_method_has_as_settings_are_its_own(
    teacher: Teacher, synthetic: SyntheticSet
) -> None:
    def rounded(**how: Any) -> Tensor:
        student = quantize(teacher, 3, 4, method="adaround")
        finetune(student, teacher, synthetic, method="adaround", iterations=10, **how)
        return weights(student)

    default = rounded()
    assert torch.equal(rounded(learning_rate=1e-3, batch_size=32), default), "adaround's defaults"
    assert not torch.equal(rounded(learning_rate=1e-5), default), "finetune's default"
    assert not torch.equal(rounded(batch_size=4), default)
    schedule = FinetuneConfig(calibration_images=24)
    assert torch.equal(rounded(schedule=schedule, learning_rate=1e-3), default)
    with pytest.raises(InvalidArgument, match=r"^learning_rate: must be in 0 … 100"):
        rounded(learning_rate=-1.0)

    def ranges(rule: str) -> Tensor:
        student = quantize(teacher, 8, 8, method="dfq", ranges=rule)
        finetune(student, teacher, synthetic, method="dfq", ranges=rule)
        return torch.stack([site.high for site in student.sites])

    assert not torch.equal(ranges("images"), ranges("bn_sigma"))
    with pytest.raises(InvalidArgument, match=r'^ranges: must be one of bn_sigma, images; got "m'):
        finetune(quantize(teacher, 8, 8), teacher, synthetic, method="dfq", ranges="max")


@pytest.mark.parametrize("bits", [4, 32])
@pytest.mark.parametrize(
    "argument",
    [
        {"selector_learning_rate": 1.0},
        {"budget": "constraint"},
        {"bit_weight": 0.0},
        {"warm_up_images": 8},
        {"any_width": True},
    ],
    ids=str,
)
def test_settings_of_a_selector_are_refused_where_there_is_none(
    teacher: Teacher, synthetic: SyntheticSet, argument: dict[str, Any], bits: int
) -> None:
    [name] = argument
    default = {name: signature(finetune).parameters[name].default}
    student = quantize(teacher, activation_bits=bits)
    with pytest.raises(InvalidArgument, match=f"^{name}: the student has one width, {bits} bits"):
        finetune(student, teacher, synthetic, **argument)
    finetune(student, teacher, synthetic, steps=0, **default)
