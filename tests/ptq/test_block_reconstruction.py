from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dynadfq import quantize
from dynadfq.ptq.block_reconstruction import BlockData, block_reconstruction, learn_block
from dynadfq.ptq.blocks import Block, blocks
from dynadfq.ptq.layerwise import LayerwiseForward
from dynadfq.ptq.soft_block import mixed
from dynadfq.quant.build import load_student
from dynadfq.quant.model import Student
from dynadfq.quant.rounding_config import BlockReconstructionConfig
from dynadfq.runtime.progress import NonFiniteLoss, Progress
from dynadfq.runtime.resume import Scratch
from dynadfq.runtime.seeding import generator
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

Build = Callable[..., Student]
FAST = BlockReconstructionConfig(iterations=40, batch_size=8, learning_rate=0.02, scale_rate=1e-3)


def data_of(student: Student, block: Block, images: Tensor) -> BlockData:
    batches = images.split(64)
    quantized, floating = (
        LayerwiseForward(one, batches, len(images)) for one in (student, deepcopy(student))
    )
    with torch.no_grad():
        inputs = torch.cat(quantized.after(block.source))
        with floating.student.unquantized():
            exact, targets = (torch.cat(floating.after(node)) for node in (block.source, block.end))
    return BlockData(inputs, exact, targets)


@pytest.mark.parametrize(
    ("widths", "scheme"),
    [
        ((4,), {"placement": "relu_output"}),
        ((3, 4, 5), {"placement": "relu_output"}),
        ((4,), {"placement": "layer_input"}),
        ((3, 4, 5), {"placement": "layer_input"}),
        ((4,), {"scheme": "integer"}),
    ],
)
def test_blocks_follow_the_network(
    make_student: Build, widths: tuple[int, ...], scheme: dict[str, str]
) -> None:
    student = make_student(*widths, **scheme)
    found = blocks(student)
    assert [block.layers for block in found] == [
        ("conv1",),
        ("conv2",),
        ("conv3", "conv4"),  # around a shortcut
        ("fc",),
    ]
    assert [block.end for block in found[:-1]] == [block.source for block in found[1:]]
    nodes = [node for block in found for node in block.nodes]
    inner = [n for n in student.network.graph.nodes if n.op not in ("placeholder", "output")]
    assert nodes == inner


class Twice(nn.Module):
    """A convolution that is called twice, and a classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.fc = nn.Conv2d(3, 3, 1), nn.ReLU(), nn.Linear(192, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.conv(self.relu(self.conv(x))))
        logits: Tensor = self.fc(x.flatten(1))
        return logits


def test_a_layer_that_is_called_twice_is_in_the_block_of_its_first_call() -> None:
    teacher = Teacher(Twice().eval(), (3, 8, 8), 6, (0.5,) * 3, (0.5,) * 3)
    found = blocks(quantize(teacher, activation_bits=4))
    assert [block.layers for block in found] == [("conv",), (), ("fc",)]


@pytest.mark.parametrize(
    "scheme",
    [
        {"activation_bits": 4},
        {"activation_bits": 4, "learned_ranges": False},
        {"activation_bits": 4, "scheme": "integer"},
        {"activation_bits": 32},
    ],
    ids=str,
)
def test_a_block_without_a_layer_of_its_own_learns_ranges_or_nothing(
    synthetic: SyntheticSet, monkeypatch: pytest.MonkeyPatch, scheme: dict[str, Any]
) -> None:
    counts: list[tuple[int, int]] = []
    leave = Progress.__exit__
    monkeypatch.setattr(
        Progress,
        "__exit__",
        lambda bar, *error: (counts.append((bar.done, bar.total)), leave(bar, *error))[1],
    )
    teacher = Teacher(Twice().eval(), (3, 8, 8), 6, (0.5,) * 3, (0.5,) * 3)
    student = quantize(teacher, **scheme)
    block_reconstruction(student, teacher, synthetic, 0, Scratch(None), FAST)
    assert all(layer.frozen_qparams is not None for layer in student.layers)
    assert counts == [(3 * FAST.iterations,) * 2]


def test_the_data_are_the_networks_values(
    make_student: Build, make_net: Callable[[], nn.Module], images: Tensor
) -> None:
    student, net = make_student(4), make_net()
    block = blocks(student)[2]
    kept: list[Tensor] = []
    net.get_submodule("relu").register_forward_hook(lambda _m, _i, y: kept.append(y.clone()))
    net(images[:48])
    with torch.no_grad():
        student.layers[0].weight.mul_(1.5)
        student.layers[0].weight.div_(1.5)
    data = data_of(student, block, images[:48])
    torch.testing.assert_close(data.exact_inputs, kept[1], atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(data.targets, kept[3], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(data.inputs, kept[1], atol=1e-3)


def test_mixing() -> None:
    quantized, exact = torch.zeros(10_000), torch.ones(10_000)
    share = mixed(quantized, exact, 0.3, generator(0, "x")).mean().item()
    assert share == pytest.approx(0.3, abs=0.02)
    assert torch.equal(mixed(quantized, exact, 0.0, generator(0, "x")), quantized)
    assert torch.equal(mixed(quantized, exact, 1.0, generator(0, "x")), exact)


def learned(student: Student, block: Block, data: BlockData, config: BlockReconstructionConfig):  # type: ignore[no-untyped-def]
    few = [part[: config.num_images] for part in (data.inputs, data.exact_inputs, data.targets)]
    with Progress("test", config.iterations) as progress:
        return learn_block(student, block, BlockData(*few), config, generator(0, "t"), progress)


@pytest.mark.parametrize("scheme", ["paper", "integer"])
def test_a_blocks_output_comes_nearer_to_the_float_networks(
    make_student: Build, images: Tensor, scheme: str
) -> None:
    student = make_student(4, scheme=scheme)
    block = blocks(student)[2]
    data = data_of(student, block, images)
    config = BlockReconstructionConfig(
        iterations=400, batch_size=32, learning_rate=0.02, regularization=0.1, range_rate=1e-3
    )

    def error() -> float:
        passed = LayerwiseForward(student, images.split(64), len(images))
        (node,) = [n for n in student.network.graph.nodes if n.name == block.end.name]
        return (torch.cat(passed.after(node)) - data.targets).square().mean().item()

    before, weights = error(), [layer.weight.clone() for layer in student.layers]
    soft = learned(student, block, data, config)
    assert all(torch.equal(a.weight, b) for a, b in zip(student.layers, weights, strict=True))
    assert not student.training and all(p.grad is None for p in student.parameters())
    for name, of_layer in soft.items():
        share = of_layer.share.detach()
        assert (torch.minimum(share, 1 - share) < 0.05).float().mean() > 0.9
        layer = student.network.get_submodule(name)
        layer.freeze_weight(of_layer.codes(), (of_layer.scale.detach(), of_layer.quant_min))  # type: ignore[operator]
    assert error() < 0.9 * before


@pytest.mark.parametrize("scheme", ["paper", "integer"])
def test_a_student_is_rounded_and_comes_back(
    make_student: Build,
    make_net: Callable[[], nn.Module],
    teacher: Teacher,
    synthetic: SyntheticSet,
    images: Tensor,
    tmp_path: Path,
    scheme: str,
) -> None:
    def rounded(seed: int) -> Student:
        student = make_student(4, scheme=scheme)
        block_reconstruction(student, teacher, synthetic, seed, Scratch(None), FAST)
        return student

    expected, student = teacher(images), rounded(0)
    assert torch.equal(teacher(images), expected)
    assert not torch.equal(student(images), make_student(4, scheme=scheme)(images))
    for layer in student.layers:
        assert torch.equal(layer.quantized_weight, layer.weight)
    student.save(tmp_path)
    assert torch.equal(load_student(tmp_path, make_net())(images), student(images))
    assert torch.equal(rounded(0)(images), student(images))
    assert not torch.equal(rounded(1)(images), student(images))
    with pytest.raises(ValueError, match="weights of conv1 are rounded already"):
        block_reconstruction(student, teacher, synthetic, 0, Scratch(None), FAST)


def test_an_interrupted_run_gives_the_same_student(
    make_student: Build,
    teacher: Teacher,
    synthetic: SyntheticSet,
    images: Tensor,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = make_student(4)
    block_reconstruction(whole, teacher, synthetic, 0, Scratch(None), FAST)
    step = Progress.step
    steps = 0

    def interrupted(self: Progress, **losses: float) -> None:
        nonlocal steps
        steps += 1
        if steps == 2.5 * FAST.iterations:  # in the third block
            raise KeyboardInterrupt
        step(self, **losses)

    monkeypatch.setattr(Progress, "step", interrupted)
    stopped, again = make_student(4), make_student(4)
    with pytest.raises(KeyboardInterrupt):
        block_reconstruction(stopped, teacher, synthetic, 0, Scratch(tmp_path), FAST)
    assert not stopped.training and all(p.grad is None for p in stopped.parameters())
    block_reconstruction(again, teacher, synthetic, 0, Scratch(tmp_path), FAST)
    assert steps == 4.5 * FAST.iterations
    assert torch.equal(again(images), whole(images))


def test_scales_stay_above_zero_where_a_channel_is_dead(
    make_student: Build, teacher: Teacher, synthetic: SyntheticSet, tmp_path: Path
) -> None:
    student = make_student(4, scheme="integer")
    with torch.no_grad():
        student.layers[1].weight[0] *= 1e-9
    fast = FAST.model_copy(update={"scale_rate": 1.0, "iterations": 8})
    block_reconstruction(student, teacher, synthetic, 0, Scratch(None), fast)
    for layer in student.layers:
        assert (layer.qparams[0] > 0).all() and layer.qparams[0].isfinite().all()
    student.save(tmp_path)
    load_student(tmp_path, teacher.module)


def test_ranges_that_are_not_learned_stay(
    make_student: Build, teacher: Teacher, synthetic: SyntheticSet
) -> None:
    for learned_ranges in (True, False):
        student = make_student(4, learned_ranges=learned_ranges)
        before = [(site.low.item(), site.high.item()) for site in student.sites]
        block_reconstruction(student, teacher, synthetic, 0, Scratch(None), FAST)
        after = [(site.low.item(), site.high.item()) for site in student.sites]
        assert (before == after) != learned_ranges


@pytest.mark.parametrize(
    "change",
    [
        {"iterations": 41},
        {"num_images": 16},
        {"batch_size": 4},
        {"learning_rate": 0.03},
        {"regularization": 1.0},
        {"warm_start": 0.9},
        {"annealing": "cosine"},
        {"drop": 0.0},
        {"scale_rate": 0.0},
        {"range_rate": 1e-2},
    ],
    ids=str,
)
def test_every_setting_changes_something(
    make_student: Build, images: Tensor, change: dict[str, object]
) -> None:
    def outcome(config: BlockReconstructionConfig) -> list[Tensor]:
        student = make_student(4)
        block = blocks(student)[2]
        soft = learned(student, block, data_of(student, block, images[:64]), config)
        ranges = [p.detach().clone() for site in student.sites for p in site.parameters()]
        return [
            *(s.v.detach() for s in soft.values()),
            *(s.scale.detach() for s in soft.values()),
            *ranges,
        ]

    base, other = outcome(FAST), outcome(FAST.model_copy(update=change))
    assert not all(torch.equal(a, b) for a, b in zip(base, other, strict=True))


def test_a_loss_that_is_not_finite_stops(make_student: Build, images: Tensor) -> None:
    student = make_student(4)
    block = blocks(student)[1]
    data = data_of(student, block, images[:16])
    data.targets[:] = torch.nan
    with pytest.raises(NonFiniteLoss, match="step 0: reconstruction = nan"):
        learned(student, block, data, FAST)
