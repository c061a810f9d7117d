"""Correlation coefficients, undefined (None) where one side does not vary."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import pearsonr, spearmanr


def rank_correlation(a: ArrayLike, b: ArrayLike) -> float | None:
    """Return Spearman's rank correlation of two (N,) sequences.

    Returns:
        A number in [-1, 1]; None for fewer than two values or where one side is constant.

    >>> round(rank_correlation([1, 2, 3], [10, 20, 90]), 6)
    1.0
    """
    return _correlation(spearmanr, a, b)


def linear_correlation(a: ArrayLike, b: ArrayLike) -> float | None:
    """Return Pearson's correlation of two (N,) sequences; None as for ``rank_correlation``."""
    return _correlation(pearsonr, a, b)


def _correlation(measure: Any, a: ArrayLike, b: ArrayLike) -> float | None:
    """Apply one of scipy's measures where it is defined."""
    a = np.asarray(a, dtype=float)
    b = np.asarray(b, dtype=float)
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(measure(a, b).statistic)
