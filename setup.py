"""The wheel's files that lie outside the package: what ``dynadfq init`` copies."""

from pathlib import Path
from runpy import run_path

from setuptools import setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).parent
PROJECT = run_path(str(ROOT / "dynadfq" / "project" / "files.py"))


class BuildWithPipeline(build_py):
    """Adds the pipeline's files to the package.

    An editable installation reads those of the repository.
    """

    def run(self) -> None:
        """Build the package."""
        super().run()
        if not self.editable_mode:
            PROJECT["copy"](ROOT, Path(self.build_lib) / PROJECT["TEMPLATE"])

    def get_source_files(self) -> list[str]:
        """Return the files of a source distribution."""
        return [*super().get_source_files(), *map(str, PROJECT["listed"](ROOT))]


setup(cmdclass={"build_py": BuildWithPipeline})
