"""Export well-known architectures and print what came out: python
tests/export/export_networks.py [NAME …]

Minutes and gigabytes for the large ones, so this is no test. Weights are random, BatchNorm
statistics those of noise."""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import torch
from torch import nn

import dynadfq
from dynadfq.export.onnx_export import export_onnx
from dynadfq.ptq.calibration import calibrate, extremes

NETWORKS = {  # image side
    "pytorchcv/resnet20_cifar10": 32,
    "torchvision/resnet18": 64,
    "torchvision/mobilenet_v2": 64,
    "torchvision/mobilenet_v3_small": 64,
    "torchvision/vgg16_bn": 32,
    "timm/efficientnet_lite0": 64,
    "timm/tf_efficientnet_lite0": 64,
}
IMAGES = 16


def teacher_of(name: str) -> dynadfq.Teacher:
    """A teacher with statistics of noise, so that activations are neither dead nor huge."""
    torch.manual_seed(0)
    side = NETWORKS[name]
    teacher = dynadfq.load_teacher(name, pretrained=False, input_shape=(3, side, side))
    norms = [layer for layer in teacher.module.modules() if isinstance(layer, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = None
        norm.train()
    with torch.no_grad():
        teacher(torch.randn(IMAGES, 3, side, side))
    teacher.module.eval()
    return teacher


def main() -> None:
    """One line an export."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(NETWORKS))
    print(
        "network, widths, seconds, bytes, of float weights, worst logit difference, "
        "facts that are not exact"
    )
    for name in parser.parse_args().names:
        teacher = teacher_of(name)
        images = torch.randn(IMAGES, *teacher.input_shape)
        weights = 4 * sum(parameter.numel() for parameter in teacher.module.parameters())
        for widths in ((3, 4, 5), 4):
            student = dynadfq.quantize(teacher, activation_bits=widths)
            calibrate(student, [images], extremes)
            start = time.time()
            with tempfile.TemporaryDirectory() as folder:
                export = export_onnx(student, Path(folder) / "model.onnx", images)
            inexact = sum(fact.form == "float32" for fact in export.facts)
            seconds, share = time.time() - start, export.size / weights
            print(
                f"{name}, {widths}, {seconds:.0f}, {export.size}, {share:.3f}, "
                f"{export.worst:g}, {inexact}"
            )


if __name__ == "__main__":
    main()
