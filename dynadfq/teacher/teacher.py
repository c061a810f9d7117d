"""The teacher: a frozen float classifier, with all that is known of its inputs and classes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from dynadfq.ops.batch_norm import BatchNorm, frozen, layers_with_statistics
from dynadfq.ops.memory_format import fastest_memory_format
from dynadfq.ops.precision import to_float32
from dynadfq.ops.preprocess import Interpolation, Preprocessing
from dynadfq.runtime.resume import atomic_write
from dynadfq.teacher.classifier import class_weights, find_classifier
from dynadfq.teacher.recording import Recording
from dynadfq.zoo.weights import unshare


class Teacher:
    """A frozen float classifier.

    Args:
        module: the network; it is set to eval mode and its parameters stop requiring gradients.
        input_shape: shape of one image, (C, H, W).
        num_classes: number of logits.
        mean, std: a channel each, of pixels in 0 … 1; what a normalized image was made with.
        class_names: one a class; their numbers when None.
        architecture: ``family/model`` of a zoo or an import path, from which the network can be
            rebuilt for a file.
        source: where the weights come from, in words.
        float_top1: accuracy on its test set in percent, if known.
        resize, interpolation: how images of any size are scaled before their middle is cut out, see
            ``Preprocessing``.
        origins: where these facts are from, in words, by the names of the arguments.

    Raises:
        ValueError: facts do not fit each other, such as two means for three channels.
    """

    def __init__(
        self,
        module: nn.Module,
        input_shape: Sequence[int],
        num_classes: int,
        mean: Sequence[float],
        std: Sequence[float],
        class_names: Sequence[str] | None = None,
        architecture: str | None = None,
        source: str = "module",
        float_top1: float | None = None,
        resize: int | None = None,
        interpolation: Interpolation = "bilinear",
        origins: Mapping[str, str] | None = None,
    ) -> None:
        self.module = module.eval().requires_grad_(False)
        channels, height, width = input_shape
        self.input_shape = (channels, height, width)
        self.num_classes = num_classes
        self.mean, self.std = tuple(mean), tuple(std)
        self.resize, self.interpolation = resize, interpolation
        self.origins = dict(origins or {})
        self.class_names = tuple(class_names or map(str, range(num_classes)))
        self.architecture, self.source, self.float_top1 = architecture, source, float_top1
        if len(self.class_names) != num_classes:
            raise ValueError(
                f"class_names: {len(self.class_names)} names for {num_classes} classes; give one a class"
            )
        _ = self.preprocessing  # which checks the rest

    def __call__(self, images: Tensor) -> Tensor:
        """Normalized images, (B, C, H, W), to logits, (B, classes)."""
        return to_float32(self.module(images))

    def to(self, device: torch.device | str) -> Teacher:
        """Move the network in place, in the layout that it reads."""
        self.module.to(device).to(memory_format=self.memory_format)
        return self

    @cached_property
    def memory_format(self) -> torch.memory_format:
        """The layout of images that the network is fastest in, of those that it can read."""
        return fastest_memory_format(self.module, self.input_shape)

    @property
    def device(self) -> torch.device:
        """Where the network's parameters lie."""
        return next(self.module.parameters()).device

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes what the network reads."""
        return Preprocessing(self.input_shape, self.mean, self.std, self.resize, self.interpolation)

    @property
    def class_weights(self) -> Tensor:
        """Weight rows of the classification layer, (classes, features)."""
        return class_weights(self.module, self.num_classes)

    @contextmanager
    def recording(self) -> Iterator[Recording]:
        """Record BatchNorm inputs and classifier features of the forward passes in this block;
        nothing is left behind.

        Of a network without BatchNorm statistics the features alone: asking for its ``batch_norms``
        is an error.

        Raises:
            ValueError: the network has no classification layer.
        """
        layers, missing = layers_with_statistics(self.module)
        recording = Recording(missing=missing)

        def keep_input(layer: BatchNorm, x: Tensor) -> None:
            recording.batch_norms.append((layer, x))

        def keep_features(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            recording.features = to_float32(inputs[0].flatten(1))

        handle = find_classifier(self.module, self.num_classes).register_forward_pre_hook(
            keep_features
        )
        try:
            with frozen(layers, keep_input):
                yield recording
        finally:
            handle.remove()
            recording.clear()

    def serialized(self) -> bytes:
        """The weights as a safetensors file."""
        return safetensors.torch.save(unshare(self.module.state_dict()))

    def describe(self) -> dict[str, Any]:
        """All that is known of the network, JSON-able; of the weights the checksum of their
        file.
        """
        return {
            "architecture": self.architecture,
            "class_names": list(self.class_names),
            "float_top1": self.float_top1,
            "input_shape": list(self.input_shape),
            "interpolation": self.interpolation,
            "mean": list(self.mean),
            "num_classes": self.num_classes,
            "origins": self.origins,
            "resize": self.resize,
            "sha256": hashlib.sha256(self.serialized()).hexdigest(),
            "source": self.source,
            "std": list(self.std),
        }

    def save(self, folder: str | Path) -> None:
        """Write ``model.safetensors`` and ``teacher.json``."""
        folder = Path(folder)
        atomic_write(folder / "model.safetensors", self.serialized())
        atomic_write(
            folder / "teacher.json",
            (json.dumps(self.describe(), indent=2, sort_keys=True) + "\n").encode(),
        )
