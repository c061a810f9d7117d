"""Check a parameter file, make one the active experiment, or write docs/params.md."""

from __future__ import annotations

import argparse
import shutil
import sys
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
    """Check a ready experiment and make it the active one."""
    known = sorted(path.stem for path in CONFIGS.glob("*.yaml"))
    if name not in known:
        problem = f"must be one of {', '.join(known)}{did_you_mean(name, known)}"
        raise ParameterError(CONFIGS, [f"{name}.yaml: {problem}"])
    source = CONFIGS / f"{name}.yaml"
    read(source)
    shutil.copyfile(source, ACTIVE)
    return f"{ACTIVE} is now {source}"


if __name__ == "__main__":
    try:
        print(main())
    except ParameterError as error:
        sys.exit(str(error))
