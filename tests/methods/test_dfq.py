"""DFQ on a network with what it is for: ReLU6, uneven channels, high biases, one weight grid a
layer."""

import pytest
import torch
from torch import nn

from dynadfq.api import finetune, quantize
from dynadfq.methods.base import MethodContext
from dynadfq.methods.dfq import Images, Student
from dynadfq.quant.build import load_student
from dynadfq.quant.config import Scheme
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.similarity import class_similarity
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import FinetuneConfig
from dynadfq.training.prepare import new_student, prepare_student

SHAPE = (3, 8, 8)


class Mobile(nn.Module):
    """A stem, an inverted residual block, and a classifier."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.stem_norm = nn.BatchNorm2d(8)
        self.expand = nn.Conv2d(8, 24, 1, bias=False)
        self.expand_norm = nn.BatchNorm2d(24)
        self.depth = nn.Conv2d(24, 24, 3, padding=1, groups=24, bias=False)
        self.depth_norm = nn.BatchNorm2d(24)
        self.project = nn.Conv2d(24, 8, 1, bias=False)
        self.project_norm = nn.BatchNorm2d(8)
        self.last = nn.Conv2d(8, 16, 1, bias=False)
        self.last_norm = nn.BatchNorm2d(16)
        self.act = nn.ReLU6()
        self.fc = nn.Linear(16, 6)

    def forward(self, x):
        x = self.act(self.stem_norm(self.stem(x)))
        y = self.act(self.expand_norm(self.expand(x)))
        y = self.act(self.depth_norm(self.depth(y)))
        x = x + self.project_norm(self.project(y))
        return self.fc(self.act(self.last_norm(self.last(x))).mean((2, 3)))


@pytest.fixture(scope="module")
def teacher():
    """Channels of very different ranges, some of whose biases are above three deviations."""
    rng = torch.Generator().manual_seed(0)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = Mobile()
    for norm in net.modules():
        if isinstance(norm, nn.BatchNorm2d):
            norm.momentum = None
            norm.weight.data = 10 ** (0.5 * torch.randn(len(norm.weight), generator=rng) - 1)
            norm.bias.data = norm.weight * 4 * torch.rand(len(norm.weight), generator=rng)
    with torch.no_grad():
        net.train()(torch.randn(512, *SHAPE, generator=rng))
    return Teacher(net, SHAPE, 6, (0.5,) * 3, (0.25,) * 3)


def images_of(teacher, folder, **settings):
    recipe = Images(**settings).recipe(MethodContext(teacher, class_similarity(teacher), 0))
    return synthesize_set(
        recipe.source(teacher, PixelOptimizerConfig(iterations=5, learning_rate=0.1)),
        128,
        64,
        0,
        folder,
        Scratch(None),
    )


@pytest.fixture(scope="module")
def noise(teacher, tmp_path_factory):
    return images_of(teacher, tmp_path_factory.mktemp("noise"))


def student_of(teacher, images, weight_bits=8, bits=8, **settings):
    recipe = Student(**settings).recipe()
    assert recipe.loss is None
    scheme = Scheme(
        weight_bits=weight_bits,
        activation_bits=(bits,),
        target_bits=bits,
        weight_granularity="tensor",
    )
    student = new_student(teacher, recipe, scheme, 0)
    prepare_student(
        student, teacher, images, recipe, 0, finetune=FinetuneConfig(calibration_images=128)
    )
    return student


def error(student, teacher):
    """Squared error of the logits relative to their variance, on noise that nothing has seen."""
    images = torch.randn(256, *SHAPE, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        logits = teacher(images)
        return float(
            (student(images) - logits).square().sum() / (logits - logits.mean(dim=0)).square().sum()
        )


@pytest.mark.parametrize(
    "key", ["relu6_as_relu", "equalize", "absorb", "bias_correction", "ranges"]
)
def test_every_step_changes_the_student(teacher, noise, key):
    others = {
        "relu6_as_relu": [True, False],
        "equalize": [True, False],
        "absorb": ["off", "unpadded", "all"],
        "bias_correction": ["off", "analytic", "empirical"],
        "ranges": ["bn_sigma", "images"],
    }
    images = torch.randn(16, *SHAPE, generator=torch.Generator().manual_seed(5))
    answers = [student_of(teacher, noise, **{key: value})(images) for value in others[key]]
    for i, answer in enumerate(answers):
        assert torch.isfinite(answer).all() and not any(
            torch.equal(answer, other) for other in answers[:i]
        )


def test_equalization_and_correction_pay_with_one_grid_a_layer(teacher, noise):
    plain = {"equalize": False, "absorb": "off", "bias_correction": "off", "ranges": "images"}
    found = [
        error(student_of(teacher, noise, 6, 8, **{**plain, **on}), teacher)
        for on in (
            {},
            {"equalize": True},
            {"equalize": True, "bias_correction": "analytic"},
            {"equalize": True, "bias_correction": "empirical"},
        )
    ]
    assert found[1] < 0.1 * found[0]
    assert max(found[2:]) < 0.1 * found[1]


def test_at_8_bits_it_answers_as_the_teacher(teacher, noise):
    assert error(student_of(teacher, noise), teacher) < 0.01


def test_it_comes_back_from_a_file(teacher, noise, tmp_path):
    student = student_of(teacher, noise)
    student.save(tmp_path)
    images = noise.take(torch.arange(16)).images
    assert torch.equal(load_student(tmp_path, Mobile())(images), student(images))
    assert student.description == teacher.describe()


def test_images_are_noise_unless_they_are_asked_to_be_more(teacher, tmp_path):
    pixels = images_of(teacher, tmp_path / "noise").take(torch.arange(128)).images
    assert abs(float(pixels.mean())) < 0.02 and abs(float(pixels.std()) - 1) < 0.02
    better = images_of(teacher, tmp_path / "better", kind="bn_statistics").manifest["shards"]
    before = images_of(teacher, tmp_path / "again").manifest["shards"]
    assert sum(s["losses"]["total"] for s in better) < sum(s["losses"]["total"] for s in before)


TRANSFORMS = [{}, {"relu6_as_relu": False}, {"equalize": False}, {"absorb": "off"}]


@pytest.mark.parametrize("made", TRANSFORMS, ids=str)
@pytest.mark.parametrize("tuned", TRANSFORMS, ids=str)
def test_a_student_of_another_network_than_the_hyperparameters_make_is_refused(
    teacher, noise, made, tuned
):
    student = quantize(teacher, 8, 8, method="dfq", **made)
    if made == tuned:
        finetune(student, teacher, noise, method="dfq", **tuned)
        return
    with pytest.raises(InvalidArgument, match=r"^student: its weights .*; make the student with"):
        finetune(student, teacher, noise, method="dfq", **tuned)


def test_biases_are_not_corrected_twice(teacher, noise):
    student = quantize(teacher, 8, 8, method="dfq")
    finetune(student, teacher, noise, method="dfq")
    with pytest.raises(InvalidArgument, match=r"^student: its weights .*fine-tune it once"):
        finetune(student, teacher, noise, method="dfq")
    finetune(student, teacher, noise, method="zeroq", steps=1, batch_size=8)
    with pytest.raises(InvalidArgument, match=r"not those that method dfq quantizes with relu6_as"):
        finetune(quantize(teacher, 8, 8), teacher, noise, method="dfq")
