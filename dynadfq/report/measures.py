"""Correlations, binned means and histograms, each a pure function of arrays."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import pearsonr, spearmanr

Floats = NDArray[np.floating[Any]]


def rank_correlation(a: Any, b: Any) -> float:
    """Spearman's rank correlation; nan where one side is constant or fewer than three values are
    given.

    >>> rank_correlation([1, 2, 3], [10, 20, 90])
    1.0
    """
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return round(float(spearmanr(a, b).statistic), 12)


def linear_correlation(a: Any, b: Any) -> float:
    """Pearson's correlation; nan where it is undefined."""
    a, b = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if len(a) < 3 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return math.nan
    return float(pearsonr(a, b).statistic)


def binned_means(entropy: Any, value: Any, bins: int = 9, at_least: int = 3) -> pd.DataFrame:
    """Mean value in bins of equal width on the root of entropy; bins of fewer than `at_least`
    images are left out.
    """
    root = np.sqrt(np.clip(np.asarray(entropy, dtype=float), 0, None))
    edges = np.linspace(0, max(float(root.max(initial=0)), 1e-6), bins + 1)
    place = np.clip(np.digitize(root, edges) - 1, 0, bins - 1)
    frame = pd.DataFrame(
        {"bin": place, "entropy_nats": root**2, "value": np.asarray(value, dtype=float)}
    )
    means = frame.groupby("bin").agg(
        entropy_nats=("entropy_nats", "mean"), value=("value", "mean"), images=("value", "size")
    )
    return means[means["images"] >= at_least].reset_index(drop=True)


def entropy_histogram(groups: Mapping[str, Floats], bins: int = 24) -> pd.DataFrame:
    """Percent of each group's images a bin; the bins have equal width on the square root of
    entropy.
    """
    top = max((float(values.max()) for values in groups.values() if len(values)), default=1.0)
    edges = np.linspace(0, math.sqrt(max(top, 1e-6)), bins + 1) ** 2
    edges[-1] = max(edges[-1], top)
    table = pd.DataFrame(
        {
            "entropy_low": edges[:-1],
            "entropy_high": edges[1:],
            "entropy_nats": (edges[:-1] + edges[1:]) / 2,
        }
    )
    for name, values in groups.items():
        counts = np.histogram(np.clip(values, 0, None), bins=edges)[0]
        table[f"{name}_percent"] = 100.0 * counts / max(len(values), 1)
    return table
