"""``python -m benchmarks.grid``: expand a grid to ``benchmarks/cells.yaml``, or say how long it
would take.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.cells import CELLS, NO_GRID, read_cells
from benchmarks.chains import Cells
from benchmarks.description import Description, described
from benchmarks.estimate import MEANINGS, Rates, estimate
from benchmarks.expand import expand
from benchmarks.record import remove_outdated
from dynadfq.params.errors import ParameterError
from dynadfq.params.yaml12 import Loader, read_yaml
from dynadfq.runtime.errors import did_you_mean, first_line
from dynadfq.runtime.resume import atomic_write

GRIDS = Path("benchmarks/grids")
HEAD = (
    "# Made by `python -m benchmarks.grid write {0}` from benchmarks/grids/{0}.yaml: "
    "edit that, and write again.\n"
)


def load_grid(name: str, overrides: dict[str, Any] | None = None) -> Cells:
    """Read and expand a grid; overrides apply to every cell, after the grid's own.

    Raises:
        ParameterError: with everything that is wrong, in the form of the file and in the parameters
            of any cell.
    """
    known = sorted(path.stem for path in GRIDS.glob("*.yaml"))
    if name not in known:
        raise ParameterError(
            GRIDS, [f"{name}: not one of {', '.join(known)}{did_you_mean(name, known)}"]
        )
    path = GRIDS / f"{name}.yaml"
    description, wrong = described(read_grid(path))
    if description is None or wrong:
        raise ParameterError(path, wrong)
    base = read_yaml(description.base, missing="it is the grid's `base`")
    description = _with(description, overrides or {})
    cells, wrong = expand(name, description, base if isinstance(base, dict) else {})
    if wrong:
        raise ParameterError(path, wrong)
    return cells


def read_grid(path: Path) -> object:
    """Return a grid file's content, merged into that of the grid that it `extends`.

    Parts and studies are added or replaced by name, and claims are added; everything else replaces
    what it inherits. A study that is null is left out, and so are the inherited claims, controls
    and figures about it.
    """
    content = read_yaml(path, missing="it is the grid that another one `extends`")
    if not isinstance(content, dict) or "extends" not in content:
        return content
    inherited = read_grid(GRIDS / f"{content.pop('extends')}.yaml")
    if not isinstance(inherited, dict):
        return inherited
    for group in ("images", "students", "studies"):
        own, old = content.get(group) or {}, inherited.get(group) or {}
        strangers = [name for name, part in own.items() if part is None and name not in old]
        if strangers:
            raise ParameterError(
                path,
                [
                    f"{group}.{name}: null leaves out what is inherited, and this name is not"
                    f"{did_you_mean(name, list(old))}"
                    for name in strangers
                ],
            )
        merged = {**old, **own}
        content[group] = {name: part for name, part in merged.items() if part is not None}
    claims = [one for one in inherited.get("claims") or [] if _is_about(one, content["studies"])]
    content["claims"] = claims + (content.get("claims") or [])
    listed = {
        key: [name for name in inherited.get(key) or [] if name in content["studies"]]
        for key in ("label_studies", "controls")
    }
    return {**inherited, **listed, **content}


def _is_about(claim: Any, studies: Mapping[str, Any]) -> bool:
    return all(claim[side]["study"] in studies for side in ("better", "worse"))


def _with(description: Description, overrides: dict[str, Any]) -> Description:
    return description.model_copy(update={"set": {**description.set, **overrides}})


def write(name: str, overrides: dict[str, Any], path: Path = CELLS) -> str:
    """Expand a grid to a file and return what to print.

    Measurements that were made with other settings of the same name are removed.
    """
    cells = load_grid(name, overrides)
    text = yaml.safe_dump(
        cells, default_flow_style=None, sort_keys=False, allow_unicode=True, width=10_000
    )
    before = read_cells(path) if path.exists() else None
    atomic_write(path, (HEAD.format(name) + text).encode())
    folder = path.parent.parent  # of the repository
    removed = 0 if before is None else remove_outdated(before, read_cells(path), folder)
    counts = {
        kind: len(cells[kind]) for kind in ("teachers", "images", "labelled", "students", "studies")
    }
    said = f"wrote {path}: " + ", ".join(f"{count} {kind}" for kind, count in counts.items())
    return said + f"; removed {removed} measurements of other settings" * bool(removed)


def main(arguments: list[str] | None = None) -> str:
    """Run the command line's command, from the repository root, and return what to print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grid", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("write", help="check benchmarks/grids/NAME.yaml and expand it")
    making.add_argument("name")
    making.add_argument(
        "-S",
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override for every cell",
    )
    asking = commands.add_parser(
        "estimate", help="how long a grid takes; the active one if none is named"
    )
    asking.add_argument("name", nargs="?")
    for field, meaning in MEANINGS.items():
        asking.add_argument(
            f"--{field}", type=float, default=getattr(Rates(), field), help=f"{meaning} a second"
        )
    options = parser.parse_args(arguments)
    if options.command == "write":
        return write(options.name, dict(map(_override, options.set)))
    rates = Rates(**{field: getattr(options, field) for field in MEANINGS})
    for field, rate in rates._asdict().items():
        if not rate > 0:
            parser.error(f"--{field}: {rate:g} is no rate above 0")
    cells = load_grid(options.name) if options.name else read_cells()
    return estimate(cells, rates) if cells["students"] else NO_GRID


def _override(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals:
        raise ParameterError("--set", [f"{text}: must be KEY=VALUE"])
    try:
        return key, yaml.load(value, Loader)
    except yaml.YAMLError as error:
        raise ParameterError("--set", [f"{text}: {first_line(error)}"]) from None


if __name__ == "__main__":
    try:
        print(main())
    except ParameterError as error:
        sys.exit(str(error))
