"""The same numbers as CSV, for `dvc plots show` and `dvc plots diff`."""

from collections.abc import Iterator

import pandas as pd

from dynadfq.report.load import Evidence
from dynadfq.report.matrices import most_confused
from dynadfq.report.tables import (
    entropy_groups,
    entropy_histogram,
    learning_curves,
    mean_site_bits,
    sensitivity_table,
)

ACCURACIES = ["top1", "control_top1"]  # what dvc.yaml draws; empty without labels
COSTS = ["entropy_nats", "bit_flops_percent"]


def plot_tables(evidence: Evidence) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield file stem and table of every plot; all exist, so that DVC finds its outputs."""
    measured = evidence.per_image[COSTS]
    yield "entropy_cost_test", measured if evidence.score.labelled else measured.head(0)
    yield "entropy_cost_synthetic", evidence.synthetic[COSTS]
    groups = entropy_groups(evidence.test_images, evidence.synthetic)
    yield "entropy_histogram", entropy_histogram(groups)
    columns = dict.fromkeys([*evidence.budget.columns, *ACCURACIES])
    yield "accuracy_by_budget", evidence.budget.reindex(columns=list(columns))
    yield "bits_per_site", evidence.sites.assign(mean_bits=mean_site_bits(evidence.sites))
    yield "learning_curves", learning_curves(evidence.histories)
    yield "confusion", confusion_rows(evidence)
    yield "sensitivity", sensitivity_table(evidence.per_image)


def confusion_rows(evidence: Evidence) -> pd.DataFrame:
    """Return label and dynamic prediction of each test image, for DVC's `confusion` template.

    Of many classes only those that are confused most, as in the report's figure.
    """
    if evidence.confusion is None:
        return pd.DataFrame(columns=["actual", "predicted"])
    names = pd.Series(evidence.class_names, dtype=object)
    shown = most_confused(evidence.confusion, evidence.class_names)
    table = evidence.per_image[["label", "prediction"]]
    table = table[table.isin(shown).all(axis=1)]
    return pd.DataFrame(
        {
            "actual": names[table["label"]].to_numpy(),
            "predicted": names[table["prediction"]].to_numpy(),
        }
    )
