"""What one DVC stage may see of ``params.yaml``: the keys that it declares in ``dvc.yaml``, and
nothing else.

DVC re-runs a stage when a declared key changes. A stage that read another key would keep a stale
result.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from dynadfq.methods import Methods
from dynadfq.params.declared import Key, declared_keys
from dynadfq.params.loading import read
from dynadfq.runtime.config import Config


def load(stage: str, path: str | Path = "params.yaml") -> StageParams:
    """Check all of the parameter file and return what a stage declares in the ``dvc.yaml`` beside
    it.

    Raises:
        ParameterError: with every problem of the parameter file, or with what is wrong in
            ``dvc.yaml``.
    """
    params = read(path)
    return StageParams(stage, params, declared_keys(stage, params, Path(path)))


class StageParams:
    """The declared part of ``params.yaml``, by attribute; a group that is declared whole is its
    frozen typed object.

    ``view.method.images`` and ``view.method.student`` are the groups of the method in use.
    """

    def __init__(self, stage: str, group: Config, declared: frozenset[Key], at: Key = ()) -> None:
        self.__dict__.update(_stage=stage, _group=group, _declared=declared, _at=at)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):  # Python's own probes, as in copying
            raise AttributeError(name)
        group, path = _place(self._group, (*self._at, name))
        key = ".".join(path)
        if name not in type(group).model_fields:
            raise AttributeError(f"`{key}` is not a parameter; docs/params.md lists them")
        value = getattr(group, name)
        # The methods' groups stay a view, whole or not: it knows which method is in use.
        if any(path[: len(k)] == k for k in self._declared) and not isinstance(value, Methods):
            return value
        if isinstance(value, Config) and any(_nested(path, k) for k in self._declared):
            return StageParams(self._stage, value, self._declared, path)
        raise AttributeError(f"stage `{self._stage}` does not declare `{key}` in dvc.yaml")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"`{'.'.join((*self._at, name))}` is read-only; change params.yaml")

    def __repr__(self) -> str:
        return f"StageParams({self._stage!r}, {self.as_dict()})"

    def as_dict(self) -> dict[str, Any]:
        """The declared part as plain sorted values, nested as in the file: equal for equal
        settings.
        """
        below = {key[len(self._at) :] for key in self._declared if _nested(key, self._at)}
        picked: dict[str, Any] = _picked(self._group.model_dump(mode="json"), below)
        return picked


def _place(group: Any, path: Key) -> tuple[Config, Key]:
    """Where a name is looked up: below ``method``, the groups of the method in use stand for
    themselves.
    """
    if isinstance(group, Methods) and path[-1] in ("images", "student"):
        return cast(Config, group.active), (*path[:-1], group.name, path[-1])
    return group, path


def _nested(one: Key, other: Key) -> bool:
    """Whether two keys are the same, or one is a group that holds the other.

    >>> _nested(("data",), ("data", "name")), _nested(("data", "root"), ("data", "name"))
    (True, False)
    """
    return all(a == b for a, b in zip(one, other, strict=False))


def _picked(value: Any, keys: set[Key]) -> Any:
    """The part of nested dicts that lies at or below some keys, sorted.

    >>> _picked({"b": {"y": 1, "x": 2}, "a": {"z": 3, "w": 4}}, {("b",), ("a", "z")})
    {'a': {'z': 3}, 'b': {'x': 2, 'y': 1}}
    """
    if not isinstance(value, dict):
        return value
    below = {name: {key[1:] for key in keys if key[:1] in ((), (name,))} for name in sorted(value)}
    return {name: _picked(value[name], inner) for name, inner in below.items() if inner}
