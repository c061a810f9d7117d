"""Networks that read contiguous maps alone work like any other."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dynadfq import api
from dynadfq.data.labelled import LabelledSet
from dynadfq.ops.memory_format import fastest_memory_format
from dynadfq.ops.preprocess import Preprocessing
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.teacher.config import TrainingConfig
from dynadfq.teacher.teacher import Teacher
from dynadfq.teacher.training import train_teacher
from dynadfq.training.config import FinetuneConfig

SHAPE = (3, 8, 8)


class Flattening(nn.Module):
    """As many networks end: a map, flattened by a view."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.conv2 = nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.Conv2d(8, 8, 3)
        self.bn2, self.relu, self.fc = nn.BatchNorm2d(8), nn.ReLU(), nn.Linear(128, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        logits: Tensor = self.fc(x.view(x.size(0), -1))
        return logits


def teacher_of(module: nn.Module) -> Teacher:
    return Teacher(module, SHAPE, 4, (0.5,) * 3, (0.25,) * 3)


def test_the_fastest_layout_that_a_network_can_read() -> None:
    assert (
        fastest_memory_format(nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten()), SHAPE)
        == torch.channels_last
    )
    network = Flattening().train()
    network.bn1.eval()  # as where statistics are frozen
    modes = [part.training for part in network.modules()]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert fastest_memory_format(network, SHAPE) == torch.contiguous_format
    assert [part.training for part in network.modules()] == modes
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize("last", [False, True])
def test_it_goes_all_the_way(last: bool) -> None:
    module = Flattening()
    if last:
        module.to(memory_format=torch.channels_last)
    pixels = torch.randint(
        0, 256, (32, *SHAPE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    labelled = LabelledSet(
        Preprocessing(SHAPE, (0.5,) * 3, (0.25,) * 3), pixels, torch.arange(32) % 4
    )
    recipe = TrainingConfig(
        epochs=1,
        batch_size=16,
        learning_rate=0.01,
        weight_decay=1e-4,
        crop_padding=1,
        horizontal_flip=False,
    )
    train_teacher(module, labelled, recipe, 0, torch.device("cpu"), Scratch(None))
    teacher = teacher_of(module).to("cpu")
    images = api.synthesize(
        teacher, num_images=8, batch_size=8, optimizer=PixelOptimizerConfig(iterations=1)
    )
    student = api.quantize(teacher, activation_bits=(3, 4, 5))
    step = FinetuneConfig(epochs=1, steps_per_epoch=1, batch_size=8, decay_every=1)
    history = api.finetune(student, teacher, images, schedule=step, mixup_start=0.0)
    assert torch.isfinite(torch.tensor(history["loss"].tolist())).all()


class Patches(Flattening):
    """A unit that counts patches where others count images."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(self.bn1(self.conv1(x)))
        patches = x.reshape(x.size(0), 8, 2, 3, 6).transpose(1, 2).reshape(-1, 8, 3, 6)
        x = self.relu(patches).reshape(x.size(0), 2, 8, 3, 6).transpose(1, 2).reshape(-1, 8, 6, 6)
        logits: Tensor = self.fc(self.relu(self.bn2(self.conv2(x))).flatten(1))
        return logits


def test_patches_in_place_of_images_have_no_width_of_an_images_own() -> None:
    teacher = teacher_of(Patches().eval())
    with pytest.raises(
        ValueError,
        match=r"activation_bits: relu.* has 2 rows per image .*give one width",
    ):
        api.quantize(teacher, activation_bits=(3, 4, 5))
    student = api.quantize(teacher, activation_bits=4)
    images = torch.randn(5, *SHAPE)
    with student.unquantized():
        assert torch.equal(student(images), teacher(images))
