"""SQuant and AdaRound as methods: what their images are, and that nothing is learned but
roundings."""

import torch

from dynadfq.methods import adaround, squant
from dynadfq.methods.base import MethodContext
from dynadfq.quant.config import Scheme
from dynadfq.quant.quantize import quantize_weight
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.similarity import class_similarity
from dynadfq.training.prepare import new_student, prepare_student


def noise(teacher, folder, kind):
    recipe = squant.Images(noise=kind).recipe(MethodContext(teacher, class_similarity(teacher), 0))
    return synthesize_set(
        recipe.source(teacher, PixelOptimizerConfig(iterations=3)), 24, 8, 0, folder, Scratch(None)
    )


def test_squants_network_reads_uniform_noise_as_it_is(teacher, tmp_path):
    images = noise(teacher, tmp_path, "uniform").take(torch.arange(24)).images
    assert images.min() >= 0 and images.max() < 1
    assert abs(images.mean().item() - 0.5) < 0.01 and abs(images.var().item() - 1 / 12) < 0.005
    assert len(images.flatten(1).unique(dim=0)) == 24


def test_squants_images_may_be_normal(teacher, tmp_path):
    images = noise(teacher, tmp_path, "gaussian").take(torch.arange(24)).images
    assert abs(images.mean().item()) < 0.05 and abs(images.std().item() - 1) < 0.05


def test_squant_needs_no_images_where_batch_norm_gives_the_ranges(teacher, tmp_path):
    recipe = squant.Student(range_rule="bn_sigma").recipe()
    states = []
    for kind in ("uniform", "gaussian"):
        images = noise(teacher, tmp_path / kind, kind)
        student = new_student(
            teacher, recipe, Scheme(weight_bits=4, activation_bits=(4,), target_bits=4), 0
        )
        prepare_student(student, teacher, images, recipe, 0)
        states.append(student.network.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_students_are_rounded_and_not_fine_tuned(teacher, synthetic):
    recipes = squant.Student().recipe(), adaround.Student(iterations=3).recipe()
    assert all(recipe.loss is None for recipe in recipes)
    found = []
    for recipe in recipes:
        student = new_student(
            teacher, recipe, Scheme(weight_bits=4, activation_bits=(4,), target_bits=4), 0
        )
        plain = [quantize_weight(layer.weight, 4)[0] for layer in student.layers]
        prepare_student(student, teacher, synthetic, recipe, 0)
        codes = [
            quantize_weight(layer.weight, 4, layer.frozen_qparams)[0] for layer in student.layers
        ]
        assert all(layer.frozen_qparams is not None for layer in student.layers)
        assert any(not torch.equal(one, other) for one, other in zip(codes, plain, strict=True))
        found.append(student.network.state_dict())
    assert not torch.equal(found[0]["conv2.weight"], found[1]["conv2.weight"])
