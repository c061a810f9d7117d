"""Check a parameter file, make one the active experiment, or write docs/params.md."""

from __future__ import annotations

import argparse
import shutil
import sys
from itertools import chain, count
from pathlib import Path

from dynadfq.params import ParameterError, examine, read
from dynadfq.params.docs import render
from dynadfq.runtime.errors import did_you_mean

ACTIVE = Path("params.yaml")
CONFIGS = Path("configs")
DOCS = Path("docs/params.md")


def main(arguments: list[str] | None = None) -> str:
    """Run a command from the repository root, and return what to print."""
    parser = argparse.ArgumentParser(prog="python -m dynadfq.params", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser(
        "check", help="report every problem of a file, by default params.yaml, and what is odd"
    )
    check.add_argument("file", nargs="?", type=Path, default=ACTIVE)
    use = commands.add_parser("use", help="copy configs/NAME.yaml to params.yaml")
    use.add_argument("name")
    commands.add_parser("docs", help="write docs/params.md")
    options = parser.parse_args(arguments)
    if options.command == "check":
        for line in examine(options.file, Path()):
            print(f"note: {line}", file=sys.stderr)
        return f"{options.file} is valid"
    if options.command == "use":
        return use_config(options.name)
    DOCS.parent.mkdir(exist_ok=True)
    DOCS.write_text(render(), encoding="utf-8")
    return f"wrote {DOCS}"


def use_config(name: str) -> str:
    """Check a ready experiment and make it the active one; an edited one is kept.

    Raises:
        ParameterError: there is no such experiment, or it has problems.
    """
    known = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    if not known:
        problem = "there are no experiments; run this in the folder of a project"
        raise ParameterError(CONFIGS, [f"{problem}, which `dynadfq init DIR` makes"])
    if name not in known:
        problem = f"must be one of {', '.join(known)}{did_you_mean(name, known)}"
        raise ParameterError(CONFIGS, [f"{name}.yaml: {problem}"])
    source = CONFIGS / f"{name}.yaml"
    read(source)
    kept = keep_edited()
    shutil.copyfile(source, ACTIVE)
    return f"{ACTIVE} is now {source}" + (f"; what it was is kept as {kept}" if kept else "")


def keep_edited() -> Path | None:
    """Copy the active experiment to a new file, unless it is a ready one; return that file."""
    content = ACTIVE.read_bytes() if ACTIVE.exists() else None
    if content is None or content in [path.read_bytes() for path in CONFIGS.glob("*.yaml")]:
        return None
    endings = chain([""], map("-{}".format, count(2)))
    names = (Path(f"{ACTIVE}.before{ending}") for ending in endings)
    kept = next(name for name in names if not name.exists())
    kept.write_bytes(content)
    return kept


if __name__ == "__main__":
    try:
        print(main())
    except ParameterError as error:
        sys.exit(str(error))
