"""Every preparation and every kind of fine-tuning with scheme ``integer``."""

from __future__ import annotations

import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch
from everything import everything, integer_student, pixels
from finetuning import SCHEDULE, changed, finetune
from torch import Tensor

from dynadfq.api import load_student, to_integer_form
from dynadfq.losses.image_priors import clipping
from dynadfq.methods import METHODS
from dynadfq.ptq.calibration import least_squared_error, observing
from dynadfq.ptq.ranges import bn_sigma_ranges
from dynadfq.quant.config import Scheme, SchemeName
from dynadfq.quant.quantize import quantize_weight
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.teacher.transforms import fold_batch_norms
from dynadfq.training.prepare import (
    new_student,
    prepare_student,
    transformed,
    warn_of_cut_off_pixels,
)
from dynadfq.training.recipe import StudentRecipe

CASES: list[tuple[str, dict[str, object], int, int]] = [  # method, settings, bits
    ("adaround", {"iterations": 3}, 4, 8),
    ("dfq", {}, 4, 8),
    ("dfq", {"bias_correction": "empirical", "ranges": "images"}, 8, 8),
    ("dynadfq", {}, 4, 4),
    ("hast", {}, 4, 8),
    ("qimera", {"online_generator": False}, 4, 8),
    ("squant", {}, 4, 4),
    ("squant", {"range_rule": "bn_sigma"}, 4, 8),
]
SHORT = changed(SCHEDULE, epochs=1)


@pytest.mark.parametrize(("name", "settings", "weight_bits", "bits"), CASES)
def test_it_prepares_trains_and_returns_from_its_files(
    name: str,
    settings: dict[str, object],
    weight_bits: int,
    bits: int,
    teacher: Teacher,
    synthetic: SyntheticSet,
    images: Tensor,
    tmp_path: Path,
) -> None:
    recipe = METHODS[name]().student.model_copy(update=settings).recipe()
    scheme = Scheme(
        scheme="integer", weight_bits=weight_bits, activation_bits=(bits,), target_bits=bits
    )
    student = new_student(teacher, recipe, scheme, 0)
    fixed = (student.sites[0].low.item(), student.sites[0].high.item())
    prepare_student(student, teacher, synthetic, recipe, 0)
    finetune(student, transformed(teacher, recipe), synthetic, recipe, SHORT)
    assert (student.sites[0].low.item(), student.sites[0].high.item()) == fixed
    for site in student.sites:
        least, largest = site.limits
        assert least <= site.low <= 0 <= site.high <= largest and site.low < site.high
    for layer in student.layers:
        codes, _ = quantize_weight(layer.weight, weight_bits, layer.qparams, symmetric=True)
        assert codes.abs().max() <= 2 ** (weight_bits - 1) - 1
    logits = student(images)
    assert torch.isfinite(logits).all()
    form = to_integer_form(student)(images)
    assert (form.argmax(dim=1) == logits.argmax(dim=1)).double().mean() > 0.95
    student.save(tmp_path)
    again = load_student(tmp_path, teacher.module)
    assert torch.equal(again(images), logits)
    assert torch.equal(to_integer_form(again)(images), form)


@pytest.mark.parametrize("folded", [False, True])
def test_ranges_of_all_sites_follow_from_batch_norm_statistics(folded: bool) -> None:
    """Behind gates, pools, products, concatenations and constants too; the values lie within."""
    teacher = fold_batch_norms(everything()) if folded else everything()
    student = integer_student(teacher=teacher)
    observed = [(site.low.item(), site.high.item()) for site in student.sites]
    bn_sigma_ranges(student, teacher)
    for name, site, (low, high) in zip(student.site_names, student.sites, observed, strict=True):
        assert site.low <= max(low, 0.6 * low) + 0.2 and site.high >= 0.6 * high, name
    expected = teacher(pixels())
    assert (student(pixels()) - expected).abs().mean() < 0.4 * expected.std()


def test_each_site_is_calibrated_at_its_own_width() -> None:
    student = integer_student(4, 4)
    with torch.no_grad(), observing(student, least_squared_error) as observers:
        student(pixels())
    assert [observer.bits for observer in observers] == student.target_widths
    narrow = student.target_widths.index(4)
    seen: list[Tensor] = []
    student.sites[narrow].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    with torch.no_grad(), student.unquantized():
        student(pixels())
    assert observers[narrow].range() == least_squared_error(seen[0], 4)
    assert observers[narrow].range() != least_squared_error(seen[0], 8)


@pytest.mark.parametrize("scheme", ["paper", "integer"])
@pytest.mark.parametrize("outside", [True, False])
def test_pixels_that_the_input_cuts_off_are_warned_of(
    teacher: Teacher, synthetic: SyntheticSet, scheme: SchemeName, outside: bool
) -> None:
    clip = clipping(teacher)  # and rounded, as by a basis
    batches = [
        batch._replace(images=batch.images * 10 if outside else clip(batch.images) * (1 + 1e-6))
        for batch in synthetic.batches(32)
    ]
    images = SimpleNamespace(batches=lambda *_: iter(batches))
    width = Scheme(scheme=scheme, activation_bits=(4,), target_bits=4)
    student = new_student(teacher, StudentRecipe(), width, 0)
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        warn_of_cut_off_pixels(student, cast(SyntheticSet, images))
    assert ["beyond the range of image files" in str(one.message) for one in found] == (
        [True] if scheme == "integer" and outside else []
    )
