"""Numbers behind figures and page: pure functions from measured tables to small tables."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from scipy.stats import binomtest

from dynadfq.report.load import Score
from dynadfq.report.matrices import Floats

AGREEMENT = "held_back_agreement"
KEPT = "kept"
NOT_A_LOSS = {
    "epoch",
    "step",
    "learning_rate",
    "gradient_norm",
    "bit_flops_percent",
    "bit_flops_percent_std",
    "mean_bits",
    "multiplier",
    AGREEMENT,
    "held_back_bit_flops_percent",
    KEPT,
}
SIGNIFICANT = 0.05  # p-value
DOUBT = 0.001  # a teacher that guesses is this good or better once in a thousand sets


NAMES = {
    "teacher": "Float teacher",
    "dynamic": "Dynamic",
    "control": "Same bits at random",
    "static": "One allocation for all",
    "ceiling": "Ceiling",
}


class Result(NamedTuple):
    """Accuracy and cost of a network; NaN for what was not measured.

    The last five compare the dynamic student with it, image by image.
    """

    name: str
    score: float  # percent: top-1, or agreement where there are no labels
    score_std: float  # over the control's runs
    bit_flops_percent: float  # of the float network
    mean_bits: float  # of activations
    agreement: float  # with the teacher, percent
    difference: float = math.nan  # the dynamic student's score minus this one, points
    standard_error: float = math.nan  # of the difference, points
    gained: int | None = None  # images that only the dynamic student gets right, of one run
    lost: int | None = None  # images that only this one gets right, of one run
    p_value: float = math.nan  # two-sided, of an exact test

    @property
    def significant(self) -> bool:
        """Whether chance hardly explains the difference."""
        return self.p_value < SIGNIFICANT


def network_results(metrics: Mapping[str, Any], score: Score) -> dict[str, Result]:
    """Return the results of teacher, fixed and dynamic student, and controls, by role."""
    fixed = metrics["fixed"]
    student = metrics["student"]
    networks = {
        "teacher": {"mean_activation_bits": 32.0, **metrics["teacher"]},
        "fixed": {"mean_activation_bits": float(fixed["bits"]), **fixed},
        "dynamic": student,
        "control": {"mean_activation_bits": student["mean_activation_bits"], **metrics["control"]},
    } | {role: metrics[role] for role in ("static", "ceiling") if role in metrics}
    names = NAMES | {"fixed": f"Fixed {fixed['bits']}-bit"}
    return {
        role: Result(
            name=names[role],
            score=network.get(score.key, math.nan),
            score_std=network.get(f"{score.key}_std", math.nan),
            bit_flops_percent=network["bit_flops_percent"],
            mean_bits=network["mean_activation_bits"],
            agreement=network.get("agreement", math.nan),
            difference=network.get("difference", math.nan),
            standard_error=network.get("standard_error", math.nan),
            gained=network.get("gained"),
            lost=network.get("lost"),
            p_value=network.get("p_value", math.nan),
        )
        for role, network in networks.items()
    }


def at_chance(top1: float, images: int, classes: int) -> bool:
    """Return whether guessing explains an accuracy in percent.

    >>> at_chance(0.1, 50_000, 1000), at_chance(69.8, 50_000, 1000)
    (True, False)
    """
    right = round(top1 * images / 100)
    return bool(binomtest(right, images, 1 / classes, alternative="greater").pvalue > DOUBT)


def entropy_groups(test: pd.DataFrame | None, synthetic: pd.DataFrame) -> dict[str, Floats]:
    """Return the teacher's entropies in nats by kind of image; "test" may be empty."""
    soft = synthetic["soft"].astype(bool)
    return {
        "test": np.array([]) if test is None else test["entropy_nats"].to_numpy(dtype=float),
        "one_hot": synthetic.loc[~soft, "entropy_nats"].to_numpy(dtype=float),
        "soft": synthetic.loc[soft, "entropy_nats"].to_numpy(dtype=float),
    }


def binned_means(entropy: Any, value: Any, bins: int = 9, at_least: int = 3) -> pd.DataFrame:
    """Average a value in bins of equal width on the square root of entropy.

    Bins of fewer than `at_least` images are left out.
    """
    root = np.sqrt(np.clip(np.asarray(entropy, dtype=float), 0, None))
    edges = np.linspace(0, max(float(root.max(initial=0)), 1e-6), bins + 1)
    place = np.clip(np.digitize(root, edges) - 1, 0, bins - 1)
    frame = pd.DataFrame({"bin": place, "entropy_nats": root**2, "value": np.asarray(value)})
    means = frame.groupby("bin").agg(
        entropy_nats=("entropy_nats", "mean"), value=("value", "mean"), images=("value", "size")
    )
    return means[means["images"] >= at_least].reset_index(drop=True)


def entropy_histogram(groups: Mapping[str, Floats], bins: int = 24) -> pd.DataFrame:
    """Return the percent of each group's images per bin, equally wide on the root of entropy."""
    top = max((float(values.max()) for values in groups.values() if len(values)), default=1.0)
    edges = np.linspace(0, math.sqrt(max(top, 1e-6)), bins + 1) ** 2
    edges[-1] = max(edges[-1], top)
    middles = (edges[:-1] + edges[1:]) / 2
    table = pd.DataFrame(
        {"entropy_low": edges[:-1], "entropy_high": edges[1:], "entropy_nats": middles}
    )
    for name, values in groups.items():
        counts = np.histogram(np.clip(values, 0, None), bins=edges)[0]
        table[f"{name}_percent"] = 100.0 * counts / max(len(values), 1)
    return table


def loss_terms(histories: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return the loss columns in any of the histories that were filled, the total first."""
    columns = [
        name
        for history in histories.values()
        for name in history.columns[history.notna().any()]
        if name not in NOT_A_LOSS and not name.endswith("_unmixed")
    ]
    return sorted(dict.fromkeys(columns), key=lambda name: name != "loss")


def learning_curves(histories: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return one row per epoch; a student's columns begin with its name: `dynamic_loss`."""
    parts = []
    for student, history in histories.items():
        last = history.drop_duplicates("epoch", keep="last").set_index("epoch")
        parts.append(last.add_prefix(f"{student}_"))
    return pd.concat(parts, axis=1).sort_index().rename_axis("epoch").reset_index()


def mixup_start(history: pd.DataFrame) -> float | None:
    """Return the first epoch that mixes images: the first with a loss measured before mixing."""
    mixing = history[history.filter(regex="_unmixed$").notna().any(axis=1)]
    return float(mixing["epoch"].iloc[0]) if len(mixing) else None


def kept_epoch(history: pd.DataFrame) -> pd.Series | None:
    """Return the epoch that early stopping kept; None without early stopping."""
    return history[history[KEPT].astype(bool)].iloc[0] if KEPT in history.columns else None


def measured_bits(sites: pd.DataFrame) -> list[int]:
    """Return the widths that sites have, ascending, from the columns `bits_3`, `bits_4`, ….

    >>> measured_bits(pd.DataFrame(columns=["site", "bits_5", "bits_3"]))
    [3, 5]
    """
    columns = [str(name) for name in sites.columns if str(name).startswith("bits_")]
    return sorted(int(name.removeprefix("bits_")) for name in columns)


def mean_site_bits(sites: pd.DataFrame) -> Floats:
    """Return the mean activation width of each site over the measured images, in bits."""
    widths = measured_bits(sites)
    shares = sites[[f"bits_{b}" for b in widths]].to_numpy(dtype=float)
    bits: Floats = shares @ np.array(widths, dtype=float) / 100.0
    return bits


def sensitivity_table(per_image: pd.DataFrame) -> pd.DataFrame:
    """Return entropy and lowest surviving uniform width of the images where it was measured.

    A width of 0 means that the prediction survives at none.
    """
    columns = per_image.reindex(columns=["lowest_bits", "entropy_nats"])
    measured = columns.dropna(subset="lowest_bits").reset_index(drop=True)
    return measured.astype({"lowest_bits": int, "entropy_nats": float})


def extremes(synthetic: pd.DataFrame, count: int) -> tuple[list[int], list[int]]:
    """Return the indices of the easiest and the hardest images by the teacher's entropy.

    The most extreme come first, and no image is in both.
    """
    ordered = synthetic.sort_values(["entropy_nats", "index"], kind="stable")["index"]
    indices = [int(index) for index in ordered]
    count = min(count, len(indices) // 2)
    return indices[:count], indices[::-1][:count]
