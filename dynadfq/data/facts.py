"""What a labelled data set tells about the network that is trained or measured on it."""

from __future__ import annotations

from pathlib import Path

from dynadfq.data.loading import card, class_names
from dynadfq.zoo.metadata import Metadata


def data_facts(name: str | None, folder: Path | None) -> Metadata | None:
    """Classes, size and statistics of a known data set; of any other its classes alone, read from
    its ``folder``.

    ``folder`` is None where the network was trained elsewhere: a folder of images may hold a part
    of its classes.
    """
    known = card(name)
    if known is not None:
        shape = (known.channels, known.size, known.size)
        names = known.class_names
        return Metadata(
            f"data set {name}", shape, len(names), known.mean, known.std, class_names=names
        )
    if name is None or folder is None:
        return None
    found = class_names(name, folder)
    return Metadata(
        f"data set {name}", num_classes=len(found) if found else None, class_names=found
    )
