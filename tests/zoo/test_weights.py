from __future__ import annotations

import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from torch import nn

from dynadfq.zoo.architectures import build
from dynadfq.zoo.weights import load_weights, read_weights, unshare


def network() -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


class Malicious:
    """A pickle of this creates a file when it is loaded by an unsafe reader."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.proof),)


WRAPPED = {
    "plain": lambda state: state,
    "state_dict": lambda state: {"state_dict": state, "epoch": 3},
    "nested": lambda state: {"state_dict": {"model": state}},
    "DataParallel": lambda state: {f"module.{name}": value for name, value in state.items()},
    "both": lambda state: {"net": {f"module.{name}": value for name, value in state.items()}},
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_wrappers_and_prefixes_come_off(tmp_path: Path, wrapper: str) -> None:
    source, target = network(), network()
    torch.save(WRAPPED[wrapper](source.state_dict()), tmp_path / "weights.pth")
    load_weights(target, tmp_path / "weights.pth")
    assert all(
        torch.equal(target.state_dict()[name], value) for name, value in source.state_dict().items()
    )


@pytest.mark.parametrize("prefix", ["", "module."])
def test_safetensors(tmp_path: Path, prefix: str) -> None:
    source, target = network(), network()
    state = {prefix + name: value for name, value in source.state_dict().items()}
    safetensors.torch.save_file(state, tmp_path / "weights.safetensors")
    load_weights(target, tmp_path / "weights.safetensors")
    assert torch.equal(target[0].weight, source[0].weight)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_runs_code_is_refused_unread(tmp_path: Path, legacy: bool) -> None:
    path, content = (
        tmp_path / "evil.pth",
        {"weight": torch.zeros(1), "x": Malicious(tmp_path / "ran")},
    )
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(
        ValueError, match=r"(?i)would run code when loaded, so it is refused \(.*global.*mkdir"
    ):
        read_weights(path)
    assert not (tmp_path / "ran").exists()
    pickle.loads(pickle.dumps(content["x"]))
    assert (tmp_path / "ran").exists(), "the pickle would not have run anything"


def test_the_reason_for_refusing_is_not_advice_to_load_it(tmp_path: Path) -> None:
    torch.save({"x": Malicious(tmp_path)}, tmp_path / "evil.pth")
    with pytest.raises(ValueError) as error:
        read_weights(tmp_path / "evil.pth")
    assert "weights_only" not in str(error.value)


@pytest.mark.parametrize("suffix", ["pth", "safetensors"])
@pytest.mark.parametrize("content", ["empty", "text", "truncated", "header of 2^60 bytes"])
def test_damaged_files(tmp_path: Path, suffix: str, content: str) -> None:
    path, state = tmp_path / f"weights.{suffix}", {"weight": torch.zeros(1000)}
    if content == "truncated":
        torch.save(state, path) if suffix == "pth" else safetensors.torch.save_file(state, path)
        path.write_bytes(path.read_bytes()[:-900])
    elif content == "header of 2^60 bytes":
        path.write_bytes((2**60).to_bytes(8, "little") + b"{}")
    else:
        path.write_text("" if content == "empty" else "hello")
    with pytest.raises(
        ValueError, match=rf"checkpoint: .*weights\.{suffix} is damaged or not a checkpoint"
    ):
        read_weights(path)


def test_a_folder_or_a_pipe_is_no_checkpoint(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.pth")
    for path in (tmp_path, tmp_path / "pipe.pth"):
        with pytest.raises(ValueError, match="is not a file; name the file of weights"):
            read_weights(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: {"0.weight": state["0.weight"].int()}, "0.weight is of int32"),
        (lambda state: {"1.running_var": -state["1.running_var"]}, "a negative variance"),
    ],
)
def test_numbers_of_another_kind_are_refused(tmp_path: Path, change: Any, words: str) -> None:
    state = network().state_dict()
    torch.save({**state, **change(state)}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=f"does not fit the architecture: .*{words}"):
        load_weights(network(), tmp_path / "weights.pth")


def test_what_is_no_state_dict(tmp_path: Path) -> None:
    for number, content in enumerate([torch.zeros(3), {}, {"weight": 3}, [1, 2]]):
        torch.save(content, tmp_path / f"{number}.pth")
        with pytest.raises(ValueError, match="is not a state_dict"):
            read_weights(tmp_path / f"{number}.pth")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.pth does not exist"):
        read_weights(tmp_path / "nowhere.pth")


def test_what_does_not_fit_is_listed_and_nothing_is_loaded(tmp_path: Path) -> None:
    source, target = network(), network()
    state = dict(source.state_dict())
    state["0.weight"] = torch.zeros(5, 3, 1, 1)
    state["head.weight"] = state.pop("2.weight")
    torch.save(state, tmp_path / "weights.pth")
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(ValueError) as error:
        load_weights(target, tmp_path / "weights.pth")
    for part in (
        "missing 2.weight",
        "unexpected head.weight",
        "0.weight is (5, 3, 1, 1) in the file and (4, 3, 1, 1)",
    ):
        assert part in str(error.value)
    assert all(torch.equal(before[name], value) for name, value in target.state_dict().items())
    torch.save({"head.weight": torch.zeros(1)}, tmp_path / "weights.pth")
    with pytest.raises(ValueError, match=r"missing 0\.weight; .* and 5 more"):
        load_weights(target, tmp_path / "weights.pth")


def test_the_counter_of_batches_may_be_missing(tmp_path: Path) -> None:
    source, target = network(), network()
    state = {
        name: value for name, value in source.state_dict().items() if "num_batches" not in name
    }
    torch.save(state, tmp_path / "weights.pth")
    load_weights(target, tmp_path / "weights.pth")
    assert torch.equal(target[0].weight, source[0].weight)


def test_where_averaged_weights_are_kept_they_are_taken(tmp_path: Path) -> None:
    last, averaged, target = network(), network(), network()
    kept = {
        "epoch": 9,
        "state_dict": last.state_dict(),
        "state_dict_ema": averaged.state_dict(),
        "args": {"lr": 0.1},
    }
    torch.save(kept, tmp_path / "last.pth.tar")
    load_weights(target, tmp_path / "last.pth.tar")
    assert torch.equal(target[0].weight, averaged[0].weight)
    swa = torch.optim.swa_utils.AveragedModel(averaged)
    torch.save(swa.state_dict(), tmp_path / "swa.pt")
    load_weights(last, tmp_path / "swa.pt")
    assert torch.equal(last[0].weight, averaged[0].weight)


class Wrapped(nn.Module):
    """A network with a part that is called as DataParallel's is."""

    def __init__(self) -> None:
        super().__init__()
        self.module = network()


@pytest.mark.parametrize(
    "names",
    [
        lambda name: name,
        lambda name: f"module.{name}",
        lambda name: f"_orig_mod.{name}",
        lambda name: f"module._orig_mod.{name}",
        lambda name: f"model.{name}",
        lambda name: f"module.model.{name}",
        lambda name: name.replace("1.", "1.module.", 1),
    ],
)
@pytest.mark.parametrize("make", [network, Wrapped])
def test_wrappers_leave_the_networks_own_names(
    tmp_path: Path, names: Any, make: Callable[[], nn.Module]
) -> None:
    source, target = make(), make()
    state = {names(name): value for name, value in source.state_dict().items()}
    state |= {f"{names('1.')}total_ops": torch.zeros(1)} if make is network else {}
    torch.save(state, tmp_path / "weights.pth")
    load_weights(target, tmp_path / "weights.pth")
    assert all(
        torch.equal(target.state_dict()[name], value) for name, value in source.state_dict().items()
    )


def test_torchvisions_published_spellings(tmp_path: Path) -> None:
    densenet = build("torchvision/densenet121", num_classes=4)
    old = {
        re.sub(r"(denselayer\d+\.(norm|conv))([12])", r"\1.\3", k): v
        for k, v in densenet.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in old
    torch.save(old, tmp_path / "densenet.pth")
    load_weights(build("torchvision/densenet121", num_classes=4), tmp_path / "densenet.pth")

    published = torchvision.models.googlenet(init_weights=False)
    assert any(name.startswith("aux1.") for name in published.state_dict())
    torch.save(published.state_dict(), tmp_path / "googlenet.pth")
    load_weights(build("torchvision/googlenet", num_classes=1000), tmp_path / "googlenet.pth")


def test_a_layer_named_like_a_helper_may_not_be_missing(tmp_path: Path) -> None:
    torch.save(network().state_dict(), tmp_path / "weights.pth")
    target = nn.ModuleDict({**dict(network().named_children()), "aux1": nn.Linear(2, 2)})
    with pytest.raises(ValueError, match=r"missing aux1\.weight; missing aux1\.bias"):
        load_weights(target, tmp_path / "weights.pth")


@pytest.mark.filterwarnings("ignore")  # that TorchScript is deprecated
def test_a_program_is_no_checkpoint(tmp_path: Path) -> None:
    torch.jit.trace(network(), torch.zeros(1, 3, 2, 2)).save(tmp_path / "program.pt")  # type: ignore[no-untyped-call]
    with pytest.raises(
        ValueError, match=r"program\.pt is a TorchScript program; save its state_dict"
    ):
        read_weights(tmp_path / "program.pt")


def test_a_bare_networks_checkpoint_fits_a_wrapper_of_ones_own(tmp_path: Path) -> None:
    source, target = network(), nn.ModuleDict({"net": network()})
    torch.save(
        {f"module.{name}": value for name, value in source.state_dict().items()},
        tmp_path / "weights.pth",
    )
    load_weights(target, tmp_path / "weights.pth")
    assert torch.equal(target["net"].state_dict()["0.weight"], source[0].weight)


def test_tied_weights_are_written_under_each_name() -> None:
    layer = torch.nn.Linear(2, 2)
    tied = torch.nn.Sequential(layer, torch.nn.ReLU(), layer, torch.nn.BatchNorm1d(2))
    tensors = unshare(tied.state_dict())
    assert tensors.keys() == tied.state_dict().keys()
    again = safetensors.torch.load(safetensors.torch.save(tensors))
    assert all(torch.equal(again[name], value) for name, value in tied.state_dict().items())
