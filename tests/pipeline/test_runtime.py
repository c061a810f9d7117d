"""How stages start."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
from project import ROOT

from dynadfq.data.config import DataConfig
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.teacher.config import TeacherConfig
from stages.runtime import yaml_keys
from stages.teacher import TeacherParams

PAGES = """
import resource
import torch
from stages.runtime import keep_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        torch.ones(20_000_000)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
faults()
plain = faults()
keep_memory()
faults()
print(plain, faults())
"""


@pytest.mark.skipif("glibc" not in platform.libc_ver(), reason="sets options of glibc")
def test_memory_that_was_freed_is_used_again() -> None:
    said = subprocess.check_output([sys.executable, "-c", PAGES], cwd=ROOT, text=True)
    plain, kept = map(int, said.split())
    assert kept < 50 < plain  # 100,000 pages of 4 KiB, or 200 of 2 MiB


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("num_classes: 9 differs"), "teacher.num_classes: 9 differs"),
        (InvalidArgument("batch_size", "is 9"), "teacher.batch_size: is 9"),
        (ImportError("mean, std: not given"), "teacher.mean, teacher.std: not given"),
        (ValueError("data_set: has 10 classes"), "data.name: has 10 classes"),
        (ValueError("a/b.png: not an image"), "a/b.png: not an image"),
        (ValueError("no key here"), "no key here"),
    ],
    ids=str,
)
def test_arguments_in_library_errors_become_keys_of_params_yaml(
    error: Exception, expected: str
) -> None:
    p = TeacherParams(seed=0, device="cpu", data=DataConfig(), teacher=TeacherConfig())
    with pytest.raises(type(error)) as caught, yaml_keys(p):
        raise error
    assert str(caught.value) == expected
