"""Weights from files of others: safetensors, or pickles that hold tensors and nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from dynadfq.zoo.state_dict_names import counter, needless, renamed

# Keys under which training loops keep a state_dict. Where a file has averaged weights beside the
# last ones, they are what was measured (huggingface/pytorch-image-models: timm/models/_helpers.py).
WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
)


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by name; wrappers such as ``state_dict`` come off.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is a pickle that would run code, is damaged, or holds no tensors.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"teacher.checkpoint: {path} does not exist; put the weights there or correct the path"
        )
    content = _content(path)
    while wrapper := _wrapper(content):
        content = content[wrapper]
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(value, Tensor) for value in content.values())
    ):
        raise ValueError(
            f"teacher.checkpoint: {path} is not a state_dict (names to tensors); save model.state_dict()"
        )
    return {str(name): value for name, value in content.items()}


def _wrapper(content: Any) -> str | None:
    """The key under which a wrapper keeps a mapping, None where there is none."""
    keys = WRAPPERS if isinstance(content, Mapping) else ()
    return next(
        (key for key in keys if isinstance(content.get(key), Mapping) and content[key]), None
    )


def _content(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise ValueError(
            f"teacher.checkpoint: {path} is a pickle that holds more than tensors and would run code when loaded, so "
            f"it is refused ({_reason(error)}). Save its state_dict() alone, best as .safetensors"
        ) from error
    except (SafetensorError, RuntimeError, KeyError, EOFError, OSError) as error:
        if "TorchScript" in str(error):
            raise ValueError(
                f"teacher.checkpoint: {path} is a TorchScript program; save its state_dict(), best as .safetensors"
            ) from error
        raise ValueError(
            f"teacher.checkpoint: {path} is damaged or no checkpoint ({type(error).__name__}: {error}); copy it again"
        ) from error


def _reason(error: UnpicklingError) -> str:
    """What torch objects to, without its advice to load the file all the same."""
    found = re.search(r"unsupported (global: )?\w+ [\w.]+", str(error), re.IGNORECASE)
    return found.group() if found else str(error).splitlines()[0]


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load a checkpoint into a module, whichever way its names are spelled
    (``dynadfq.zoo.state_dict_names``).

    Raises:
        ValueError: names or shapes do not fit; the message lists the first few of each kind.
    """
    found, own = read_weights(path), module.state_dict()
    spelled = renamed(found.keys(), own.keys())
    weights = {spelled[name]: tensor for name, tensor in found.items()}
    weights = {
        name: tensor for name, tensor in weights.items() if name in own or not needless(name)
    }
    problems = [f"missing {name}" for name in own if name not in weights and not counter(name)]
    problems += [f"unexpected {name}" for name in weights if name not in own]
    problems += [
        f"{name} is {tuple(weights[name].shape)} in the file and {tuple(tensor.shape)} in the network"
        for name, tensor in own.items()
        if name in weights and weights[name].shape != tensor.shape
    ]
    if problems:
        more = f" and {len(problems) - 4} more" if len(problems) > 4 else ""
        raise ValueError(
            f"teacher.checkpoint: {path} does not fit the architecture: {'; '.join(problems[:4])}{more}"
        )
    module.load_state_dict(weights, strict=False)


def unshare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors on the CPU, each in memory of its own: tied weights come once under each of their
    names.
    """
    taken: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        alone = tensor.detach().cpu().contiguous()
        memory = alone.untyped_storage().data_ptr()
        result[name] = alone.clone() if memory in taken else alone
        taken.add(memory)
    return result
