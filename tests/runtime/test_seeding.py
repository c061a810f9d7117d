from __future__ import annotations

from itertools import product

import pytest
import torch

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
