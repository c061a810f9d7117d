"""What long work tells while it runs: a progress bar on a terminal, a JSON line now and then
elsewhere.
"""

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
        NonFiniteLoss: names the terms and the step; what was saved before stays as it is.
    """
    bad = [
        f"{name} = {float(value.detach())}"
        for name, value in terms.items()
        if not bool(torch.isfinite(value))
    ]
    if bad:
        raise NonFiniteLoss(
            f"step {step}: {', '.join(bad)}; lower the learning rate. "
            "The last good state is kept, nothing was overwritten"
        )


class Progress:
    """A progress bar with running losses; without a terminal, one JSON line every ``interval``
    seconds.

    Of several ranks the first has the bar, and each has its lines where there is no terminal.
    """

    def __init__(
        self, stage: str, total: int, done: int = 0, unit: str = "step", interval: float = 20.0
    ) -> None:
        self.stage, self.total, self.done, self.interval = stage, total, done, interval
        self._rank, ranks = distributed.part()
        self._named = {"rank": self._rank} if ranks > 1 else {}
        hidden = True if self._rank else None  # None: without a terminal
        self._bar = tqdm(
            total=total,
            initial=done,
            desc=stage,
            unit=unit,
            disable=hidden,
            leave=True,
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
            self._bar.set_postfix(
                {name: f"{value:.4g}" for name, value in losses.items()}, refresh=False
            )
            self._bar.update()
        elif self._rank and sys.stderr.isatty():
            return
        elif time.monotonic() - self._last > self.interval or self.done == self.total:
            self._last = time.monotonic()
            line = {f"{self.stage}/{name}": round(value, 6) for name, value in losses.items()}
            print(
                json.dumps({**self._named, "step": self.done, "of": self.total, **line}),
                file=sys.stderr,
                flush=True,
            )
