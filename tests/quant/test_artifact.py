from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dynadfq.api import quantize
from dynadfq.ptq.squant import squant_rounding
from dynadfq.quant.build import load_student
from dynadfq.quant.model import Student
from dynadfq.quant.model_card import provenance
from dynadfq.quant.packing import quantized_layers, unpack
from dynadfq.quant.quantize import choose_qparams, quantize_weight
from dynadfq.teacher.loading import load_teacher
from dynadfq.teacher.teacher import Teacher
from dynadfq.teacher.transforms import fold_batch_norms

Build = Callable[..., Student]
Net = Callable[[], nn.Module]


def assert_equal_runs(ours: Student, theirs: Student, images: Tensor) -> None:
    for a, b in zip(ours.run(images), theirs.run(images), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("bits", [2, 3, 4, 5, 8])
@pytest.mark.parametrize("granularity", ["channel", "tensor"])
def test_every_width_comes_back_bit_for_bit(
    teacher: Teacher, make_net: Net, images: Tensor, tmp_path: Path, bits: int, granularity: str
) -> None:
    student = quantize(teacher, weight_bits=bits, activation_bits=4, weight_granularity=granularity)  # type: ignore[arg-type]
    student.save(tmp_path)
    assert_equal_runs(load_student(tmp_path, make_net()), student, images)


@pytest.mark.parametrize("placement", ["relu_output", "layer_input"])
def test_dynamic_students_come_back_bit_for_bit(
    make_student: Build, make_net: Net, images: Tensor, tmp_path: Path, placement: str
) -> None:
    student = make_student(placement=placement)
    student.provenance = provenance("dynadfq", True, 5120, 80000, "nearest")
    for folder in ("a", "b"):
        student.save(tmp_path / folder)
    loaded = load_student(tmp_path / "a", make_net())
    loaded.save(tmp_path / "c")
    for name in ("model.safetensors", "student.json", "card.md"):
        assert len({(tmp_path / folder / name).read_bytes() for folder in "abc"}) == 1
    assert (loaded.scheme, loaded.provenance) == (student.scheme, student.provenance)
    assert_equal_runs(loaded, student, images)
    assert all(
        layer.frozen_qparams is not None for layer in quantized_layers(loaded.network).values()
    )
    loaded.train()(images).sum().backward()


def test_frozen_weights_and_folded_networks_come_back_bit_for_bit(
    make_student: Build, teacher: Teacher, make_net: Net, images: Tensor, tmp_path: Path
) -> None:
    rounded = make_student(4)
    squant_rounding(rounded, teacher, None, 0)  # type: ignore[arg-type]
    folded = quantize(fold_batch_norms(teacher), activation_bits=4)
    for number, student in enumerate((rounded, folded)):
        student.save(tmp_path / str(number))
        assert_equal_runs(load_student(tmp_path / str(number), make_net()), student, images)


def test_the_files_say_what_format_md_says(
    make_student: Build, images: Tensor, tmp_path: Path
) -> None:
    student = make_student()
    student.save(tmp_path)
    card, tensors = (
        json.loads((tmp_path / "student.json").read_text()),
        load_file(tmp_path / "model.safetensors"),
    )
    assert card["format"] == "dynadfq-codes/2"
    assert card["teacher"]["mean"] == [0.5, 0.4, 0.6] and card["teacher"]["class_names"] == list(
        "012345"
    )
    layers = quantized_layers(student.network)
    assert (
        card["layers"].keys() == layers.keys()
        and {"selector.hidden", "selector.choice"} < layers.keys()
    )
    for name, entry in card["layers"].items():
        packed, scale, zero_point = (
            tensors[f"{name}.weight_{part}"] for part in ("codes", "scale", "zero_point")
        )
        count = torch.Size(entry["shape"]).numel()
        assert packed.dtype == torch.uint8 and packed.numel() == (count * entry["bits"] + 7) // 8
        q = unpack(packed, entry["bits"], count).view(entry["shape"]).float()
        codes, step = quantize_weight(layers[name].weight, entry["bits"])
        assert torch.equal(q - zero_point, codes) and torch.equal(scale, step)
        assert zero_point.dtype == torch.int8
    for index, site in enumerate(student.sites):
        for column, width in enumerate(card["scheme"]["activation_bits"]):
            scale, quant_min = choose_qparams(site.low, site.high, width)
            assert tensors["sites.scale"][index, column] == scale
            assert tensors["sites.zero_point"][index, column] == -quant_min
    assert not [
        name for name in tensors if name.endswith(("num_batches_tracked", ".weight_quant_min"))
    ]


def test_resnet20_is_at_most_a_fifth_of_its_float_file(tmp_path: Path) -> None:
    teacher = load_teacher("pytorchcv/resnet20_cifar10", pretrained=False)
    student = quantize(teacher, weight_bits=4, activation_bits=(3, 4, 5))
    teacher.save(tmp_path / "teacher")
    student.save(tmp_path / "student")
    size = {
        name: (tmp_path / name / "model.safetensors").stat().st_size
        for name in ("teacher", "student")
    }
    assert (
        size["student"] + (tmp_path / "student" / "student.json").stat().st_size
        <= size["teacher"] / 5
    )
    loaded = load_student(tmp_path / "student")
    assert loaded.description["class_names"] == list(map(str, range(10)))


def test_other_formats_and_other_networks_are_refused(
    make_student: Build, make_net: Net, tmp_path: Path
) -> None:
    make_student().save(tmp_path)
    wrong = make_net()
    wrong.fc = nn.Linear(48, 7)  # type: ignore[assignment]
    with pytest.raises(
        ValueError, match=r"student\.json is wrong: layers\.fc does not fit the architecture"
    ):
        load_student(tmp_path, wrong)
    path = tmp_path / "model.safetensors"
    whole = load_file(path)
    save_file({name: value for name, value in whole.items() if name != "conv2.weight_scale"}, path)
    card = json.loads((tmp_path / "student.json").read_text())
    card["sha256"] = sha256(path.read_bytes()).hexdigest()
    card["bytes"] = path.stat().st_size
    (tmp_path / "student.json").write_text(json.dumps(card))
    with pytest.raises(ValueError, match=r"1 tensors differ from .* such as conv2\.weight_scale"):
        load_student(tmp_path, make_net())
    for name in ("dynadfq-codes/1", None):
        card["format"] = name
        (tmp_path / "student.json").write_text(
            json.dumps({k: v for k, v in card.items() if v is not None})
        )
        with pytest.raises(
            ValueError, match=rf"format .*{name or 'of an earlier version'}.*, not dynadfq-codes/2"
        ):
            load_student(tmp_path, make_net())


def test_weights_that_float32_cannot_tell_apart_are_named(
    make_student: Build, tmp_path: Path
) -> None:
    student = make_student(4)
    # Codes of neighbouring float32 numbers lie beyond 2^24, where float32 has no odd integers.
    with torch.no_grad():
        student.layers[0].weight[0] = 0.5
        student.layers[0].weight[0, 0, 0, 0] = torch.nextafter(torch.tensor(0.5), torch.tensor(1.0))
    with pytest.raises(
        ArithmeticError, match=r"conv1: codes 0 … 16 do not fit 4 bits; .* almost equal"
    ):
        student.save(tmp_path)


def test_a_network_that_is_given_keeps_its_mode(
    make_student: Build, make_net: Callable[[], nn.Module], tmp_path: Path
) -> None:
    make_student(4).save(tmp_path)
    net = make_net().train()
    load_student(tmp_path, net)
    assert all(part.training for part in net.modules())
