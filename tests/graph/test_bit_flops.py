from __future__ import annotations

from functools import lru_cache

import pytest
import torch
import torchvision
from pytorchcv.model_provider import get_model
from torch import nn

from dynadfq.graph.bit_flops import CostModel, bit_flops
from dynadfq.graph.config import Placement
from dynadfq.graph.description import NetworkTrace
from dynadfq.graph.network import describe
from dynadfq.graph.normalize import normalize


@lru_cache
def trace_of(name: str) -> NetworkTrace:
    family, architecture = name.split("/")
    shape = (3, 32, 32) if "cifar" in name else (3, 224, 224)
    torchvisions = family == "torchvision"
    module = (
        torchvision.models.get_model(architecture, weights=None)
        if torchvisions
        else get_model(architecture)
    )
    return describe(normalize(module, torch.zeros(1, *shape)), shape)


def cost_of(name: str, weight_bits: int = 4, placement: Placement = "relu_output") -> CostModel:
    trace = trace_of(name)
    return CostModel(trace, tuple(site.name for site in trace.sites(placement)), weight_bits)


@pytest.mark.parametrize(
    ("name", "sites", "layers", "macs", "elementwise", "giga", "percent"),
    [
        (
            "pytorchcv/resnet20_cifar10",
            19,
            22,
            40_813_184,
            393_216,
            "42.195",
            ("3.514", "2.619", "1.916"),
        ),
        (
            "pytorchcv/resnet20_cifar100",
            19,
            22,
            40_818_944,
            393_216,
            "42.201",
            ("3.516", "2.621", "1.917"),
        ),
        (
            "torchvision/resnet18",
            17,
            21,
            1_814_073_344,
            4_816_896,
            "1862.544",
            ("3.559", "2.536", "1.695"),
        ),
        (
            "pytorchcv/resnet18",
            17,
            21,
            1_814_073_344,
            4_816_896,
            "1862.544",
            ("3.559", "2.536", "1.695"),
        ),
        (
            "pytorchcv/mobilenetv2_w1",
            36,
            54,
            313_619_328,
            13_649_440,
            "335.123",
            ("13.034", "11.080", "9.217"),
        ),
        (
            "torchvision/mobilenet_v2",
            35,
            53,
            300_774_272,
            12_846_624,
            "321.148",
            ("13.245", "11.242", "9.326"),
        ),
    ],
)
def test_anchors(
    name: str,
    sites: int,
    layers: int,
    macs: int,
    elementwise: int,
    giga: str,
    percent: tuple[str, str, str],
) -> None:
    trace = trace_of(name)
    assert (len(trace.activations), len(trace.layers)) == (sites, layers)
    assert (trace.layer_macs, trace.elementwise_operations) == (macs, elementwise)
    assert f"{cost_of(name).float_total / 1e9:.3f}" == giga
    uniform = [cost_of(name, bits).percent(torch.full((sites,), bits)).item() for bits in (5, 4, 3)]
    assert tuple(f"{value:.3f}" for value in uniform) == percent


RESNET20 = "pytorchcv/resnet20_cifar10"


@pytest.mark.parametrize("placement", ["relu_output", "layer_input"])
def test_thirty_two_bits_everywhere_are_the_float_model(placement: Placement) -> None:
    cost = cost_of("torchvision/mobilenet_v2", 32, placement)
    assert cost.percent(torch.full((len(cost.sites),), 32)).item() == pytest.approx(100.0, abs=1e-9)


def test_cost_is_affine_and_per_image() -> None:
    cost = cost_of(RESNET20)
    bits = torch.randint(2, 9, (7, len(cost.sites))).float()
    totals = cost.total(bits)
    assert totals.shape == (7,) and totals.dtype == torch.float64
    assert torch.allclose(totals, torch.stack([cost.total(row) for row in bits]), rtol=1e-14)
    assert torch.allclose(
        cost.total(bits[:1] + 1) - cost.total(bits[:1]), cost.per_site.sum(), rtol=1e-9
    )
    assert cost.total(torch.zeros(len(cost.sites))).item() == cost.constant


def test_gradient_is_the_cost_of_one_more_bit() -> None:
    cost = cost_of(RESNET20)
    bits = torch.full((3, len(cost.sites)), 4.0, requires_grad=True)
    cost.total(bits).sum().backward()
    assert bits.grad is not None
    assert torch.equal(bits.grad, cost.per_site.float().expand(3, -1))


def test_what_only_a_pool_reads_costs_nothing() -> None:
    assert cost_of(RESNET20).per_site[-1] == 0
    assert (cost_of(RESNET20).per_site[:-1] > 0).all()
    assert (cost_of(RESNET20, placement="layer_input").per_site > 0).all()


def test_first_site_at_the_largest_width() -> None:
    """ResNet-18 at 4 bits with site 0 at 5: 0.025 points more (methods' anchor)."""
    cost = cost_of("torchvision/resnet18")
    bits = torch.full((17,), 4.0)
    bits[0] = 5
    assert f"{cost.percent(bits).item():.3f}" == "2.561"


def test_share_of_macs_that_reads_floats() -> None:
    cost = cost_of(RESNET20)
    first, classifier = cost.trace.layers[0].macs, cost.trace.layers[-1].macs
    assert cost.float_input_macs_percent == pytest.approx(
        100 * (first + classifier) / cost.trace.layer_macs
    )
    inputs = cost_of(RESNET20, placement="layer_input")
    assert inputs.float_input_macs_percent == pytest.approx(100 * first / cost.trace.layer_macs)
    none = CostModel(cost.trace, (), 4)
    assert none.float_input_macs_percent == 100.0
    assert none.total(torch.zeros(2, 0)).tolist() == [none.constant] * 2


def test_breakdown_adds_up() -> None:
    cost = cost_of(RESNET20)
    result = cost.at(torch.arange(2, 21).float())
    elementwise = 1024 * cost.trace.elementwise_operations
    assert result.layers["bit_flops"].sum() + elementwise == pytest.approx(result.total, rel=1e-12)
    assert len(result.layers) == 22
    assert result.layers["input_bits"].iloc[[0, 1, -1]].tolist() == [32, 2, 32]
    assert result.percent == pytest.approx(100 * result.total / cost.float_total)


def test_bit_flops_of_a_float_module() -> None:
    module = get_model("resnet20_cifar10")
    result = bit_flops(module, (3, 32, 32), 4, 4, "relu_output")
    assert f"{result.percent:.3f}" == "2.619"
    assert bit_flops(module, (3, 32, 32), 4, [4] * 19, "relu_output").total == result.total
    graph = normalize(module, torch.zeros(1, 3, 32, 32))
    assert bit_flops(graph, (3, 32, 32), 4, 4, "layer_input").percent < result.percent


def test_float_calls_cost_1024_per_mac() -> None:
    class Product(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.matrix, self.fc, self.relu = (
                nn.Parameter(torch.ones(12, 5)),
                nn.Linear(5, 2),
                nn.ReLU(),
            )

        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return self.fc(self.relu(images.flatten(1) @ self.matrix))

    result = bit_flops(Product(), (3, 2, 2), 2, 3, "relu_output")
    assert result.total == 1024 * (60 + 5) + 2 * 3 * 10


def test_wrong_sites_and_bits_are_refused() -> None:
    trace = trace_of(RESNET20)
    with pytest.raises(
        ValueError,
        match=r"sites: 'features.init_block.active' .* nearest: features.init_block.activ",
    ):
        CostModel(trace, ("features.init_block.active",), 4)
    with pytest.raises(ValueError, match=r"shape \(2, 18\) must end in the number of sites, 19"):
        cost_of(RESNET20).total(torch.zeros(2, 18))
