"""Commands outside the repository, with the package of an unpacked wheel."""

from __future__ import annotations

from pathlib import Path

from project import Project


class Outside(Project):
    """A folder outside the repository in which the wheel's package is the one that is imported."""

    def __init__(self, folder: Path, site: Path) -> None:
        super().__init__(folder)
        self.site = site

    @property
    def environment(self) -> dict[str, str]:
        return super().environment | {"PYTHONPATH": str(self.site)}
