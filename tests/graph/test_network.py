from __future__ import annotations

import pytest
import torch
import torchvision
from pytorchcv.model_provider import get_model
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from dynadfq.graph.description import Layer, NetworkTrace
from dynadfq.graph.network import describe
from dynadfq.graph.normalize import normalize


def trace_of(module: nn.Module, size: int = 32) -> NetworkTrace:
    return describe(normalize(module, torch.randn(1, 3, size, size)), (3, size, size))


def layers_of(module: nn.Module, size: int = 32) -> dict[str, Layer]:
    return {layer.name: layer for layer in trace_of(module, size).layers}


@pytest.mark.parametrize(
    "name", ["resnet18", "mobilenet_v2", "shufflenet_v2_x0_5", "efficientnet_b0", "regnet_y_400mf"]
)
def test_macs_are_half_of_what_torch_counts_as_flops(name: str) -> None:
    module = torchvision.models.get_model(name, weights=None).eval()
    trace = trace_of(module)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        module(torch.zeros(1, 3, 32, 32))
    assert trace.layer_macs * 2 == counter.get_total_flops()
    assert trace.float_calls == ()


def test_each_layers_macs_agree_with_fvcore() -> None:
    fvcore = pytest.importorskip("fvcore.nn")
    model = normalize(torchvision.models.resnet18(), torch.randn(1, 3, 64, 64))
    expected = fvcore.FlopCountAnalysis(model, torch.zeros(1, 3, 64, 64)).unsupported_ops_warnings(
        False
    )
    per_module = expected.uncalled_modules_warnings(False).by_module()
    for layer in describe(model, (3, 64, 64)).layers:
        assert layer.macs == per_module[layer.name]


def test_resnet18_site_by_site() -> None:
    network = torchvision.models.resnet18()
    trace = trace_of(network, 64)
    layers = {layer.name: layer for layer in trace.layers}
    assert len(layers) == 21
    assert layers["conv1"].fed_by == {} and layers["conv1"].input_site is None
    assert layers["conv1"].macs == 64 * 3 * 7 * 7 * 32 * 32
    assert layers["layer1.0.conv1"].fed_by == {"relu": 1.0}  # through the max-pool
    assert layers["layer2.0.downsample.0"].fed_by == {"layer1.1.relu_1": 1.0}
    assert (
        layers["layer2.0.conv1"].input_site
        == layers["layer2.0.downsample.0"].input_site
        == "layer2.0.conv1.input"
    )
    assert layers["fc"].fed_by == {} and layers["fc"].kind == "linear"  # behind the average pool
    first = trace.activations[0]
    assert (first.name, first.channels, first.elements) == ("relu", 64, 64 * 32 * 32)
    assert trace.average_pool_elements == 512 * 2 * 2
    assert trace.batch_norm_elements == sum(
        layer.macs // network.get_submodule(layer.name).weight[0].numel()
        for layer in trace.layers[:-1]
    )


def test_layer_inputs_are_the_tensors_before_layers_but_the_first() -> None:
    trace = trace_of(torchvision.models.resnet18())
    names = [site.name for site in trace.sites("layer_input")]
    assert names == list(dict.fromkeys(layer.input_site for layer in trace.layers[1:]))
    assert len(names) == 21 - 1 - 3  # three shortcuts share the input of their block
    assert names[0] == "layer1.0.conv1.input" and names[-1] == "fc.input"


def test_googlenet_concatenates_four_activations() -> None:
    layers = layers_of(torchvision.models.googlenet(init_weights=False), 64)
    branches = {"branch1": 64, "branch2.1": 128, "branch3.1": 32, "branch4.1": 32}
    expected = {
        f"inception3a.{branch}.relu": channels / 256 for branch, channels in branches.items()
    }
    assert layers["inception3b.branch1.conv"].fed_by == expected
    assert layers["inception3b.branch4.1.conv"].fed_by == expected  # through a padded max-pool
    assert (
        layers["inception3b.branch4.1.conv"].input_site
        != layers["inception3b.branch1.conv"].input_site
    )


def test_shufflenet_interleaves_and_splits_channels() -> None:
    layers = layers_of(torchvision.models.shufflenet_v2_x0_5())
    half = {"stage2.0.branch1.4": 0.5, "stage2.0.branch2.7": 0.5}
    assert layers["stage2.1.branch2.0"].fed_by == half
    assert layers["stage2.2.branch2.0"].fed_by == {"stage2.1.branch2.7": 0.5} | {
        name: 0.25 for name in half
    }


def test_efficientnet_reads_floats_behind_gates_and_bottlenecks() -> None:
    layers = layers_of(torchvision.models.efficientnet_b0())
    assert layers["features.1.0.block.0.0"].fed_by == {"features.0.2": 1.0}
    assert layers["features.1.0.block.1.fc1"].fed_by == {}  # pooled
    assert layers["features.1.0.block.1.fc2"].fed_by == {"features.1.0.block.1.activation": 1.0}
    assert layers["features.1.0.block.2.0"].fed_by == {}  # activation times gate
    assert layers["features.2.0.block.0.0"].fed_by == {}  # linear bottleneck


def test_a_convolution_can_be_the_classifier() -> None:
    trace = trace_of(get_model("mobilenetv2_w1"), 224)
    assert (len(trace.activations), len(trace.layers)) == (36, 54)
    classifier = trace.layers[-1]
    assert (classifier.name, classifier.kind, classifier.macs) == ("output", "conv", 1280 * 1000)
    assert classifier.fed_by == {}


class Sliced(nn.Module):
    """Three quarters of the second layer's input come from activations, one quarter is float;
    padding is neither."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 4, 3)
        self.relu, self.tanh = nn.ReLU(), nn.Tanh()

    def forward(self, images: Tensor) -> Tensor:
        a, b = self.first(images).chunk(2, dim=1)
        x = torch.cat((self.relu(a), self.tanh(b)[:, 1:3], b[:, :2]), 1)
        x = F.pad(F.max_pool2d(x, 2, padding=1), (1, 1, 1, 1))
        return self.second(x).flatten(1)


def test_slices_padding_and_partly_float_inputs() -> None:
    layers = layers_of(Sliced(), 8)
    assert layers["second"].fed_by == {"relu": 0.5, "tanh": 0.25}
    assert layers["second"].fraction_from("second.input") == 1.0
    assert layers["second"].fraction_from("relu") == 0.5
    assert layers["second"].fraction_from("other") == 0.0


class Enlarged(nn.Module):
    """Values that are repeated are still those of the activation; a bilinear map makes new ones."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.relu, self.near = (
            nn.Conv2d(3, 4, 1),
            nn.ReLU(),
            nn.Upsample(scale_factor=2),
        )
        self.repeated, self.smooth, self.spread = (
            nn.Conv2d(4, 2, 1),
            nn.Conv2d(4, 2, 1),
            nn.Conv2d(4, 2, 1),
        )

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.first(images))
        near = self.repeated(F.interpolate(self.near(x), scale_factor=2, mode="nearest"))
        smooth = self.smooth(F.interpolate(x, scale_factor=4, mode="bilinear"))
        spread = self.spread(x[:, :, :1, :1].expand_as(x).reshape_as(x))
        return near.mean((2, 3)) + smooth.mean((2, 3)) + spread.mean((2, 3))


def test_repeated_pixels_stay_on_their_grid() -> None:
    layers = layers_of(Enlarged(), 8)
    assert layers["repeated"].fed_by == layers["spread"].fed_by == {"relu": 1.0}
    assert layers["smooth"].fed_by == {}


class ShortcutA(nn.Module):
    """A ResNet shortcut without weights: every second pixel, zero channels appended."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu, self.last = nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Conv2d(8, 2, 1)

    def forward(self, images: Tensor) -> Tensor:
        x = self.relu(self.conv(images))
        return self.last(F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))).mean((2, 3))


def test_zero_channels_are_on_every_grid() -> None:
    assert layers_of(ShortcutA(), 8)["last"].fed_by == {"relu": 1.0}


def test_the_network_input_is_no_layer_input_site() -> None:
    module = nn.Sequential(
        nn.Flatten(), nn.Dropout(), nn.Linear(3 * 16, 8), nn.ReLU(), nn.Linear(8, 2)
    )
    trace = trace_of(module, 4)
    assert [site.name for site in trace.layer_inputs] == ["4.input"]
    assert [layer.fed_by for layer in trace.layers] == [{}, {"3": 1.0}]


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.relu = nn.Conv2d(3, 3, 1), nn.ReLU(inplace=True)

    def forward(self, images: Tensor) -> Tensor:
        return self.conv(self.relu(self.conv(images))).mean((2, 3))


def test_a_layer_called_twice_is_two_rows() -> None:
    class Reading(Tied):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(self.relu(images - 1))

    trace = trace_of(Reading(), 4)
    names = [site.name for site in trace.layer_inputs]
    assert (
        names == [layer.input_site for layer in trace.layers] == ["conv.input", "conv.conv_1.input"]
    )
    first, second = trace_of(Tied(), 4).layers
    assert first.name == second.name == "conv"
    assert first.node != second.node
    assert (first.fed_by, second.fed_by) == ({}, {"relu": 1.0})
    assert first.macs == second.macs == 9 * 16


class Routed(nn.Conv2d):
    def forward(self, input: Tensor) -> Tensor:
        return F.conv2d(input, self.weight * input.mean(), self.bias)


class Functional(nn.Module):
    """Multiplies in four ways that are no quantizable layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Routed(3, 4, 1)
        self.kernel, self.matrix = (
            nn.Parameter(torch.ones(6, 4, 1, 1)),
            nn.Parameter(torch.ones(6, 5)),
        )
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)

    def forward(self, images: Tensor) -> Tensor:
        x = F.conv2d(self.stem(images), self.kernel).flatten(2).transpose(1, 2)
        x, _ = self.attention(x, x, x, need_weights=False)
        return F.linear(x.mean(1) @ self.matrix, self.matrix)


def test_calls_that_cannot_be_quantized_are_named_with_their_macs() -> None:
    fused = torch.backends.mha.get_fastpath_enabled()
    trace = trace_of(Functional(), 4)
    assert trace.layers == ()
    found = {call.name: (call.operation, call.macs) for call in trace.float_calls}
    attention = (
        16 * 6 * 18 + 2 * 16 * 16 * 6 + 16 * 6 * 6
    )  # projections in, scores and values, projection out
    assert found == {
        "stem.conv2d": ("conv2d", 3 * 4 * 16),
        "conv2d_1": ("conv2d", 4 * 6 * 16),
        "attention": ("MultiheadAttention", attention),
        "matmul": ("matmul", 30),
        "linear": ("linear", 30),
    }
    assert torch.backends.mha.get_fastpath_enabled() == fused


def test_describing_leaves_nothing_behind() -> None:
    model = normalize(torchvision.models.resnet18(), torch.randn(1, 3, 32, 32))
    model.layer1.train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    modes = [module.training for module in model.modules()]
    code = model.code
    assert describe(model, (3, 32, 32)) == describe(model, (3, 32, 32))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert [module.training for module in model.modules()] == modes
    assert model.code == code
    with pytest.raises(RuntimeError):
        describe(model, (4, 32, 32))
    assert [module.training for module in model.modules()] == modes


@pytest.mark.parametrize("name", ["resnet18", "googlenet"])
def test_a_graph_that_is_not_normalized_is_refused(name: str) -> None:
    settings = {"init_weights": False} if name == "googlenet" else {}
    module = torchvision.models.get_model(name, weights=None, **settings).eval()
    with pytest.raises(ValueError, match="normalize"):
        describe(torch.fx.symbolic_trace(module), (3, 64, 64))


def test_in_place_operations_relabel_what_they_write_into() -> None:
    class Added(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu, self.conv = nn.ReLU(), nn.Conv2d(3, 3, 1)

        def forward(self, images: Tensor) -> Tensor:
            x = self.relu(images)
            x.add_(0.1)
            return self.conv(x).mean((2, 3))

    assert layers_of(Added(), 4)["conv"].fed_by == {}


def test_a_module_may_serve_as_gate_and_as_activation() -> None:
    class Both(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.relu6, self.conv = nn.ReLU6(inplace=True), nn.Conv2d(3, 3, 1)

        def forward(self, images: Tensor) -> Tensor:
            x = images * self.relu6(images + 3) / 6
            return self.conv(self.relu6(x)).mean((2, 3))

    trace = trace_of(Both(), 4)
    assert [site.name for site in trace.activations] == ["relu6"]
    assert trace.layers[0].fed_by == {"relu6": 1.0}
