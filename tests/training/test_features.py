import pytest
import torch
from finetuning import SCHEDULE, changed, context
from torch import nn

import dynadfq
from dynadfq.methods import adaround, hast, zeroq
from dynadfq.methods.dynadfq import DynaDFQ
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.teacher.loading import load_teacher
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.batches import StoredBatches
from dynadfq.training.config import FinetuneConfig
from dynadfq.training.features import last_convolution, record_outputs, residual_branches
from dynadfq.training.prepare import require_student


def convolution(inputs, outputs, size=3):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, size, padding=size // 2, bias=False), nn.BatchNorm2d(outputs)
    )


class Gated(nn.Module):
    """A residual unit with a projected shortcut and a gate on its branch, added in place."""

    def __init__(self, inputs, outputs, swapped):
        super().__init__()
        self.one = convolution(inputs, outputs)
        self.two = convolution(outputs, outputs)
        self.gate = nn.Conv2d(outputs, outputs, 1)
        self.shortcut = convolution(inputs, outputs, 1)
        self.swapped = swapped

    def forward(self, x):
        y = self.two(self.one(x).relu())
        gate = self.gate(y.mean((2, 3), keepdim=True)).sigmoid()
        y = gate * y if self.swapped else y * gate
        y += self.shortcut(x)
        return y.relu_()


class Plain(nn.Module):
    """Two resolutions without shortcuts, and a classifier that is a convolution."""

    def __init__(self, blocks=None):
        super().__init__()
        self.body = blocks or nn.Sequential(
            convolution(3, 4),
            nn.ReLU(),
            convolution(4, 5),
            nn.MaxPool2d(2),
            convolution(5, 4),
            nn.ReLU(),
        )
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Conv2d(4, 4, 1)
        self.classifier = nn.Conv2d(4, 6, 1)

    def forward(self, x):
        logits = self.classifier(self.head(self.pool(self.body(x)))).flatten(1)
        return logits


def teacher_of(module):
    return Teacher(module, (3, 8, 8), 6, (0.0,) * 3, (1.0,) * 3)


@pytest.mark.parametrize(
    ("name", "units", "first", "last", "last_map"),
    [
        (
            "pytorchcv/resnet20_cifar10",
            9,
            "features.stage1.unit1.body.conv2.bn",
            "features.stage3.unit3.body.conv2.bn",
            "features.stage3.unit3.body.conv2.conv",
        ),
        ("torchvision/resnet18", 8, "layer1.0.bn2", "layer4.1.bn2", "layer4.1.conv2"),
        (
            "torchvision/mobilenet_v2",
            17,
            "features.1.conv.2",
            "features.17.conv.3",
            "features.18.0",
        ),
        (
            "pytorchcv/mobilenetv2_w1",
            17,
            "features.stage1.unit1.conv3.bn",
            "features.stage5.unit4.conv3.bn",
            "features.final_block.conv",
        ),
        (
            "pytorchcv/mobilenet_wd4",
            13,
            "features.stage1.unit1.pw_conv.bn",
            "features.stage5.unit2.pw_conv.bn",
            "features.stage5.unit2.pw_conv.conv",
        ),
    ],
)
def test_units_of_the_literatures_networks(name, units, first, last, last_map):
    teacher = load_teacher(name, pretrained=False, num_classes=10, input_shape=(3, 64, 64))
    names = residual_branches(teacher)
    assert (len(names), names[0], names[-1]) == (units, first, last)
    assert last_convolution(teacher) == last_map


@pytest.mark.parametrize("swapped", [False, True])
def test_a_branch_ends_before_its_gate_and_not_in_the_shortcut(swapped):
    teacher = teacher_of(Plain(nn.Sequential(Gated(3, 5, swapped), Gated(5, 4, swapped))).eval())
    assert residual_branches(teacher) == ("body.0.two.1", "body.1.two.1")


def test_without_shortcuts_the_pointwise_layers_behind_depthwise_ones():
    def depthwise():
        return nn.Conv2d(4, 4, 3, padding=1, groups=4)

    separable = nn.Sequential(
        convolution(3, 4),
        convolution(4, 4, 1),
        nn.Sequential(depthwise(), nn.BatchNorm2d(4), nn.ReLU6(), *convolution(4, 4, 1)),
        nn.ReLU6(),
        nn.Sequential(depthwise(), *convolution(4, 4, 1), nn.ReLU6()),
        convolution(4, 4, 1),
    )
    assert residual_branches(teacher_of(Plain(separable))) == ("body.2.4", "body.4.2")


def test_without_shortcuts_the_last_norm_of_each_resolution():
    assert residual_branches(teacher_of(Plain())) == ("body.2.1", "body.4.1")


def test_the_last_map_is_not_behind_the_pool():
    assert last_convolution(teacher_of(Plain())) == "body.4.0"


def test_a_network_without_maps_is_refused():
    module = nn.Sequential(nn.Flatten(), nn.Linear(192, 6))
    with pytest.raises(ValueError, match="no convolution with an output of more than one pixel"):
        last_convolution(teacher_of(module))


def test_the_student_has_modules_of_the_same_names(teacher, make_student):
    names = (*residual_branches(teacher), last_convolution(teacher))
    assert names == ("bn4", "conv4")
    student = make_student()
    assert all(
        type(student.network.get_submodule(n)).__name__ in ("BatchNorm2d", "QuantConv2d")
        for n in names
    )


def test_looking_leaves_nothing_behind(teacher):
    before = {name: tensor.clone() for name, tensor in teacher.module.state_dict().items()}
    residual_branches(teacher), last_convolution(teacher)
    assert not any(module._forward_hooks for module in teacher.module.modules())
    assert all(
        torch.equal(before[name], tensor) for name, tensor in teacher.module.state_dict().items()
    )


def test_what_is_watched_lies_on_the_way_and_is_safe_from_what_works_in_place():
    block = Gated(3, 4, False).eval()
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = block.two(block.one(x).relu())
    with record_outputs(block, ["two.1", "shortcut"]) as outputs:
        y = block(x)
    assert torch.equal(y, block(x))
    torch.testing.assert_close(outputs["two.1"], expected)
    (slope,) = torch.autograd.grad(y.sum(), outputs["shortcut"])
    assert torch.equal(slope, (y > 0).to(slope))


def test_recording_ends_with_an_exception():
    block = Gated(3, 4, False).eval()
    with pytest.raises(RuntimeError), record_outputs(block, ["two.1", "shortcut"]):
        block(torch.zeros(1, 7, 8, 8))
    assert not any(module._forward_hooks for module in block.modules())


class Headed(nn.Module):
    """Feature maps, or none, before a residual head of vectors with BatchNorm."""

    def __init__(self, maps):
        super().__init__()
        self.body = convolution(3, 4) if maps else nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm1d(4)
        self.unit = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
        self.classifier = nn.Linear(4, 6)

    def forward(self, x):
        y = self.norm(self.body(x).relu().mean((2, 3)))
        return self.classifier(y + self.unit(y))


def test_vectors_of_a_head_are_not_compared():
    assert residual_branches(teacher_of(Headed(maps=True))) == ("body.1",)
    with pytest.raises(ValueError, match="neither residual units nor BatchNorm layers whose feat"):
        residual_branches(teacher_of(Headed(maps=False)))


def test_a_method_that_cannot_serve_a_network_says_so_before_images_are_made():
    teacher = teacher_of(Headed(maps=False))
    with pytest.warns(UserWarning, match="hast cannot train a student of this network: .* feature"):
        dynadfq.synthesize(teacher, "hast", num_images=2, iterations=1, batch_size=2)


def test_attention_transfer_is_refused_before_images_are_made_where_there_are_no_maps():
    teacher = teacher_of(Headed(maps=False))
    trained, rounded = (kind().student.recipe() for kind in (zeroq.ZeroQ, adaround.AdaRound))
    transfer = FinetuneConfig(attention_transfer=2.5)
    require_student(teacher, trained)
    require_student(teacher, trained, changed(transfer, epochs=0))
    require_student(teacher, rounded, transfer)  # which trains nothing
    with pytest.raises(InvalidArgument, match=r"^attention_transfer: 2\.5 given.*; set it to 0"):
        require_student(teacher, trained, transfer)


@pytest.mark.parametrize("kind", [zeroq.ZeroQ, DynaDFQ, hast.HAST])
def test_attention_transfer_joins_the_loss_of_any_method(kind, make_student, teacher, synthetic):
    values = []
    for weight in (0.0, 3125.0):
        made = context(
            make_student(4), teacher, synthetic, changed(SCHEDULE, attention_transfer=weight)
        )
        (batch, *_) = StoredBatches(made).epoch(0, torch.Generator().manual_seed(0))
        values.append(kind().student.recipe().loss(made)(batch))
    off, on = values
    added = {name: value for name, value in on.terms.items() if name not in off.terms}
    assert set(added) == {"attention_transfer"} | (
        {"attention_transfer_perturbed"} if kind is hast.HAST else set()
    )
    assert all(value > 0 for value in added.values())
    if kind is not hast.HAST:  # whose harder images are others
        torch.testing.assert_close(on.total, off.total + 3125 * added["attention_transfer"])
