"""What ranks share, and a single process that needs none of it."""

import pytest
import torch
from ranks import run_ranks
from torch import nn

from dynadfq.ops.augment import random_flip, random_resized_crop
from dynadfq.runtime import distributed
from dynadfq.runtime.distributed import BatchPart

BATCH = torch.arange(12.0).view(6, 2)


def test_a_single_process_is_all_there_is():
    value = torch.tensor([1.0, 2.0])
    with distributed.joined():
        assert (distributed.rank(), distributed.world_size(), distributed.part()) == (
            0,
            1,
            BatchPart(),
        )
        assert all(
            same(value) is value
            for same in (distributed.mean, distributed.total, distributed.gather)
        )
        assert distributed.means({"loss": value}) == {"loss": value}
        assert distributed.from_first(lambda: 3) == 3
        assert distributed.in_turns(str, iter([1, 2, 3])) == ["1", "2", "3"]
        distributed.barrier()


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_parts_make_up_the_batch(ranks):
    parts = [BatchPart(rank, ranks) for rank in range(ranks)]
    assert torch.equal(torch.cat([part.of(BATCH) for part in parts]), BATCH)
    chosen = torch.tensor([5, 0, 3])
    own = [part.of(BATCH)[part.indices(chosen, 6 // ranks)] for part in parts]
    assert sorted(torch.cat(own).tolist()) == sorted(BATCH[chosen].tolist())


@pytest.mark.parametrize(
    "augment", [random_flip, lambda x, rng, *part: random_resized_crop(x, 0.3, rng, *part)]
)
def test_a_part_is_augmented_as_in_the_whole(augment, images):
    def rng():
        return torch.Generator().manual_seed(0)

    whole = augment(images[:6], rng())
    parts = [BatchPart(rank, 3) for rank in range(3)]
    assert torch.equal(
        torch.cat([augment(part.of(images[:6]), rng(), part) for part in parts]), whole
    )


def _exchanged():
    """Everything that ranks exchange, once."""
    rank, part = distributed.rank(), distributed.part()
    layer = nn.Linear(2, 1)
    nn.init.constant_(layer.weight, float(rank))
    distributed.share_state(layer)
    shared = layer.weight.detach().clone()
    layer(part.of(BATCH)).square().mean().backward()
    distributed.average_gradients(layer.parameters())
    return {
        "part": part,
        "mean": distributed.mean(torch.tensor(float(rank))),
        "total": distributed.total(torch.tensor(rank + 0.25)),
        "means": distributed.means({"a": torch.tensor(2.0 * rank), "b": torch.tensor(1.0)}),
        "gathered": distributed.gather(part.of(BATCH)),
        "first": distributed.from_first(lambda: {"made by": rank}),
        "shared": shared,
        "state": {name: value.clone() for name, value in layer.state_dict().items()},
        "gradient": layer.weight.grad,
    }


def test_what_ranks_exchange():
    one, other = run_ranks(2, _exchanged)
    assert (one["part"], other["part"]) == (BatchPart(0, 2), BatchPart(1, 2))
    layer = nn.Linear(2, 1)
    layer.load_state_dict(one["state"])
    layer(BATCH).square().mean().backward()
    for found in (one, other):
        assert (
            found["mean"] == 0.5
            and found["total"] == 1.5
            and found["means"] == {"a": 1.0, "b": 1.0}
        )
        assert torch.equal(found["gathered"], BATCH) and found["first"] == {"made by": 0}
        assert torch.equal(found["shared"], torch.zeros(1, 2))
        torch.testing.assert_close(found["gradient"], layer.weight.grad)
    assert torch.equal(one["gradient"], other["gradient"])


def test_ranks_take_turns_and_all_know_the_results():
    def work():
        done = []
        results = distributed.in_turns(lambda item: done.append(item) or 10 * item, iter(range(5)))
        return done, results, distributed.in_turns(str, iter([7]))

    everything = [0, 10, 20, 30, 40]
    assert run_ranks(2, work) == [([0, 2, 4], everything, ["7"]), ([1, 3], everything, ["7"])]


def test_the_first_rank_comes_first(tmp_path):
    def work():
        with distributed.first_rank_first():
            found = (tmp_path / "provenance").exists()
            (tmp_path / "provenance").touch()
        return found

    assert run_ranks(3, work) == [False, True, True]


def test_nothing_is_left_behind_and_an_error_stays_its_own():
    def fails():
        with pytest.raises(ValueError, match="mine"), distributed.joined():
            raise ValueError("mine")
        return torch.distributed.is_initialized(), distributed.world_size()

    assert run_ranks(2, fails, join=False) == [(False, 1)] * 2


def test_a_rank_that_ends_is_missed_at_once():
    def waits():
        if distributed.rank() == 1:
            return "ended"
        with pytest.raises(distributed.RankUnreachable, match="rank 0 cannot reach the others"):
            distributed.barrier()
        with pytest.raises(distributed.RankUnreachable):
            distributed.mean(torch.ones(1))
        return "missed it"

    assert run_ranks(2, waits) == ["missed it", "ended"]
