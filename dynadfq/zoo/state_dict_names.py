"""The same tensors under other names: what wrappers and older versions of a library do to a
network's state_dict.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

Spelling = Callable[[Collection[str]], list[str]]

# Parts of a name that belong to a wrapper: DataParallel's and AveragedModel's, torch.compile's.
WRAPPERS = ("module", "_orig_mod")
# What a network answers without: counters, and leftovers of FLOP counters.
COUNTERS = re.compile(r"(^|\.)(num_batches_tracked|n_averaged|total_ops|total_params)$")
# What a file may have for nobody: classifiers that only help training, which zoos build without.
HELPERS = re.compile(r"^(aux1|aux2|AuxLogits)\.")


def renamed(names: Collection[str], own: Collection[str]) -> dict[str, str]:
    """For each name of a file the network's own name for it, or the file's where there is none.

    Both sides are spelled alike, in the first of several ways that leaves the fewest of the
    network's names out.

    >>> renamed(["module.fc.weight", "module.fc.bias"], ["fc.weight", "fc.bias"])
    {'module.fc.weight': 'fc.weight', 'module.fc.bias': 'fc.bias'}
    """
    matches = [_matched(names, own, theirs, ours) for theirs, ours in SPELLINGS]
    best = max(matches, key=lambda match: sum(not counter(name) for name in match.values()))
    return {name: best.get(name, name) for name in names}


def counter(name: str) -> bool:
    """Whether a tensor may be missing from the file.

    >>> counter("bn1.num_batches_tracked"), counter("bn1.running_mean"), counter("aux1.fc.weight")
    (True, False, False)
    """
    return COUNTERS.search(name) is not None


def needless(name: str) -> bool:
    """Whether a tensor may be missing from the network.

    >>> needless("bn1.num_batches_tracked"), needless("bn1.running_mean"), needless("aux1.fc.weight")
    (True, False, True)
    """
    return counter(name) or HELPERS.search(name) is not None


def _matched(
    names: Collection[str], own: Collection[str], theirs: Spelling, ours: Spelling
) -> dict[str, str]:
    """Names that are the same when the file's are spelled one way and the network's another; none
    where unclear.
    """
    spelled, place = theirs(names), dict(zip(ours(own), own, strict=True))
    if len(set(spelled)) < len(names) or len(place) < len(own):
        return {}
    return {
        name: place[common] for name, common in zip(names, spelled, strict=True) if common in place
    }


def _as_they_are(names: Collection[str]) -> list[str]:
    return list(names)


def _unwrapped(names: Collection[str]) -> list[str]:
    return [".".join(part for part in name.split(".") if part not in WRAPPERS) for name in names]


def _without_first_part(names: Collection[str]) -> list[str]:
    """Without what all begin with, such as the ``model.`` of a Lightning module."""
    unwrapped = _unwrapped(names)
    first = {name.partition(".")[0] for name in unwrapped if not needless(name)}
    return (
        [name.removeprefix(f"{next(iter(first))}.") for name in unwrapped]
        if len(first) == 1
        else unwrapped
    )


def _densenet(names: Collection[str]) -> list[str]:
    """As torchvision's published DenseNets are spelled, which are of a time when ``norm1`` was
    ``norm.1``.
    """
    return [
        re.sub(r"(denselayer\d+\.(?:norm|conv))\.([12])\.", r"\1\2.", name)
        for name in _unwrapped(names)
    ]


# How the file's names and the network's are spelled before they are compared.
SPELLINGS: tuple[tuple[Spelling, Spelling], ...] = (
    (_as_they_are, _as_they_are),
    (_unwrapped, _unwrapped),
    (_without_first_part, _unwrapped),
    (_unwrapped, _without_first_part),
    (_densenet, _unwrapped),
)
