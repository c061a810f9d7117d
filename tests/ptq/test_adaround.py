from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dynadfq.ptq.adaround import (
    adaround,
    learn_rounding,
    reconstruction_error,
    regularizer_exponent,
)
from dynadfq.ptq.config import AdaRoundConfig
from dynadfq.ptq.layerwise import LayerCall, LayerData, LayerwiseForward, layer_calls, layer_data
from dynadfq.ptq.soft_rounding import (
    SoftRounding,
    inverse_rectified_sigmoid,
    least_error_qparams,
    rectified_sigmoid,
    rounding_regularizer,
)
from dynadfq.quant.build import load_student
from dynadfq.quant.model import Student
from dynadfq.quant.quantize import levels, quantize, quantize_weight, weight_qparams
from dynadfq.runtime.progress import NonFiniteLoss, Progress
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

Build = Callable[..., Student]
FAST = AdaRoundConfig(iterations=60, batch_size=8, learning_rate=0.02)


def weights(*shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@pytest.mark.parametrize("granularity", ["channel", "tensor"])
@pytest.mark.parametrize("bits", [2, 4])
def test_it_starts_at_the_float_weights_and_ends_beside_their_floor(
    bits: int, granularity: str
) -> None:
    weight = weights(6, 4, 3, 3)
    scale, quant_min = least_error_qparams(weight, bits, granularity)  # type: ignore[arg-type]
    soft = SoftRounding(weight, bits, (scale, quant_min))
    low, high = scale * quant_min, scale * (quant_min + 2**bits - 1)
    torch.testing.assert_close(
        soft.weight(), torch.minimum(torch.maximum(weight, low), high), atol=1e-5, rtol=1e-5
    )
    assert torch.equal(soft.codes(), quantize(weight, scale, quant_min, levels(bits)))
    with torch.no_grad():
        soft.v.copy_(10 * torch.randn(soft.v.shape, generator=rng()).sign())
    inside = (soft.floor >= quant_min) & (soft.floor < quant_min + 2**bits - 1)
    assert set((soft.codes() - soft.floor)[inside].unique().tolist()) == {0.0, 1.0}
    assert (soft.codes() >= quant_min).all() and (soft.codes() <= quant_min + 2**bits - 1).all()
    torch.testing.assert_close(soft.weight().detach(), soft.codes() * scale)


def test_the_rectified_sigmoid_and_its_inverse() -> None:
    share = torch.linspace(0, 0.999, 50)
    torch.testing.assert_close(rectified_sigmoid(inverse_rectified_sigmoid(share)), share)
    assert torch.isfinite(inverse_rectified_sigmoid(torch.tensor([0.0, 1.0]))).all()


@pytest.mark.parametrize("beta", [2.0, 20.0])
def test_the_regularizer_pushes_to_the_nearer_end(beta: float) -> None:
    share = torch.tensor([0.1, 0.4, 0.6, 0.9], requires_grad=True)
    (gradient,) = torch.autograd.grad(rounding_regularizer(share, beta), share)
    assert (gradient[:2] > 0).all() and (gradient[2:] < 0).all()
    assert rounding_regularizer(torch.tensor([0.25]), 2.0).item() == pytest.approx(0.75)


def test_beta() -> None:
    for annealing in ("cosine", "linear"):
        settings = AdaRoundConfig(iterations=100, annealing=annealing)  # type: ignore[arg-type]
        betas = [regularizer_exponent(settings, i) for i in range(100)]
        assert betas[:20] == [None] * 20 and betas[20] == 20.0 and betas[60] == pytest.approx(11.0)
        tail = [beta for beta in betas if beta is not None]
        assert len(tail) == 80 and tail == sorted(tail, reverse=True) and 2.0 < tail[-1] < 2.5
    assert regularizer_exponent(AdaRoundConfig(iterations=100), 40) == pytest.approx(
        20 - 18 * (1 - 0.5**0.5) / 2
    )
    assert regularizer_exponent(AdaRoundConfig(iterations=100, warm_start=0.0), 0) == 20.0


@pytest.mark.parametrize("bits", [2, 3, 4])
def test_the_scale_search_is_a_search_in_each_channel(bits: int) -> None:
    weight = weights(5, 40) * torch.tensor([[1.0], [0.1], [3.0], [1.0], [1e-3]])
    weight[3, 0] = 9.0  # an outlier, which a shrunk range leaves out
    scale, quant_min = least_error_qparams(weight, bits)

    def error(row: Tensor, scale: Tensor, quant_min: Tensor) -> Tensor:
        return (quantize(row, scale, quant_min, levels(bits)) * scale - row).abs().pow(2.4).mean()

    for channel, row in enumerate(weight):
        tried = [weight_qparams((row * (1 - i / 100))[None], bits) for i in range(80)]
        errors = torch.stack([error(row, s[0], low[0]) for s, low in tried])
        found = error(row, scale[channel], quant_min[channel])
        assert found.item() == pytest.approx(errors.min().item(), rel=1e-4)
    wide, _ = weight_qparams(weight, bits)
    assert (scale <= wide).all() and (scale < wide).any()
    doubled, same = least_error_qparams(2 * weight, bits)
    assert torch.equal(doubled, 2 * scale) and torch.equal(same, quant_min)


def test_layers_in_forward_order_with_their_followers(make_student: Build) -> None:
    found = {call.name: call.followers for call in layer_calls(make_student(4))}
    assert list(found) == ["conv1", "conv2", "conv3", "conv4", "fc"]
    assert found["conv4"] == ("bn4",)  # an addition comes before the activation
    assert found["fc"] == ()
    for layer, norm in (("conv1", "bn1"), ("conv2", "bn2"), ("conv3", "bn3")):
        assert found[layer][0] == norm
        assert len(found[layer]) == 2


@pytest.mark.parametrize("widths", [(4,), (3, 4, 5)])
def test_inputs_are_the_students_and_targets_the_teachers(
    make_student: Build, make_net: Callable[[], nn.Module], images: Tensor, widths: tuple[int, ...]
) -> None:
    student, net = make_student(*widths), make_net()
    floating = deepcopy(student)
    with torch.no_grad():
        student.layers[0].weight.mul_(1.5)  # an earlier layer that has changed
    before = student(images)
    kept: dict[str, Tensor] = {}
    for name, last in (("conv4", "bn4"), ("fc", "fc")):
        net.get_submodule(last).register_forward_hook(
            lambda _m, _i, y, name=name: kept.update({name: y.detach()})
        )
    net(images[:48])
    passes = [LayerwiseForward(one, images[:48].split(20), 48) for one in (student, floating)]
    found = {call.name: layer_data(*passes, call) for call in layer_calls(student)}
    assert torch.equal(found["conv1"].inputs, images[:48])
    assert (found["conv1"].targets >= 0).all()
    codes = found["conv2"].inputs / (student.sites[0].high / 15)  # the target width
    torch.testing.assert_close(codes, codes.round(), atol=1e-3, rtol=0)
    for name, expected in kept.items():
        torch.testing.assert_close(found[name].targets, expected, atol=1e-5, rtol=1e-5)
    assert torch.equal(student(images), before)


def data_of(student: Student, name: str, images: Tensor) -> tuple[LayerCall, LayerData]:
    call = next(call for call in layer_calls(student) if call.name == name)
    student.eval()
    passes = (
        LayerwiseForward(one, images.split(64), len(images)) for one in (student, deepcopy(student))
    )
    return call, layer_data(*passes, call)


@pytest.mark.parametrize("name", ["conv2", "conv3", "fc"])
def test_learned_roundings_reconstruct_better_than_nearest_ones(
    make_student: Build, images: Tensor, name: str
) -> None:
    student = make_student(4)
    call, data = data_of(student, name, images)
    layer = call.layer(student)
    settings = AdaRoundConfig(iterations=600, batch_size=64, learning_rate=0.02, regularization=0.1)
    before = layer.weight.detach().clone()
    with Progress("test", 600) as progress:
        soft = learn_rounding(student, call, data, settings, rng(), progress)
    assert torch.equal(layer.weight, before) and layer.frozen_qparams is None
    nearest = quantize(before, soft.scale, soft.quant_min, levels(4))

    def error(codes: Tensor) -> float:
        with torch.no_grad():
            y = call.follow(student, layer.multiply(data.inputs, codes * soft.scale, layer.bias))
        return reconstruction_error(y, data.targets, layer.channel_axis).item()

    assert error(soft.codes()) < 0.9 * error(nearest)
    share = soft.share.detach()
    assert (torch.minimum(share, 1 - share) < 0.01).float().mean() > 0.99
    assert error(soft.codes()) == pytest.approx(
        error(soft.weight().detach() / soft.scale), rel=0.05
    )


def test_the_error_is_summed_over_channels_and_averaged_over_the_rest() -> None:
    y, target = torch.ones(2, 3, 4, 5), torch.zeros(2, 3, 4, 5)
    assert reconstruction_error(y, target, 1).item() == 3.0
    assert reconstruction_error(y[:, :, 0, 0], target[:, :, 0, 0], -1).item() == 3.0


def test_a_student_is_rounded(
    make_student: Build,
    make_net: Callable[[], nn.Module],
    teacher: Teacher,
    synthetic: SyntheticSet,
    images: Tensor,
    tmp_path: Path,
) -> None:
    student, expected = make_student(4), teacher(images)
    nearest = student(images)
    adaround(student, teacher, synthetic, 0, Scratch(None), FAST)
    rounded = student(images)
    assert not torch.equal(rounded, nearest) and torch.equal(teacher(images), expected)
    assert all(p.grad is None for p in student.parameters())
    for layer in student.layers:
        codes, scale = quantize_weight(layer.weight, 4, layer.frozen_qparams)
        assert torch.equal(codes * scale, layer.weight)
    student.save(tmp_path)
    assert torch.equal(load_student(tmp_path, make_net())(images), rounded)
    for seed, same in ((0, True), (1, False)):
        again = make_student(4)
        adaround(again, teacher, synthetic, seed, Scratch(None), FAST)
        assert torch.equal(again(images), rounded) == same


@pytest.mark.parametrize(
    "change",
    [
        {"iterations": 61},
        {"num_images": 8},
        {"batch_size": 4},
        {"learning_rate": 0.03},
        {"regularization": 1.0},
        {"warm_start": 0.9},
        {"annealing": "linear"},
    ],
    ids=str,
)
def test_every_setting_changes_something(
    make_student: Build, images: Tensor, change: dict[str, object]
) -> None:
    student = make_student(4)
    call, data = data_of(student, "conv2", images[:64])

    def learned(settings: AdaRoundConfig) -> Tensor:
        few = LayerData(data.inputs[: settings.num_images], data.targets[: settings.num_images])
        with Progress("test", settings.iterations) as progress:
            return learn_rounding(student, call, few, settings, rng(), progress).v.detach()

    settings = {"iterations": 60, "batch_size": 8, "learning_rate": 0.02}
    assert not torch.equal(
        learned(AdaRoundConfig(**settings)), learned(AdaRoundConfig(**{**settings, **change}))
    )  # type: ignore[arg-type]


def test_rounded_weights_are_refused(
    make_student: Build, teacher: Teacher, synthetic: SyntheticSet
) -> None:
    student = make_student(4)
    layer = student.layers[1]
    layer.freeze_weight(quantize_weight(layer.weight, 4)[0], layer.qparams)
    with pytest.raises(
        ValueError,
        match=r"weights of conv2 are rounded already.*set rounding to nearest",
    ):
        adaround(student, teacher, synthetic, 0, Scratch(None), FAST)


def test_a_loss_that_is_not_finite_stops(make_student: Build, images: Tensor) -> None:
    student = make_student(4)
    call, data = data_of(student, "conv2", images[:16])
    data.targets[:] = torch.nan
    with (
        pytest.raises(NonFiniteLoss, match=r"step 0: reconstruction = nan"),
        Progress("test", 5) as progress,
    ):
        learn_rounding(student, call, data, FAST, rng(), progress)
