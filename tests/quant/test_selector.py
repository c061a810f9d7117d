from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from dynadfq.quant.bits import uniform
from dynadfq.quant.layers import QuantizedLayer
from dynadfq.quant.model import Student
from dynadfq.quant.selector import BitSelector
from dynadfq.quant.selector_config import SelectorShape


@pytest.fixture
def selector() -> BitSelector:
    torch.manual_seed(0)
    return BitSelector(channels=5, sites=4, widths=(3, 4, 5), target=4).eval()


@pytest.fixture
def x() -> Tensor:
    return torch.rand(16, 5, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("target", [3, 4, 5])
def test_the_target_is_most_probable_at_the_start(x: Tensor, target: int) -> None:
    selector = BitSelector(channels=5, sites=4, widths=(3, 4, 5), target=target).eval()
    p = selector.probabilities(x)
    assert p.shape == (16, 4, 3)
    torch.testing.assert_close(p.sum(dim=2), torch.ones(16, 4))
    assert torch.equal(p[:, 0], torch.tensor([0.0, 0.0, 1.0]).expand(16, 3))  # the fixed site
    bits = selector(x).bits
    assert (bits[:, 0] == 5).all() and (bits[:, 1:] == target).all()
    expected = torch.e / (torch.e + 2)
    assert (p[:, 1:, target - 3] - expected).abs().max() < 0.1


def test_answers_are_candidates_and_not_learned_from_when_evaluating(
    x: Tensor, selector: BitSelector
) -> None:
    for parameter in selector.parameters():
        parameter.data.normal_(generator=torch.Generator().manual_seed(1))
    exact = selector(x)
    assert set(exact.bits.unique().tolist()) <= {3.0, 4.0, 5.0} and exact.probabilities is None
    assert not exact.bits.requires_grad
    learning = selector.train()(x)
    assert learning.bits.requires_grad and learning.probabilities is not None
    assert torch.equal(learning.bits.detach().round(), learning.bits.detach())


def test_an_allocation_from_outside_wins(x: Tensor, selector: BitSelector) -> None:
    given = uniform(3, 4)
    assert selector(x, given) is given


def test_dropout_in_training_alone(make_student: Callable[..., Student], images: Tensor) -> None:
    student = make_student(shape=SelectorShape(pool=2, hidden=16, dropout=0.5))
    assert torch.equal(student.run(images)[1], student.run(images)[1])
    student.train()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = [student.run(images)[1] for _ in range(2)]
    assert not torch.equal(*draws)


def test_weights_have_4_bits_and_inputs_and_sums_are_float(selector: BitSelector) -> None:
    layers = [layer for layer in selector.modules() if isinstance(layer, QuantizedLayer)]
    assert [layer.weight_bits for layer in layers] == [4, 4]
    hidden = layers[0]
    assert all(len(row.unique()) <= 16 for row in hidden.quantized_weight)
    values = torch.rand(2, hidden.weight.shape[1])
    expected = values @ hidden.quantized_weight.T + hidden.bias
    torch.testing.assert_close(hidden(values), expected)


def test_macs_are_the_linear_layers(selector: BitSelector) -> None:
    layers = [layer for layer in selector.modules() if isinstance(layer, nn.Linear)]
    assert selector.macs == sum(layer.in_features * layer.out_features for layer in layers)


def test_overhead_is_in_percent_of_the_float_model(make_student: Callable[..., Student]) -> None:
    student = make_student()
    assert student.selector is not None
    expected = 100 * 1024 * student.selector.macs / student.cost.float_total
    assert student.selector_overhead_percent == pytest.approx(expected)
    assert make_student(4).selector_overhead_percent == 0
