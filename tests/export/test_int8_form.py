"""8-bit kernels against integer form, bit for bit, and what happens where they are not to be
had."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from dynadfq.api import quantize
from dynadfq.export import int8_form as module
from dynadfq.export import kernels
from dynadfq.export.channels_last import BytePool, FloatConvolution
from dynadfq.export.int8_form import Int8Form, to_int8_form
from dynadfq.export.integer_form import IntegerForm, to_integer_form
from dynadfq.export.kernels import ByteLayer, byte_layer, extreme_codes
from dynadfq.export.multiply import CodeLayer, FloatInputLayer, WeightCodes
from dynadfq.export.products import Geometry
from dynadfq.ptq.calibration import calibrate, extremes
from dynadfq.quant.bits import BitAllocation, uniform
from dynadfq.quant.model import Student
from dynadfq.teacher.teacher import Teacher

Build = Callable[..., Student]
NONE = kernels.unavailable()
needs_kernels = pytest.mark.skipif(bool(NONE), reason=NONE)


def same(ours: Int8Form, theirs: IntegerForm, images: Tensor, **asked: object) -> bool:
    """Whether logits and bits are equal to the last bit."""
    pairs = zip(ours.run(images, **asked), theirs.run(images, **asked), strict=True)  # type: ignore[arg-type]
    return all(torch.equal(a, b) for a, b in pairs)


class Mobile(nn.Module):
    """A pool of codes, a depthwise layer, one with odd padding, a linear layer that reads codes,
    signed activations."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm = nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.pool, self.act = nn.MaxPool2d(3, 2, 1), nn.LeakyReLU(0.3)
        self.depthwise, self.pointwise = (
            nn.Conv2d(16, 16, 3, padding=1, groups=16),
            nn.Conv2d(16, 24, 1),
        )
        self.same = nn.Conv2d(24, 24, 2, padding="same", bias=False)
        self.hidden, self.last = nn.Linear(24 * 16, 32), nn.Linear(32, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.act(self.norm(self.first(x))))
        x = self.act(self.depthwise(x)) + x
        x = self.same(self.act(self.pointwise(x)).relu())
        logits: Tensor = self.last(self.hidden(x.relu().flatten(1)).relu())
        return logits


@pytest.fixture
def mobile(images: Tensor) -> Callable[[str], Student]:
    def build(placement: str) -> Student:
        teacher = Teacher(Mobile(), (3, 8, 8), 6, (0,) * 3, (1,) * 3)
        student = quantize(teacher, activation_bits=(3, 4, 6), placement=placement)  # type: ignore[arg-type]
        calibrate(student, images.split(64), extremes)
        return student

    return build


@needs_kernels
@pytest.mark.parametrize("placement", ["relu_output", "layer_input"])
@pytest.mark.parametrize("bits", [(3, 4, 5), (2, 8), (4,)])
def test_logits_and_bits_are_those_of_code_form(
    make_student: Build, images: Tensor, placement: str, bits: tuple[int, ...]
) -> None:
    codes = to_integer_form(make_student(*bits, placement=placement))
    fast = to_int8_form(codes, compile=False)
    assert fast.engine == "kernels" and fast.reason == ""
    forms = {fact.name: fact.form for fact in fast.facts}
    assert forms["conv2"] == forms["conv4"] == "bytes"
    assert [fact.name for fact in fast.facts] == [fact.name for fact in codes.facts]
    assert same(fast, codes, images) and same(fast, codes, images, allocation=uniform(bits[0], 4))
    logits, used = codes.run(images[:9])
    assert torch.equal(fast.run(images[:9], BitAllocation(used))[0], logits)
    assert torch.equal(torch.cat([fast(part) for part in images.split(7)]), codes(images))


@needs_kernels
@pytest.mark.parametrize(
    ("placement", "on_kernels"),
    [
        ("relu_output", {"depthwise", "same", "hidden", "last"}),
        ("layer_input", {"depthwise", "pointwise", "same", "hidden", "last"}),
    ],
)
def test_pools_depthwise_odd_padding_linear_layers_and_signed_codes(
    mobile: Callable[[str], Student], images: Tensor, placement: str, on_kernels: set[str]
) -> None:
    codes = to_integer_form(mobile(placement))
    fast = to_int8_form(codes, compile=False)
    assert {fact.name for fact in fast.facts if fact.form == "bytes"} == on_kernels
    kinds = [type(part).__name__ for part in fast.network.modules()]  # type: ignore[attr-defined]
    pools = ("BytePool", "MaxPool2d") if placement == "relu_output" else ("MaxPool2d", "BytePool")
    assert pools[0] in kinds and pools[1] not in kinds
    assert max(layer.zero_point for layer in byte_layers(fast)) > 0
    assert same(fast, codes, images) and same(fast, codes, images, multiplier=2.0)


def byte_layers(form: Int8Form) -> list[ByteLayer]:
    return [part for part in form.network.modules() if isinstance(part, ByteLayer)]  # type: ignore[attr-defined]


@needs_kernels
def test_compiled_they_still_are(
    mobile: Callable[[str], Student], images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        module, "CHECK_BATCHES", (3,)
    )  # single images are another program, which takes as long again
    student = mobile("relu_output")
    codes, fast = to_integer_form(student), to_int8_form(student)
    assert (fast.engine, fast.reason) == ("compiled kernels", "")
    assert same(fast, codes, images) and same(fast, codes, images[:7])
    assert not hasattr(images, "_dynamo_dynamic_indices")
    programs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    assert programs > 0
    for mode in (
        torch.inference_mode,
        torch.enable_grad,
    ):  # the caller's mode makes no program of its own
        with mode():
            assert same(fast, codes, images[:7] + 0.0)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == programs


@needs_kernels
def test_what_torch_will_not_compile_again_runs_uncompiled(
    mobile: Callable[[str], Student], images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuses(*_: object) -> None:
        raise torch._dynamo.exc.FailOnRecompileLimitHit("recompile_limit reached")

    monkeypatch.setattr(torch, "compile", lambda network, **_: refuses)
    student = mobile("relu_output")
    codes, fast = to_integer_form(student), to_int8_form(student)
    assert fast.engine == "compiled kernels"
    assert same(fast, codes, images[:3]) and same(fast, codes, images[:3], multiplier=2.0)


@needs_kernels
def test_pieces_of_a_batch_are_the_batch(
    make_student: Build, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes = to_integer_form(make_student())
    fast = to_int8_form(codes, compile=False)
    monkeypatch.setattr(module, "AT_ONCE", 3 * images[0].numel())
    bits = torch.tensor([3.0, 4.0, 5.0])[torch.arange(8) % 3, None].expand(-1, 4)
    for given in (None, BitAllocation(bits), uniform(3, 4)):
        assert same(fast, codes, images[:8], allocation=given)
    assert same(fast, codes, images[:8], multiplier=0.5) and same(
        fast, codes, images[:1], allocation=BitAllocation(bits[:1])
    )


@needs_kernels
def test_neither_the_student_nor_its_code_form_is_changed(
    make_student: Build, images: Tensor
) -> None:
    student = make_student()
    codes = to_integer_form(student)
    before, graph, answer = deepcopy(codes.facts), str(codes.network.graph), codes(images)
    to_int8_form(codes, compile=False)(images)
    assert (codes.facts, str(codes.network.graph)) == (before, graph) and torch.equal(
        codes(images), answer
    )


def layer_of(
    weight: Tensor, codes: tuple[int, int], wide: bool = False, **geometry: object
) -> CodeLayer:
    shape = Geometry((1, 1), (1, 1), 1, (1, 1, 1, 1), "constant")._replace(**geometry)
    packed = WeightCodes(weight, weight.amin(dim=(1, 2, 3), keepdim=True), 8)
    return CodeLayer(packed, shape, torch.ones(len(weight)), torch.zeros(len(weight)), codes, wide)


SMALL = torch.tensor([-8.0, 7.0]).repeat(8, 8, 3, 3)[:, :8, :, :3]


@needs_kernels
@pytest.mark.parametrize(
    ("layer", "why"),
    [
        (layer_of(SMALL, (0, 15)), ""),
        (layer_of(SMALL, (-7, 8)), ""),
        (layer_of(SMALL, (3, 18)), "codes from 3 to 18 do not fit a byte with a zero point"),
        (layer_of(SMALL, (0, 300)), "codes from 0 to 300 do not fit a byte with a zero point"),
        (layer_of(SMALL + 125, (0, 15)), "weights from 117 to 132 do not fit a signed byte"),
        (layer_of(SMALL, (0, 15), wide=True), "its sums are not exact in float32"),
        (
            layer_of(SMALL, (0, 15), padding_mode="reflect"),
            "the kernel pads with zeros, not by 'reflect'",
        ),
    ],
)
def test_what_a_kernel_cannot_do_is_said(layer: CodeLayer, why: str) -> None:
    fast, reason = byte_layer(layer, (1, 8, 9, 9))
    assert reason == why and (fast is None) == bool(why)


def test_without_vnni_pairs_must_fit_16_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "_is_vnni_supported", lambda: False)
    wide, narrow = (
        layer_of(SMALL + 60, (0, 255)),
        layer_of(SMALL + 57, (0, 255)),
    )  # 255 · 2 · 67 and 255 · 2 · 64
    assert byte_layer(wide, (1, 8, 9, 9)) == (
        None,
        "this CPU has no VNNI and adds pairs in 16 bits, which 34170 does not fit",
    )
    assert "16 bits" not in byte_layer(narrow, (1, 8, 9, 9))[1]


@needs_kernels
def test_a_kernel_that_is_wrong_on_extreme_codes_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer, right = layer_of(SMALL, (0, 15)), ByteLayer.sums
    monkeypatch.setattr(
        ByteLayer, "sums", lambda self, codes: right(self, codes) + (codes == 15).all()
    )
    assert (
        byte_layer(layer, (1, 8, 9, 9))[1]
        == "the kernel's sums of largest codes are not exact on this CPU"
    )
    tried = extreme_codes(layer, (1, 8, 9, 9))
    assert tried["largest"].min() == tried["alternating"].max() == tried["random"].max() == 15


@needs_kernels
@pytest.mark.parametrize(
    "error", [TypeError("takes 18 arguments"), RuntimeError("could not create\na primitive")]
)
def test_an_operator_of_another_version_leaves_integer_form(
    make_student: Build, images: Tensor, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr(kernels, "ByteLayer", refuse)
    fast = to_int8_form(make_student())
    first_line = str(error).splitlines()[0]
    assert {f.reason for f in fast.facts if f.form == "integer"} == {
        f"the kernel refuses it: {first_line}"
    }
    assert (fast.engine, fast.reason) == ("integer form", "no layer can use an 8-bit kernel")
    assert torch.equal(fast(images), to_integer_form(make_student())(images))


@needs_kernels
def test_a_grouped_kernel_that_is_slow_is_not_used(
    make_student: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels, "_slowdown", lambda *_: 9.0)
    reasons = {
        fact.name: fact.reason for fact in to_int8_form(make_student(4), compile=False).facts
    }
    assert (
        reasons["conv3"] == "the kernel for 4 groups takes 9.0 times as long"
        and not reasons["conv4"]
    )


def test_a_machine_without_kernels_has_integer_form(
    make_student: Build, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernels.platform, "machine", lambda: "arm64")
    fast = to_int8_form(make_student(4))
    assert fast.engine == "integer form" and "x86 CPUs, and this one is arm64" in fast.reason
    assert torch.equal(fast(images), to_integer_form(make_student(4))(images))


@needs_kernels
def test_without_a_compiler_kernels_run_without_one(
    make_student: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", "")
    monkeypatch.setattr(module.shutil, "which", lambda _: None)
    fast = to_int8_form(make_student(4))
    assert fast.engine == "kernels"
    assert fast.reason == (
        "compiled kernels: torch.compile needs a C++ compiler (g++, clang++, cl, or CXX), "
        "and finds none"
    )


@needs_kernels
def test_an_engine_that_answers_otherwise_is_not_used(
    make_student: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    def other(network: nn.Module) -> Callable[..., tuple[Tensor, Tensor]]:
        return lambda *inputs: (network(*inputs)[0] + 1e-6, network(*inputs)[1])

    monkeypatch.setattr(module, "compiled", other)
    fast = to_int8_form(make_student())
    assert (fast.engine, fast.reason) == (
        "kernels",
        "compiled kernels: its outputs for noise differ from the integer form's",
    )


@pytest.mark.parametrize(
    "pool", [nn.MaxPool2d(3, 2, 1), nn.MaxPool2d(2), nn.MaxPool2d((3, 2), (1, 3), (1, 0))]
)
def test_pools_of_bytes(pool: nn.MaxPool2d) -> None:
    codes = torch.randint(0, 256, (2, 5, 11, 13))
    assert BytePool.fits(pool)
    assert torch.equal(BytePool(pool)(codes.to(torch.uint8)).long(), pool(codes.float()).long())
    assert not BytePool.fits(nn.MaxPool2d(3, dilation=2)) and not BytePool.fits(
        nn.MaxPool2d(3, ceil_mode=True)
    )


@pytest.mark.parametrize(
    ("kernel", "geometry"),
    [
        ((1, 1), Geometry((1, 1), (1, 1), 1, (0, 0, 0, 0), "constant")),
        ((1, 1), Geometry((2, 2), (1, 1), 1, (0, 0, 0, 0), "constant")),
        ((3, 2), Geometry((2, 1), (1, 2), 1, (0, 1, 2, 1), "constant")),
        ((3, 3), Geometry((1, 1), (1, 1), 1, (1, 1, 1, 1), "reflect")),
    ],
)
def test_convolutions_of_floats_are_the_same_with_channels_last(
    kernel: tuple[int, int], geometry: Geometry
) -> None:
    weight = torch.randint(-8, 8, (6, 4, *kernel)).float()
    codes = WeightCodes(weight, weight.amin(dim=(1, 2, 3), keepdim=True), 4)
    layer = FloatInputLayer(codes, geometry, torch.rand(6), torch.rand(6))
    x = torch.randn(3, 4, 9, 8)
    ours = FloatConvolution(layer, geometry)(x)
    assert torch.equal(ours, layer(x)) and ours.is_contiguous(memory_format=torch.channels_last)
