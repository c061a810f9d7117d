"""How stages start."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest
from project import ROOT

from stages.runtime import yaml_keys

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
    ("message", "expected"),
    [
        ("num_classes: 9 differs", "teacher.num_classes: 9 differs"),
        ("mean, std: not given", "teacher.mean, teacher.std: not given"),
        ("data_set: has 10 classes", "data.name: has 10 classes"),
        ("a/b.png: not an image", "a/b.png: not an image"),
        ("no key here", "no key here"),
    ],
)
def test_arguments_in_library_errors_become_keys_of_params_yaml(
    message: str, expected: str
) -> None:
    with (
        pytest.raises(ValueError) as error,
        yaml_keys("teacher", data_set="data.name"),
    ):
        raise ValueError(message)
    assert str(error.value) == expected
