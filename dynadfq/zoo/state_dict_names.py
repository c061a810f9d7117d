"""Matching of a file's tensor names with a network's.

Wrappers (DataParallel, torch.compile, Lightning modules) and older versions of a library save the
same tensors under other names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

Canonical = Callable[[Collection[str]], list[str]]

# Parts of a name that belong to a wrapper: DataParallel's and AveragedModel's, torch.compile's.
WRAPPERS = ("module", "_orig_mod")
# Tensors without effect on the output: counters, and leftovers of FLOP counters.
COUNTERS = re.compile(r"(^|\.)(num_batches_tracked|n_averaged|total_ops|total_params)$")
# Auxiliary classifiers, which only help training; the zoos build networks without them.
AUXILIARY = re.compile(r"^(aux1|aux2|AuxLogits)\.")


def match_names(names: Collection[str], own: Collection[str]) -> dict[str, str]:
    """Return for each name of a file the network's own name, or the same name if there is none.

    Both sides are brought to a common form, by the first of several rules that leaves the fewest of
    the network's names unmatched.

    >>> match_names(["module.fc.weight", "module.fc.bias"], ["fc.weight", "fc.bias"])
    {'module.fc.weight': 'fc.weight', 'module.fc.bias': 'fc.bias'}
    """
    matches = [_match(names, own, of_file, of_network) for of_file, of_network in RULES]
    best = max(matches, key=lambda match: sum(not is_counter(name) for name in match.values()))
    return {name: best.get(name, name) for name in names}


def is_counter(name: str) -> bool:
    """Return whether a tensor may be missing from the file.

    >>> is_counter("bn1.num_batches_tracked"), is_counter("bn1.running_mean")
    (True, False)
    """
    return COUNTERS.search(name) is not None


def is_unused(name: str) -> bool:
    """Return whether a tensor of the file may be missing from the network.

    >>> is_unused("bn1.num_batches_tracked"), is_unused("aux1.fc.weight"), is_unused("fc.weight")
    (True, True, False)
    """
    return is_counter(name) or AUXILIARY.search(name) is not None


def _match(
    names: Collection[str], own: Collection[str], of_file: Canonical, of_network: Canonical
) -> dict[str, str]:
    """Match names that agree in a common form; return nothing if that form is ambiguous."""
    common = of_file(names)
    own_name = dict(zip(of_network(own), own, strict=True))
    if len(set(common)) < len(names) or len(own_name) < len(own):
        return {}
    return {
        name: own_name[form] for name, form in zip(names, common, strict=True) if form in own_name
    }


def _without_wrappers(names: Collection[str]) -> list[str]:
    return [".".join(part for part in name.split(".") if part not in WRAPPERS) for name in names]


def _without_first_part(names: Collection[str]) -> list[str]:
    """Names without a first part that all share, such as the ``model.`` of a Lightning module."""
    unwrapped = _without_wrappers(names)
    first = {name.partition(".")[0] for name in unwrapped if not is_unused(name)}
    if len(first) != 1:
        return unwrapped
    prefix = f"{first.pop()}."
    return [name.removeprefix(prefix) for name in unwrapped]


def _of_old_densenet(names: Collection[str]) -> list[str]:
    """Names of torchvision's published DenseNets, which have ``norm.1`` for today's ``norm1``."""
    old = r"(denselayer\d+\.(?:norm|conv))\.([12])\."
    return [re.sub(old, r"\1\2.", name) for name in _without_wrappers(names)]


RULES: tuple[tuple[Canonical, Canonical], ...] = (
    (list, list),
    (_without_wrappers, _without_wrappers),
    (_without_first_part, _without_wrappers),
    (_without_wrappers, _without_first_part),
    (_of_old_densenet, _without_wrappers),
)
"""Common forms of the file's names and of the network's, in order of preference."""
