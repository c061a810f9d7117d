"""Stage ``export``: the dynamic student as files that run without this library, each checked before
it is written.
"""

from __future__ import annotations

import torch

from dynadfq.export.files import require, write_file
from dynadfq.quant.build import load_student
from dynadfq.synthesis.dataset import SyntheticSet
from stages.artifacts import EXPORT, STUDENT, SYNTHETIC, TEACHER, write_json
from stages.runtime import begin, main

WEIGHTS = "model.safetensors"


def run() -> None:
    """Write artifacts/export: the files asked for, and export.json with their sizes and checks."""
    p = begin("export").export
    require(p.formats)
    files = []
    if p.formats:
        student, synthetic = load_student(STUDENT), SyntheticSet(SYNTHETIC)
        images = synthetic.take(torch.arange(min(p.check_images, len(synthetic)))).images
        files = [write_file(student, name, EXPORT, images) for name in p.formats]
    sizes = {
        "float_bytes": (TEACHER / WEIGHTS).stat().st_size,
        "packed_bytes": (STUDENT / WEIGHTS).stat().st_size,
    }
    write_json(EXPORT / "export.json", sizes | {"files": files})


if __name__ == "__main__":
    main(run)
