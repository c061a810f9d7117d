from __future__ import annotations

import math
import re
from collections import Counter
from copy import deepcopy

import pytest
import torch
import torchvision
from pytorchcv.model_provider import get_model
from torch import Tensor, fx, nn
from torch.nn import functional as F

from dynadfq.graph.activations import is_activation, is_activation_call
from dynadfq.graph.normalize import normalize
from dynadfq.graph.trace import UntraceableModel
from dynadfq.quant.build import build_student
from dynadfq.quant.config import Scheme
from dynadfq.teacher.teacher import Teacher

INCEPTIONS = ("3a", "3b", "4a", "4b", "4c", "4d", "4e", "5a", "5b")
BRANCHES = ("branch1", "branch2.0", "branch2.1", "branch3.0", "branch3.1", "branch4.1")
SITES = {
    "resnet18": ["relu"]
    + [f"layer{s}.{b}.relu{call}" for s in (1, 2, 3, 4) for b in (0, 1) for call in ("", "_1")],
    "googlenet": [f"conv{i}.relu" for i in (1, 2, 3)]
    + [f"inception{i}.{b}.relu" for i in INCEPTIONS for b in BRANCHES],
    "mobilenet_v2": None,  # None: every activation module once, in the order of definition
    "densenet121": None,
    "vgg11_bn": None,
    "efficientnet_b0": None,
    "pytorchcv/mobilenetv2_w1": None,
    "pytorchcv/resnet20_cifar10": None,
}
SIZES = {"pytorchcv/mobilenetv2_w1": 224}  # its pool has a fixed window


def build(name: str) -> nn.Module:
    torch.manual_seed(0)
    if name.startswith("pytorchcv/"):
        return get_model(name.removeprefix("pytorchcv/"))
    settings = {"aux_logits": True, "init_weights": False} if name == "googlenet" else {}
    return torchvision.models.get_model(name, weights=None, **settings)


def site_names(model: fx.GraphModule) -> list[str]:
    return [str(node.target) for node in model.graph.nodes if is_activation_call(node, model)]


@pytest.mark.parametrize("name", SITES)
def test_real_networks_have_each_activation_call_exactly_once(name: str) -> None:
    original, size = build(name), SIZES.get(name, 32)
    example = torch.randn(2, 3, size, size)
    model = normalize(original, example)

    expected = SITES[name] or [
        path for path, module in original.named_modules() if is_activation(module)
    ]
    expected = [*expected, "relu"] if name == "densenet121" else expected  # F.relu before the pool
    assert site_names(model) == expected
    assert torch.equal(model(example), original.eval()(example))
    assert not model.training
    assert model.state_dict().keys() == original.state_dict().keys()
    model.load_state_dict(original.state_dict(), strict=True)

    calls = Counter[str]()
    for path in expected:
        model.get_submodule(path).register_forward_hook(lambda *_, path=path: calls.update([path]))
    model(example)
    assert calls == Counter(expected)


def test_normalizing_twice_changes_nothing() -> None:
    example = torch.randn(1, 3, 32, 32)
    once = normalize(build("resnet18"), example)
    twice = normalize(once, example)
    assert site_names(once) == site_names(twice)
    assert once.code == twice.code


class Small(nn.Module):
    """Calls one in-place module twice, a function once and a layer twice; has parts that eval mode
    ignores."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.shared = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 3, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.head = nn.Sequential(nn.Flatten(), nn.Linear(4, 10))
        self.auxiliary = nn.Sequential(nn.Linear(4, 10), nn.BatchNorm1d(10))
        self.gain, self.unused = nn.Parameter(torch.ones(4, 1, 1)), nn.Parameter(torch.ones(1))
        self.register_buffer("mean", torch.zeros(3, 1, 1), persistent=False)
        self.register_buffer("count", torch.zeros(()))
        self.offset = torch.ones(4, 1, 1)  # a plain tensor, no buffer

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.first(images - self.mean))
        x = F.relu(self.shared(x) * self.gain + self.offset)
        return self.head(self.relu(self.shared(x)).mean((2, 3)))


def test_shared_modules_functions_and_unused_parts() -> None:
    original = Small().train()
    original.head.eval()
    before, described = deepcopy(original.state_dict()), repr(original)
    modes = [module.training for module in original.modules()]
    example = torch.randn(2, 3, 6, 6)
    copy = example.clone()
    model = normalize(original, example)

    assert site_names(model) == ["relu", "relu_1", "relu_2"]
    assert [str(n.target) for n in model.graph.nodes if n.op == "call_module"].count("shared") == 2
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(tensor, before[name]) for name, tensor in original.state_dict().items())
    assert repr(original) == described
    assert [module.training for module in original.modules()] == modes
    assert torch.equal(example, copy)
    assert not {id(p) for p in model.parameters()} & {id(p) for p in original.parameters()}


class ByKeyword(nn.Module):
    """Calls its layers by the names of their arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3, bias=False), nn.BatchNorm2d(4)
        self.relu, self.head = nn.ReLU(), nn.Linear(4, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(input=self.norm(input=self.conv(input=images)))
        return self.head(input=x.mean((2, 3)))


def test_layers_called_by_keyword_are_those_called_by_position() -> None:
    example = torch.randn(2, 3, 6, 6)
    module = ByKeyword().eval()
    model = normalize(module, example)
    assert torch.equal(model(example), module(example))
    assert all(
        node.args and not node.kwargs for node in model.graph.nodes if node.op == "call_module"
    )
    teacher = Teacher(module, (3, 6, 6), 10, (0.5,) * 3, (0.5,) * 3)
    student = build_student(teacher, Scheme(activation_bits=(4,)))
    assert student(example).shape == (2, 10)


class Gate(nn.Module):
    """A block that stays whole, and takes its input by keyword alone."""

    keep_float = True

    def forward(self, *, x: Tensor) -> Tensor:
        return x * x.sigmoid()


class Gated(nn.Module):
    """Calls such a block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.gate, self.head = nn.Conv2d(3, 4, 3), Gate(), nn.Linear(4, 10)

    def forward(self, images: Tensor) -> Tensor:
        return self.head(self.gate(x=self.conv(images)).mean((2, 3)))


def test_a_block_that_takes_keywords_alone_is_called_by_them() -> None:
    module = Gated().eval()
    example = torch.randn(2, 3, 6, 6)
    assert torch.equal(normalize(module, example)(example), module(example))


class Named(nn.Module):
    """Blocks that call functions, with the natural names taken."""

    def __init__(self) -> None:
        super().__init__()
        self.block = Call()
        self.relu = nn.Conv2d(3, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.block(self.block(self.relu(images))))


class Call(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return torch.tanh(F.relu(features))


def test_functions_are_named_after_their_block_and_never_twice() -> None:
    model = normalize(Named(), torch.randn(1, 3, 4, 4))
    assert site_names(model) == [
        "block.relu",
        "block.tanh",
        "block.relu_1",
        "block.tanh_1",
        "relu_1",
    ]


class InPlace(nn.Module):
    """Reads a tensor again after an activation has written into it, or into an alias of it."""

    def __init__(self, alias: nn.Module, write: nn.Module) -> None:
        super().__init__()
        self.conv, self.alias, self.write = nn.Conv2d(3, 4, 1), alias, write

    def forward(self, images: Tensor) -> Tensor:
        x = self.conv(images)
        before = x * 2
        y = self.write(self.alias(x))
        return before + x + 3 * y


class Method(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        features.relu_()
        return features


@pytest.mark.parametrize("write", [nn.ReLU(inplace=True), Method(), nn.LeakyReLU(inplace=True)])
@pytest.mark.parametrize("alias", [nn.Identity(), nn.Sequential(nn.Dropout(), nn.Identity())])
def test_in_place_activations_keep_their_effect_on_later_readers(
    write: nn.Module, alias: nn.Module
) -> None:
    original, example = InPlace(alias, write), torch.randn(2, 3, 4, 4)
    model = normalize(original, example)
    assert torch.equal(model(example), original.eval()(example))
    assert len(site_names(model)) == 1
    assert getattr(write, "inplace", True)


def test_writing_through_a_view_is_refused() -> None:
    with pytest.raises(UntraceableModel, match="writes in place"):
        normalize(InPlace(nn.Unflatten(1, (2, 2)), Flat()), torch.randn(2, 3, 4, 4))


class Flat(nn.Module):
    def forward(self, features: Tensor) -> Tensor:
        return F.relu_(features).flatten(1, 2)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU()

    def forward(self, features: Tensor) -> Tensor:
        return self.relu(self.conv(features)) if features.sum() > 0 else features


def test_an_untraceable_block_is_named_with_the_way_out_and_nothing_is_left_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = nn.Sequential(nn.ReLU(inplace=True), Branching()).train()
    call, described = nn.Module.__call__, repr(original)
    with pytest.raises(UntraceableModel, match="keep_float = True in class Branching") as error:
        normalize(original, torch.randn(1, 3, 4, 4))
    message = str(error.value)
    assert "symbolically traced" in message and "\n" not in message
    assert re.search(r"at test_normalize\.py, line \d+: return self\.relu\(self\.conv", message)
    assert error.value.__cause__ is not None
    assert nn.Module.__call__ is call
    assert repr(original) == described
    assert all(module.training for module in original.modules())

    monkeypatch.setattr(Branching, "keep_float", True, raising=False)
    model = normalize(original, torch.randn(1, 3, 4, 4))
    assert site_names(model) == ["0"]


def test_an_untraceable_forward_of_the_model_itself() -> None:
    with pytest.raises(UntraceableModel, match=r"Branching cannot be traced .* give it a forward"):
        normalize(Branching(), torch.randn(1, 3, 4, 4))


def test_a_model_must_return_one_tensor() -> None:
    class Two(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
            return images, images

    with pytest.raises(UntraceableModel, match="returns a tuple"):
        normalize(Two(), torch.randn(1, 3, 4, 4))


def test_dropout_that_stays_on_is_refused() -> None:
    class AlwaysOn(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return F.dropout(images)

    with pytest.raises(UntraceableModel, match="functional dropout"):
        normalize(AlwaysOn(), torch.randn(1, 3, 8, 8))


def test_a_prelu_called_twice_is_refused() -> None:
    prelu = nn.PReLU()
    with pytest.raises(UntraceableModel, match="make one module per call"):
        normalize(nn.Sequential(prelu, nn.Conv2d(3, 3, 1), prelu), torch.randn(1, 3, 4, 4))
    assert site_names(
        normalize(nn.Sequential(nn.PReLU(), nn.PReLU()), torch.randn(1, 3, 4, 4))
    ) == ["0", "1"]


class Conditional(nn.Module):
    """Conditions on the size of maps, on the number of images and on values; an argument that
    nobody gives."""

    def __init__(self, asks: str = "size") -> None:
        super().__init__()
        self.conv, self.relu, self.wide = (
            nn.Conv2d(3, 4, 3),
            nn.ReLU(inplace=True),
            nn.Conv2d(4, 4, 5),
        )
        self.asks = asks

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.relu(self.conv(x))
        if mask is not None:
            x = x * mask
        if x.shape[-1] < 5 or x.size(2) // 2 < 4:
            x = F.adaptive_avg_pool2d(x, 5)
        if (self.asks == "count" and len(x.shape) and x.shape[0] > 64) or (
            self.asks == "values" and x.sum() > 0
        ):
            x = -x
        return self.wide(x).amax((2, 3))


@pytest.mark.parametrize("size", [4, 8, 16])
def test_conditions_on_sizes_are_answered(size: int) -> None:
    network, images = Conditional(), torch.randn(5, 3, size, size)
    before = images.clone()
    model = normalize(network, images[:2])
    assert torch.equal(model(images), network(images)) and torch.equal(images, before)
    assert [node.op for node in model.graph.nodes].count("placeholder") == 1
    assert type(network) is Conditional
    assert any("pool" in node.name for node in model.graph.nodes) == (size < 16)


SIZES_AS_NUMBERS = {
    "range": lambda x: sum(x[:, i] for i in range(x.shape[1])),
    "int": lambda x: x.view(x.size(0), -1)[:, : int(x.shape[-1] ** 0.5)],
    "math": lambda x: x * math.sqrt(x.size(1)) + torch.zeros(x.shape[2], x.shape[3]),
    "unpacked": lambda x: x.view(
        len_of(x), 2, x.shape[1:].numel() // x.shape[1:][1:].numel() // 2, *x.shape[2:]
    ),
    "first two": lambda x: x.reshape(*first_two(x), -1),
    "kernel": lambda x: F.avg_pool2d(x, kernel_size=[x.shape[2] // 2, x.size(dim=3)]),
    "rank": lambda x: x.permute([0, *range(x.dim() - 1, 0, -1)]),
    "tokens first": lambda x: sum_of_tokens(x.flatten(2).permute(2, 0, 1)),
}


def sum_of_tokens(tokens: Tensor) -> Tensor:
    return torch.stack([tokens[i] for i in range(tokens.shape[0])]).sum(0)


def len_of(x: Tensor) -> int:
    return x.shape[0]


def first_two(x: Tensor) -> tuple[int, int]:
    batch, channels = x.shape[:2]
    return batch, channels


@pytest.mark.parametrize("case", SIZES_AS_NUMBERS)
def test_sizes_are_numbers_while_tracing_and_the_batch_is_free(case: str) -> None:
    class Sized(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(3, 4, 3)

        def forward(self, x: Tensor) -> Tensor:
            return SIZES_AS_NUMBERS[case](F.relu(self.conv(x)))

    network, images = Sized(), torch.randn(5, 3, 8, 8)
    model = normalize(network, images[:1])
    for count in (1, 2, 5):
        assert torch.equal(model(images[:count]), network(images[:count]))


@pytest.mark.parametrize("asks", ["count", "values"])
def test_conditions_on_images_are_not(asks: str) -> None:
    call = nn.Module.__call__
    with pytest.raises(UntraceableModel, match="control flow"):
        normalize(Conditional(asks), torch.randn(2, 3, 8, 8))
    assert nn.Module.__call__ is call


class Asserting(nn.Module):
    """A BatchNorm that asserts the number of axes, as timm's do, and calls a function."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        torch._assert(x.ndim == 4, f"expected 4D input (got {x.ndim}D input)")
        x = F.batch_norm(x, self.norm.running_mean, self.norm.running_var)
        return F.relu(x).mean((2, 3))


def test_assertions_go_and_a_layer_is_read_by_its_batch_norm_alone() -> None:
    graph = normalize(Asserting(), torch.randn(2, 3, 8, 8)).graph
    assert torch._assert not in {node.target for node in graph.nodes}
    (conv,) = (node for node in graph.nodes if node.target == "conv")
    assert [user.target for user in conv.users] == [F.batch_norm]
