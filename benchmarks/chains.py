"""One chain of a grid's line, from teacher to student, as cells: with all parameters that each
depends on.

A cell's key says what it is. Its values do not depend on what else is in the grid, so that a new
method or width adds cells and changes none. Equal cells have one key, whichever studies they belong
to.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.description import Description, Part, Width
from benchmarks.settings import (
    IMAGE_GROUPS,
    STUDENT_GROUPS,
    Document,
    checked,
    effective,
    misplaced,
    overridden,
    seen_by,
    widths,
)
from dynadfq.methods import METHODS
from dynadfq.methods.schedules import schedule
from dynadfq.params.sections import DEFAULT
from stages.evaluate import EvaluateParams
from stages.finetune import FinetuneParams, FixedParams
from stages.similarity import SimilarityParams
from stages.synthesize import SynthesizeParams
from stages.teacher import TeacherParams

Cells = dict[str, Any]


class Chain(NamedTuple):
    """What one line of a table needs for one seed."""

    teacher: str
    images: str
    student: str
    width: Width
    varied: Mapping[str, Any]
    seed: int


class Expansion:
    """Collects cells and what is wrong with them."""

    def __init__(self, grid: Description, base: Document) -> None:
        self.grid, self.base = grid, base
        self.problems: dict[tuple[str, str], str] = {}
        self.cells: Cells = {
            kind: {} for kind in ("teachers", "similarities", "images", "labelled", "students")
        }
        self._keys: dict[str, str] = {}

    def teacher(self, name: str) -> None:
        """Add a teacher and its class similarities."""
        params, problems = checked(self._document(name))
        self.report(f"teachers.{name}", problems)
        seen = seen_by(TeacherParams, params)
        weights = seen["teacher"]["checkpoint"] or "checkpoints/README.md"
        self.cells["teachers"][name] = {"weights": weights, "params": seen}
        self.cells["similarities"][name] = {"params": seen_by(SimilarityParams, params)}

    def images(self, chain: Chain) -> str:
        """Add the images of a chain, unless there are equal ones, and return their key."""
        part = self.grid.images[chain.images]
        own = {**self._image_set(chain, part), "method.name": part.method}
        document = overridden(self._document(chain.teacher), own)
        varied = self._varied(chain, IMAGE_GROUPS, document, part)
        document = overridden(document, {**varied, "seed": chain.seed})
        params, problems = checked(document)
        self.report(f"images.{chain.images}", problems, words_of(varied))
        entry = {
            "teacher": chain.teacher,
            "method": part.method,
            "params": seen_by(SynthesizeParams, params),
        }
        kind = "images" if METHODS[part.method].data_free else "labelled"
        return self._add(kind, _key(chain.teacher, chain.images, varied, chain.seed), entry)

    def student(self, chain: Chain) -> str:
        """Add the student of a chain, and its images, unless there are equal ones, and return its
        key.
        """
        part, source = self.grid.students[chain.student], self.grid.images[chain.images]
        self._require_width(chain, source.method, part.method)
        own = source.method == part.method
        about_images = {
            k: v
            for k, v in {**self._image_set(chain, source), **chain.varied}.items()
            if k.split(".")[0] == "synthesis" or (own and k.split(".")[0] == "images")
        }
        document = overridden(self._document(chain.teacher), about_images)  # for rules
        document = overridden(document, self._set(chain, part, STUDENT_GROUPS))
        document = overridden(document, {**widths(chain.width), "method.name": part.method})
        varied = self._varied(chain, STUDENT_GROUPS, document, part)
        document = overridden(document, {**varied, "seed": chain.seed})
        params, problems = checked(document)
        images = self.images(chain)
        about = f"images.{chain.images}"
        new = [problem for problem in problems if (about, problem) not in self.problems]
        self.report(f"students.{chain.student}", new, words_of(varied))
        view = FinetuneParams if chain.width.candidates else FixedParams
        entry = {
            "teacher": chain.teacher,
            "images": images,
            "method": part.method,
            "fixed": not chain.width.candidates,
            "params": seen_by(view, params),
        }
        name = f"{images.removesuffix(f'-s{chain.seed}')}-{chain.student}"
        return self._add(
            "students", _key(name, _width_key(chain.width), varied, chain.seed, last=True), entry
        )

    def evaluation(self) -> Document:
        """Return the settings of the evaluation, the same for every student."""
        params, problems = checked(overridden(self.base, self.grid.set))
        self.report("set", problems)
        seen = seen_by(EvaluateParams, params)
        sizes = {name: seen["evaluation"][name] for name in ("batch_size", "test_images")}
        return {
            "architectures": sorted(map(self.architecture, self.grid.teachers)),
            "device": seen["device"],
            "data": seen["data"],
            **sizes,
        }

    def architecture(self, teacher: str) -> str:
        """Return which network a teacher is."""
        name: str = self.cells["teachers"][teacher]["params"]["teacher"]["architecture"]
        return name

    def _document(self, teacher: str) -> Document:
        return overridden(self.base, {**self.grid.set, **self.grid.teachers[teacher]})

    def _image_set(self, chain: Chain, part: Part) -> Mapping[str, Any]:
        """What an image source sets; labelled images are those of the grid's data set."""
        own = self._set(chain, part, IMAGE_GROUPS)
        if METHODS[part.method].data_free:
            return own
        data = self._document(chain.teacher).get("data", {})
        named = {"name": "data", "root": "root", "classes": "classes", "fingerprint": "fingerprint"}
        whole = {f"images.{own}": data[key] for key, own in named.items() if key in data}
        return {**whole, **own}

    def _set(self, chain: Chain, part: Part, groups: tuple[str, ...]) -> Mapping[str, Any]:
        """What a part sets: its published schedule on request, as far as it is of these groups.

        Raises:
            ValueError: the schedule has a key that is of no part of a grid.
        """
        if not part.published:
            return part.set
        values = schedule(part.method, self._preset(chain.teacher))
        for key in values:
            if (problem := misplaced(key, IMAGE_GROUPS + STUDENT_GROUPS)) is not None:
                raise ValueError(f"published schedule of {part.method}: {problem}")
        mine = {key: value for key, value in values.items() if key.split(".")[0] in groups}
        return {**mine, **part.set}

    def _preset(self, teacher: str) -> str:
        """The preset of every chain of a teacher."""
        return str(self._document(teacher).get("method", {}).get("preset", DEFAULT))

    def _require_width(self, chain: Chain, *methods: str) -> None:
        """Report a preset of another width than the chain's, if it has values for its methods."""
        preset, key = self._preset(chain.teacher), "method.preset"
        start, separator, bits = preset.rpartition("-w")
        used = any(preset in METHODS[name].presets for name in methods)
        if not (used and separator) or bits == str(chain.width.weight_bits):
            return
        place = "set" if key in self.grid.set else self.grid.base
        place = f"teachers.{chain.teacher}" if key in self.grid.teachers[chain.teacher] else place
        self.report(
            place,
            [
                f"{key}: {preset} is for weights of {bits} bits, and {chain.width.words} is in a "
                f"study; set {start}, or have one grid per width"
            ],
        )

    def _varied(
        self, chain: Chain, groups: tuple[str, ...], document: Document, part: Part
    ) -> dict[str, Any]:
        """The varied keys of these groups whose value is not the unvaried one."""
        params, _ = checked(document)
        mine = {key: value for key, value in chain.varied.items() if key.split(".")[0] in groups}

        def changed(key: str, value: Any) -> bool:
            try:
                return bool(effective(params, key) != value)
            except AttributeError:  # an unknown key, which `checked` reports
                return True

        return {key: value for key, value in mine.items() if changed(key, value)}

    def _add(self, kind: str, key: str, entry: Document) -> str:
        content = json.dumps([kind, entry], sort_keys=True)
        key = self._keys.setdefault(content, key)
        if self.cells[kind].setdefault(key, entry) != entry:
            self.report(
                f"{kind}.{key}",
                ["two different cells have this name; rename an image source or a student"],
            )
        return key

    def report(self, place: str, problems: Sequence[str], circumstance: str = "") -> None:
        """Record each problem of a place once, whatever is varied there."""
        for problem in problems:
            self.problems.setdefault((place, problem), f"{place}{circumstance}: {problem}")


def _width_key(width: Width) -> str:
    candidates = "".join(map(str, width.candidates))
    return f"w{width.weight_bits}a{width.target_bits}" + (f"-{candidates}" if candidates else "")


def _key(start: str, name: str, varied: Mapping[str, Any], seed: int, last: bool = False) -> str:
    """Parts joined by dashes; DVC reads a dot in a key as a step into a group.

    >>> _key("digits-resnet20", "dynadfq", {"images.diverse_ratio": 0.25}, 1)
    'digits-resnet20-dynadfq-diverse_ratio0p25-s1'
    """
    tail = [f"{key.split('.')[-1]}{_plain(value)}" for key, value in varied.items()]
    parts = [start, *tail, name] if last else [start, name, *tail]
    return "-".join([*parts, f"s{seed}"])


def _plain(value: Any) -> str:
    text = json.dumps(value).replace(".", "p").replace("-", "m")
    return "".join(letter for letter in text if letter.isalnum())


def words_of(varied: Mapping[str, Any]) -> str:
    """Return varied keys with their values in brackets, an empty text without any."""
    return f" ({', '.join(f'{key} {value}' for key, value in varied.items())})" if varied else ""
