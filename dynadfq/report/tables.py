"""Numbers behind the figures: pure functions from measured tables to small tables."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from dynadfq.report.score import score_of

Floats = NDArray[np.floating[Any]]

NOT_A_LOSS = {
    "epoch",
    "step",
    "learning_rate",
    "bit_flops_percent",
    "bit_flops_percent_std",
    "mean_bits",
    "multiplier",
}


class Result(NamedTuple):
    """One row of the headline table; score and cost in percent, the difference in percentage
    points.

    The score is top-1, or agreement with the teacher where there are no labels; the teacher then
    has none.
    """

    name: str
    role: str
    score: float | None
    score_std: float | None
    difference: float | None
    bit_flops_percent: float
    mean_bits: float
    agreement: float | None


class Paired(NamedTuple):
    """Images that only dynamic (gained) or only fixed (lost) gets right, and the two-sided p of an
    exact sign test.
    """

    gained: int
    lost: int
    p_value: float


def result_rows(metrics: Mapping[str, Any]) -> list[Result]:
    """Float teacher, fixed width, dynamic, and the control that deals the dynamic student's bits at
    random.
    """
    teacher, fixed, student, control = (
        metrics[key] for key in ("teacher", "fixed", "student", "control")
    )
    key = score_of(metrics).key
    base = teacher.get(key)
    bits, cost = student["mean_activation_bits"], student["bit_flops_percent"]

    def row(name: str, role: str, one: Mapping[str, Any], cost: float, bits: float) -> Result:
        difference = None if role == "teacher" or base is None else one[key] - base
        return Result(
            name,
            role,
            one.get(key),
            one.get(f"{key}_std"),
            difference,
            cost,
            bits,
            one.get("agreement"),
        )

    return [
        row("Float teacher", "teacher", teacher, teacher["bit_flops_percent"], 32.0),
        row(
            f"Fixed {fixed['bits']}-bit",
            "fixed",
            fixed,
            fixed["bit_flops_percent"],
            float(fixed["bits"]),
        ),
        row("Dynamic", "dynamic", student, cost, bits),
        row("Same bits at random", "control", control, cost, bits),
    ]


def paired_outcome(per_image: pd.DataFrame, against: str = "label") -> Paired:
    """Dynamic against fixed on the same images (McNemar's exact test on the images where just one
    is right).
    """
    dynamic = per_image["prediction"] == per_image[against]
    fixed = per_image["fixed_prediction"] == per_image[against]
    gained, lost = int((dynamic & ~fixed).sum()), int((fixed & ~dynamic).sum())
    p_value = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    return Paired(gained, lost, p_value)


def entropy_groups(test: pd.DataFrame | None, synthetic: pd.DataFrame) -> dict[str, Floats]:
    """Teacher entropies in nats of the test images, where there are any, and of the synthetic ones
    by kind of label.
    """
    soft = synthetic["soft"].astype(bool)
    return {
        "test": np.array([]) if test is None else test["entropy_nats"].to_numpy(dtype=float),
        "one_hot": synthetic.loc[~soft, "entropy_nats"].to_numpy(dtype=float),
        "soft": synthetic.loc[soft, "entropy_nats"].to_numpy(dtype=float),
    }


def loss_terms(histories: Mapping[str, pd.DataFrame]) -> list[str]:
    """Loss columns in any of the histories, the total first, columns that were never filled left
    out.
    """
    columns: list[str] = []
    for history in histories.values():
        for name in history.columns:
            if (
                name not in NOT_A_LOSS
                and not name.endswith("_unmixed")
                and history[name].notna().any()
            ):
                columns += [name] if name not in columns else []
    return sorted(columns, key=lambda name: name != "loss")


def learning_curves(histories: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """One row an epoch; each student's columns carry its name in front, such as
    `dynamic_distillation`.
    """
    parts = []
    for student, history in histories.items():
        parts.append(
            history.drop_duplicates("epoch", keep="last")
            .set_index("epoch")
            .add_prefix(f"{student}_")
        )
    return pd.concat(parts, axis=1).sort_index().rename_axis("epoch").reset_index()


def mixup_start(history: pd.DataFrame) -> float | None:
    """First epoch with a loss measured before mixing, i.e. the first epoch that mixes; None if none
    does.
    """
    unmixed = [name for name in history.columns if name.endswith("_unmixed")]
    mixing = (
        history.loc[history[unmixed].notna().any(axis=1), "epoch"]
        if unmixed
        else pd.Series(dtype=float)
    )
    return float(mixing.iloc[0]) if len(mixing) else None


def candidate_bits(sites: pd.DataFrame) -> list[int]:
    """Candidate widths, ascending, from the columns `bits_3`, `bits_4`, ….

    >>> candidate_bits(pd.DataFrame(columns=["site", "bits_5", "bits_3"]))
    [3, 5]
    """
    return sorted(
        int(name.removeprefix("bits_")) for name in sites.columns if str(name).startswith("bits_")
    )


def mean_site_bits(sites: pd.DataFrame) -> Floats:
    """Mean activation width at each site over the measured images, in bits."""
    widths = candidate_bits(sites)
    shares = sites[[f"bits_{b}" for b in widths]].to_numpy(dtype=float)
    bits: Floats = shares @ np.array(widths, dtype=float) / 100.0
    return bits


def sensitivity_table(per_image: pd.DataFrame) -> pd.DataFrame:
    """Entropy and lowest surviving uniform width of the images where it was measured; 0 means that
    none survived.
    """
    if "lowest_bits" not in per_image.columns:
        return pd.DataFrame(
            {"lowest_bits": pd.Series(dtype=int), "entropy_nats": pd.Series(dtype=float)}
        )
    measured = per_image.loc[per_image["lowest_bits"].notna(), ["lowest_bits", "entropy_nats"]]
    return measured.astype({"lowest_bits": int}).reset_index(drop=True)


def extremes(synthetic: pd.DataFrame, count: int) -> tuple[list[int], list[int]]:
    """Indices of the easiest and the hardest images by the teacher's entropy, most extreme first,
    no image in both.
    """
    ordered = (
        synthetic.sort_values(["entropy_nats", "index"], kind="stable")["index"]
        .astype(int)
        .tolist()
    )
    count = min(count, len(ordered) // 2)
    return ordered[:count], ordered[::-1][:count]
