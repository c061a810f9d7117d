"""What networks are compared by, and on which images: top-1 on labelled ones, else agreement with
the teacher.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple


class Score(NamedTuple):
    """The measure of a run.

    key: its name in metrics.json. name: in a sentence. reaches: what a network does that has so
        many percent of it.
    images, total: the kind that is measured, and how many. against: column of per_image.csv that
    decides.
    """

    key: str
    name: str
    reaches: str
    images: str
    total: int
    against: str

    @property
    def labelled(self) -> bool:
        """Whether there are labelled test images."""
        return self.key == "top1"


def score_of(metrics: Mapping[str, Any]) -> Score:
    """The measure that the metrics were made with; `data.name` is null where there are no
    labels.
    """
    if metrics["data"]["name"] is not None:
        return Score(
            "top1",
            "top-1",
            "reaches {} top-1",
            "test images",
            metrics["data"]["test_images"],
            "label",
        )
    reaches = "agrees with its teacher on {} of the synthetic images"
    total = metrics["synthetic"]["num_images"]
    return Score("agreement", "agreement", reaches, "synthetic images", total, "teacher_prediction")
