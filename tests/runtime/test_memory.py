"""Memory kept by glibc."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest
from project import ROOT

from dynadfq.runtime import memory
from dynadfq.runtime.memory import KEEP, USUAL, kept_memory

SIZE = 80_000_000
PAGES = f"""
import resource
from dynadfq.runtime.memory import kept_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        bytearray({SIZE})
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()

faults()
plain, base = faults(), resident()
with kept_memory():
    faults()
    print(plain, faults(), resident() - base, end=" ")
print(faults(), resident() - base)
"""


@pytest.mark.skipif("glibc" not in platform.libc_ver(), reason="sets options of glibc")
def test_freed_memory_is_used_again_in_a_block_and_returned_after_it() -> None:
    environment = {
        name: value
        for name, value in os.environ.items()
        if "MALLOC" not in name and name != "GLIBC_TUNABLES"
    }
    said = subprocess.check_output(
        [sys.executable, "-c", PAGES], cwd=ROOT, env=environment, text=True
    )
    plain, kept, held, after, left = map(int, said.split())
    assert kept < 50 < plain  # 100,000 pages of 4 KiB, or 200 of 2 MiB
    assert after > plain / 2
    assert held >= SIZE > 4 * left


class Library:
    """Stands in for the C library."""

    def __init__(self) -> None:
        self.options: dict[int, int] = {}
        self.trimmed = 0

    def mallopt(self, option: int, value: int) -> int:
        """Note an option."""
        self.options[option] = value
        return 1

    def malloc_trim(self, pad: int) -> int:
        """Count the calls."""
        self.trimmed += 1
        return 1


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    """A C library whose options can be read."""
    library = Library()
    monkeypatch.setattr(memory, "_glibc", lambda: library)
    chosen = [name for name in os.environ if name.startswith("MALLOC_")]
    for name in [memory.SWITCH, "GLIBC_TUNABLES", *chosen]:
        monkeypatch.delenv(name, raising=False)
    return library


def test_the_last_of_nested_blocks_returns_the_memory_after_an_exception_too(
    library: Library,
) -> None:
    with pytest.raises(KeyError), kept_memory():
        with kept_memory():
            assert library.options == KEEP
        assert library.options == KEEP and not library.trimmed
        raise KeyError
    assert library.options == {**KEEP, **USUAL} == USUAL
    assert library.trimmed == 1


@pytest.mark.parametrize(
    ("name", "value", "kept"),
    [
        (memory.SWITCH, "0", False),
        ("MALLOC_TOP_PAD_", "0", False),
        ("GLIBC_TUNABLES", "glibc.rtld.nns=4:glibc.malloc.trim_threshold=0", False),
        ("GLIBC_TUNABLES", "glibc.rtld.nns=4", True),
    ],
)
def test_the_environment_turns_it_off(
    name: str, value: str, kept: bool, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with kept_memory():
        pass
    assert bool(library.options) == bool(library.trimmed) == kept


def test_without_glibc_nothing_happens(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_glibc", lambda: None)
    with kept_memory():
        pass
