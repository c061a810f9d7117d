"""A student's files, damaged, altered or not of one student: one sentence that names the file and
the remedy."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dynadfq.quant.artifact import StudentRecord
from dynadfq.quant.build import load_student
from dynadfq.quant.model import Student

Net = Callable[[], nn.Module]
REMEDY = r"; make it again \(stage finetune\), or restore it with `dvc checkout --force`$"


@pytest.fixture
def folder(make_student: Callable[..., Student], tmp_path: Path) -> Path:
    make_student().save(tmp_path)
    return tmp_path


def rewrite(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    facts = json.loads((folder / "student.json").read_text())
    change(facts)
    (folder / "student.json").write_text(json.dumps(facts))


def test_the_checksum_is_that_of_the_file(folder: Path) -> None:
    facts = json.loads((folder / "student.json").read_text())
    assert facts["sha256"] == sha256((folder / "model.safetensors").read_bytes()).hexdigest()


@pytest.mark.parametrize("place", [0.5, 0.999])
def test_an_altered_byte_is_noticed(folder: Path, make_net: Net, place: float) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[int(place * len(data))] ^= 1
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(
        ValueError,
        match=r"model\.safetensors is not the file that student\.json .* differs\)" + REMEDY,
    ):
        load_student(folder, make_net())


@pytest.mark.parametrize("kept", [0, 7, 5000, -1])
def test_a_truncated_file_is_one_sentence(folder: Path, make_net: Net, kept: int) -> None:
    data = (folder / "model.safetensors").read_bytes()[:kept]
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match=r"model\.safetensors is not the file .*" + REMEDY):
        load_student(folder, make_net())
    words = r"model\.safetensors is damaged" if data else r"student\.json is wrong: bytes:"
    rewrite(folder, lambda facts: facts.update(sha256=sha256(data).hexdigest(), bytes=len(data)))
    with pytest.raises(ValueError, match=rf"{words}.*" + REMEDY):
        load_student(folder, make_net())


def test_weights_that_are_not_there(folder: Path, make_net: Net) -> None:
    (folder / "model.safetensors").unlink()
    expected = r"model\.safetensors does not exist" + REMEDY.replace("again", "first")
    with pytest.raises(FileNotFoundError, match=expected):
        load_student(folder, make_net())


@pytest.mark.parametrize("text", [b"", b'{"format": "dynadfq-', b"\xff\xfe\x00", b"[]", b"null"])
def test_broken_json_is_one_sentence(folder: Path, make_net: Net, text: bytes) -> None:
    (folder / "student.json").write_bytes(text)
    with pytest.raises(
        ValueError, match=r"student\.json (is damaged|holds a) .*" + REMEDY
    ) as error:
        load_student(folder, make_net())
    assert not isinstance(error.value, json.JSONDecodeError)


@pytest.mark.parametrize("key", sorted(set(StudentRecord.model_fields) - {"format"}))
def test_a_missing_key_is_named(folder: Path, make_net: Net, key: str) -> None:
    rewrite(folder, lambda facts: facts.pop(key))
    with pytest.raises(ValueError, match=rf"student\.json lacks {key}" + REMEDY):
        load_student(folder, make_net())


def test_missing_keys_of_a_part_are_named_at_once(folder: Path, make_net: Net) -> None:
    rewrite(folder, lambda facts: [facts["scheme"].pop("selector"), facts["teacher"].pop("mean")])
    with pytest.raises(
        ValueError, match=r"student\.json lacks scheme\.selector, teacher\.mean" + REMEDY
    ):
        load_student(folder, make_net())


@pytest.mark.parametrize(
    "change", [{"colour": "red"}, {"selector": {"rooms": 3}}, {"activation_bits": None}]
)
def test_a_scheme_that_is_none(folder: Path, make_net: Net, change: dict[str, Any]) -> None:
    rewrite(folder, lambda facts: facts["scheme"].update(change))
    with pytest.raises(ValueError, match=r"student\.json (is wrong: |lacks )scheme\..*" + REMEDY):
        load_student(folder, make_net())


@pytest.mark.parametrize(
    ("facts", "written"),
    [
        ({"float_top1": np.float32(93)}, 93.0),
        ({"float_top1": torch.tensor(50.0)}, 50.0),
        ({"num_classes": np.int64(6)}, 6),
        ({"mean": np.array([0.5, 0.5, 0.5])}, [0.5, 0.5, 0.5]),
    ],
)
def test_facts_may_be_numbers_of_numpy_or_torch(
    make_student: Callable[..., Student],
    make_net: Net,
    tmp_path: Path,
    facts: dict[str, Any],
    written: object,
) -> None:
    student = make_student()
    student.description = student.description | facts
    student.save(tmp_path)
    [key] = facts
    assert load_student(tmp_path, make_net()).description[key] == written


def test_a_save_that_fails_leaves_the_former_student(
    folder: Path, make_student: Callable[..., Student], make_net: Net, images: Tensor
) -> None:
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    wrong, spoilt = make_student(4), make_student(4)
    wrong.description = wrong.description | {"source": object()}
    wrong.description = wrong.description | {"float_top1": 1000.0}
    spoilt.sites[0].high.data.fill_(float("nan"))
    for student, error in ((wrong, ValueError), (spoilt, ArithmeticError)):
        with pytest.raises(error):
            student.save(folder)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    load_student(folder, make_net())(images)


def edit(folder: Path, **tensors: Tensor) -> None:
    """Replace tensors, and make the checksum fit."""
    path = folder / "model.safetensors"
    save_file({**load_file(path), **tensors}, path)
    data = path.read_bytes()
    rewrite(folder, lambda facts: facts.update(sha256=sha256(data).hexdigest(), bytes=len(data)))


def test_values_that_no_student_has_are_refused(folder: Path, make_net: Net) -> None:
    tensors = load_file(folder / "model.safetensors")
    low, scale, variance = (
        tensors[name] for name in ("sites.low", "sites.scale", "bn1.running_var")
    )
    for name, value, words in (
        ("sites.low", tensors["sites.high"] + 1, r"sites\.low is above sites\.high"),
        ("sites.low", torch.full_like(low, float("nan")), r"NaN or infinity in sites\.low"),
        ("sites.scale", 0 * scale, r"sites\.scale has a scale that is not above 0"),
        ("bn1.running_var", -variance, r"bn1\.running_var has a negative variance"),
        ("bn1.running_var", variance.double(), r"1 tensors differ .* bn1\.running_var"),
        ("fc.bias", tensors["fc.bias"].int(), r"1 tensors differ .* fc\.bias"),
        ("fc.weight_scale", tensors["fc.weight_scale"].flatten(), r"1 tensors differ"),
    ):
        edit(folder, **{name: value})
        with pytest.raises(ValueError, match=r"model\.safetensors .*" + words + ".*" + REMEDY):
            load_student(folder, make_net())
        edit(folder, **{name: tensors[name]})
    load_student(folder, make_net())


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda facts: facts.update(layers={}), "layers: "),
        (lambda facts: facts.update(sites=[]), "sites: "),
        (lambda facts: facts["layers"]["conv2"].update(bits=3), r"layers\.conv2 does not fit"),
        (lambda facts: facts["sites"][1].update(macs=7), "sites does not fit"),
        (lambda facts: facts["scheme"].update(weight_bits=3), r"layers\.conv1 does not fit"),
        (lambda facts: facts["scheme"].update(placement="layer_input"), r"layers\.|sites "),
        (lambda facts: facts["teacher"].update(std=[0.0] * 3), r"teacher\.std\[0\]: "),
        (lambda facts: facts["teacher"]["class_names"].pop(), r"teacher\.class_names: 5 names"),
        (lambda facts: facts["cost"].update(target=1.0), r"cost\.target is 1, and the network's"),
        (lambda facts: facts.update(multiplier="x"), "multiplier: "),
        (lambda facts: facts.update(input_shape=[3, 9, 9]), "input_shape: "),
        (lambda facts: facts.update(input_shape=[1]), r"input_shape"),
        (lambda facts: facts["provenance"].update(steps=-1, method="x"), "provenance"),
        (lambda facts: facts["scheme"]["selector"].update(hidden=10**18), "(hidden|layers|size)"),
    ],
)
def test_what_the_network_is_not_is_refused(
    folder: Path, make_net: Net, change: Callable[[dict[str, Any]], object], words: str
) -> None:
    rewrite(folder, change)
    with pytest.raises(ValueError, match=r"student\.json is wrong: .*" + words + ".*" + REMEDY):
        load_student(folder, make_net())
