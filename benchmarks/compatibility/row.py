"""One row of the table: what was tried on one architecture, what came of it, and why not where it
did not work.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

YES, NO, UNTRIED = "yes", "no", "–"


@dataclass
class Row:
    """What is known of one architecture; a figure that was not reached is None. MACs are of one
    image.
    """

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
    reasons: list[str] = field(default_factory=list)

    def attempt(self, check: str, work: Callable[[], str | None]) -> bool:
        """Note what a check says (None: yes), or the message it fails with; whether it went
        well.
        """
        try:
            setattr(self, check, work() or YES)
        except Exception as error:  # whatever a network brings about is what the table is for
            setattr(self, check, NO)
            self.reasons.append(f"{check.replace('_', ' ')}: {one_sentence(error)}")
            return False
        return True

    def as_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return asdict(self)

    @property
    def all_macs(self) -> int | None:
        """Those of quantized layers and those that stay in float32."""
        return None if self.macs is None else self.macs + (self.float_macs or 0)

    def percent(self, macs: int | None) -> float | None:
        """Some of the MACs in percent of all."""
        return None if macs is None or not self.all_macs else 100.0 * macs / self.all_macs

    @property
    def counted(self) -> str | None:
        """The independent count beside ours."""
        if self.counted_macs is None:
            return None
        return "=" if self.counted_macs == self.all_macs else f"{self.counted_macs:,}"


class Column(NamedTuple):
    """What the table shows of a row; the meaning is for the list under it."""

    heading: str
    value: Callable[[Row], Any]
    meaning: str = ""


COLUMNS = (
    Column("architecture", attrgetter("architecture")),
    Column("input", attrgetter("input"), "channels × height × width"),
    Column("parameters", lambda row: _millions(row.parameters), "millions"),
    Column(
        "BN",
        attrgetter("batch_norms"),
        "number of BatchNorm layers, whose statistics are needed to synthesize images",
    ),
    Column(
        "traces",
        attrgetter("traces"),
        "rewritten with one module per activation call, the network gives identical outputs",
    ),
    Column("sites", attrgetter("sites"), "activations that are quantized"),
    Column(
        "MACs",
        lambda row: _millions(row.all_macs),
        "millions of multiply-accumulates per image",
    ),
    Column(
        "fvcore",
        attrgetter("counted"),
        "MACs of convolutions, linear layers and matrix products of the original network as "
        "counted by fvcore; `=`: the same number",
    ),
    Column(
        "float %",
        lambda row: row.percent(row.float_macs),
        "share of the MACs in operations that are not quantizable layers and stay in float32, "
        "such as attention",
    ),
    Column(
        "quantized %",
        lambda row: row.percent(row.quantized_macs),
        "share of the MACs that read quantized activations (placement `relu_output`); the "
        "others read the image, pooled features, linear bottlenecks, sums after shortcuts, or "
        "products with gates",
    ),
    Column(
        "quantizes",
        attrgetter("quantizes"),
        "a student can be made; with quantization switched off its logits equal the teacher's, "
        "bit for bit",
    ),
    Column(
        "synthesis",
        attrgetter("synthesis"),
        "one iteration of the default method: the loss decreases (`falls`), or is at least "
        "`finite`",
    ),
    Column(
        "fine-tuning",
        attrgetter("finetuning"),
        "one step of a student with candidates of 3, 4 and 5 bits, on noise: the loss is "
        "finite; weights, activation ranges and selector change",
    ),
    Column(
        "integer form",
        attrgetter("integer_form"),
        "the student can be converted (`dynadfq.to_integer_form`), and an image's logits do "
        "not depend on its batch; in brackets, the number of operations that stay in float32, "
        "so that engines may differ in the last bit",
    ),
    Column(
        "saves",
        attrgetter("saves"),
        "after saving and loading, the student gives the same logits and bit-widths, bit for bit",
    ),
)


def _millions(count: int | None) -> float | None:
    return None if count is None else count / 1e6


def one_sentence(error: BaseException) -> str:
    """An error as a reader of the table needs it: its first line, without addresses."""
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return re.sub(r" at 0x[0-9a-f]+", "", text)
