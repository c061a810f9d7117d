"""Integer form of scheme ``integer``: the arithmetic of engines, on every structure."""

from __future__ import annotations

import pytest
import torch
from everything import everything, integer_student, pixels
from torch import Tensor, nn
from torch.nn import functional as F

from dynadfq.api import Student, Teacher, quantize, to_integer_form
from dynadfq.export.modules import ActivationCodes
from dynadfq.export.requantize import IntegerLayer, RequantizedCodes
from dynadfq.quant.integer import integer_bias, layer_constants, site_constants
from dynadfq.quant.layers import QuantizedLayer

BITS = [(8, 8), (4, 8), (4, 4)]


def codes_of(student: Student) -> list[Tensor]:
    """The codes at each site of ``student.eval()``."""
    found: dict[int, Tensor] = {}
    handles = [
        site.register_forward_hook(
            lambda site, _, out: found.update({site.site: (out[0] / out[1]).round()})
        )
        for site in student.sites
    ]
    student(pixels())
    for handle in handles:
        handle.remove()
    return [found[index] for index in range(len(found))]


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("training", [False, True])
def test_its_codes_are_those_of_the_student(bits: tuple[int, int], training: bool) -> None:
    """But for roundings of values in the middle between two, and for a layer that is called twice,
    whose biases the student does not round."""
    student = integer_student(*bits)
    form = to_integer_form(student)
    found: dict[int, Tensor] = {}
    for module in form.network.modules():
        if isinstance(module, ActivationCodes):
            module.register_forward_hook(lambda m, _, out: found.update({m.site: out[0]}))
    _, used = form.run(pixels())
    assert used[0].tolist() == student.target_widths
    first_of_twice = student.site_names.index("relu_1.output")
    for index, codes in enumerate(codes_of(student.train(training))):
        difference = (found[index] - codes).abs().detach()
        share = float((difference > 0).double().mean())
        assert share < (2e-3 if index < first_of_twice else 0.1), student.site_names[index]
        assert difference.max() <= 3


def test_a_bias_is_rounded_by_half_a_unit_at_most() -> None:
    shift = torch.tensor([0.5, -1.5, 2.4], dtype=torch.float64)
    unit = torch.tensor([1.0, 1.0, 0.5])
    assert integer_bias(shift, unit).tolist() == [0.0, -2.0, 5.0]


@pytest.mark.parametrize("bits", BITS)
def test_its_sums_are_those_of_the_constants_in_int64(bits: tuple[int, int]) -> None:
    student = integer_student(*bits)
    form = to_integer_form(student)
    network = student.network
    seen: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    for name, module in form.network.named_modules():
        if isinstance(module, IntegerLayer):
            module.register_forward_hook(
                lambda _, inputs, out, name=name: seen.update({name: (inputs[0], *out)})
            )
    form.run(pixels())
    for call in student.cost.trace.layers:
        name = f"{call.name}_{call.node}"
        name = name if name in seen else call.name
        layer = network.get_submodule(call.name)
        assert isinstance(layer, QuantizedLayer) and call.grid is not None
        site = student.sites[student.site_names.index(call.grid)]
        norm = {"twice": "twice_norm" if call.node == "twice" else ""}.get(
            call.name, f"{call.name}_norm"
        )
        batch_norm = getattr(network, norm, None) if norm else None
        scale = site_constants(site).scale
        codes, weight_scale, bias = layer_constants(layer, batch_norm, scale)
        x, sums, unit = seen[name]
        exact = layer.multiply(x.double(), codes.double(), None)
        channels = (-1, 1, 1) if exact.dim() == 4 else (-1,)
        exact = exact.round().long() + bias.view(channels)
        assert torch.equal(sums, exact.float())
        assert torch.equal(unit.flatten(), scale * weight_scale)
    assert len(seen) == len(student.cost.trace.layers) == 9


def test_an_images_result_does_not_depend_on_its_batch() -> None:
    form = to_integer_form(integer_student(4, 4))
    expected = form(pixels())
    for size in (1, 7):
        assert torch.equal(torch.cat([form(part) for part in pixels().split(size)]), expected)


def test_narrower_sites_can_be_set_and_wide_ones_cannot() -> None:
    student = integer_student(4, 4)
    form = to_integer_form(student, widest=8)
    for width in (2, 8):
        given = student.uniform(width)
        logits, used = form.run(pixels(), given)
        assert torch.equal(used, given.bits.expand(64, -1))
        assert (logits - student.run(pixels(), given)[0]).abs().max() < 0.3 * logits.std()
    given.bits[:, 0] = 4
    with pytest.raises(ValueError, match="17 sites of scheme integer always have 8 bits"):
        form.run(pixels(), given)


class Block(nn.Module):
    """A convolution, BatchNorm and ReLU beside a shortcut."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1, eps=0.0)
        self.fc = nn.Linear(4, 2, bias=False)

    def forward(self, images: Tensor) -> Tensor:
        y: Tensor = self.fc((F.relu(self.norm(self.conv(images))) + images).flatten(1))
        return y


def test_a_block_by_hand() -> None:
    block = Block().eval()
    with torch.no_grad():
        block.conv.weight.fill_(0.5)
        block.conv.bias.fill_(0.1)  # type: ignore[union-attr]
        block.norm.weight.fill_(-2.0)
        block.norm.bias.fill_(0.3)
        block.fc.weight.fill_(1.0)
    teacher = Teacher(block, (1, 2, 2), 2, [0.0], [1.0])
    student = quantize(teacher, 8, 8, scheme="integer")
    assert student.site_names == ("images", "relu.output", "add.output")
    for site, high in zip(student.sites[1:], (0.51, 1.275), strict=True):
        site.set_range(torch.tensor(0.0), torch.tensor(high))
    form = to_integer_form(student)
    # scales 1/255 and 0.5/127 · 2; bias (0.3 - 2 · 0.1) = 0.1
    unit = 1 / 255 / 127
    bias = round(0.1 / unit)
    pixels_of_image = torch.tensor([0, 10, 100, 255])
    sums = -127 * pixels_of_image + bias
    first = (sums * unit / 0.002).round().clamp(0, 255)
    added = (first * 0.002 + pixels_of_image / 255) / 0.005
    codes = added.round().clamp(0, 255)
    logit = 127 * codes.sum() * (0.005 / 127)
    found = []
    for module in form.network.modules():
        if isinstance(module, ActivationCodes):
            module.register_forward_hook(lambda _, __, out: found.append(out[0].flatten()))
    logits = form((pixels_of_image / 255).view(1, 1, 2, 2))
    assert [part.tolist() for part in found] == [
        pixels_of_image.tolist(),
        first.tolist(),
        codes.tolist(),
    ]
    assert found[1].tolist() == [50.0, 30.0, 0.0, 0.0]
    assert logits.flatten().tolist() == pytest.approx([logit.item()] * 2, rel=1e-6)
    kinds = [type(m) for m in form.network.modules() if isinstance(m, ActivationCodes)]
    assert kinds == [ActivationCodes, RequantizedCodes, ActivationCodes]


def test_every_layer_is_computed_in_integers() -> None:
    forms = {fact.name: fact.form for fact in to_integer_form(integer_student()).facts}
    layers = {
        name
        for name, m in everything().module.named_modules()
        if isinstance(m, (nn.Conv2d, nn.Linear))
    }
    assert {forms.get(name, forms.get(f"{name}_{name}")) for name in layers} == {"integer"}
    assert set(forms.values()) == {"integer", "float64"}
