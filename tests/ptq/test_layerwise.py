"""A forward pass that stops before each layer: the same numbers as one pass in memory."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dynadfq.ptq.adaround import adaround
from dynadfq.ptq.config import AdaRoundConfig
from dynadfq.ptq.layerwise import LayerwiseForward, layer_calls
from dynadfq.quant.bits import uniform
from dynadfq.quant.model import Student
from dynadfq.runtime import spill as module
from dynadfq.runtime.progress import Progress
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

Build = Callable[..., Student]


@pytest.fixture(params=["memory", "files"])
def storage(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Where activations are kept; temporary files lie in the test's folder."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    if request.param == "files":
        monkeypatch.setattr(module, "IN_MEMORY", 0)
    return str(request.param)


def inputs_of_a_whole_pass(student: Student, batch: Tensor) -> dict[str, Tensor]:
    seen: dict[str, Tensor] = {}
    calls = layer_calls(student)
    handles = [
        call.layer(student).register_forward_pre_hook(
            lambda _, inputs, name=call.name: seen.update({name: inputs[0]})
        )
        for call in calls
    ]
    with torch.no_grad():
        student.run(batch, uniform(student.scheme.target_bits, len(student.sites)))
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("widths", [(4,), (3, 4, 5)])
@pytest.mark.parametrize("placement", ["relu_output", "layer_input"])
def test_layers_have_the_inputs_of_a_whole_pass(
    make_student: Build,
    images: Tensor,
    tmp_path: Path,
    storage: str,
    widths: tuple[int, ...],
    placement: str,
) -> None:
    student = make_student(*widths, placement=placement)
    batches = images[:50].split(20)
    forward = LayerwiseForward(student, batches, 50)
    whole = [inputs_of_a_whole_pass(student, batch) for batch in batches]
    for call in layer_calls(student):
        for _ in range(2):  # asking again does not move on
            found = forward.before(call.name)
            for ours, expected in zip(found, whole, strict=True):
                assert torch.equal(ours, expected[call.name])
                assert ours.stride() == expected[call.name].stride()
    assert not list(tmp_path.glob("dynadfq-*"))


def test_every_layer_runs_once_and_later_ones_may_change(
    make_student: Build, images: Tensor, storage: str
) -> None:
    student = make_student(4)
    forward = LayerwiseForward(student, images[:48].split(16), 48)
    calls = layer_calls(student)
    runs: list[str] = []
    for call in calls:
        call.layer(student).register_forward_hook(lambda *_, name=call.name: runs.append(name))
    for call in calls:
        forward.before(call.name)
        with torch.no_grad():
            call.layer(student).weight.mul_(1.5)
    assert sorted(runs) == sorted(3 * [call.name for call in calls[:-1]])
    found = forward.before(calls[-1].name)
    expected = inputs_of_a_whole_pass(student, images[:16])
    assert torch.equal(found[0], expected[calls[-1].name])


def test_a_layer_that_was_run_already(make_student: Build, images: Tensor) -> None:
    forward = LayerwiseForward(make_student(4), images[:8].split(8), 8)
    forward.before("conv3")
    with pytest.raises(ValueError, match="beyond conv2; take the layers in the order of calls"):
        forward.before("conv2")


def test_adaround_does_not_depend_on_where_activations_are(
    make_student: Build,
    teacher: Teacher,
    synthetic: SyntheticSet,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings = AdaRoundConfig(iterations=20, batch_size=8, learning_rate=0.02)
    states = []
    for limit in (module.IN_MEMORY, 0):
        monkeypatch.setattr(module, "IN_MEMORY", limit)
        student = make_student(4)
        adaround(student, teacher, synthetic, 0, Scratch(None), settings)
        states.append(student.network.state_dict())
    for name, tensor in states[0].items():
        assert torch.equal(tensor, states[1][name])


def test_nothing_is_left_after_an_exception(
    make_student: Build,
    teacher: Teacher,
    synthetic: SyntheticSet,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    student = make_student(4)
    before = deepcopy(student.network.state_dict())
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    monkeypatch.setattr(Progress, "step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        adaround(student, teacher, synthetic, 0, Scratch(None), AdaRoundConfig(iterations=5))
    for name, tensor in student.network.state_dict().items():
        assert torch.equal(tensor, before[name])
    assert not list(tmp_path.glob("dynadfq-*"))
    assert not any(site.observer for site in student.sites)
    assert all(layer.quantizing for layer in student.layers)
