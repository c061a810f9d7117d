"""Inputs of a generator: classes and noise, embedded as one vector of features."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import layer_norm


class Mixture(NamedTuple):
    """K classes that share an image; a class may occur more than once."""

    classes: Tensor  # (B, K)
    weights: Tensor  # (B, K), rows sum to 1
    soft_labels: Tensor  # (B, classes), rows sum to 1

    def to(self, device: torch.device) -> Mixture:
        """Return the same on a device."""
        return Mixture(*(tensor.to(device) for tensor in self))


MixtureSampler = Callable[[int, torch.Generator], Mixture]


def mix(classes: Tensor, weights: Tensor, num_classes: int) -> Mixture:
    """Return (B, K) classes and weights with the soft labels that they add up to.

    >>> mix(torch.tensor([[0, 2, 0]]), torch.tensor([[0.25, 0.5, 0.25]]), 3).soft_labels
    tensor([[0.5000, 0.0000, 0.5000]])
    """
    soft_labels = weights.new_zeros(len(classes), num_classes).scatter_add(1, classes, weights)
    return Mixture(classes, weights, soft_labels)


@dataclass(frozen=True)
class SingleClasses:
    """One random class per image."""

    num_classes: int

    def __call__(self, count: int, rng: torch.Generator) -> Mixture:
        """Return mixtures of one class for ``count`` images."""
        classes = torch.randint(self.num_classes, (count, 1), generator=rng)
        return mix(classes, torch.ones(count, 1), self.num_classes)


class Latent(nn.Module):
    """Maps a mixture and noise to the generator's input.

    noise_features: length of the noise vector that each class of a mixture gets.
    features: length of the vector that comes out.
    """

    noise_features: int
    features: int

    def noise(self, mixture: Mixture, rng: torch.Generator) -> Tensor:
        """Return (B, K, noise_features) from N(0, 1)."""
        return torch.randn(*mixture.classes.shape, self.noise_features, generator=rng)

    def forward(self, mixture: Mixture, noise: Tensor) -> Tensor:
        """Return (B, features) from a mixture and (B, K, noise_features) noise."""
        return (mixture.weights[..., None] * self.of_classes(mixture.classes, noise)).sum(dim=1)

    def of_classes(self, classes: Tensor, noise: Tensor) -> Tensor:
        """Return vectors (B, K, …) of classes and their noise."""
        raise NotImplementedError(f"{type(self).__name__} must implement of_classes")


class PlainNoise(Latent):
    """Noise alone: the class enters elsewhere (GDFQ on large images)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.noise_features = features
        self.features = features

    def of_classes(self, classes: Tensor, noise: Tensor) -> Tensor:
        """Return the noise."""
        return noise


class LabelledNoise(Latent):
    """Noise times a learned vector of the class, elementwise (GDFQ, ACGAN)."""

    def __init__(self, num_classes: int, features: int) -> None:
        super().__init__()
        self.noise_features = features
        self.features = features
        self.embedding = nn.Embedding(num_classes, features)

    def of_classes(self, classes: Tensor, noise: Tensor) -> Tensor:
        """Return Emb(y) ⊙ z."""
        vectors: Tensor = self.embedding(classes) * noise
        return vectors


def labelled_noise(num_classes: int, features: int, elsewhere: bool) -> Callable[[], Latent]:
    """Return what builds GDFQ's latent: plain noise where the class enters ``elsewhere``."""
    if elsewhere:
        return partial(PlainNoise, features)
    return partial(LabelledNoise, num_classes, features)


class SuperposedEmbeddings(Latent):
    """Learned vectors of classes plus noise, normalized, superposed and mapped (Qimera, Sec. 4).

    Args:
        embedding: (classes, D) vectors to start from.
        mapped: length after the linear disentanglement mapping; None leaves it out.
        noise_scale: what the noise is multiplied by.
    """

    def __init__(self, embedding: Tensor, mapped: int | None, noise_scale: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(embedding.clone(), freeze=False)
        self.noise_features = embedding.shape[1]
        self.noise_scale = noise_scale
        self.features = mapped or self.noise_features
        self.mapping = nn.Linear(self.noise_features, mapped) if mapped else nn.Identity()

    def of_classes(self, classes: Tensor, noise: Tensor) -> Tensor:
        """Return Norm(Emb(y) + s · z), normalized over the features of each vector."""
        vectors = self.embedding(classes) + self.noise_scale * noise
        return layer_norm(vectors, (self.noise_features,))

    def forward(self, mixture: Mixture, noise: Tensor) -> Tensor:
        """Return the mapped superposition: (B, features)."""
        mapped: Tensor = self.mapping(super().forward(mixture, noise))
        return mapped
