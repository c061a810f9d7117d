"""What `pip install dynadfq` gives, used outside the repository."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import distributions
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from dvc.utils.serialize import load_yaml
from outside import Outside
from packaging.requirements import Requirement
from project import ROOT, TINY

import dynadfq
from stages import runtime


def test_the_package_is_installed_without_dvc(site: Path) -> None:
    [package] = distributions(name="dynadfq", path=[str(site)])
    needed = [Requirement(line) for line in package.requires or ()]
    extras = {one.name: str(one.marker) for one in needed if one.marker}
    assert "pipeline" in extras["dvc"]
    assert "dvc" not in {one.name for one in needed if not one.marker}


def test_one_package_stands_at_the_top(site: Path) -> None:
    assert {path.name for path in site.iterdir() if path.suffix != ".dist-info"} == {"dynadfq"}


def test_type_checkers_and_editors_find_an_editable_installation(
    source: Path, tmp_path: Path
) -> None:
    code = "from setuptools import build_meta; print(build_meta.build_editable(sys.argv[1]))"
    command = [sys.executable, "-c", f"import sys; {code}", str(tmp_path)]
    subprocess.run(command, cwd=source, check=True, capture_output=True)
    [wheel] = tmp_path.glob("*.whl")
    with ZipFile(wheel) as files:
        [path] = [name for name in files.namelist() if ".dist-info/" not in name]
        assert path.endswith(".pth") and files.read(path).decode().strip() == str(source)


def test_the_package_says_what_it_is(site: Path) -> None:
    [package] = distributions(name="dynadfq", path=[str(site)])
    assert package.metadata["License-Expression"] == "Apache-2.0"
    known = set(package.metadata.get_all("Classifier") or ())
    assert {"Typing :: Typed", "Programming Language :: Python :: 3.10"} <= known


NETWORK = """
from torch import nn

def build():
    return nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(),
                         nn.Linear(8 * 36, 4))
"""


def test_a_network_is_quantized_outside_the_repository(outside: Outside) -> None:
    (outside.folder / "my_network.py").write_text(NETWORK)
    said = outside(
        *("python", "-m", "dynadfq", "quantize", "my_network:build", "--effort", "seconds"),
        *("--input-shape", "3,8,8", "--num-classes", "4", "--to", "int8.onnx"),
    )
    assert "same class, 64 noise images" in said
    written = {path.name for path in outside.folder.iterdir() if path.is_file()}
    assert written == {"my_network.py", "int8.onnx", "int8.json", "int8.md"}
    where = outside("python", "-c", "import dynadfq; print(dynadfq.__file__)")
    assert Path(where.strip()).is_relative_to(outside.site)


def test_a_new_project_runs_the_pipeline(outside: Outside) -> None:
    shown = outside("python", "-m", "dynadfq", "init", "experiment")
    assert "dvc repro" in shown
    project = Outside(outside.folder / "experiment", outside.site)
    stages: dict[str, dict[str, Any]] = load_yaml(project.folder / "dvc.yaml")["stages"]
    assert list(stages) == list(load_yaml(ROOT / "dvc.yaml")["stages"])
    for stage in stages.values():
        code = [path for path in stage["deps"] if not path.startswith("artifacts/")]
        assert "requirements.txt" in code
        assert all((project.folder / path).exists() for path in code)
    project.set(TINY)
    project("dvc", "repro", "teacher")
    assert (project.folder / "artifacts/teacher/teacher.json").is_file()


def test_stages_refuse_another_version_than_the_project_names(tmp_path: Path) -> None:
    requirements = tmp_path / "requirements.txt"
    runtime.require_version(requirements)  # the repository has no such file
    requirements.write_text(f"pandas\ndynadfq[pipeline]=={dynadfq.__version__}\n")
    runtime.require_version(requirements)
    requirements.write_text("dynadfq[pipeline]==0.0.1\n")
    with pytest.raises(ValueError, match=f"names dynadfq 0.0.1, and {dynadfq.__version__} is"):
        runtime.require_version(requirements)


def test_a_project_is_not_written_over_another(outside: Outside) -> None:
    outside("python", "-m", "dynadfq", "init", "here", "--config", "cifar10")
    before = {path: path.read_bytes() for path in outside.folder.rglob("*.yaml")}
    said = outside("python", "-m", "dynadfq", "init", "here", fails=True)
    assert "already has params.yaml" in said
    assert {path: path.read_bytes() for path in outside.folder.rglob("*.yaml")} == before
    said = outside("python", "-m", "dynadfq", "init", "there", "--config", "cifar", fails=True)
    assert (
        "--config: " in said and "did you mean" in said and not (outside.folder / "there").exists()
    )
