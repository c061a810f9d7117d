"""Progress of long work: a bar on a terminal, a JSON line now and then elsewhere."""

from __future__ import annotations

import json
import sys
import time
from types import TracebackType

import torch
from torch import Tensor
from tqdm import tqdm

from dynadfq.runtime import distributed


class NonFiniteLoss(ArithmeticError):
    """A loss term became NaN or infinite."""


def require_finite(terms: dict[str, Tensor], step: int) -> None:
    """Check that every loss term is finite.

    Raises:
        NonFiniteLoss: names the terms and the step.
    """
    bad = {name: value for name, value in terms.items() if not torch.isfinite(value)}
    if bad:
        named = ", ".join(f"{name} = {float(value.detach())}" for name, value in bad.items())
        raise NonFiniteLoss(
            f"step {step}: {named}; lower the learning rate. "
            "The last good state is kept, nothing was overwritten"
        )


class Progress:
    """A progress bar with running losses; without a terminal, JSON lines on stderr.

    Of several ranks the first shows the bar; without a terminal each writes its lines.

    Args:
        stage: the title, and the group of the losses' names.
        total: steps in all.
        done: steps that an earlier run made.
        unit: what a step is.
        interval: seconds between two JSON lines.
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
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=stage,
            unit=unit,
            disable=True if self._rank else None,  # None: without a terminal
            dynamic_ncols=True,
        )
        self._last = time.monotonic()

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
        """Count steps that an earlier run made."""
        self.done += steps
        self._bar.update(steps)

    def step(self, **losses: float) -> None:
        """Count one step and show its losses."""
        self.done += 1
        if not self._bar.disable:
            shown = {name: f"{value:.4g}" for name, value in losses.items()}
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update()
            return
        below_bar = self._rank and sys.stderr.isatty()
        waited = time.monotonic() - self._last
        if not below_bar and (waited > self.interval or self.done == self.total):
            self._last = time.monotonic()
            line: dict[str, float] = {**self._rank_entry, "step": self.done, "of": self.total}
            for name, value in losses.items():
                line[f"{self.stage}/{name}"] = round(value, 6)
            print(json.dumps(line), file=sys.stderr, flush=True)
