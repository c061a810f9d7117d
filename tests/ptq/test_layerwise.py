"""A pass that stops before each layer, and activations that lie in files: the same numbers as one
pass in memory."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dynadfq.ptq.adaround import adaround
from dynadfq.ptq.config import AdaRoundConfig
from dynadfq.ptq.layerwise import LayerwiseForward
from dynadfq.ptq.reconstruction import layer_calls
from dynadfq.quant.bits import uniform
from dynadfq.quant.model import Student
from dynadfq.runtime import spill as module
from dynadfq.runtime.progress import Progress
from dynadfq.runtime.spill import spill, spill_concatenated
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.teacher.teacher import Teacher

Build = Callable[..., Student]
LAST = torch.channels_last


@pytest.fixture(params=["memory", "files"])
def place(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Where activations are held; temporary files are made in a folder of the test's own."""
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


@pytest.mark.parametrize("scheme", [(4,), (3, 4, 5)])
@pytest.mark.parametrize("placement", ["relu_output", "layer_input"])
def test_it_stops_where_a_whole_pass_comes_by(
    make_student: Build,
    images: Tensor,
    tmp_path: Path,
    place: str,
    scheme: tuple[int, ...],
    placement: str,
) -> None:
    student, batches = make_student(*scheme, placement=placement), images[:50].split(20)
    walk, expected = (
        LayerwiseForward(student, batches, 50),
        [inputs_of_a_whole_pass(student, batch) for batch in batches],
    )
    for call in layer_calls(student):
        found = walk.before(call.name)
        assert all(
            torch.equal(one, whole[call.name]) for one, whole in zip(found, expected, strict=True)
        )
        assert [one.stride() for one in found] == [whole[call.name].stride() for whole in expected]
        again = walk.before(call.name)  # it stands there still
        assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))
    assert not list(tmp_path.glob("dynadfq-*"))


def test_every_layer_runs_once_and_those_ahead_may_change(
    make_student: Build, images: Tensor, place: str
) -> None:
    student, counts = make_student(4), dict[str, int]()
    walk, calls = LayerwiseForward(student, images[:48].split(16), 48), layer_calls(student)
    for call in calls:
        call.layer(student).register_forward_hook(
            lambda _m, _i, _o, name=call.name: counts.update({name: counts.get(name, 0) + 1})
        )
    for call in calls:
        walk.before(call.name)
        with torch.no_grad():
            call.layer(student).weight.mul_(1.5)
    assert counts == {call.name: 3 for call in calls[:-1]}
    found, expected = walk.before(calls[-1].name), inputs_of_a_whole_pass(student, images[:16])
    assert torch.equal(found[0], expected[calls[-1].name])


def test_a_layer_that_lies_behind(make_student: Build, images: Tensor) -> None:
    walk = LayerwiseForward(make_student(4), images[:8].split(8), 8)
    walk.before("conv3")
    with pytest.raises(ValueError, match="beyond conv2; take the layers in the order of calls"):
        walk.before("conv2")


@pytest.mark.parametrize(
    "like",
    [
        torch.randn(5, 3, 4, 2),
        torch.randn(5, 3, 4, 2).to(memory_format=LAST),
        torch.randn(5, 3, 1, 1).to(memory_format=LAST),
        torch.randn(5, 6),
        torch.randn(6, 5).t(),
        torch.randn(1, 3, 4, 2).expand(5, 3, 4, 2),
        torch.randn(10, 3, 4, 2)[::2],
        torch.randn(5, 3).half(),
    ],
    ids=[
        "contiguous",
        "channels last",
        "one pixel",
        "features",
        "transposed",
        "expanded",
        "strided",
        "half",
    ],
)
def test_what_is_held_in_files_is_the_same(monkeypatch: pytest.MonkeyPatch, like: Tensor) -> None:
    parts = [like, like[:2], like[1:4]]
    expected = torch.cat(parts)
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    one, whole = spill(like, 3), spill_concatenated(iter(parts), len(expected))
    assert torch.equal(one, like) and one.stride() == like.stride() and one.dtype == like.dtype
    assert (
        torch.equal(whole, expected)
        and whole.stride() == expected.stride()
        and whole.dtype == like.dtype
    )
    chosen = torch.tensor([3, 0, 9, 3])
    assert (
        torch.equal(whole[chosen], expected[chosen])
        and whole[chosen].stride() == expected[chosen].stride()
    )


def test_what_is_small_is_held_as_it_is() -> None:
    batch = torch.randn(4, 3)
    assert spill(batch, 10) is batch
    assert spill(batch, module.IN_MEMORY // batch.nbytes + 1) is not batch


def test_a_full_disk_is_an_error_that_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full, raising=False)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    with pytest.raises(OSError, match="No space left on device"):
        spill(torch.randn(4, 3), 1)
    assert not list(tmp_path.glob("dynadfq-*"))


def test_adaround_does_not_depend_on_where_activations_lie(
    make_student: Build,
    teacher: Teacher,
    synthetic: SyntheticSet,
    images: Tensor,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    students, settings = (
        (make_student(4), make_student(4)),
        AdaRoundConfig(iterations=20, batch_size=8, learning_rate=0.02),
    )
    adaround(students[0], teacher, synthetic, 0, settings)
    monkeypatch.setattr(module, "IN_MEMORY", 0)
    adaround(students[1], teacher, synthetic, 0, settings)
    states = [student.network.state_dict() for student in students]
    assert all(torch.equal(tensor, states[1][name]) for name, tensor in states[0].items())


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
        adaround(student, teacher, synthetic, 0, AdaRoundConfig(iterations=5))
    assert all(
        torch.equal(tensor, before[name]) for name, tensor in student.network.state_dict().items()
    )
    assert not list(tmp_path.glob("dynadfq-*")) and not any(site.observer for site in student.sites)
    assert all(layer.quantizing for layer in student.layers)
