"""Matching of a data set's classes with a network's: by name, as a file says, or by order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from unicodedata import normalize

from dynadfq.runtime.errors import InvalidArgument

LISTED = 3  # names in an error message


@dataclass(frozen=True)
class ClassOrder:
    """The network's class for each class of a data set."""

    indices: tuple[int, ...]  # the network's class per class of the data set
    origin: str  # how they were found, as text for the report
    assumed: bool = False  # whether they were matched by order and count alone
    # Names for the network's classes, from a data set or a class file of all of them; empty where
    # the network has names of its own.
    names: tuple[str, ...] = ()


@dataclass(frozen=True)
class Source:
    """How a data set's classes are called in a message."""

    argument: str  # the setting that holds the data set
    classes: str  # what they are, in the plural
    order: str  # what numbers them


FOLDERS = Source("root", "class folders", "sorted folder names")
LABELS = Source("name", "classes of the data set", "the data set's labels")


def class_order(
    names: Sequence[str],
    class_names: Sequence[str],
    given: Mapping[str, Sequence[int]] | None = None,
    source: Source = FOLDERS,
) -> ClassOrder:
    """Match the classes of a data set with those of a network.

    Names are compared without regard to case, underscores and Unicode form. The data set may have
    a part of the network's classes. Numbers in place of the network's names are no names: then, as
    where no name contradicts it, as many classes are taken in order.

    Args:
        names: the data set's classes in the order that numbers them.
        class_names: the network's.
        given: the network's classes by name, one each, instead of a match with its own names.
        source: what kind of data set it is, for the messages.

    >>> class_order(["cat", "horse"], ["horse", "dog", "cat"]).indices
    (2, 0)
    >>> class_order(["n01440764", "n01443537"], ["tench", "goldfish"]).origin
    "sorted folder names, taken to be the teacher's classes in order; first n01440764 = tench"

    Raises:
        ValueError: a class of the data set has none of the network, or may have several.
    """
    if given is not None:
        order = ClassOrder(_given(names, given, len(class_names), source), "as the class file says")
        if not are_numbers(class_names):
            return order
        return replace(order, names=_names_of_all(given, len(class_names)))
    if are_numbers(class_names):
        return _unnamed(names, len(class_names), source)
    found = _by_name(names, class_names, source)
    unknown = [name for name, index in zip(names, found, strict=True) if index is None]
    counts = Counter(found)
    repeated = [name for name, index in zip(names, found, strict=True) if counts[index] > 1]
    if not unknown and repeated:
        raise InvalidArgument(
            source.argument,
            f"{len(repeated)} {source.classes} have the same class of the teacher by name: "
            f"{_some(repeated)}; merge them, or list the classes in a class file",
        )
    if not unknown:
        origin = f"by name, {len(names)} of the teacher's {len(class_names)} classes"
        return ClassOrder(tuple(index for index in found if index is not None), origin)
    in_order = all(index in (None, number) for number, index in enumerate(found))
    if len(names) == len(class_names) and in_order:
        return _taken_in_order(names, class_names, source)
    if len(unknown) < len(names):
        raise InvalidArgument(
            source.argument,
            f"{len(unknown)} of {len(names)} {source.classes} have no class of the teacher by "
            f"that name: {_some(unknown)}; name them as its classes, or list the classes in a "
            "class file",
        )
    raise InvalidArgument(
        source.argument,
        f"{len(names)} {source.classes} ({_some(names)}) for the teacher's {len(class_names)} "
        f"classes ({_some(class_names)}), and no name in common; list the classes in a class file",
    )


def are_numbers(class_names: Sequence[str]) -> bool:
    """Return whether class names are the classes' numbers, as of a network without names.

    >>> are_numbers(["0", "1", "2"]), are_numbers(["ant", "bee"])
    (True, False)
    """
    return list(class_names) == [str(number) for number in range(len(class_names))]


def _unnamed(names: Sequence[str], num_classes: int, source: Source) -> ClassOrder:
    """The classes of a network without class names, by their order or their numbers."""
    numbers = [int(name) for name in names if name.isdecimal()]
    if len(numbers) < len(names):
        if len(names) != num_classes:
            raise InvalidArgument(
                source.argument,
                f"{len(names)} {source.classes} ({_some(names)}) for the teacher's {num_classes} "
                "classes, which have no names; list the classes in a class file",
            )
        order = _taken_in_order(names, [f"class {i}" for i in range(num_classes)], source)
        return replace(order, names=tuple(names))
    whole = len(names) == num_classes
    # Of 0 … 11, sorted names put 10 before 2; of a part, only names of full width tell.
    unclear = numbers != sorted(numbers) if whole else _width(names) != len(str(num_classes - 1))
    if unclear:
        raise InvalidArgument(
            source.argument,
            f"{source.classes} {_some(names)} may be class numbers or, as torchvision's "
            "ImageFolder has it, the order of their sorted names, and the teacher's classes have "
            "no names; list the classes in a class file",
        )
    if whole and are_numbers(names):
        return ClassOrder(tuple(numbers), f"by number, {num_classes} of {num_classes} classes")
    if whole:
        return _taken_in_order(names, [f"class {i}" for i in range(num_classes)], source)
    if max(numbers) >= num_classes:
        raise InvalidArgument(
            source.argument,
            f"{source.classes}: {max(numbers)} is outside the teacher's classes, "
            f"0 … {num_classes - 1}",
        )
    return ClassOrder(tuple(numbers), f"{source.classes}, taken to be class numbers", assumed=True)


def _width(names: Sequence[str]) -> int:
    """The length of all names; 0 where it differs."""
    lengths = {len(name) for name in names}
    return lengths.pop() if len(lengths) == 1 else 0


def _taken_in_order(names: Sequence[str], class_names: Sequence[str], source: Source) -> ClassOrder:
    return ClassOrder(
        tuple(range(len(names))),
        f"{source.order}, taken to be the teacher's classes in order; "
        f"first {names[0]} = {class_names[0]}",
        assumed=True,
    )


def _given(
    names: Sequence[str], given: Mapping[str, Sequence[int]], num_classes: int, source: Source
) -> tuple[int, ...]:
    found = _classes_of(names, [(name, n) for name, numbers in given.items() for n in numbers])
    absent = [name for name, numbers in zip(names, found, strict=True) if not numbers]
    if absent:
        raise InvalidArgument(
            "class_file", f"it lacks {len(absent)} {source.classes}: {_some(absent)}; add them"
        )
    repeated = [
        f"{name} stands for {len(numbers)} classes"
        for name, numbers in zip(names, found, strict=True)
        if len(numbers) > 1
    ]
    if repeated:
        raise InvalidArgument("class_file", f"{_some(repeated)}; leave one class for each name")
    indices = [number for [number] in found]
    outside = [
        f"{name} = {number}"
        for name, number in zip(names, indices, strict=True)
        if not 0 <= number < num_classes
    ]
    if outside:
        raise InvalidArgument(
            "class_file", f"{_some(outside)}: the teacher's classes are 0 … {num_classes - 1}"
        )
    return tuple(indices)


def _names_of_all(given: Mapping[str, Sequence[int]], num_classes: int) -> tuple[str, ...]:
    """A name for each class, the last in the file, as ImageNet's after WordNet's; or none at all.

    >>> _names_of_all({"n01440764": [0], "tench": [0], "goldfish": [1]}, 2)
    ('tench', 'goldfish')
    """
    by_class = {numbers[0]: name for name, numbers in given.items() if len(numbers) == 1}
    whole = all(number in by_class for number in range(num_classes))
    return tuple(by_class[number] for number in range(num_classes)) if whole else ()


def _by_name(names: Sequence[str], class_names: Sequence[str], source: Source) -> list[int | None]:
    """The network's class of each name."""
    found = _classes_of(names, [(name, number) for number, name in enumerate(class_names)])
    ambiguous = [name for name, numbers in zip(names, found, strict=True) if len(numbers) > 1]
    if ambiguous:
        raise InvalidArgument(
            source.argument,
            f"the teacher has more than one class named {_some(ambiguous)}; list the classes "
            "in a class file",
        )
    return [numbers[0] if numbers else None for numbers in found]


def _classes_of(names: Sequence[str], classes: Iterable[tuple[str, int]]) -> list[list[int]]:
    """The classes of each name, the same letter by letter or else normalized."""
    known: dict[str, set[int]] = {}
    alike: dict[str, set[int]] = {}
    for name, number in classes:
        known.setdefault(normalize("NFC", name), set()).add(number)
        alike.setdefault(_normalized(name), set()).add(number)
    return [
        sorted(known.get(normalize("NFC", name)) or alike.get(_normalized(name), set()))
        for name in names
    ]


def _normalized(name: str) -> str:
    return normalize("NFC", normalize("NFC", name).casefold()).replace("_", " ").strip()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:LISTED]) + (", …" if len(names) > LISTED else "")
