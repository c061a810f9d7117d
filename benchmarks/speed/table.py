"""One table of all ratios, for people and for programs."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch

from benchmarks.speed.ratio import Result

HEAD = "| | measured | ratio | quartiles | rounds | parts (medians) | aim | |\n|-|-|-|-|-|-|-|-|\n"


def as_json(results: Sequence[Result], device: torch.device) -> dict[str, Any]:
    """All numbers, and what they were measured on."""
    return {
        **_setting(device),
        "results": [{**asdict(one), "verdict": one.verdict} for one in results],
    }


def as_markdown(results: Sequence[Result], device: torch.device) -> str:
    """The table with a heading; a note under it for each number."""
    setting = ", ".join(f"{name} {value}" for name, value in _setting(device).items())
    clock = "CPU time of the process" if device.type == "cpu" else "wall time, synchronized"
    notes = dict.fromkeys(f"{one.number}: {one.note}." for one in results if one.note)
    return (
        f"# Speed and memory\n\n{setting}. Steps are timed in turn, {clock}; a round's ratio is of neighbours.\n\n"
        f"{HEAD}{''.join(map(_line, results))}\n{chr(10).join(notes)}\n"
    )


def _line(one: Result) -> str:
    if one.median is None:
        return f"| {one.number} | {one.name} | | | | | | {one.verdict} |\n"
    value = f"{one.median:.2f}{' s' if one.unit == 's' else ''}"
    parts = "" if one.above is None else f"{one.above:.0f} / {one.below:.0f} {one.unit}"
    aim = "" if one.aim is None else f"≤ {one.aim:g}"
    spread = f"{one.lower:.2f} … {one.upper:.2f}"
    return f"| {one.number} | {one.name} | {value} | {spread} | {one.rounds} | {parts} | {aim} | {one.verdict} |\n"


def _setting(device: torch.device) -> dict[str, str]:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "torch": torch.__version__,
        "device": f"{device.type} ({name})",
        "threads": str(torch.get_num_threads()),
    }
