"""A report of how each part of a converted network is computed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

Form = Literal["integer", "wide integer", "float64", "float32"]


@dataclass(frozen=True)
class Fact:
    """The way in which one part of the network is computed.

    name: path of its module, or name of the call.
    form: "integer": integers in float32. "wide integer": integers in float64, since float32 would
        not be exact. "float64": sums of floats, rounded to float32 once. "float32": not converted,
        or asked for by float activations; engines may differ in the last bit.
    largest_sum: the largest magnitude of an accumulator at the widest candidate; None where no
        codes are summed.
    reason: why the form is not a faster one; empty if it is the desired one.
    """

    name: str
    form: Form
    largest_sum: float | None = None
    reason: str = ""

    @property
    def exact(self) -> bool:
        """Whether the accumulators are integers, the same in any order of summation."""
        return self.form in ("integer", "wide integer")

    def __str__(self) -> str:
        bound = "" if self.largest_sum is None else f", sums up to {self.largest_sum:.0f}"
        reason = f" ({self.reason})" if self.reason else ""
        return f"{self.name}: {self.form}{bound}{reason}"


def in_floats(facts: Iterable[Fact]) -> list[str]:
    """Return a line for each part that is not computed in integers.

    The parts that compute in float32 because activations are float32 share the first line.
    """
    floats = [fact for fact in facts if not fact.exact]
    wanted = [fact.name for fact in floats if fact.form == "float32" and not fact.reason]
    lines = [f"{', '.join(wanted)}: float32, as all activations"] if wanted else []
    return [*lines, *(str(fact) for fact in floats if fact.name not in wanted)]


def unsafe(facts: Iterable[Fact]) -> list[Fact]:
    """Return the parts that engines may compute differently in the last bit."""
    return [fact for fact in facts if fact.form == "float32"]
