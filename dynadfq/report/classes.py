"""What the report shows of classes: all of a few, of many those that are most alike or most
confused.
"""

from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from dynadfq.report.matrices import (
    Floats,
    both_ways,
    class_order,
    leading_classes,
    row_percent,
    square,
)

MOST_SHOWN = 40  # classes whose names can be read beside a map


class Pairs(NamedTuple):
    """Two (classes, classes) matrices over all classes, and the classes to show, in the order to
    show them.
    """

    first: Floats
    second: Floats
    shown: NDArray[np.int64]

    def part(self, matrix: Floats) -> Floats:
        """What is shown of a matrix."""
        rows: Floats = matrix[np.ix_(self.shown, self.shown)]
        return rows


def similar_pairs(similarity: Floats, co_occurrence: pd.DataFrame, names: list[str]) -> Pairs:
    """Similarity of weights, and how often two classes occur together; shown are the most
    similar.
    """
    together = both_ways(square(co_occurrence, "class_a", "class_b", "value", names))
    return Pairs(
        similarity, together, _in_order(leading_classes(similarity, MOST_SHOWN), similarity)
    )


def confused_pairs(confusion: pd.DataFrame, similarity: Floats, names: list[str]) -> Pairs:
    """Confusion of teacher and student in percent of each label's images; shown are the most
    confused.
    """
    teacher, student = (
        row_percent(square(confusion, "label", "prediction", who, names))
        for who in ("teacher", "student")
    )
    return Pairs(teacher, student, _in_order(most_confused(confusion, names), similarity))


def most_confused(confusion: pd.DataFrame, names: list[str]) -> NDArray[np.int64]:
    """The classes that either network takes for one another most often, ascending."""
    counts = [
        square(confusion, "label", "prediction", who, names) for who in ("teacher", "student")
    ]
    return leading_classes(np.maximum(*counts), MOST_SHOWN)


def _in_order(classes: NDArray[np.int64], similarity: Floats) -> NDArray[np.int64]:
    """Similar classes side by side."""
    ordered: NDArray[np.int64] = classes[class_order(similarity[np.ix_(classes, classes)])]
    return ordered
