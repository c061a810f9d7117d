"""What the two sides of each ratio run; their times are no concern of a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.speed import __main__ as speed
from benchmarks.speed import memory, networks, pairs, startup, step_memory, steps
from benchmarks.speed.networks import Bench
from benchmarks.speed.pairs import CHANGES
from benchmarks.speed.steps import CANDIDATES, ITERATIONS
from dynadfq.quant import fake_quantize
from dynadfq.quant.quantize import fake_quantize_reference

CPU = torch.device("cpu")
Sides = list[Callable[[], Any]]


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    """ResNet-20 with a batch of four images."""
    with pytest.MonkeyPatch.context() as patch:
        small = replace(networks.NETWORKS["resnet20"], batch=4, rounds=1)
        patch.setitem(networks.NETWORKS, "resnet20", small)
        yield Bench("resnet20", CPU)


@pytest.fixture
def sides(monkeypatch: pytest.MonkeyPatch) -> Sides:
    """The two functions of the ratio that was asked for last, neither of which has run."""
    found: Sides = []

    def alternate(above: Any, below: Any, *_: Any) -> list[tuple[float, float]]:
        found[:] = above, below
        return [(1.0, 1.0)]

    monkeypatch.setattr(steps, "alternate", alternate)
    return found


@contextmanager
def calls(module: nn.Module) -> Iterator[list[torch.dtype]]:
    """Yield a list with the number type of what each call of a module returns."""
    made: list[torch.dtype] = []
    with module.register_forward_hook(lambda _, __, answer: made.append(answer.dtype)):
        yield made


@pytest.mark.parametrize("fixed", [False, True], ids=["dynamic", "fixed"])
def test_a_step_of_the_student_and_of_the_float_network_ask_the_teacher_once(
    bench: Bench, sides: Sides, fixed: bool
) -> None:
    before = bench.teacher.serialized()
    steps.finetuning(bench, fixed)
    answers = []
    for side in sides:
        with calls(bench.teacher.module) as made:
            answers.append(side())
        assert len(made) == 1
    student, floats = answers
    assert ("budget" in student) != fixed and isinstance(floats, float)
    assert sides[0]()["loss"] != student["loss"] and sides[1]() != floats  # both learn
    assert bench.teacher.serialized() == before


def test_a_synthesis_step_runs_the_teacher_as_often_as_the_bare_network_runs(bench: Bench) -> None:
    work = steps.Synthesis(bench)
    for side, counts in ((work.steps, (ITERATIONS, 0)), (work.bare, (0, ITERATIONS))):
        with calls(bench.teacher.module) as of_teacher, calls(work.module) as of_bare:
            side()
        assert (len(of_teacher), len(of_bare)) == counts


def test_the_dynamic_students_evaluation_is_over_the_fixed_ones(
    bench: Bench, sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    def form(student: Any) -> Any:
        run = SimpleNamespace(run=lambda images: student.scheme.activation_bits)
        return SimpleNamespace(to=lambda device: run)

    monkeypatch.setattr(steps, "to_integer_form", form)
    steps.evaluation(bench)
    assert [side() for side in sides] == [CANDIDATES, (CANDIDATES[1],)]


@pytest.mark.parametrize(
    "name",
    [
        *("moments of a batch", "moments of each image", "quantizer, three candidates"),
        *("one range for three candidates", "weights on their grid", "channels last"),
    ],
)
def test_the_form_in_use_and_the_plain_one_give_the_same_gradients(bench: Bench, name: str) -> None:
    used, plain = (side() for side in CHANGES[name](bench))
    torch.testing.assert_close(used, plain, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    ("name", "blended"),
    [("quantizer, three candidates", len(CANDIDATES)), ("one range for three candidates", 0)],
)
def test_only_the_plain_blend_quantizes_each_candidate_for_itself(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, name: str, blended: int
) -> None:
    used, plain = CHANGES[name](bench)
    with monkeypatch.context() as patch:
        patch.setattr(pairs, "fake_quantize_reference", None)
        used()
    asked: list[int] = []

    def reference(x: Tensor, low: Tensor, high: Tensor, bits: int) -> Tensor:
        asked.append(bits)
        return fake_quantize_reference(x, low, high, bits)

    monkeypatch.setattr(pairs, "fake_quantize_reference", reference)
    plain()
    assert len(asked) == blended


def test_pieces_are_over_the_whole_batch(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[slice] = []

    def of_an_image(x: Tensor) -> Iterator[slice]:
        for number in range(len(x)):
            pieces.append(slice(number, number + 1))
            yield pieces[-1]

    monkeypatch.setattr(fake_quantize, "chunks", of_an_image)
    used, plain = CHANGES["quantizer in pieces"](bench)
    plain()
    assert pieces == []
    used()
    assert len(pieces) >= 4


@pytest.mark.parametrize(
    ("name", "counts"), [("BatchNorm that does not learn", [1, 1]), ("answers kept", [0, 1])]
)
def test_how_often_a_change_asks_the_teacher(bench: Bench, name: str, counts: list[int]) -> None:
    found = []
    for side in CHANGES[name](bench):
        with calls(bench.teacher.module) as made:
            side()
        found.append(len(made))
    assert found == counts


@pytest.mark.parametrize("work", ["synthesis", "fine-tuning"])
def test_bfloat16_is_over_float32(bench: Bench, work: str) -> None:
    layer = next(m for m in bench.teacher.module.modules() if isinstance(m, nn.Conv2d))
    for side, dtype in zip(
        CHANGES[f"{work} in bfloat16"](bench), (torch.bfloat16, torch.float32), strict=True
    ):
        with calls(layer) as made:
            side()
        assert set(made) == {dtype}


def test_cosines_are_over_pixels(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    def work(bench: Bench, basis: str = "pixels") -> Any:
        return SimpleNamespace(steps=basis)

    monkeypatch.setattr(pairs, "Synthesis", work)
    assert CHANGES["cosine coefficients"](bench) == ("cosines", "pixels")


def test_memory_of_a_dynamic_step_is_over_a_float_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[str] = []
    monkeypatch.setattr(step_memory, "Bench", lambda *_: None)
    monkeypatch.setattr(step_memory, "memory", lambda field: {"VmHWM": 9.0, "VmRSS": 4.0}[field])
    for kind in ("float", "finetuning"):
        step = SimpleNamespace(kind=kind)
        monkeypatch.setattr(
            step_memory, f"{kind}_step", lambda *_, step=step: lambda: taken.append(step.kind)
        )
    for kind, step in (("dynamic", "finetuning"), ("float", "float")):
        taken.clear()
        assert step_memory.growth(kind, "resnet20", CPU) == 5.0
        assert taken == [step] * step_memory.STEPS
    monkeypatch.setattr(step_memory, "_alone", lambda kind, *_: {"dynamic": 6, "float": 3}[kind])
    assert step_memory.measured("resnet20", CPU).median == 2.0


def test_memory_of_many_images_is_over_that_of_few(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def run(stage: str, folder: Any, images: int, *_: Any) -> dict[str, float]:
        asked.append(stage)
        return {"anonymous": images + 1000.0 * (stage == "finetune"), "all": 1.0, "seconds": 1.0}

    monkeypatch.setattr(memory, "run", run)
    made, learned = memory.measured()
    assert made.median == memory.MANY / memory.FEW
    assert learned.median == (memory.MANY + 1000) / (memory.FEW + 1000)
    assert asked == [*memory.STAGES] * 2  # images are there before a stage reads them


def test_imports_of_the_library_are_over_those_of_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = {"import dynadfq": 3.0, "from dynadfq import *": 5.0, "import torch": 2.0}
    monkeypatch.setattr(startup, "_seconds", seconds.__getitem__)
    assert [one.median for one in startup.measured()] == [1.5, 2.5]


def test_each_name_is_measured_on_each_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "Bench", lambda name, _: name)
    for name in ("synthesis", "finetuning", "evaluation"):
        monkeypatch.setattr(speed, name, lambda *given, name=name: (name, *given))
    monkeypatch.setattr(speed.step_memory, "measured", lambda name, _: ("step-memory", name))
    monkeypatch.setattr(speed.memory, "measured", lambda: ["images-memory"])
    monkeypatch.setattr(speed.startup, "measured", lambda: ["import"])
    monkeypatch.setattr(speed.pipeline, "measured", lambda: "repro")
    assert speed.results([*reversed(speed.NAMES)], ["a", "b"], CPU) == [
        *(("synthesis", "a"), ("synthesis", "b")),
        *(("finetuning", name, fixed) for name in ("a", "b") for fixed in (False, True)),
        *(("evaluation", "a"), ("evaluation", "b"), ("step-memory", "a"), ("step-memory", "b")),
        *("images-memory", "import", "repro"),
    ]
