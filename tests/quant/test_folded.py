"""Students of folded networks: built, saved and loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dynadfq.ptq.ranges import bn_sigma_ranges
from dynadfq.quant import build as building
from dynadfq.quant.build import build_student, load_student
from dynadfq.quant.config import Scheme
from dynadfq.teacher.teacher import Teacher
from dynadfq.teacher.transforms import absorb_biases, equalize_layers, fold_batch_norms
from dynadfq.zoo.architectures import build


def prepared(teacher: Teacher) -> Teacher:
    return absorb_biases(
        equalize_layers(fold_batch_norms(teacher, relu6_as_relu=True)), padded=True
    )


def test_without_quantization_it_is_the_folded_network(teacher: Teacher, images: Tensor) -> None:
    folded = fold_batch_norms(teacher)
    student = build_student(folded, Scheme(weight_bits=4, activation_bits=(4,), target_bits=4))
    with student.unquantized():
        torch.testing.assert_close(student(images), teacher(images), atol=1e-5, rtol=1e-5)
        assert torch.equal(student(images), folded(images))
    assert student.scheme.folded and not student.scheme.relu6_as_relu
    assert student.description == teacher.describe()


def test_it_is_loaded_with_the_structure_it_had(
    teacher: Teacher, make_net: Callable[[], nn.Module], images: Tensor, tmp_path: Path
) -> None:
    changed = prepared(teacher)
    student = build_student(
        changed,
        Scheme(
            weight_bits=8, activation_bits=(4, 6, 8), target_bits=6, weight_granularity="tensor"
        ),
    )
    bn_sigma_ranges(student, changed)
    student.save(tmp_path)
    loaded = load_student(tmp_path, make_net())
    assert loaded.scheme == student.scheme and loaded.scheme.folded and loaded.scheme.relu6_as_relu
    for ours, theirs in zip(loaded.run(images), student.run(images), strict=True):
        assert torch.equal(ours, theirs)


def test_it_is_loaded_on_the_device_of_the_architecture(
    teacher: Teacher,
    make_net: Callable[[], nn.Module],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On "meta", a device without values, as far as to the folding."""

    class Folding(Exception):
        pass

    def folding(module: nn.Module, example: Tensor, relu6_as_relu: bool) -> None:
        assert module(example).device == example.device == torch.device("meta")
        raise Folding

    scheme = Scheme(weight_bits=8, activation_bits=(8,), target_bits=8)
    build_student(prepared(teacher), scheme).save(tmp_path)
    monkeypatch.setattr(building, "fold", folding)
    with pytest.raises(Folding):
        load_student(tmp_path, make_net().to("meta"))


def test_a_network_of_the_zoo_too(tmp_path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build("pytorchcv/mobilenetv2_w1", num_classes=10)
    teacher = Teacher(
        module, (3, 32, 32), 10, (0.0,) * 3, (1.0,) * 3, architecture="pytorchcv/mobilenetv2_w1"
    )
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    changed = prepared(teacher)
    student = build_student(
        changed, Scheme(weight_bits=8, activation_bits=(8,), target_bits=8, placement="layer_input")
    )
    bn_sigma_ranges(student, changed)
    student.save(tmp_path)
    assert torch.equal(load_student(tmp_path)(images), student(images))
    assert not any(isinstance(layer, (nn.BatchNorm2d, nn.ReLU6)) for layer in student.modules())


def test_steps_say_what_must_come_first(teacher: Teacher, tmp_path: Path) -> None:
    for step in (equalize_layers, absorb_biases):
        with pytest.raises(TypeError, match="apply fold_batch_norms first"):
            step(teacher)
    with pytest.raises(ValueError, match="save the teacher that it was made of"):
        fold_batch_norms(teacher).save(tmp_path)
