from __future__ import annotations

import io
import json
from itertools import product

import pytest
import torch

from dynadfq.runtime.progress import NonFiniteLoss, Progress, require_finite
from dynadfq.runtime.seeding import derive, generator, global_stream


def test_streams_are_told_apart_by_seed_and_name() -> None:
    names = [("a",), ("b",), ("a", 0), ("a", 1), ("a", "0"), ("a0",)]
    seeds = {derive(seed, *name) for seed, name in product(range(50), names)}
    assert len(seeds) == 50 * len(names)
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert (
        derive(0, "synthesis", 3) == 8169341604997251864
    )  # the same on every machine, and in the next version


def test_a_stream_does_not_depend_on_what_was_drawn_before() -> None:
    expected = torch.rand(5, generator=generator(0, "b"))
    torch.rand(100, generator=generator(0, "a"))
    torch.rand(100)
    assert torch.equal(torch.rand(5, generator=generator(0, "b")), expected)


def test_the_global_stream_is_restored_also_after_an_exception() -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    with pytest.raises(ZeroDivisionError), global_stream(0, "x"):
        first = torch.rand(3)
        raise ZeroDivisionError
    assert torch.equal(torch.rand(3), expected)
    with global_stream(0, "x"):
        assert torch.equal(torch.rand(3), first)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_a_bad_term_is_named_with_its_step(bad: float) -> None:
    require_finite({"label": torch.tensor(1.0)}, 3)
    with pytest.raises(
        NonFiniteLoss, match=rf"step 12: budget = {bad}; lower the learning rate"
    ) as error:
        require_finite({"label": torch.tensor(1.0), "budget": torch.tensor(bad)}, 12)
    assert "label" not in str(error.value)


def test_without_a_terminal_progress_is_json_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("finetune", total=3, done=1, interval=1e9) as progress:
        progress.step(loss=0.25)
        progress.step(loss=0.125)
    lines = [json.loads(line) for line in io.StringIO(capsys.readouterr().err)]
    assert lines == [
        {"stage": "finetune", "step": 3, "of": 3, "seconds_left": 0, "finetune/loss": 0.125}
    ]
