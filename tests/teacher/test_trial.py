"""What a teacher refuses before any work, and what a refusal or a trial leaves behind."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from dynadfq.teacher.teacher import Teacher
from dynadfq.teacher.transforms import fold_batch_norms

SHAPE = (3, 8, 8)


class Net(nn.Module):
    """A classifier of four classes whose answer ``how`` changes."""

    def __init__(self, how: Callable[[Tensor], Any] = lambda logits: logits) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, 4)
        self.register_buffer("calls", torch.zeros(()))
        self.how = how

    def forward(self, images: Tensor) -> Any:
        self.calls += 1
        return self.how(self.head(self.body(images).mean((2, 3))))


def teacher(module: Any, **changes: Any) -> Teacher:
    facts = {"input_shape": SHAPE, "num_classes": 4, "mean": [0.5] * 3, "std": [0.25] * 3}
    return Teacher(module, **(facts | changes))


ANSWERS = {
    "dict": (lambda y: {"logits": y}, "module: the network returns dict, not one tensor"),
    "tuple": (lambda y: (y, y), "module: the network returns tuple, not one tensor"),
    "map": (lambda y: y[..., None, None], r"returns \(2, 4, 1, 1\) for two images, not \(2, 4\)"),
    "squeezed": (lambda y: y.squeeze(), r"returns \(4,\) for one image, not \(1, 4\)"),
    "summed": (lambda y: y.sum(0, keepdim=True), r"returns \(1, 4\) for two images, not \(2, 4\)"),
    "wide": (lambda y: torch.cat([y, y], 1), r"num_classes: .* \(2, 8\) for two images, not 4 log"),
    "softmax": (lambda y: y.softmax(1), "probabilities, not logits; remove the softmax"),
    "by hand": (lambda y: y.exp() / y.exp().sum(1, True), "remove the softmax at its end"),
    "sigmoid": (torch.sigmoid, "remove the sigmoid at its end"),
    "half": (lambda y: y.half(), "Net computes in float16, and float32 is needed"),
    "bfloat16": (lambda y: y.bfloat16().float(), "Net computes in bfloat16, and float32 is needed"),
    "float64": (lambda y: y.double(), "Net computes in float64, and float32 is needed"),
    "nan": (lambda y: y.sub(100).sqrt(), "logits of two images of noise are not finite"),
    "detached": (lambda y: y.detach(), "no gradient of the logits reaches the images"),
    "one image": (
        lambda y: y[[0, 1]],
        r"cannot read 3 × 8 × 8 images, a single one \(index .*test_trial.py, line \d+: lambda y: ",
    ),
}


@pytest.mark.parametrize("case", ANSWERS)
def test_answers_that_are_no_logits_are_refused(case: str) -> None:
    how, message = ANSWERS[case]
    with pytest.raises(ValueError, match=message) as error:
        teacher(Net(how))
    assert "\n" not in str(error.value)


def test_logarithms_of_probabilities_are_logits() -> None:
    assert teacher(Net(lambda y: y.log_softmax(1))).classifier_name == "head"


def test_autocast_in_the_forward_is_named() -> None:
    class Network(Net):
        @torch.autocast("cpu", dtype=torch.bfloat16)
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images).float()

    with pytest.raises(ValueError, match="Network turns on autocast in its forward"):
        teacher(Network())
    with torch.autocast("cpu", dtype=torch.bfloat16):  # the caller's does not reach the network
        teacher(Net())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_number_types_are_refused(dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    with pytest.raises(ValueError, match=rf"0\.weight is {name}, .* module\.float\(\)"):
        teacher(nn.Sequential(Net().to(dtype).body))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("body.0.weight", torch.nan, r"body.0.weight holds NaN \(1 of 216 numbers are not finite"),
        ("head.bias", torch.inf, "head.bias holds infinity"),
        ("body.1.running_mean", -torch.inf, "body.1.running_mean holds infinity"),
        ("body.1.running_var", torch.nan, "body.1.running_var holds NaN"),
        ("body.1.running_var", -1.0, "body.1.running_var holds a negative number"),
        ("calls", torch.nan, "calls holds NaN"),
    ],
)
def test_a_tensor_that_is_not_sound_is_named(name: str, value: float, message: str) -> None:
    network = Net()
    network.state_dict()[name].view(-1)[0] = value
    with pytest.raises(ValueError, match=message):
        teacher(network)


def test_a_mask_of_infinities_is_sound() -> None:
    network = Net(lambda y: y + torch.zeros(4).masked_fill(torch.zeros(4) == 1, -torch.inf))
    network.register_buffer("mask", torch.full((2, 2), -torch.inf), persistent=False)
    teacher(network)


def lazy() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(4))


def on_meta() -> nn.Module:
    with torch.device("meta"):
        return Net()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: print, "module: must be a torch.nn.Module; got an object of type builtin_func"),
        (nn.Flatten, "has no parameters"),
        (lazy, "1.weight has no shape yet"),
        (on_meta, "is on the device meta, without values"),
        (lambda: torch.jit.script(nn.Sequential(nn.Linear(3, 4))), "the network is a TorchScript"),
        (lambda: nn.Sequential(torch.jit.trace(nn.ReLU(), torch.ones(1))), "0 is a TorchScript"),
        (
            lambda: nn.Sequential(nn.DataParallel(Net())),
            "0 is wrapped by DataParallel; use the mod",
        ),
    ],
)
def test_what_is_no_plain_network(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        teacher(make())


@pytest.mark.parametrize(
    "wrap",
    [
        nn.DataParallel,
        AveragedModel,
        torch.compile,
        lambda net: torch.compile(nn.DataParallel(net)),
    ],
)
def test_wrappers_are_removed(wrap: Callable[[nn.Module], nn.Module]) -> None:
    found = teacher(wrap(Net()))
    assert type(found.module) is Net and "head.weight" in found.module.state_dict()


def test_a_network_that_was_compiled_in_place_runs_as_it_was_written() -> None:
    def backend(*_: object) -> Any:
        raise AssertionError("it is not compiled")

    network = nn.Sequential(Net())
    for module in network.modules():
        module.compile(backend=backend)
    found = teacher(network)
    assert found(torch.zeros(2, *SHAPE)).shape == (2, 4)


@pytest.mark.parametrize("how", [lambda y: y + torch.rand(1), lambda y: y.squeeze()])
def test_a_trial_leaves_nothing_behind(how: Callable[[Tensor], Any]) -> None:
    network = Net(how)
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    stream = torch.random.get_rng_state()
    with suppress(ValueError):
        teacher(network)
    after = network.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert torch.equal(torch.random.get_rng_state(), stream)
    assert all(parameter.grad is None for parameter in network.parameters())
    assert not any(layer._forward_hooks for layer in network.modules())


def test_a_network_is_tried_once_and_not_after_its_transforms() -> None:
    network = Net()
    calls = []
    network.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    found = teacher(network, architecture="users:Net")  # else its class is called and compared
    assert calls == [2, 1]
    normalized = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dynadfq.teacher.teacher.try_network", lambda *_: normalized.append(1))
        folded = fold_batch_norms(found)
    assert not normalized and folded.classifier is folded.module.get_submodule("head")


def test_numbers_of_numpy_and_torch() -> None:
    facts = {
        "input_shape": torch.Size(SHAPE),
        "num_classes": np.int64(4),
        "mean": torch.tensor([0.5, 0.25, 0.75]),
        "std": np.array([0.25, 0.5, 0.125], np.float32),
        "class_names": np.array(["ant", "bee", "cat", "dog"]),
        "resize": torch.tensor(9),
        "float_top1": np.float32(62.5),
    }
    found = teacher(Net(), **facts).arguments()
    assert found["input_shape"] == SHAPE and found["num_classes"] == 4
    assert found["mean"] == (0.5, 0.25, 0.75) and found["std"] == (0.25, 0.5, 0.125)
    assert found["class_names"] == ("ant", "bee", "cat", "dog")
    assert (found["resize"], found["float_top1"]) == (9, 62.5)
    assert {type(found[name]) for name in ("num_classes", "resize")} == {int}
    assert {type(value) for value in (*found["mean"], *found["std"], found["float_top1"])} == {
        float
    }


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_classes": 1}, "num_classes: a classifier has at least 2 classes; got 1"),
        ({"num_classes": 2.5}, "num_classes: must be a whole number; got 2.5"),
        ({"mean": 0.5}, "mean: must be a list of numbers; got 0.5"),
        ({"mean": ["a"] * 3}, 'mean: must be a number; got "a"'),
        ({"mean": [123.7, 116.3, 103.5]}, r"mean: must be in 0 … 1, .* 103.5\]; divide by 255"),
        ({"mean": [-0.1] * 3}, "mean: must be in 0 … 1, as pixels are"),
        ({"mean": [np.nan] * 3}, "mean: must be in 0 … 1, as pixels are"),
        ({"std": [0.25, 0, 0.25]}, "std: must be above 0 and at most 1"),
        ({"std": [58.4, 57.1, 57.4]}, "std: must be above 0 and at most 1.*; divide by 255"),
        ({"std": 0}, "std: must be a list of numbers; got 0"),
        ({"input_shape": (8, 8)}, "input_shape: must be channels, height and width, .*8, 8"),
        ({"input_shape": (3, 0, 8)}, "input_shape: must be channels, height and width"),
        ({"class_names": "abcd"}, 'class_names: must be a list of texts; got "abcd"'),
        ({"class_names": ["a"]}, "class_names: 1 names for 4 classes"),
        ({"input_shape": (3, 2, 2)}, "input_shape: the network cannot read 3 × 2 × 2 images"),
    ],
)
def test_facts_that_cannot_be(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        teacher(Net(), **changes)
