"""What the page says about the result. Every sentence follows from the numbers, whichever way they
fall.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dynadfq.report.score import score_of
from dynadfq.report.tables import Paired

MINUS = "\N{MINUS SIGN}"
SPACE = "\N{NO-BREAK SPACE}"
CHANCE = 0.05
METHOD_NAMES = {"dynadfq": "DynaDFQ", "zeroq": "ZeroQ"}


@dataclass(frozen=True)
class Gate:
    """Whether the synthetic images show what they were made for: `state` is passed, failed or
    open.
    """

    state: str
    text: str


def number(value: float | None, digits: int = 2) -> str:
    """A number with a true minus sign; an em dash for what was not measured.

    >>> number(-0.5), number(None)
    ('−0.50', '—')
    """
    if value is None or math.isnan(value):
        return "—"
    return f"{value:.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 2) -> str:
    """A difference with its sign; what rounds to zero has none."""
    if value is None or math.isnan(value):
        return number(value)
    rounded = round(value, digits)
    return f"+{number(rounded, digits)}" if rounded > 0 else number(rounded or 0.0, digits)


def percent(value: float | None, digits: int = 2) -> str:
    """A percentage whose sign does not part from its number."""
    return number(value, digits) + SPACE + "%"


def against(difference: float) -> str:
    """A difference in points as words.

    >>> against(-0.5).replace(SPACE, " "), against(0.001)
    ('0.50 points below', 'level with')
    """
    if abs(difference) < 0.005:
        return "level with"
    return f"{abs(difference):.2f}{SPACE}points {'above' if difference > 0 else 'below'}"


def headline(metrics: Mapping[str, Any]) -> str:
    """The result in one sentence: score and cost, against fixed width, against the same bits at
    random.
    """
    student, fixed, control = metrics["student"], metrics["fixed"], metrics["control"]
    score = score_of(metrics)
    own, fixed_one, dealt = (one[score.key] for one in (student, fixed, control))
    return (
        f"With activation bits chosen per image the student {score.reaches.format(percent(own))} at "
        f"{percent(student['bit_flops_percent'])} of the float network's bit-FLOPs: "
        f"{against(own - fixed_one)} the fixed {fixed['bits']}-bit student "
        f"({percent(fixed_one)} at {percent(fixed['bit_flops_percent'])}) and "
        f"{against(own - dealt)} the same bits dealt to images at random "
        f"({number(dealt)}{SPACE}±{SPACE}{percent(control[f'{score.key}_std'])})."
    )


def verdict(metrics: Mapping[str, Any], paired: Paired) -> str:
    """How far the headline may be trusted: the paired test against fixed width, then the control's
    own spread.
    """
    score = score_of(metrics)
    right = "are right" if score.labelled else "are answered as the teacher does"
    student, control = metrics["student"], metrics["control"]
    chance = paired.p_value >= CHANCE
    first = (
        f"Of {score.total:,} {score.images} {paired.gained:,} {right} with dynamic bits only and {paired.lost:,} with "
        f"fixed bits only; {'chance can explain this' if chance else 'chance hardly explains this'} "
        f"(exact sign test, {_p_value(paired.p_value)})."
    )
    chosen = _control_sentence(
        student[score.key] - control[score.key], control[f"{score.key}_std"], control["repeats"]
    )
    return f"{first} {chosen} {_cost_sentence(metrics)}"


def _p_value(p: float) -> str:
    """A p-value with no more digits than it deserves."""
    return f"p{SPACE}<{SPACE}0.001" if p < 0.001 else f"p{SPACE}={SPACE}{p:.2g}"


def _control_sentence(difference: float, deviation: float, repeats: int) -> str:
    """Does it matter which image gets which bits?"""
    spread = f"two standard deviations of its {repeats} runs"
    if abs(difference) <= 2 * deviation or abs(difference) < 0.005:
        return f"The difference to random allocation stays within {spread}: the choice is not shown to matter."
    if difference > 0:
        return f"The difference to random allocation exceeds {spread}: which image gets which bits matters."
    return f"The difference to random allocation exceeds {spread}: the selector chooses worse than chance."


def _cost_sentence(metrics: Mapping[str, Any]) -> str:
    """Whether the two students are compared at the same cost."""
    dynamic, fixed = metrics["student"]["bit_flops_percent"], metrics["fixed"]["bit_flops_percent"]
    relative = 100 * (dynamic / fixed - 1)
    if abs(relative) < 0.5:
        return "Dynamic and fixed bits cost the same within half a percent."
    return f"Dynamic bits cost {percent(abs(relative), 1)} {'more' if relative > 0 else 'less'} than the fixed width."


def gate(metrics: Mapping[str, Any]) -> Gate:
    """One-hot images the teacher does not recognize make every later stage learn from wrong
    labels.
    """
    synthetic = metrics["synthetic"]
    share, images, least = (
        synthetic["one_hot_recognized"],
        synthetic["one_hot_images"],
        synthetic["gate"],
    )
    if share is None or not images:
        return Gate(
            "open",
            "No synthetic image was made for one class alone, so there is nothing to recognize.",
        )
    counted = (
        f"The teacher recognizes {percent(share, 1)} of the {images:,} images made for one class"
    )
    if share >= least:
        return Gate("passed", f"{counted}; at least {percent(least, 0)} are required.")
    remedy = (
        "Raise the method's images.class_weight or synthesis.iterations, or set its images.bn_statistics to batch_var, "
        "and run the pipeline again."
    )
    return Gate(
        "failed",
        f"{counted}, below the {percent(least, 0)} required: these images do not show their labels. {remedy}",
    )


def bit_flop_sentence(metrics: Mapping[str, Any]) -> str:
    """The unit of cost, and the selector's own cost, which it leaves out."""
    overhead = metrics["student"].get("selector_overhead_percent")
    sentence = (
        "A bit-FLOP is one multiply-accumulate times the bits of its weight times the bits of its activation, a float "
        "counting 32 bits; the float network is 100" + SPACE + "%."
    )
    return (
        sentence
        if overhead is None
        else f"{sentence} The bit selector's own {percent(overhead)} is not included."
    )


def float_input_sentence(metrics: Mapping[str, Any]) -> str:
    """The part of the network that no choice of bits makes cheaper."""
    share = metrics["quantization"]["float_input_macs_percent"]
    return f"{percent(share, 1)} of the multiply-accumulates read 32-bit inputs, whatever bits are chosen."


def default_title(metrics: Mapping[str, Any]) -> str:
    """Method (where the metrics name it), data and widths, such as "DynaDFQ on cifar10: W4,
    A{3,4,5}".
    """
    q = metrics["quantization"]
    name = metrics.get("method", "Data-free quantization")
    method = METHOD_NAMES.get(name, name)
    widths = ",".join(str(bits) for bits in q["activation_bits"])
    data = metrics["data"]["name"]
    return f"{method} {'without labelled data' if data is None else f'on {data}'}: W{q['weight_bits']}, A{{{widths}}}"
