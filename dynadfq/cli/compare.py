"""``dynadfq compare``: the results of experiments, and the parameters in which they differ."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer

from dynadfq.cli.output import AsJson, Cell, print_json, print_table
from dynadfq.runtime.errors import did_you_mean, dotted, shown

NAME = "compare"
EXAMPLES = """\b
Examples:
  dynadfq compare                      # the working copy, its commit, and the experiments on it
  dynadfq compare hast-w3a4 zeroq-w3a4 # two experiments
  dynadfq compare main HEAD~2          # any commits

\b
Results are those of reports/metrics.json, parameters those of params.yaml. An experiment is a
commit that DVC keeps under refs/exps; one that is queued, running or failed has no results
(dvc queue status)."""
PARAMS = "params.yaml"
METRICS = "reports/metrics.json"
WORKING_COPY = "working copy"
NETWORKS = ("teacher", "fixed", "student", "control", "static", "ceiling")
DEFAULT = "default"  # value of a parameter that is not in the file
HEAD = ("experiment", "method", "score", *NETWORKS, "bit-FLOPs %")
EXPERIMENT = re.compile(r"refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(?P<name>.+)")

Names = Annotated[
    list[str] | None,
    typer.Argument(metavar="[NAMES...]", help="Experiments, branches, tags or commits."),
]
All = Annotated[bool, typer.Option("--all", help="Experiments on every commit, not only on HEAD.")]


class Experiment(NamedTuple):
    """What a commit or the working copy says about an experiment."""

    name: str
    metrics: Mapping[str, Any]
    params: Mapping[str, object]  # by dotted key


def run(names: Names = None, everything: All = False, as_json: AsJson = False) -> None:
    """Compare results and parameters of experiments.

    "score" is what the networks' columns show, in percent: top-1, or agreement with the teacher
    where there are no labels. bit-FLOPs are the student's, in percent of the float network's. A
    parameter that is not in an experiment's file has its default.
    """
    found = [_at(name, commit) for name, commit in _chosen(names or [], everything)]
    different = _different([one.params for one in found])
    if as_json:
        rows = [
            {**dict(zip(HEAD, _row(one), strict=True)), "differs": values}
            for one, values in zip(found, different, strict=True)
        ]
        return print_json(rows)
    print_table(HEAD, [_row(one) for one in found])
    if not any(different):
        return typer.echo("\nNo parameter differs.")
    typer.echo("\nParameters that differ:")
    for one, values in zip(found, different, strict=True):
        typer.echo(f"  {one.name}: " + ", ".join(f"{k}={shown(v)}" for k, v in values.items()))


def _chosen(names: Sequence[str], everything: bool) -> Iterator[tuple[str, str | None]]:
    """Yield names with their commits; the working copy has none."""
    head = _git("rev-parse", "--verify", "--quiet", "HEAD^{commit}").strip()
    experiments = list(_experiments(None if everything or names else head))
    known = dict(experiments)
    if not names:
        yield WORKING_COPY, None
        yield "HEAD", head
        yield from experiments
    for name in names:
        if name in known:
            yield name, known[name]
            continue
        try:
            yield name, _git("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}").strip()
        except ValueError:
            near = did_you_mean(name, known)
            raise ValueError(
                f"NAMES: {name!r} is no experiment, branch, tag or commit{near}"
            ) from None


def _experiments(commit: str | None) -> Iterator[tuple[str, str]]:
    """Yield the names and commits of the experiments on a commit, or of all, oldest first."""
    pattern = "refs/exps/" if commit is None else f"refs/exps/{commit[:2]}/{commit[2:]}/"
    form = "--format=%(objectname) %(refname)"
    for line in _git("for-each-ref", "--sort=creatordate", form, pattern).splitlines():
        found, _, reference = line.partition(" ")
        if experiment := EXPERIMENT.fullmatch(reference):  # others are DVC's own
            yield experiment["name"], found


def _at(name: str, commit: str | None) -> Experiment:
    """Read an experiment; a file that is not there is empty."""
    import yaml

    from dynadfq.params.yaml12 import Loader

    try:
        metrics = json.loads(_content(commit, METRICS) or "{}")
        params = yaml.load(_content(commit, PARAMS), Loader)
    except (json.JSONDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{METRICS} or {PARAMS} of {name} cannot be read: {error}") from None
    return Experiment(name, metrics, dict(_leaves(params or {})))


def _content(commit: str | None, path: str) -> str:
    """Return a file's text of a commit or the working copy; empty where it is missing."""
    root = Path(_git("rev-parse", "--show-toplevel").strip())
    folder = _project(root)
    if commit is None:
        file = root / folder / path
        return file.read_text(encoding="utf-8") if file.is_file() else ""
    within = (folder / path).as_posix()
    # Of a commit in which the file is missing, ls-tree lists nothing.
    if not _git("ls-tree", "--full-tree", commit, within):
        return ""
    return _git("show", f"{commit}:{within}")


def _project(root: Path) -> Path:
    """Return the folder of the DVC project within the repository; the repository's own if none."""
    here = Path.cwd().resolve()
    above = [folder for folder in (here, *here.parents) if folder.is_relative_to(root.resolve())]
    found = next((folder for folder in above if (folder / ".dvc").is_dir()), root.resolve())
    return found.relative_to(root.resolve())


def _git(*arguments: str) -> str:
    """Run git and return its output.

    Raises:
        ValueError: there is no git or no repository, or git refuses.
    """
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, check=True)
    except FileNotFoundError:
        raise ValueError("git is not installed, and experiments are commits of git") from None
    except subprocess.CalledProcessError as error:
        cause = error.stderr.decode(errors="replace").strip() or "no commit yet"
        raise ValueError(
            f"experiments are commits of git, and `git {arguments[0]}` failed: {cause}"
        ) from None
    return done.stdout.decode(encoding="utf-8")


def _leaves(value: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, object]]:
    """Yield the dotted keys of nested mappings with their values; an empty mapping has none."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _leaves(part, (*path, str(key)))
    else:
        yield dotted(path), value


def _different(params: Sequence[Mapping[str, object]]) -> list[dict[str, object]]:
    """Return each experiment's values of the keys in which not all are equal."""
    keys = dict.fromkeys(key for one in params for key in one)
    values = {key: [one.get(key, DEFAULT) for one in params] for key in keys}
    differ = [key for key in keys if any(value != values[key][0] for value in values[key])]
    return [{key: values[key][number] for key in differ} for number in range(len(params))]


def _row(one: Experiment) -> tuple[Cell, ...]:
    student = one.metrics.get("student", {})
    score = "top1" if "top1" in student else "agreement"
    scores = (one.metrics.get(network, {}).get(score) for network in NETWORKS)
    name = {"top1": "top-1 %", "agreement": "agreement %"}[score] if student else None
    cost = student.get("bit_flops_percent")
    return (one.name, one.metrics.get("method"), name, *scores, cost)
