"""Products in bfloat16: what they change, what they must not, and that nothing is left behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from dynadfq import api
from dynadfq.losses.objective import Objective, Term
from dynadfq.ops import precision as module
from dynadfq.ops.precision import (
    _tf32_switches,
    compute_precision,
    finetuning_precision,
    in_float32,
    require_precision,
    synthesis_precision,
    to_float32,
)
from dynadfq.quant.model import Student
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import FinetuneConfig
from dynadfq.training.features import record_outputs

CPU = torch.device("cpu")
STEP = FinetuneConfig(
    epochs=1,
    steps_per_epoch=1,
    batch_size=8,
    learning_rate=1e-2,
    crop_scale=1.0,
    horizontal_flip=False,
)


def flags() -> tuple[object, ...]:
    switches, _, _ = _tf32_switches()
    return (
        torch.is_autocast_enabled("cpu"),
        torch.is_autocast_cache_enabled(),
        *(getattr(switch, name) for switch, name in switches),
        torch.get_float32_matmul_precision(),
        torch.backends.cuda.matmul.allow_tf32,
        torch.backends.cudnn.allow_tf32,
    )


@pytest.fixture(params=["highest", "high", "medium"])
def users_own(request: pytest.FixtureRequest) -> Iterator[None]:
    """What the user has set, the default among it."""
    torch.set_float32_matmul_precision(request.param)
    yield
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("precision", ["auto", "float16"])
def test_only_a_precision_can_be_computed_in(precision: str) -> None:
    refused = pytest.raises(ValueError, match="must be one of float32, tf32, bfloat16; got")
    with refused, compute_precision(precision, CPU):  # type: ignore[arg-type]
        pass


@pytest.mark.usefixtures("users_own")
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_nothing_is_left_behind(precision: str) -> None:
    before = flags()
    with pytest.raises(KeyError), compute_precision(precision, CPU):  # type: ignore[arg-type]
        raise KeyError
    assert flags() == before


def test_what_a_device_cannot_do_is_refused() -> None:
    with pytest.raises(
        ValueError,
        match=r"precision: tf32 needs a GPU, and the device is cpu; set precision: float32",
    ):
        require_precision("tf32", CPU)
    with pytest.raises(ValueError, match="precision: must be one of auto, float32, tf32, bfloat16"):
        require_precision("half", CPU)
    require_precision("tf32", torch.device("cuda"))


FLAGS = {"fpu avx512_bf16 vme": "bfloat16", "asimd bf16": "bfloat16", "avx512f vnni": "float32"}


@pytest.mark.parametrize("flags_of_cpu", FLAGS)
def test_auto_is_bfloat16_in_synthesis_where_the_processor_has_it(
    flags_of_cpu: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = tmp_path / "cpuinfo"
    info.write_text(f"processor : 0\nflags : {flags_of_cpu}\n")
    monkeypatch.setattr(module, "CPU_INFO", info)
    assert synthesis_precision("auto", CPU) == FLAGS[flags_of_cpu]
    assert finetuning_precision("auto", CPU) == "float32"
    info.unlink()
    assert synthesis_precision("auto", CPU) == "float32"
    for choice in ("float32", "bfloat16"):
        assert synthesis_precision(choice, CPU) == finetuning_precision(choice, CPU) == choice


@pytest.mark.parametrize("has", [True, False])
def test_auto_asks_a_gpu_for_its_own_instructions(
    has: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: has or including_emulation
    )
    expected = "bfloat16" if has else "float32"
    assert synthesis_precision("auto", torch.device("cuda")) == expected


@pytest.mark.parametrize("has", [True, False])
def test_images_of_auto_are_those_of_what_it_means_and_the_manifest_says_so(
    has: bool, teacher: Teacher, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "multiplies_bfloat16", lambda device: has)
    meant = "bfloat16" if has else "float32"
    sets = [
        api.synthesize(
            teacher,
            num_images=4,
            batch_size=4,
            iterations=1,
            folder=tmp_path / name,
            precision=name,  # type: ignore[arg-type]
        )
        for name in ("auto", meant)
    ]
    assert sets[0].manifest == sets[1].manifest
    assert sets[0].manifest["precision"] == meant


def test_tf32_is_switched_on_and_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        torch, "autocast", lambda *_, **__: torch.inference_mode(False)
    )  # none is at hand here
    switches, no, yes = _tf32_switches()
    for precision, expected in (("tf32", yes), ("float32", no)):
        with compute_precision(precision, torch.device("cuda")):  # type: ignore[arg-type]
            assert {getattr(switch, name) for switch, name in switches} == {expected}


def test_products_are_of_bfloat16_and_what_is_done_with_them_is_not(
    teacher: Teacher, images: Tensor
) -> None:
    exact = teacher(images)
    with compute_precision("bfloat16", CPU), teacher.recording() as recording:
        rough = teacher(images)
        assert all(x.dtype == torch.bfloat16 for _, x in recording.batch_norms[1:])
        assert (
            recording.features is not None
            and recording.features.dtype == rough.dtype == torch.float32
        )
        term = Term("product", 1.0, lambda step: (step.logits @ step.logits.T).mean())
        total, _ = Objective([term])(_Step(rough))
    assert total == (rough @ rough.T).mean() and total.dtype == torch.float32
    difference = (rough - exact).abs().max() / exact.abs().max()
    assert 1e-4 < difference < 3e-2  # seven bits of mantissa through five layers


class _Step:
    def __init__(self, logits: Tensor) -> None:
        self.logits = logits


def test_float32_stays_to_the_bit(teacher: Teacher, images: Tensor) -> None:
    exact = teacher(images)
    with compute_precision("float32", CPU):
        assert torch.equal(teacher(images), exact)
    with compute_precision("bfloat16", CPU), in_float32(CPU):
        assert torch.equal(teacher(images), exact)


def test_widened() -> None:
    x = torch.tensor([1.5, -2.0])
    assert to_float32(x.bfloat16()).dtype == torch.float32 and torch.equal(
        to_float32(x.bfloat16()), x
    )
    for same in (x, x.double(), x.long()):
        assert to_float32(same) is same


def test_the_selector_chooses_in_float32(
    make_student: Callable[..., Student], images: Tensor
) -> None:
    selector = make_student().train().selector
    assert selector is not None
    channels = selector.hidden.in_features // selector.pool.output_size**2  # type: ignore[operator]
    x = torch.randn(5, channels, 4, 4).bfloat16()
    selector.dropout.p = 0.0
    expected = selector.probabilities(x.float())
    with compute_precision("bfloat16", CPU):
        assert torch.equal(selector.probabilities(x), expected)


def test_kept_features_are_float32_and_on_the_way(teacher: Teacher, images: Tensor) -> None:
    with compute_precision("bfloat16", CPU), record_outputs(teacher.module, ["conv3"]) as kept:
        logits = teacher(images.clone().requires_grad_())
    assert kept["conv3"].dtype == torch.float32
    assert torch.autograd.grad(logits.sum(), kept["conv3"])[0].abs().sum() > 0


def test_weights_that_moved_are_the_ones_that_multiply(images: Tensor) -> None:
    layer = nn.Linear(4, 4, bias=False)
    x = images[:, 0, 0, :4]
    with compute_precision("bfloat16", CPU):
        layer(x)
        with torch.no_grad():
            layer.weight.mul_(2)
        again = layer(x)
    with compute_precision("bfloat16", CPU):
        assert torch.equal(again, layer(x))


def test_images_and_students_of_bfloat16(
    teacher: Teacher, make_student: Callable[..., Student], synthetic: SyntheticSet
) -> None:
    def shards(precision: str) -> SyntheticSet:
        return api.synthesize(
            teacher,
            num_images=8,
            batch_size=4,
            optimizer=PixelOptimizerConfig(iterations=5),
            precision=precision,  # type: ignore[arg-type]
        )

    exact, rough = (
        shards(precision).take(torch.arange(8)).images for precision in ("float32", "bfloat16")
    )
    assert rough.dtype == torch.float32 and not torch.equal(rough, exact)
    states = []
    for precision in ("float32", "bfloat16"):
        student = make_student(3, 4, 5)
        history = api.finetune(student, teacher, synthetic, schedule=STEP, precision=precision)  # type: ignore[arg-type]
        assert torch.isfinite(torch.tensor(history["loss"].tolist())).all()
        states.append(student.network.state_dict())
    assert all(value.dtype == states[0][name].dtype for name, value in states[1].items())
    assert not all(torch.equal(value, states[0][name]) for name, value in states[1].items())
    with pytest.raises(ValueError, match="precision: tf32"):
        api.finetune(make_student(3, 4, 5), teacher, synthetic, precision="tf32")
