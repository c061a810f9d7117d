"""The same numbers as CSV, for `dvc plots show` and `dvc plots diff`."""

from collections.abc import Iterator

import pandas as pd

from dynadfq.report.load import Evidence
from dynadfq.report.matrices import class_codes
from dynadfq.report.measures import entropy_histogram
from dynadfq.report.tables import entropy_groups, learning_curves, mean_site_bits, sensitivity_table


def plot_tables(evidence: Evidence) -> Iterator[tuple[str, pd.DataFrame]]:
    """File stem and table of every plot; the files exist whatever was measured, so that DVC finds its outs."""
    columns = ["entropy_nats", "bit_flops_percent"]
    yield "entropy_cost_test", evidence.per_image[columns]
    yield "entropy_cost_synthetic", evidence.synthetic[columns]
    yield "entropy_histogram", entropy_histogram(entropy_groups(evidence.per_image, evidence.synthetic))
    yield "accuracy_along_dial", evidence.dial
    yield "bits_per_site", evidence.sites.assign(mean_bits=mean_site_bits(evidence.sites))
    yield "learning_curves", learning_curves(evidence.histories)
    yield "confusion", confusion_rows(evidence)
    yield "sensitivity", sensitivity_table(evidence.per_image)


def confusion_rows(evidence: Evidence) -> pd.DataFrame:
    """One row a test image, for DVC's `confusion` template to count: label and dynamic prediction, by name."""
    names = evidence.class_names
    pairs = {"actual": "label", "predicted": "prediction"}
    return pd.DataFrame(
        {out: [names[i] for i in class_codes(evidence.per_image[column], names)] for out, column in pairs.items()}
    )
