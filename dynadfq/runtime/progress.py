"""Progress of long work: a bar on a terminal, a JSON line now and then elsewhere."""

from __future__ import annotations

import json
import os
import sys
import time
from types import TracebackType

import torch
from torch import Tensor
from tqdm import tqdm

from dynadfq.runtime import distributed

FIRST_LINE = 3.0  # seconds


class NonFiniteLoss(ArithmeticError):
    """A loss term or a gradient became NaN or infinite."""


def require_finite(values: dict[str, Tensor], step: int) -> None:
    """Check that loss terms, or the norm of a gradient, are finite.

    Raises:
        NonFiniteLoss: names the values and the step.
    """
    bad = {name: value for name, value in values.items() if not torch.isfinite(value)}
    if bad:
        named = ", ".join(f"{name} = {float(value.detach())}" for name, value in bad.items())
        raise NonFiniteLoss(
            f"step {step}: {named}; lower the learning rate. This step was not taken, and what "
            "was stored before is kept"
        )


def has_bar() -> bool:
    """Return whether stderr is a terminal that knows its width; a bar needs both."""
    try:
        return sys.stderr.isatty() and os.get_terminal_size(sys.stderr.fileno()).columns > 0
    except (OSError, ValueError):  # no terminal, or no file at all
        return False


class Progress:
    """A progress bar with running losses; without a terminal, JSON lines on stderr.

    A line names the stage, the steps that are done, the seconds that are left at the speed so far,
    and the losses. Of several ranks the first shows the bar; without a terminal each writes its
    lines.

    Args:
        stage: the title, and the group of the losses' names.
        total: steps in all.
        done: steps that an earlier run made.
        unit: what a step is.
        interval: seconds between two JSON lines; the first comes sooner, with an estimate of the
            time that the work takes.
    """

    def __init__(
        self, stage: str, total: int, done: int = 0, unit: str = "step", interval: float = 20.0
    ) -> None:
        self.stage = stage
        self.total = total
        self.done = done
        self.interval = interval
        self._rank, ranks = distributed.part()
        self._rank_entry = {"rank": self._rank} if ranks > 1 else {}
        self._terminal = has_bar()
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=stage,
            unit=unit,
            disable=bool(self._rank) or not self._terminal,
            dynamic_ncols=True,
        )
        self._begun = time.monotonic()
        self._last = self._begun + min(FIRST_LINE - interval, 0)
        self._made = 0  # steps of this run

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bar.close()

    def skip(self, steps: int) -> None:
        """Count steps that an earlier run made, or that are not needed."""
        self.done += steps
        self._bar.update(steps)

    def step(self, **losses: float) -> None:
        """Count one step and show its losses."""
        self.done += 1
        self._made += 1
        if not self._bar.disable:
            shown = {name: f"{value:.4g}" for name, value in losses.items()}
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update()
            return
        below_bar = self._rank and self._terminal
        now = time.monotonic()
        if not below_bar and (now - self._last > self.interval or self.done == self.total):
            self._last = now
            left = (now - self._begun) / self._made * (self.total - self.done)
            line: dict[str, str | float] = {"stage": self.stage, **self._rank_entry}
            line |= {"step": self.done, "of": self.total, "seconds_left": round(left)}
            for name, value in losses.items():
                line[f"{self.stage}/{name}"] = round(value, 6)
            print(json.dumps(line), file=sys.stderr, flush=True)
