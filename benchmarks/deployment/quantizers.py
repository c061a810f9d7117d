"""Quantized files of a network: onnxruntime's own quantizer, and this library's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import dynadfq
from benchmarks.deployment.images import Images
from dynadfq.deploy.efforts import EFFORTS, WIDER_BY, widens
from dynadfq.deploy.student import scheme_of
from dynadfq.export.engines import float_onnx
from dynadfq.export.qdq import export_qdq
from dynadfq.ptq.calibration import CALIBRATION_BATCH, calibrate, observer
from dynadfq.ptq.mixed_precision import with_wide_layers
from dynadfq.ptq.preparation import rounding
from dynadfq.quant.build import build_student
from dynadfq.quant.config import QuantizationConfig, Rounding
from dynadfq.quant.range_config import RangeConfig
from dynadfq.runtime.resume import Scratch
from dynadfq.synthesis.dataset import SyntheticSet

CHECKED = 64  # images


def ours(
    teacher: dynadfq.Teacher,
    images: Images,
    weights: int,
    activations: int,
    rule: Rounding,
    uniform: bool,
    path: Path,
) -> None:
    """Write the file of this library, as effort "minutes" of ``dynadfq quantize`` does.

    Args:
        teacher: the float network.
        images: calibration images.
        weights: bits of weights.
        activations: bits of activations.
        rule: rounding of weights below 8 bits.
        uniform: whether all layers have this width.
        path: of the file.
    """
    scheme = scheme_of(weights, activations)
    pictures = cast(SyntheticSet, images)
    if widens(EFFORTS["minutes"], weights, uniform):
        scheme = with_wide_layers(teacher, scheme, pictures, weights + WIDER_BY, Scratch(None))
    student = build_student(teacher, scheme)
    ranges = RangeConfig(observer="max" if activations == 8 else "mse")
    batches = (batch.images for batch in images.batches(CALIBRATION_BATCH))
    calibrate(student, batches, observer(ranges.observer, ranges.quantile))
    if weights < 8:
        for preparation in rounding(QuantizationConfig(rounding=rule)):
            preparation(student, teacher, pictures, 0, Scratch(None))
    export_qdq(student, path, images.pixels[:CHECKED], timed=False)


class Reader:
    """Images one by one, as onnxruntime's quantizer reads them."""

    def __init__(self, images: Images) -> None:
        self.rest: Iterator[Any] = images.batches(1)

    def get_next(self) -> dict[str, Any] | None:
        """Return the next inputs of the network, or None at the end."""
        batch = next(self.rest, None)
        return None if batch is None else {"images": batch.images.numpy()}


def onnxruntime_static(
    teacher: dynadfq.Teacher,
    images: Images,
    weights: int,
    activations: int,
    float_logits: bool,
    path: Path,
) -> None:
    """Write the file of ``onnxruntime.quantization.quantize_static``: QDQ, MinMax, per channel.

    With ``float_logits`` the layer that gives the logits is left out, as its logits are then not
    cut off at those of the calibration images (docs/deployment.md).

    Raises:
        Exception: the quantizer or the engine refuses these widths.
    """
    import onnx
    from onnxruntime.quantization import QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    floats, prepared = path.with_suffix(".float.onnx"), path.with_suffix(".prepared.onnx")
    floats.write_bytes(float_onnx(teacher.module, teacher.input_shape))
    quant_pre_process(floats, prepared, skip_symbolic_shape=True)
    nodes = onnx.load(str(prepared)).graph.node
    last = [node.name for node in nodes if "logits" in node.output]
    quantize_static(
        prepared,
        path,
        cast(Any, Reader(images)),
        nodes_to_exclude=last if float_logits else [],
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        weight_type=QuantType.QInt8 if weights == 8 else QuantType.QInt4,
        activation_type=QuantType.QUInt8 if activations == 8 else QuantType.QUInt4,
    )
