"""Bias correction: what rounding shifts comes back, by statistics as by images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from image_batches import ImageBatches
from torch import Tensor, nn

from dynadfq.ptq.bias_correction import analytic_correction, empirical_correction
from dynadfq.ptq.ranges import bn_sigma_ranges
from dynadfq.quant.build import build_student, load_student
from dynadfq.quant.config import Scheme
from dynadfq.quant.model import Student
from dynadfq.teacher.teacher import Teacher
from dynadfq.teacher.transforms import equalize_layers, fold_batch_norms

SHAPE = (3, 8, 8)


def normal_teacher(padding: int = 1) -> tuple[Teacher, Tensor]:
    """A network for noise whose first BatchNorm's output is normal, with its statistics on that
    noise."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = nn.Sequential(
            nn.Conv2d(3, 16, 1),
            nn.BatchNorm2d(16, momentum=None),
            nn.ReLU(),
            nn.Conv2d(16, 24, 3, padding=padding, bias=False),
            nn.BatchNorm2d(24, momentum=None),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(24, 6),
        )
        images = torch.randn(2000, *SHAPE)
        for norm in (net[1], net[4]):
            nn.init.uniform_(norm.weight, 0.5, 1.5)
            nn.init.normal_(norm.bias, 0.3, 0.4)
        with torch.no_grad():
            net.train()(images)
    return Teacher(net, SHAPE, 6, (0.0,) * 3, (1.0,) * 3), images


def built(teacher: Teacher, weight_bits: int = 2, bits: int = 8) -> Student:
    student = build_student(
        teacher, Scheme(weight_bits=weight_bits, activation_bits=(bits,), target_bits=bits)
    )
    bn_sigma_ranges(student, teacher)
    return student


def channel_means(model: nn.Module, layer: nn.Module, images: Tensor) -> Tensor:
    """(C,) mean output of one of a model's layers."""
    found: list[Tensor] = []
    with layer.register_forward_hook(lambda layer, inputs, output: found.append(output)):
        model(images)
    return found[0].transpose(0, 1).flatten(1).mean(dim=1)


def biases(student: Student) -> Tensor:
    """The biases of the layers whose expected input is known."""
    return torch.cat([student.network.get_submodule(name).bias for name in ("3", "8")])


@pytest.mark.parametrize("padding", [0, 1, 2])
def test_the_expected_output_is_the_teachers_again(padding: int) -> None:
    teacher, images = normal_teacher(padding)
    folded = fold_batch_norms(teacher)
    student = built(folded)
    expected = channel_means(folded.module, folded.module.get_submodule("3"), images)
    # Activations stay float here: the analytic correction is for what the weights do.
    for site in student.sites:
        site.quantizing = False
    layer = student.network.get_submodule("3")
    student.network.get_submodule("0").quantizing = False
    before = channel_means(student, layer, images) - expected
    analytic_correction(student, folded)
    after = channel_means(student, layer, images) - expected
    assert before.abs().mean() > 0.05
    assert after.abs().max() < 0.05 * before.abs().max()


def test_analytic_and_empirical_correction_agree_on_normal_data() -> None:
    teacher, images = normal_teacher()
    folded = fold_batch_norms(teacher)
    by_statistics, by_images, plain = built(folded), built(folded), built(folded)
    analytic_correction(by_statistics, folded)
    empirical_correction(by_images, folded, ImageBatches(images), count=2000)
    changes = [biases(student) - biases(plain) for student in (by_statistics, by_images)]
    assert torch.corrcoef(torch.stack(changes))[0, 1] > 0.95
    assert (changes[0] - changes[1]).abs().mean() < 0.35 * changes[1].abs().mean()
    stem = by_statistics.network.get_submodule("0")
    assert torch.equal(stem.bias, plain.network.get_submodule("0").bias), (
        "the images' mean is not known"
    )


def test_empirical_correction_leaves_no_shift_on_its_own_images(
    teacher: Teacher, images: Tensor
) -> None:
    folded = equalize_layers(fold_batch_norms(teacher))
    student = built(folded, weight_bits=3, bits=4)
    plain = built(folded, weight_bits=3, bits=4)
    empirical_correction(student, folded, ImageBatches(images))
    expected = folded(images).mean(dim=0)
    assert (student(images).mean(dim=0) - expected).abs().max() < 1e-4
    assert (plain(images).mean(dim=0) - expected).abs().max() > 0.05
    error = [(s(images) - folded(images)).square().mean() for s in (student, plain)]
    assert error[0] < error[1]
    assert not student.training and not any(layer._forward_hooks for layer in student.modules())


@pytest.mark.parametrize("kind", ["analytic", "empirical"])
def test_with_batch_norms_in_place_the_shift_goes_into_the_running_mean(
    teacher: Teacher, images: Tensor, kind: str, make_net: Callable[[], nn.Module], tmp_path: Path
) -> None:
    folded = fold_batch_norms(teacher)
    students = [built(folded, 8), built(teacher, 8)]
    for student, network in zip(students, (folded, teacher), strict=True):
        # The same rounding error in both: that of folded weights differs from that of the others.
        for name in ("conv1", "conv2", "conv3", "conv4", "fc"):
            layer = student.network.get_submodule(name)
            layer.weight.data *= 1.05
        if kind == "analytic":
            analytic_correction(student, network)
        else:
            empirical_correction(student, network, ImageBatches(images))
    for number in (2, 4):
        layers = [
            s.network.get_submodule(n)
            for s, n in zip(students, (f"conv{number}", f"bn{number}"), strict=True)
        ]
        ours, theirs = (
            channel_means(s, layer, images) for s, layer in zip(students, layers, strict=True)
        )
        torch.testing.assert_close(ours, theirs, atol=0.02, rtol=0.02)
    assert students[1].network.get_submodule("conv2").bias is None
    students[1].save(tmp_path)
    assert torch.equal(load_student(tmp_path, make_net())(images), students[1](images))


class NoBias(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.head = (
            nn.Conv2d(3, 4, 1),
            nn.BatchNorm2d(4),
            nn.Conv2d(4, 6, 1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.conv(x)).relu()).mean((2, 3))


def test_a_layer_that_cannot_be_corrected_is_named() -> None:
    teacher = Teacher(NoBias(), SHAPE, 6, (0.0,) * 3, (1.0,) * 3)
    with pytest.raises(ValueError, match=r"head has no bias to correct.*fold the BatchNorms first"):
        analytic_correction(built(teacher), teacher)
    folded = fold_batch_norms(teacher)
    student = built(folded)
    analytic_correction(student, folded)
    assert student.network.get_submodule("head").bias.abs().sum() > 0


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.again = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1)
        self.head = nn.Linear(4, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x)).relu()
        return self.head(self.again(self.again(x).relu()).mean((2, 3)))


@pytest.mark.parametrize("kind", ["analytic", "empirical"])
def test_a_layer_that_is_called_twice_stays_as_it_is(kind: str) -> None:
    teacher = fold_batch_norms(Teacher(Twice(), SHAPE, 6, (0.0,) * 3, (1.0,) * 3))
    student = built(teacher)
    before = {name: tensor.clone() for name, tensor in student.network.state_dict().items()}
    images = ImageBatches(torch.randn(16, *SHAPE))
    correction = analytic_correction if kind == "analytic" else empirical_correction
    correction(student, teacher, images)
    changed = {
        name
        for name, tensor in student.network.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert changed == {"head.bias"} | ({"conv.bias"} if kind == "empirical" else set())
