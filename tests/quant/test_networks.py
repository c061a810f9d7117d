"""Networks as people bring them: every activation is quantized exactly once, and nothing else
changes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import lru_cache

import pytest
import torch
import torchvision
from torch import Tensor, nn

from dynadfq.api.student import quantize
from dynadfq.graph.network import describe
from dynadfq.graph.normalize import normalize
from dynadfq.ptq.calibration import calibrate, extremes
from dynadfq.quant.config import Scheme
from dynadfq.quant.layers import QuantizedLayer
from dynadfq.quant.model import Student
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.teacher.teacher import Teacher
from dynadfq.zoo.architectures import build

SIZE = 64
# sites after activations; at layer inputs
NETWORKS = {
    "resnet18": (17, 17),  # shared ReLU modules
    "googlenet": (57, 39),  # functional ReLUs
    "mobilenet_v2": (35, 52),  # ReLU6, depthwise, linear bottlenecks
    "densenet121": (121, 120),
    "pytorchcv/mobilenetv2_w1": (36, 53),  # a convolution as the classifier
    "repeated": (5, 5),  # layers that are called several times
}


class Repeated(nn.Module):
    """A stem whose convolution runs three times, and a head that reads its tensors twice."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.again = nn.ModuleDict({"conv": nn.Conv2d(8, 8, 3, padding=1)})
        self.relu, self.fc = nn.ReLU(), nn.Linear(8, 10)

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.stem(images))
        for _ in range(3):
            x = self.relu(self.again["conv"](x))
        pooled = x.mean((2, 3))
        logits: Tensor = self.fc(pooled) + self.fc(self.relu(pooled - 0.1)) + self.fc(pooled)
        return logits


@lru_cache
def network(name: str) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "repeated":
            return Repeated().eval()
        if "/" in name:
            return build(name, num_classes=10).eval()
        settings = {"init_weights": False} if name == "googlenet" else {}
        return torchvision.models.get_model(name, weights=None, **settings).eval()


@pytest.mark.parametrize("placement", ["relu_output", "layer_input"])
@pytest.mark.parametrize("name", NETWORKS)
def test_every_site_exactly_once(name: str, placement: str) -> None:
    module, shape = network(name), (3, SIZE, SIZE)
    images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    student = Student(module, shape, Scheme(placement=placement), {})
    trace = describe(normalize(module, images), shape)

    sites = trace.sites(placement)
    assert len(student.sites) == len(sites) == NETWORKS[name][placement == "layer_input"]
    assert student.site_names == tuple(site.name for site in sites) and len(
        set(student.site_names)
    ) == len(sites)
    quantized = {
        name for name, layer in student.network.named_modules() if isinstance(layer, QuantizedLayer)
    }
    assert quantized == {layer.name for layer in trace.layers} | {
        "selector.hidden",
        "selector.choice",
    }
    assert len(student.layers) == len({layer.name for layer in trace.layers})
    assert (student.cost.per_site >= 0).all()
    assert 0 <= student.cost.float_input_macs_percent <= 100

    calls: list[int] = []
    handles = [
        site.register_forward_hook(lambda site, *_: calls.append(site.site))
        for site in student.sites
    ]
    with torch.no_grad():
        with student.unquantized():
            logits = student(images)
        assert torch.equal(logits, module(images))
        assert calls == list(range(len(sites)))
        for handle in handles:
            handle.remove()
        calibrate(student, [images], extremes)
        logits, bits = student.run(images)
    assert torch.isfinite(logits).all() and bits.shape == (2, len(sites))
    assert Counter(bits[:, 0].tolist()) == {5.0: 2}


@pytest.mark.parametrize("name", ["sites", "selector"])
@pytest.mark.parametrize("widths", [(4,), (3, 4, 5)])
def test_a_part_with_the_name_of_a_student_s_own_is_refused(
    make_net: Callable[[], nn.Module], name: str, widths: tuple[int, ...]
) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            setattr(self, name, make_net())

        def forward(self, images: Tensor) -> Tensor:
            logits: Tensor = getattr(self, name)(images)
            return logits

    teacher = Teacher(Named(), (3, 8, 8), 6, (0.5,) * 3, (0.2,) * 3)
    with pytest.raises(InvalidArgument, match=f"^module: it has a part with the name '{name}'"):
        quantize(teacher, activation_bits=widths)
