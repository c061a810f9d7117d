"""Exports of students whose layers have widths of their own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
import torch
from torch import Tensor

from dynadfq.export.integer_form import to_integer_form
from dynadfq.export.onnx_export import export_onnx
from dynadfq.export.qdq import export_qdq
from dynadfq.quant.model import Student
from dynadfq.quant.width_config import MixedWidths

WEIGHTS = {"conv1": 8, "conv2": 3, "conv3": 5, "conv4": 4, "fc": 6}


def codes(path: Path) -> dict[str, int]:
    """The element type of each weight's codes, by layer."""
    tensors = onnx.load(path).graph.initializer
    return {
        name: one.data_type
        for one in tensors
        for name in WEIGHTS
        if one.name.split(".")[0] == name and "codes" in one.name
    }


def test_a_qdq_file_has_int4_up_to_four_bits_and_int8_above(
    make_student: Callable[..., Student], images: Tensor, tmp_path: Path
) -> None:
    names = make_student(4, scheme="integer")
    narrow = [n for n, s in zip(names.site_names, names.sites, strict=True) if not s.wide]
    activations = dict(zip(narrow, (3, 6, 5), strict=False))
    mixed = MixedWidths(weights=WEIGHTS, activations=activations)
    student = make_student(4, scheme="integer", mixed=mixed)
    path = tmp_path / "model.onnx"
    export = export_qdq(student, path, images[:32], timed=False)
    assert export.agreement.same_class == 32
    four, eight = onnx.TensorProto.INT4, onnx.TensorProto.INT8
    assert codes(path) == {name: four if bits <= 4 else eight for name, bits in WEIGHTS.items()}
    logits, bits = to_integer_form(student).run(images[:32])
    own = dict(zip(student.site_names, bits[0].tolist(), strict=True))
    assert {name: own[name] for name in activations} == activations
    assert logits.isfinite().all()


def test_an_onnx_file_of_codes_and_its_facts(
    make_student: Callable[..., Student], images: Tensor, tmp_path: Path
) -> None:
    sites = make_student(4).site_names
    mixed = MixedWidths(weights=WEIGHTS, activations=dict(zip(sites, (5, 3, 8, 2), strict=True)))
    student = make_student(4, mixed=mixed)
    path = tmp_path / "model.onnx"
    export_onnx(student, path, images[:32])
    form = to_integer_form(student)
    ort = pytest.importorskip("onnxruntime")
    session = ort.InferenceSession(path, providers=["CPUExecutionProvider"])
    logits, bits = session.run(None, {"images": images[:32].numpy()})
    expected, own = form.run(images[:32])
    assert torch.equal(torch.from_numpy(logits), expected)
    assert torch.equal(torch.from_numpy(bits).float(), own)
    facts = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert '"mixed": {"activations"' in facts["dynadfq"]
