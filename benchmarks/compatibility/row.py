"""One row of the table: what was tried on one architecture, and why not where it failed."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from dynadfq.runtime.errors import first_line

YES, NO, UNTRIED = "yes", "no", "–"


@dataclass
class Row:
    """Results of one architecture; a number that was not reached is None. MACs are of one image."""

    architecture: str
    input: str
    parameters: int | None = None
    batch_norms: int | None = None
    sites: int | None = None
    macs: int | None = None
    float_macs: int | None = None
    counted_macs: int | None = None
    quantized_macs: int | None = None
    traces: str = UNTRIED
    quantizes: str = UNTRIED
    synthesis: str = UNTRIED
    finetuning: str = UNTRIED
    integer_form: str = UNTRIED
    saves: str = UNTRIED
    qdq: str = UNTRIED
    reasons: list[str] = field(default_factory=list)

    def attempt(self, check: str, work: Callable[[], str | None]) -> bool:
        """Run a check, note its result (None: yes) or its error, and return whether it passed."""
        try:
            setattr(self, check, work() or YES)
        except Exception as error:  # the table is about whatever a network causes
            setattr(self, check, NO)
            self.reasons.append(f"{check.replace('_', ' ')}: {one_sentence(error)}")
            return False
        return True


def one_sentence(error: BaseException) -> str:
    """Return the first line of an error, without addresses."""
    return re.sub(r" at 0x[0-9a-f]+", "", first_line(error))
