"""A folder with a parameter file and a small dvc.yaml of the project's shape."""

from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

GRAPH = """
stages:
  teacher:
    cmd: python -m stages.teacher
    params: [seed, device, data, teacher]
  similarity:
    params:
      - similarity
  synthesize:
    params:
      - seed
      - synthesis
      - method.name
      - method.${method.name}.images
  finetune:
    params: [seed, finetune, quantization, method.name, "method.${method.name}.student"]
  finetune_fixed:
    params:
      - finetune.epochs
      - quantization.weight_bits
      - quantization.ranges
      - params.yaml: [device]
      - other.yaml: [data]
  everything:
    params:
      - params.yaml:
  each:
    foreach: [1, 2]
    do:
      params: [report]
  evaluate: {cmd: python -m stages.evaluate}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the shipped default experiment and GRAPH."""
    (tmp_path / "params.yaml").write_bytes((ROOT / "configs" / "digits.yaml").read_bytes())
    (tmp_path / "dvc.yaml").write_text(GRAPH)
    return tmp_path


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    """Writes a parameter file with a given text."""

    def write(text: str) -> Path:
        path = tmp_path / "params.yaml"
        path.write_text(text, encoding="utf-8")
        return path

    return write
