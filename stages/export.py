"""Stage ``export``: the dynamic student as files that run without this library."""

from __future__ import annotations

import torch

from dynadfq.export.config import ExportConfig
from dynadfq.export.files import require, write_file
from dynadfq.export.record import ExportRecord
from dynadfq.params import View
from dynadfq.quant.build import load_student
from dynadfq.runtime.artifact import record_bytes
from dynadfq.runtime.resume import atomic_write
from dynadfq.synthesis.dataset import SyntheticSet
from stages.artifacts import EXPORT, STUDENT, SYNTHETIC, TEACHER
from stages.runtime import TeacherName, main

WEIGHTS = "model.safetensors"


class ExportParams(View):
    """What this stage declares in dvc.yaml."""

    teacher: TeacherName
    export: ExportConfig


def run(p: ExportParams) -> None:
    """Write artifacts/export: the files asked for, and export.json with their sizes and checks."""
    wanted = p.export
    require(wanted.formats)
    files = []
    if wanted.formats:
        student = load_student(STUDENT, trust=(p.teacher.architecture,))
        synthetic = SyntheticSet(SYNTHETIC)
        images = synthetic.take(torch.arange(min(wanted.check_images, len(synthetic)))).images
        files = [write_file(student, name, EXPORT, images) for name in wanted.formats]
    sizes = {
        "float_bytes": (TEACHER / WEIGHTS).stat().st_size,
        "packed_bytes": (STUDENT / WEIGHTS).stat().st_size,
    }
    content = record_bytes(sizes | {"files": files}, ExportRecord)
    atomic_write(EXPORT / "export.json", content)


if __name__ == "__main__":
    main(run, ExportParams)
