"""Tell whether an interpreter has what pyproject.toml asks for, by comparing versions. It imports
and installs nothing.

    python .ci/requirements.py [--pinned] [EXTRA ...]

Prints the interpreter's folder and exits 0, or lists on standard error what is missing and exits 1.
With --pinned the versions must also be those of constraints.txt.
"""

from __future__ import annotations

import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

try:
    import tomllib
except ImportError:  # Python 3.10
    from pip._vendor import tomli as tomllib
try:
    from packaging.requirements import Requirement
    from packaging.specifiers import SpecifierSet
except ImportError:  # a bare environment
    from pip._vendor.packaging.requirements import Requirement
    from pip._vendor.packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parent.parent


def pins() -> list[str]:
    """Return the lines of constraints.txt."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def complaint(line: str, absent_is_fine: bool = False) -> str:
    """Say what is wrong with one requirement, or return an empty string."""
    requirement = Requirement(line)
    if requirement.marker and not requirement.marker.evaluate():
        return ""
    try:
        found = version(requirement.name)
    except PackageNotFoundError:
        return "" if absent_is_fine else f"{line}: not installed"
    return (
        ""
        if requirement.specifier.contains(found, prereleases=True)
        else f"{line}: {found} is installed"
    )


def main(arguments: list[str]) -> int:
    """Check this interpreter."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pinned = "--pinned" in arguments
    extras = [argument for argument in arguments if argument != "--pinned"]
    groups = [
        project["dependencies"],
        *(project["optional-dependencies"][extra] for extra in extras),
    ]
    complaints = [complaint(line) for group in groups for line in group]
    complaints += [complaint(line, absent_is_fine=True) for line in pins()] if pinned else []
    if not SpecifierSet(project["requires-python"]).contains(
        platform.python_version(), prereleases=True
    ):
        complaints.append(
            f"Python {project['requires-python']}: this is {platform.python_version()}"
        )
    folder = Path(sys.executable).parent
    if not (folder / "python").exists():  # stages are run as `python -m …`
        complaints.append(f"no command `python` in {folder}")
    if any(complaints):
        print(*filter(None, complaints), sep="\n", file=sys.stderr)
        return 1
    print(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
