"""The teacher: a frozen float classifier with its preprocessing and classes."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from inspect import signature
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from dynadfq.ops.batch_norm import BatchNorm, frozen_batch_norms, layers_with_statistics
from dynadfq.ops.config import Interpolation
from dynadfq.ops.memory_format import fastest_memory_format
from dynadfq.ops.precision import to_float32
from dynadfq.ops.preprocess import Preprocessing
from dynadfq.ops.unwrap import unwrapped
from dynadfq.runtime.artifact import record_bytes
from dynadfq.runtime.described_file import write_described
from dynadfq.runtime.errors import InvalidArgument
from dynadfq.runtime.numbers import image_shape, real_number, real_numbers, whole_number
from dynadfq.teacher.class_names import named_classes
from dynadfq.teacher.classifier import Classifier, weight_rows
from dynadfq.teacher.facts import FACTS, WEIGHTS, TeacherRecord
from dynadfq.teacher.import_path import class_path, warn_without_path
from dynadfq.teacher.recording import Recording
from dynadfq.teacher.trial import try_network
from dynadfq.zoo.weights import unshare


class Teacher:
    """A frozen float classifier.

    Args:
        module: the network, which returns the logits of float32 images. A wrapper, such as
            DataParallel or ``torch.compile``, is removed; the module is set to eval mode and its
            parameters stop requiring gradients. Two small batches of noise run through it.
        input_shape: shape of one image, (C, H, W).
        num_classes: number of logits.
        mean, std: normalization, one value per channel, of pixels in 0 … 1.
        class_names: one per class; their numbers when None. Numbers may be NumPy's or torch's.
        architecture: ``family/model`` of a zoo or an import path, from which the network can be
            rebuilt for a file; None is the import path of the module's class if calling it gives
            this network (``class_path``).
        source: where the weights come from, as text.
        float_top1: accuracy on its test set in percent, if known.
        resize, interpolation: scaling of images before the center crop, see ``Preprocessing``.
        origins: where the other arguments come from, as text by argument name.

    Raises:
        ValueError: arguments do not fit each other, such as two means for three channels; or the
            network cannot be quantized or is not such a classifier (``tensors``, ``trial``).
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
        self.module = unwrapped(module)
        self.input_shape = image_shape("input_shape", input_shape)
        self.mean = real_numbers("mean", mean)
        self.std = real_numbers("std", std)
        self.resize = None if resize is None else whole_number("resize", resize)
        self.interpolation: Interpolation = interpolation
        self.num_classes = whole_number("num_classes", num_classes)
        self.class_names = named_classes(class_names, self.num_classes)
        self.source = source
        self.float_top1 = None if float_top1 is None else real_number("float_top1", float_top1)
        self.origins = dict(origins or {})
        _ = self.preprocessing  # checks the other arguments
        modes = [(part, part.training) for part in self.module.modules()]
        self.module.eval()
        try:
            self.classifier_name = self._try()
        except BaseException:
            for part, training in modes:
                part.training = training
            raise
        self.module.requires_grad_(False)
        self.architecture = architecture or class_path(
            self.module, self.input_shape, self.num_classes
        )

    def _try(self) -> str | None:
        """Check the network, and return the name of its classification layer."""
        return try_network(self.module, self.input_shape, self.num_classes)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the float32 logits of normalized images: (B, C, H, W) to (B, classes)."""
        return to_float32(self.module(images))

    def to(self, device: torch.device | str) -> Teacher:
        """Move the network in place, in its fastest memory format, and return the teacher."""
        self.module.to(device).to(memory_format=self.memory_format)
        return self

    @cached_property
    def memory_format(self) -> torch.memory_format:
        """The memory format of images that the network is fastest in."""
        return fastest_memory_format(self.module, self.input_shape)

    @property
    def device(self) -> torch.device:
        """The device of the network's parameters."""
        return next(self.module.parameters()).device

    @property
    def example(self) -> Tensor:
        """One image of zeros, (1, C, H, W), on the network's device."""
        return torch.zeros(1, *self.input_shape, device=self.device)

    @property
    def preprocessing(self) -> Preprocessing:
        """Scaling, center crop and normalization of the images that the network reads."""
        return Preprocessing(self.input_shape, self.mean, self.std, self.resize, self.interpolation)

    @property
    def class_weights(self) -> Tensor:
        """Weight rows of the classification layer, (classes, features)."""
        return weight_rows(self.classifier)

    @property
    def classifier(self) -> Classifier:
        """The classification layer: the one whose output is returned.

        Raises:
            InvalidArgument: the logits come from no linear layer or 1×1 convolution.
        """
        if self.classifier_name is None:
            raise InvalidArgument(
                "module",
                f"its logits come from no linear layer or 1×1 convolution with {self.num_classes} "
                "outputs, which class weights are read from; make the last layer one",
            )
        return self.module.get_submodule(self.classifier_name)  # type: ignore[return-value]

    @contextmanager
    def recording(self) -> Iterator[Recording]:
        """Record BatchNorm inputs and classifier features of forward passes in this block.

        A network without BatchNorm statistics records features alone; its ``batch_norms`` raise
        ``NoBatchNormStatistics``.

        Raises:
            ValueError: the network has no classification layer.
        """
        layers, missing = layers_with_statistics(self.module)
        recording = Recording(missing=missing)

        def keep_input(layer: BatchNorm, x: Tensor) -> None:
            recording.batch_norms.append((layer, x))

        def keep_features(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            x = to_float32(inputs[0])
            recording.features = x.mean(dim=(2, 3)) if x.dim() == 4 else x.flatten(1)

        handle = self.classifier.register_forward_pre_hook(keep_features)
        try:
            with frozen_batch_norms(layers, keep_input):
                yield recording
        finally:
            handle.remove()
            recording.clear()

    def arguments(self) -> dict[str, Any]:
        """Return the arguments that the teacher was made of, without the network."""
        names = list(signature(Teacher.__init__).parameters)
        return {name: getattr(self, name) for name in names if name not in ("self", "module")}

    def serialized(self) -> bytes:
        """Return the weights as the content of a safetensors file."""
        return safetensors.torch.save(unshare(self.module.state_dict()))

    def describe(self) -> dict[str, Any]:
        """Return the ``TeacherFacts``: arguments, and the sha256 of the weights' file."""
        facts = {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in self.arguments().items()
        }
        facts["sha256"] = hashlib.sha256(self.serialized()).hexdigest()
        return facts

    def save(self, folder: str | Path) -> None:
        """Write ``model.safetensors`` and ``teacher.json``.

        Raises:
            InvalidArgument: a fact is not of its type; what the folder held stays as it was.
        """
        warn_without_path(self.architecture)
        weights = self.serialized()
        record = record_bytes({**self.describe(), "bytes": len(weights)}, TeacherRecord)
        write_described(Path(folder), FACTS, record, WEIGHTS, weights)
