"""What a conversion found out about each part of a network, as a list of named facts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Form = Literal["bytes", "integer", "wide integer", "float64", "float32"]


@dataclass(frozen=True)
class Fact:
    """How one part of the network is computed.

    name: path of its module, or name of the call.
    form: "bytes": whole numbers, by an 8-bit kernel. "integer": the same in float32. "wide
        integer": the same in float64, since float32 would not be exact. "float64": sums of floats,
        rounded to float32 once. "float32": left as it was; engines may differ in the last bit.
    largest_sum: the largest magnitude an accumulator can reach at the widest candidate; None where
        nothing is summed in codes.
    reason: why the form is not a faster one; empty where it is the one that was wanted.
    """

    name: str
    form: Form
    largest_sum: float | None = None
    reason: str = ""

    @property
    def exact(self) -> bool:
        """Whether the accumulators are whole numbers, the same in any order of summation."""
        return self.form in ("bytes", "integer", "wide integer")

    def __str__(self) -> str:
        bound = "" if self.largest_sum is None else f", sums up to {self.largest_sum:.0f}"
        return f"{self.name}: {self.form}{bound}" + (f" ({self.reason})" if self.reason else "")


def unsafe(facts: Iterable[Fact]) -> list[Fact]:
    """The parts that engines may compute differently in the last bit."""
    return [fact for fact in facts if fact.form == "float32"]
