"""Images from a generator: the network's weights are what is optimized (GDFQ, Qimera, AdaDFQ)."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import safetensors.torch
import torch
from torch import Tensor

from dynadfq.losses.objective import Objective, SynthesisStep
from dynadfq.ops.precision import in_float32
from dynadfq.runtime.progress import Progress, require_finite
from dynadfq.runtime.resume import Scratch
from dynadfq.runtime.seeding import generator, global_stream
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.dataset import Batch
from dynadfq.synthesis.generator_network import GeneratorNetwork, Mixing
from dynadfq.synthesis.latent import Latent, MixtureSampler
from dynadfq.synthesis.source import Shard
from dynadfq.teacher.teacher import Teacher

WEIGHTS, CARD = "generator.safetensors", "generator.json"
BETAS = (0.5, 0.999)  # of Adam; released code of GDFQ, Qimera and AdaDFQ
CHECKPOINT_STEPS = 200  # steps between saved states


@dataclass(frozen=True)
class GeneratorRecipe:
    """What a generator is made of, and what it learns towards.

    method, settings: whose generator it is, and the method's image hyperparameters, JSON-able: from
        them the same recipe can be composed again where the generator is to go on.
    mixtures: (count, rng) to the classes that images are of.
    latent: builds the part before the linear layer; its random weights come from torch's global
        stream.
    conditional, mixing: see ``GeneratorNetwork``.
    batch_size: images in a step before there is a student.
    against_student: the objective reads ``student_logits`` where there is a student.
    """

    method: str
    settings: Mapping[str, Any]
    mixtures: MixtureSampler
    latent: Callable[[], Latent]
    objective: Objective[SynthesisStep]
    conditional: bool
    mixing: Mixing = "sum"
    batch_size: int = 200
    learning_rate: float = 1e-3
    against_student: bool = False

    def source(self, teacher: Teacher, optimizer: PixelOptimizerConfig) -> GeneratorSource:
        """The recipe, applied to a teacher; of the optimizer's settings the number of iterations
        counts.
        """
        return GeneratorSource(teacher, self, optimizer.iterations)


class Taught(NamedTuple):
    """Images as they were before the generator's step."""

    images: Tensor  # (B, C, H, W)
    soft_labels: Tensor  # (B, classes)
    logits: Tensor  # (B, classes), the teacher's
    losses: dict[str, float]


class GeneratorTraining:
    """A generator that learns: its network, its optimizer, and one step."""

    def __init__(self, teacher: Teacher, recipe: GeneratorRecipe, seed: int = 0) -> None:
        self.teacher, self.recipe = teacher, recipe
        with global_stream(seed, "generator", "weights"):
            network = GeneratorNetwork(
                recipe.latent(),
                teacher.input_shape,
                teacher.num_classes,
                recipe.conditional,
                recipe.mixing,
            )
        self.network = network.to(teacher.device)
        self.adam = torch.optim.Adam(self.network.parameters(), recipe.learning_rate, betas=BETAS)

    def draw(self, count: int, rng: torch.Generator) -> Batch:
        """New images and their labels; gradients reach the network."""
        mixture, device = self.recipe.mixtures(count, rng), self.teacher.device
        noise = self.network.latent.noise(mixture, rng).to(device)
        mixture = mixture.to(device)
        with in_float32(device):  # pixels are not of bfloat16
            images = self.network(mixture, noise).contiguous(
                memory_format=self.teacher.memory_format
            )
        return Batch(images, mixture.soft_labels)

    def losses(
        self, batch: Batch, student: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """The objective, its terms by name, and the teacher's logits."""
        with self.teacher.recording() as recording:
            logits = self.teacher(batch.images)
            answer = (
                student(batch.images)
                if student is not None and self.recipe.against_student
                else None
            )
            step = SynthesisStep(batch.images, batch.soft_labels, logits, recording, answer)
            total, values = self.recipe.objective(step)
        return total, values, logits

    def step(
        self,
        count: int,
        rng: torch.Generator,
        number: int,
        student: Callable[[Tensor], Tensor] | None = None,
    ) -> Taught:
        """One step on ``count`` new images. A student is asked, with gradients to the images and
        none of its own.

        Raises:
            NonFiniteLoss: a term is NaN or infinite.
        """
        batch = self.draw(count, rng)
        total, values, logits = self.losses(batch, student)
        require_finite(values, number)
        parameters = list(self.network.parameters())
        for parameter, gradient in zip(
            parameters, torch.autograd.grad(total, parameters), strict=True
        ):
            parameter.grad = gradient
        self.adam.step()
        return Taught(
            batch.images.detach(), batch.soft_labels, logits.detach(), _numbers(total, values)
        )

    def files(self) -> dict[str, bytes]:
        """What another run needs to go on from here, by file name; Adam starts afresh."""
        state = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.network.state_dict().items()
        }
        card = {"method": self.recipe.method, "images": dict(self.recipe.settings)}
        text = json.dumps(card, indent=2, sort_keys=True) + "\n"
        return {WEIGHTS: safetensors.torch.save(state), CARD: text.encode()}

    def state_dict(self) -> dict[str, Any]:
        """All that changes from step to step."""
        return {"network": self.network.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from ``state_dict``."""
        self.network.load_state_dict(state["network"])
        self.adam.load_state_dict(state["adam"])


class GeneratorSource:
    """Trains a generator and then samples shards from it.

    Its BatchNorm sees batches of the size it learned on: a shorter shard, such as the last, is the
    first images of a whole batch.
    """

    steps = 0
    sequential = False
    training: GeneratorTraining  # from `prepare` on

    def __init__(self, teacher: Teacher, recipe: GeneratorRecipe, iterations: int) -> None:
        self.teacher, self.recipe, self.preparation_steps = teacher, recipe, iterations

    def prepare(self, seed: int, scratch: Scratch, progress: Progress) -> Mapping[str, bytes]:
        """Train the generator, from ``scratch`` where an earlier run began; returns its files.

        Raises:
            NonFiniteLoss: a term is NaN or infinite; the last good state is kept.
        """
        self.training = GeneratorTraining(self.teacher, self.recipe, seed)
        done = 0
        if (state := scratch.load()) is not None:
            self.training.load_state_dict(state)
            done = state["steps"]
            progress.skip(done)
        for number in range(done, self.preparation_steps):
            taught = self.training.step(
                self.recipe.batch_size, generator(seed, "generator", number), number
            )
            if (number + 1) % CHECKPOINT_STEPS == 0 or number + 1 == self.preparation_steps:
                scratch.save({"steps": number + 1, **self.training.state_dict()})
            progress.step(**taught.losses)
        return self.training.files()

    @torch.no_grad()
    def make(self, count: int, rng: torch.Generator, progress: Progress) -> Shard:
        """Sample ``count`` images."""
        whole = self.training.draw(max(count, self.recipe.batch_size), rng)
        batch = Batch(whole.images[:count], whole.soft_labels[:count])
        total, values, logits = self.training.losses(batch)
        return Shard(
            batch.images.cpu().contiguous(),
            batch.soft_labels.cpu(),
            logits.cpu(),
            _numbers(total, values),
            self.recipe.objective.of_labels,
        )

    def remember(self, batch: Batch) -> None:
        """Shards do not depend on each other."""


def _numbers(total: Tensor, values: Mapping[str, Tensor]) -> dict[str, float]:
    return {
        "total": float(total.detach()),
        **{name: float(value.detach()) for name, value in values.items()},
    }
