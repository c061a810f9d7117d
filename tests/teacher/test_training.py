from __future__ import annotations

from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import torch
from torch import nn

from dynadfq.data.labelled import LabelledSet
from dynadfq.data.sets import CARDS
from dynadfq.ops.preprocess import Preprocessing
from dynadfq.runtime.progress import NonFiniteLoss, Progress
from dynadfq.runtime.resume import Scratch
from dynadfq.teacher.config import TrainingConfig
from dynadfq.teacher.training import train_teacher

RECIPE = TrainingConfig(
    epochs=4,
    batch_size=16,
    learning_rate=0.05,
    weight_decay=5e-4,
    crop_padding=1,
    horizontal_flip=True,
)
PREPROCESSING = Preprocessing((3, 8, 8), CARDS["cifar10"].mean, CARDS["cifar10"].std)


@pytest.fixture(scope="module")
def data() -> LabelledSet:
    """Six classes, each with its own colour and some noise."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.arange(70) % 6
    colours = torch.randint(0, 200, (6, 3, 1, 1), generator=rng)
    pixels = colours[labels] + torch.randint(0, 56, (70, 3, 8, 8), generator=rng)
    return LabelledSet(PREPROCESSING, pixels.byte(), labels)


def train(
    module: nn.Module,
    data: LabelledSet,
    scratch: Path | None = None,
    seed: int = 0,
    **changes: float,
) -> nn.Module:
    return train_teacher(
        module, data, RECIPE.model_copy(update=changes), seed, torch.device("cpu"), Scratch(scratch)
    )


def bytes_of(module: nn.Module) -> list[bytes]:
    return [tensor.numpy().tobytes() for tensor in module.state_dict().values()]


def test_it_learns(make_net: Callable[[], nn.Module], data: LabelledSet) -> None:
    module = train(make_net(), data, epochs=10)
    assert not module.training
    predictions = module(data.normalize(data.pixels)).argmax(dim=1)
    assert (predictions == data.labels).float().mean() > 0.9


@pytest.mark.parametrize("dropout", [False, True])
def test_a_killed_run_goes_on_to_the_same_bytes(
    make_net: Callable[[], nn.Module],
    data: LabelledSet,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dropout: bool,
) -> None:
    states = count()

    def network() -> nn.Module:
        torch.manual_seed(next(states))  # the state of the process has no effect
        return nn.Sequential(nn.Dropout(0.2), make_net()) if dropout else make_net()

    whole = bytes_of(train(network(), data))
    assert whole != bytes_of(train(network(), data, seed=1))
    steps, original = iter(range(100)), Progress.step

    def step(self: Progress, **losses: float) -> None:
        if next(steps) == 9:  # in the third epoch of four steps
            raise KeyboardInterrupt
        original(self, **losses)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progress, "step", step)
        train(network(), data, tmp_path / "scratch")
    done: list[int] = []
    monkeypatch.setattr(
        Progress, "step", lambda self, **losses: (done.append(1), original(self, **losses))[1]
    )
    assert bytes_of(train(network(), data, tmp_path / "scratch")) == whole
    assert len(done) == 8


def test_every_epoch_shuffles_and_shifts_anew(
    make_net: Callable[[], nn.Module], data: LabelledSet
) -> None:
    module, seen = make_net(), []
    with module.register_forward_pre_hook(
        lambda _, inputs: seen.extend(image.clone() for image in inputs[0])
    ):
        train(module, data)
    assert len(seen) == 4 * 64
    assert (
        len({image.numpy().tobytes() for image in seen}) > 230
    )  # of 70 images in at most 18 forms each


def test_a_loss_that_is_not_finite_stops(
    make_net: Callable[[], nn.Module], data: LabelledSet
) -> None:
    module = make_net()
    nn.init.constant_(module.fc.bias, torch.nan)
    with pytest.raises(NonFiniteLoss, match="step 0: label = nan"):
        train(module, data)


def test_a_batch_larger_than_the_data_is_refused(
    make_net: Callable[[], nn.Module], data: LabelledSet
) -> None:
    with pytest.raises(ValueError, match=r"^batch_size: 71 is more than the 70 training images"):
        train(make_net(), data, batch_size=71)
