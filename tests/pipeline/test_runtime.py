"""How stages start."""

from __future__ import annotations

import subprocess
import sys

import pytest
from project import ROOT

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


@pytest.mark.skipif(
    sys.platform != "linux" or "glibc" not in __import__("platform").libc_ver(), reason="glibc's"
)
def test_memory_that_was_freed_is_used_again() -> None:
    said = subprocess.run(
        [sys.executable, "-c", PAGES], cwd=ROOT, check=True, text=True, capture_output=True
    ).stdout
    plain, kept = map(int, said.split())
    assert kept < 50 < plain  # 100,000 pages of 4 KiB, or 200 of 2 MiB
