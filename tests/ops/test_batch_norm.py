from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dynadfq.ops.batch_norm import BatchNorm, frozen_batch_norms


def layer_of(dtype: torch.dtype, affine: bool = True) -> nn.BatchNorm2d:
    rng = torch.Generator().manual_seed(0)
    layer = nn.BatchNorm2d(5, affine=affine)
    layer.running_mean, layer.running_var = (
        torch.randn(5, generator=rng),
        torch.rand(5, generator=rng) + 0.1,
    )
    if affine:
        layer.load_state_dict(
            {"weight": torch.randn(5, generator=rng), "bias": torch.randn(5, generator=rng)},
            strict=False,
        )
    return layer.to(dtype).eval().requires_grad_(False)


def images(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(4, 5, 3, 3, generator=torch.Generator().manual_seed(1), dtype=dtype)


def ignore(layer: BatchNorm, x: Tensor) -> None:
    """Keep nothing."""


@pytest.mark.parametrize("affine", [True, False])
def test_values_and_gradients_are_torchs(affine: bool) -> None:
    layer, x, seen = layer_of(torch.float64, affine), images().requires_grad_(), []
    expected = layer(x)
    with frozen_batch_norms([layer], lambda _, recorded: seen.append(recorded)):
        found = layer(x)
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    upstream = images().flip(0)
    (reference,) = torch.autograd.grad(
        (expected * upstream).sum() + (x.square() * upstream).sum(), x
    )
    (gradient,) = torch.autograd.grad(
        (found * upstream).sum() + (seen[0].square() * upstream).sum(), x
    )
    torch.testing.assert_close(gradient, reference, atol=1e-12, rtol=0)


@pytest.mark.parametrize("used", ["output", "input"])
def test_either_of_output_and_recorded_input_may_be_left_unused(used: str) -> None:
    layer, x, seen = layer_of(torch.float64), images().requires_grad_(), []
    with frozen_batch_norms([layer], lambda _, recorded: seen.append(recorded)):
        found = layer(x)
    (gradient,) = torch.autograd.grad((found if used == "output" else seen[0]).sum(), x)
    (reference,) = torch.autograd.grad((layer(x) if used == "output" else x).sum(), x)
    torch.testing.assert_close(gradient, reference, atol=1e-12, rtol=0)


def test_nothing_is_left_behind_after_an_error() -> None:
    layer, other = layer_of(torch.float32), layer_of(torch.float32).train()
    with pytest.raises(RuntimeError, match="stop"), frozen_batch_norms([layer, other], ignore):
        assert "forward" in layer.__dict__
        raise RuntimeError("stop")
    assert "forward" not in layer.__dict__ and not other._forward_pre_hooks


class NormAndActivation(nn.BatchNorm2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).relu()


def test_subclasses_and_layers_that_train_compute_as_they_always_do() -> None:
    x, seen = images(torch.float32), []
    layers = [NormAndActivation(5).eval(), layer_of(torch.float32).train()]
    with frozen_batch_norms(layers, lambda layer, recorded: seen.append((layer, recorded))):
        found = [layer(x) for layer in layers]
    assert [layer for layer, _ in seen] == layers and all(
        torch.equal(recorded, x) for _, recorded in seen
    )
    assert found[0].min() == 0 and found[1].mean().abs() > 0
    assert layers[1].num_batches_tracked == 1


def test_bfloat16_stays_bfloat16() -> None:
    layer, x = layer_of(torch.float32), images(torch.float32).bfloat16().requires_grad_()
    with frozen_batch_norms([layer], ignore):
        y = layer(x)
    (gradient,) = torch.autograd.grad(y.float().sum(), x)
    assert y.dtype == gradient.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), layer(x.detach().float()), atol=0.05, rtol=0.01)


def test_a_layer_whose_forward_was_replaced_keeps_it() -> None:
    x, layer = images(torch.float32), layer_of(torch.float32)
    own = layer.forward
    layer.forward = lambda x: 2 * own(x)
    expected = layer(x)
    with frozen_batch_norms([layer], ignore):
        assert torch.equal(layer(x), expected)
    assert torch.equal(layer(x), expected)
