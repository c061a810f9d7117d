"""Ratio 4: what a fine-tuning step needs above what was there before it, each step in a process of
its own.
"""

from __future__ import annotations

import json
import subprocess
import sys

import torch

from benchmarks.speed.memory_stages import memory
from benchmarks.speed.networks import Bench
from benchmarks.speed.ratio import Result, summed_up
from benchmarks.speed.steps import CANDIDATES, finetuning_step, float_step

STEPS, REPEATS = 3, 3
NOTE = "peak resident memory of 3 steps (VmHWM) less resident memory before them"


def measured(network: str, device: torch.device) -> Result:
    """Return the ratio of the peak memory of dynamic and of float steps."""
    pairs = [
        (_alone("dynamic", network, device), _alone("float", network, device))
        for _ in range(REPEATS)
    ]
    name = f"memory of a dynamic fine-tuning step / float training step and teacher ({network})"
    note = (
        NOTE
        if device.type == "cpu"
        else "largest memory of 3 steps (torch.cuda), less what was there before"
    )
    return summed_up(4, name, pairs, 1.3, "MiB", note)


def _alone(kind: str, network: str, device: torch.device) -> float:
    command = [sys.executable, "-m", "benchmarks.speed.step_memory", kind, network, str(device)]
    done = subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE)
    return float(json.loads(done.stdout.splitlines()[-1]))


def growth(kind: str, network: str, device: torch.device) -> float:
    """Return the MiB that some steps need at most, beyond networks and images."""
    torch.set_num_threads(1)
    bench = Bench(network, device)
    step = float_step(bench) if kind == "float" else finetuning_step(bench, CANDIDATES)
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
    resident = memory("VmRSS")
    for _ in range(STEPS):
        step()
    if device.type == "cuda":
        return (torch.cuda.max_memory_allocated(device) - before) / 2**20
    return memory("VmHWM") - resident


if __name__ == "__main__":
    print(json.dumps(growth(sys.argv[1], sys.argv[2], torch.device(sys.argv[3]))))
