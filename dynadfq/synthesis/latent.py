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
    """Classes that share an image, K of them; a class may come twice."""

    classes: Tensor  # (B, K)
    weights: Tensor  # (B, K), rows sum to 1
    soft_labels: Tensor  # (B, classes), rows sum to 1

    def to(self, device: torch.device) -> Mixture:
        """The same on a device."""
        return Mixture(*(tensor.to(device) for tensor in self))


MixtureSampler = Callable[[int, torch.Generator], Mixture]


def mix(classes: Tensor, weights: Tensor, num_classes: int) -> Mixture:
    """Classes and weights, (B, K) each, with the soft labels that they add up to.

    >>> mix(torch.tensor([[0, 2, 0]]), torch.tensor([[0.25, 0.5, 0.25]]), 3).soft_labels
    tensor([[0.5000, 0.0000, 0.5000]])
    """
    return Mixture(
        classes,
        weights,
        weights.new_zeros(len(classes), num_classes).scatter_add(1, classes, weights),
    )


@dataclass(frozen=True)
class SingleClasses:
    """A class drawn at random, alone."""

    num_classes: int

    def __call__(self, count: int, rng: torch.Generator) -> Mixture:
        """``count`` images of a class each."""
        classes = torch.randint(self.num_classes, (count, 1), generator=rng)
        return mix(classes, torch.ones(count, 1), self.num_classes)


class Latent(nn.Module):
    """From a mixture and noise to the generator's input.

    noise_features: length of the noise vector that each class of a mixture gets.
    features: length of the vector that comes out.
    """

    noise_features: int
    features: int

    def noise(self, mixture: Mixture, rng: torch.Generator) -> Tensor:
        """(B, K, noise_features) from N(0, 1), drawn where the mixture was."""
        return torch.randn(*mixture.classes.shape, self.noise_features, generator=rng)

    def forward(self, mixture: Mixture, noise: Tensor) -> Tensor:
        """(B, K) classes and weights, (B, K, noise_features) noise, to (B, features)."""
        return (mixture.weights[..., None] * self.of_classes(mixture.classes, noise)).sum(dim=1)

    def of_classes(self, classes: Tensor, noise: Tensor) -> Tensor:
        """(B, K) classes and their noise to vectors, (B, K, …)."""
        raise TypeError(f"{type(self).__name__} must say what a class looks like")


class PlainNoise(Latent):
    """Noise alone: the class enters elsewhere (GDFQ on large images)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.noise_features = self.features = features

    def of_classes(self, classes: Tensor, noise: Tensor) -> Tensor:
        """The noise."""
        return noise


class LabelledNoise(Latent):
    """Noise times a learned vector of the class, element by element (GDFQ; conditional GANs as of
    ACGAN).
    """

    def __init__(self, num_classes: int, features: int) -> None:
        super().__init__()
        self.noise_features = self.features = features
        self.embedding = nn.Embedding(num_classes, features)

    def of_classes(self, classes: Tensor, noise: Tensor) -> Tensor:
        """Emb(y) ⊙ z."""
        vectors: Tensor = self.embedding(classes) * noise
        return vectors


def labelled_noise(num_classes: int, features: int, elsewhere: bool) -> Callable[[], Latent]:
    """GDFQ's latent, to be built: noise times a vector of the class, or plain where the class
    enters ``elsewhere``.
    """
    return (
        partial(PlainNoise, features)
        if elsewhere
        else partial(LabelledNoise, num_classes, features)
    )


class SuperposedEmbeddings(Latent):
    """Learned vectors of classes plus noise, each normalized, superposed by weight, then mapped
    (Qimera, Sec. 4).

    Args:
        embedding: (classes, D) vectors to start from.
        mapped: length after the linear disentanglement mapping; None leaves it out.
        noise_scale: what the noise is multiplied by.
    """

    def __init__(self, embedding: Tensor, mapped: int | None, noise_scale: float) -> None:
        super().__init__()
        self.embedding = nn.Embedding.from_pretrained(embedding.clone(), freeze=False)
        self.noise_features, self.noise_scale = embedding.shape[1], noise_scale
        self.features = mapped or self.noise_features
        self.mapping = nn.Linear(self.noise_features, mapped) if mapped else nn.Identity()

    def of_classes(self, classes: Tensor, noise: Tensor) -> Tensor:
        """Norm(Emb(y) + s · z), normalized over the features of each vector."""
        return layer_norm(
            self.embedding(classes) + self.noise_scale * noise, (self.noise_features,)
        )

    def forward(self, mixture: Mixture, noise: Tensor) -> Tensor:
        """The superposition, mapped: (B, features)."""
        mapped: Tensor = self.mapping(super().forward(mixture, noise))
        return mapped
