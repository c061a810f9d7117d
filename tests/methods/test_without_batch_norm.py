"""A teacher without BatchNorm statistics: every method works with it, or says that it needs them
and which do not."""

import pytest
import torch
from test_all_methods import NAMES, SCHEME, make_images, teach
from torch import nn

from dynadfq.graph.fold import fold
from dynadfq.methods import METHODS, suggest_other_methods, without_batch_norm
from dynadfq.methods.base import MethodContext
from dynadfq.methods.real_data import RealData
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.teacher.similarity import class_similarity
from dynadfq.teacher.teacher import Teacher

SHAPE = (3, 8, 8)
SETTINGS = {
    name: method.without_batch_norm
    for name, method in METHODS.items()
    if method.without_batch_norm is not None
}


class Plain(nn.Module):
    """Three convolutions around a shortcut, each with a norm that may keep no statistics, and a
    linear classifier."""

    def __init__(self, norm):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 8, 3, padding=1)
        self.norm1 = norm(8)
        self.conv2 = nn.Conv2d(8, 12, 3, stride=2, padding=1)
        self.norm2 = norm(12)
        self.conv3 = nn.Conv2d(12, 12, 3, padding=1)
        self.norm3 = norm(12)
        self.relu = nn.ReLU()
        self.pool = nn.AdaptiveAvgPool2d(2)
        self.fc = nn.Linear(48, 6)

    def forward(self, images):
        x = self.relu(self.norm1(self.conv1(images)))
        x = self.relu(self.norm2(self.conv2(x)))
        x = self.relu(x + self.norm3(self.conv3(x)))
        logits = self.fc(self.pool(x).flatten(1))
        return logits


NORMS = {
    "none": lambda _: nn.Identity(),
    "untracked": lambda channels: nn.BatchNorm2d(channels, track_running_stats=False),
    "folded": nn.BatchNorm2d,
}
REASONS = {
    "none": "it has no BatchNorm layer, or they were folded into the layers before them",
    "untracked": "none of its 3 BatchNorm layers keeps running statistics "
    "(track_running_stats=False)",
    "folded": "it has no BatchNorm layer, or they were folded into the layers before them",
}


def bare(kind):
    torch.manual_seed(0)
    module = Plain(NORMS[kind]).eval()
    if kind == "folded":
        module = fold(module, torch.zeros(1, *SHAPE)).network
    return Teacher(module, SHAPE, 6, (0.5, 0.4, 0.6), (0.2, 0.3, 0.25))


def settings_of_student(name):
    return {key.removeprefix("student."): value for key, value in SETTINGS[name].items()}


@pytest.mark.parametrize("kind", NORMS)
@pytest.mark.parametrize("name", NAMES)
def test_a_method_works_or_says_what_is_missing_and_who_needs_it_not(name, kind, tmp_path):
    teacher = bare(kind)
    if name in SETTINGS:
        images = make_images(name, teacher, tmp_path)
        student, _ = teach(name, teacher, images, SCHEME, **settings_of_student(name))
        assert torch.isfinite(student(images.take(torch.arange(8)).images)).all()
        return
    with pytest.raises(ValueError) as error, suggest_other_methods():
        make_images(name, teacher, tmp_path)
    assert str(error.value).startswith(
        f"the teacher has no BatchNorm statistics: {REASONS[kind]}. "
    )
    assert str(error.value).endswith(f"methods that need none: {without_batch_norm()}")


def test_the_methods_are_listed_with_what_they_then_need():
    assert without_batch_norm() == (
        "dfq (method.student.ranges: images, method.student.bias_correction: empirical), "
        "real_data, squant"
    )
    for name, settings in SETTINGS.items():
        for key in settings:
            side, _, field = key.partition(".")
            assert field in type(METHODS[name].model_fields[side].default).model_fields


def test_real_data_needs_no_statistics(tmp_path):
    from dynadfq.runtime.resume import Scratch
    from dynadfq.synthesis.synthesize import synthesize_set

    module = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(32, 10)
    )
    teacher = Teacher(module, (1, 8, 8), 10, (0.3,), (0.4,))
    settings = RealData().images.model_copy(update={"data": "digits"})
    source = settings.recipe(MethodContext(teacher, class_similarity(teacher), 0)).source(
        teacher, PixelOptimizerConfig(iterations=1)
    )
    images = synthesize_set(source, 16, 8, 0, tmp_path, Scratch(None))
    student, history = teach("real_data", teacher, images)
    assert len(history) == 2 and student(images.take(torch.arange(4)).images).shape == (4, 10)


@pytest.mark.parametrize(("name", "rule"), [("squant", {"range_rule": "bn_sigma"}), ("dfq", {})])
def test_ranges_from_statistics_name_the_rule_that_takes_images(name, rule, tmp_path):
    teacher = bare("none")
    with pytest.raises(
        ValueError, match=r"no BatchNorm statistics reach this site.*range_rule to noise_sigma"
    ):
        teach(name, teacher, make_images("squant", teacher, tmp_path), **rule)
