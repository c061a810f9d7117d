"""The same numbers as CSV, for `dvc plots show` and `dvc plots diff`."""

from collections.abc import Iterator

import pandas as pd

from dynadfq.report.classes import most_confused
from dynadfq.report.load import Evidence
from dynadfq.report.matrices import class_codes
from dynadfq.report.measures import entropy_histogram
from dynadfq.report.tables import entropy_groups, learning_curves, mean_site_bits, sensitivity_table

ACCURACIES = ("top1", "control_top1")  # what dvc.yaml draws; empty without labels


def plot_tables(evidence: Evidence) -> Iterator[tuple[str, pd.DataFrame]]:
    """File stem and table of every plot; the files exist whatever was measured, so that DVC finds
    its outs.
    """
    columns = ["entropy_nats", "bit_flops_percent"]
    test = evidence.test_images
    yield (
        "entropy_cost_test",
        evidence.per_image[columns].head(0) if test is None else test[columns],
    )
    yield "entropy_cost_synthetic", evidence.synthetic[columns]
    yield "entropy_histogram", entropy_histogram(entropy_groups(test, evidence.synthetic))
    yield (
        "accuracy_by_budget",
        evidence.budget.reindex(columns=[*dict.fromkeys([*evidence.budget.columns, *ACCURACIES])]),
    )
    yield "bits_per_site", evidence.sites.assign(mean_bits=mean_site_bits(evidence.sites))
    yield "learning_curves", learning_curves(evidence.histories)
    yield "confusion", confusion_rows(evidence)
    yield "sensitivity", sensitivity_table(evidence.per_image)


def confusion_rows(evidence: Evidence) -> pd.DataFrame:
    """One row a test image, for DVC's `confusion` template to count: label and dynamic prediction,
    by name.

    Of many classes only those that are confused most, as in the report's figure.
    """
    pairs = {"actual": "label", "predicted": "prediction"}
    if evidence.confusion is None or evidence.test_images is None:
        return pd.DataFrame(columns=list(pairs))
    names = evidence.class_names
    shown = most_confused(evidence.confusion, names)
    table = evidence.test_images
    table = table[table["label"].isin(shown) & table["prediction"].isin(shown)]
    return pd.DataFrame(
        {
            out: [names[i] for i in class_codes(table[column], names)]
            for out, column in pairs.items()
        },
        dtype=object,
    )
