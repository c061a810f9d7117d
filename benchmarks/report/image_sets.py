"""Sets of images as the figures show them, from what the cells of kind `statistics` wrote."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
from safetensors.numpy import load_file

from benchmarks.cells import statistics_of
from benchmarks.report.results import Record
from dynadfq.report.figures.tiles import Tile, label_parts
from dynadfq.report.matrices import Floats


@dataclass(frozen=True)
class ImageSet:
    """One measured set.

    folder: what ``measure_images`` wrote.
    of: "images" of a method, "generator" of a student, or "test".
    names: of the classes; None are the teacher's own.
    label: name in a figure.
    varied: the keys whose values set it apart from others.
    settings: the method's image settings, empty where it is no method's.
    """

    folder: Path
    of: str
    names: list[str] | None
    label: str
    varied: Mapping[str, Any]
    settings: Mapping[str, Any]

    @cached_property
    def images(self) -> pd.DataFrame:
        """One row per image, see ``prediction_table``."""
        return pd.read_csv(self.folder / "images.csv")

    @property
    def entropies(self) -> Floats:
        """The teacher's entropies in nats, (N,)."""
        return self.images["entropy_nats"].to_numpy(dtype=float)

    @cached_property
    def class_names(self) -> list[str]:
        """Names of the teacher's outputs."""
        return self.names or _class_names(self.folder)

    def table(self, name: str) -> pd.DataFrame:
        """Return `layers` or `channels`."""
        return pd.read_csv(self.folder / f"{name}.csv")

    def tiles(self, soft: bool) -> dict[int, Tile]:
        """Return the first image of each class whose label is shared, or is this class alone."""
        rows = self.images.loc[list(self._kept)]
        rows = rows[rows["soft"].astype(bool) == soft]
        return {int(row["label"]): self._kept[int(row["index"])] for _, row in rows.iterrows()}

    def extremes(self) -> dict[int, tuple[Tile, Tile]]:
        """Return the images of lowest and of highest entropy of each class that has several."""
        rows = self.images.loc[list(self._kept)].sort_values("entropy_nats", kind="stable")
        ends: dict[int, tuple[Tile, Tile]] = {}
        for label in sorted(set(rows["label"].tolist())):
            of_class = rows.loc[rows["label"] == label, "index"]
            low, high = (self._kept[int(of_class.iloc[place])] for place in (0, -1))
            if low is not high:
                ends[label] = (low, high)
        return ends

    @cached_property
    def _kept(self) -> dict[int, Tile]:
        """The images that were kept, by index."""
        stored = load_file(self.folder / "kept.safetensors")
        names = self.class_names
        tiles = {}
        for place, index in enumerate(stored["index"].tolist()):
            row = self.images.loc[index]
            likely = label_parts(stored["probabilities"][place], names) if self.of == "test" else ()
            tiles[index] = Tile(
                index=index,
                pixels=stored["pixels"][place],
                label=label_parts(stored["soft_labels"][place], names),
                prediction=names[int(row["teacher_prediction"])],
                entropy_nats=float(row["entropy_nats"]),
                probabilities=likely,
            )
        return tiles


def class_names(content: Record, teacher: str, folder: Path) -> list[str] | None:
    """Return the names that a teacher's test images give its classes, where they were measured.

    A network may know only numbers.
    """
    for key, entry in content["statistics"].items():
        path = folder / statistics_of(key)
        if entry["of"] == "test" and entry["teacher"] == teacher and path.exists():
            return _class_names(path)
    return None


def _class_names(folder: Path) -> list[str]:
    return list(json.loads((folder / "classes.json").read_text(encoding="utf-8")))
