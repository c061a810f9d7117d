"""Weights from files: safetensors, or pickles that hold nothing but tensors."""

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

from dynadfq.runtime.errors import InvalidArgument, first_line, typed_line
from dynadfq.zoo.state_dict_names import is_counter, is_unused, match_names

# Keys under which training loops keep a state_dict. Averaged weights come before the last ones:
# they are what was evaluated (huggingface/pytorch-image-models: timm/models/_helpers.py).
WRAPPERS = (
    "state_dict_ema",
    "model_ema",
    "ema_state_dict",
    "state_dict",
    "model_state_dict",
    "model",
    "net",
)
LISTED = 4  # problems that an error message names


class DoesNotFit(ValueError):
    """Tensors are not those of a network."""


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """Return a checkpoint's tensors by name, without wrappers such as ``state_dict``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is a pickle that would run code, is damaged, or holds no tensors.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(
            f"checkpoint: {path} does not exist; put the weights there or correct the path"
        )
    if not path.is_file():
        raise InvalidArgument("checkpoint", f"{path} is not a file; name the file of weights")
    content = _content(path)
    while wrapper := _wrapper(content):
        content = content[wrapper]
    tensors = dict(content) if isinstance(content, Mapping) else {}
    if not tensors or not all(isinstance(value, Tensor) for value in tensors.values()):
        raise InvalidArgument(
            "checkpoint", f"{path} is not a state_dict (names to tensors); save model.state_dict()"
        )
    return {str(name): value for name, value in tensors.items()}


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load a checkpoint into a module; its names may differ as in ``state_dict_names``.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, or does not fit (``fit_weights``).
    """
    try:
        fit_weights(module, read_weights(path))
    except DoesNotFit as error:
        raise InvalidArgument("checkpoint", f"{path} {error}") from error


def fit_weights(module: nn.Module, found: Mapping[str, Tensor], same_types: bool = False) -> None:
    """Load tensors into a module.

    Args:
        module: the network.
        found: tensors by name.
        same_types: whether floats must be float32 or of the module's own type, as where the library
            wrote them; other floats are converted.

    Raises:
        DoesNotFit: names, shapes or kinds of numbers are not those of the module, or a variance is
            negative; nothing was loaded.
    """
    own = module.state_dict()
    own_name = match_names(found.keys(), own.keys())
    weights = {own_name[name]: tensor for name, tensor in found.items()}
    weights = {
        name: tensor for name, tensor in weights.items() if name in own or not is_unused(name)
    }
    problems = [f"missing {name}" for name in own if name not in weights and not is_counter(name)]
    problems += [f"unexpected {name}" for name in weights if name not in own]
    problems += [
        f"{name} is of {str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in weights.items()
        if name in own and not _convertible(tensor.dtype, own[name].dtype, same_types)
    ]
    problems += [
        f"{name} has a negative variance"
        for name, tensor in weights.items()
        if name.endswith("running_var") and (tensor < 0).any()
    ]
    for name, tensor in own.items():
        if name in weights and weights[name].shape != tensor.shape:
            shape = tuple(weights[name].shape)
            problems.append(
                f"{name} is {shape} in the file and {tuple(tensor.shape)} in the network"
            )
    if problems:
        more = f" and {len(problems) - LISTED} more" if len(problems) > LISTED else ""
        raise DoesNotFit(f"does not fit the architecture: {'; '.join(problems[:LISTED])}{more}")
    module.load_state_dict(weights, strict=False)


def _convertible(found: torch.dtype, own: torch.dtype, same_types: bool) -> bool:
    if same_types:
        return found in (own, torch.float32) and found.is_floating_point == own.is_floating_point
    return found.is_floating_point == own.is_floating_point


def unshare(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors on the CPU, each in its own memory, as a safetensors file needs them.

    Tied weights are copied: they are saved under each of their names.
    """
    taken: set[int] = set()
    result = {}
    for name, tensor in tensors.items():
        own = tensor.detach().cpu().contiguous()
        memory = own.untyped_storage().data_ptr()
        result[name] = own.clone() if memory in taken else own
        taken.add(memory)
    return result


def _wrapper(content: Any) -> str | None:
    """The key of a wrapped state_dict; None if there is none."""
    if not isinstance(content, Mapping):
        return None
    for key in WRAPPERS:
        if isinstance(content.get(key), Mapping) and content[key]:
            return key
    return None


def _content(path: Path) -> Any:
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        if "Unsupported operand" in str(error):  # a byte that begins no instruction of a pickle
            raise _damaged(path, error) from error
        raise InvalidArgument(
            "checkpoint",
            f"{path} is a pickle that holds more than tensors and would run code when "
            f"loaded, so it is refused ({_reason(error)}). Save its state_dict() alone, best as "
            ".safetensors",
        ) from error
    except (SafetensorError, RuntimeError, KeyError, EOFError, OSError) as error:
        if "TorchScript" in str(error):
            raise InvalidArgument(
                "checkpoint",
                f"{path} is a TorchScript program; save its state_dict(), best as .safetensors",
            ) from error
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> InvalidArgument:
    return InvalidArgument(
        "checkpoint", f"{path} is damaged or not a checkpoint ({typed_line(error)}); copy it again"
    )


def _reason(error: UnpicklingError) -> str:
    """The reason in torch's error, without its advice to load the file anyway."""
    found = re.search(r"unsupported (global: )?\w+ [\w.]+", str(error), re.IGNORECASE)
    return found.group() if found else first_line(error)
