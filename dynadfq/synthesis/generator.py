"""Images from a generator, whose weights are optimized (GDFQ, Qimera, AdaDFQ)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import safetensors.torch
import torch
from torch import Tensor

from dynadfq.losses.objective import Objective, SynthesisStep
from dynadfq.ops.precision import in_float32
from dynadfq.runtime.artifact import Record, record_bytes
from dynadfq.runtime.progress import Progress, require_finite
from dynadfq.runtime.resume import Scratch
from dynadfq.runtime.seeding import generator, global_stream
from dynadfq.synthesis.config import Mixing, PixelOptimizerConfig
from dynadfq.synthesis.dataset import Batch
from dynadfq.synthesis.generator_network import GeneratorNetwork
from dynadfq.synthesis.latent import Latent, MixtureSampler
from dynadfq.synthesis.source import Shard, as_numbers
from dynadfq.teacher.teacher import Teacher

WEIGHTS = "generator.safetensors"
CARD = "generator.json"
BETAS = (0.5, 0.999)  # of Adam; released code of GDFQ, Qimera and AdaDFQ
CHECKPOINT_STEPS = 200  # steps between saved states


class GeneratorCard(Record):
    """``generator.json``: whose generator it is, and the settings of its images."""

    FORMAT: ClassVar[str] = "dynadfq-generator/1"
    STAGE: ClassVar[str] = "synthesize"

    method: str
    images: dict[str, Any]


@dataclass(frozen=True)
class GeneratorRecipe:
    """The parts of a generator, and its objective.

    method: whose generator it is.
    settings: the method's image settings, from which the same recipe can be composed again.
    mixtures: (count, rng) to the classes of images.
    latent: builds the part before the linear layer; its random weights come from torch's global
        stream.
    objective: what the generator minimizes.
    conditional, mixing: see ``GeneratorNetwork``.
    batch_size: images per step of the first training.
    learning_rate: initial rate of Adam.
    against_student: whether the objective reads ``student_logits``.
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
        """Return the source of images; of the optimizer's settings only ``iterations`` is used."""
        return GeneratorSource(teacher, self, optimizer.iterations)


class GeneratorTraining:
    """A generator's network and its optimizer."""

    def __init__(self, teacher: Teacher, recipe: GeneratorRecipe, seed: int = 0) -> None:
        recipe.objective.require_weight()
        self.teacher = teacher
        self.recipe = recipe
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
        """Return new images and their labels; gradients reach the network."""
        device = self.teacher.device
        mixture = self.recipe.mixtures(count, rng)
        noise = self.network.latent.noise(mixture, rng).to(device)
        mixture = mixture.to(device)
        with in_float32(device):  # pixels are not of bfloat16
            images = self.network(mixture, noise)
        images = images.contiguous(memory_format=self.teacher.memory_format)
        return Batch(images, mixture.soft_labels)

    def losses(
        self, batch: Batch, student: Callable[[Tensor], Tensor] | None = None
    ) -> tuple[Tensor, dict[str, Tensor], Tensor]:
        """Return the objective, its terms by name, and the teacher's logits."""
        with self.teacher.recording() as recording:
            logits = self.teacher(batch.images)
            student_logits = None
            if student is not None and self.recipe.against_student:
                student_logits = student(batch.images)
            step = SynthesisStep(batch.images, batch.soft_labels, logits, recording, student_logits)
            total, values = self.recipe.objective(step)
        return total, values, logits

    def step(
        self,
        count: int,
        rng: torch.Generator,
        number: int,
        student: Callable[[Tensor], Tensor] | None = None,
    ) -> Shard:
        """Take one step on new images.

        Args:
            count: number of images.
            rng: source of labels and noise.
            number: of the step, for an error.
            student: maps images to the student's logits; its parameters get no gradient.

        Returns:
            The images as they were before the step.

        Raises:
            NonFiniteLoss: a term is NaN or infinite.
        """
        batch = self.draw(count, rng)
        total, values, logits = self.losses(batch, student)
        require_finite(values, number)
        parameters = list(self.network.parameters())
        gradients = torch.autograd.grad(total, parameters)
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient
        self.adam.step()
        return self._shard(batch, total, values, logits)

    def files(self) -> dict[str, bytes]:
        """Return what another run needs to continue, by file name; Adam starts afresh."""
        state = {
            name: tensor.detach().cpu().contiguous()
            for name, tensor in self.network.state_dict().items()
        }
        card = {"method": self.recipe.method, "images": dict(self.recipe.settings)}
        return {WEIGHTS: safetensors.torch.save(state), CARD: record_bytes(card, GeneratorCard)}

    def state_dict(self) -> dict[str, Any]:
        """Return what changes from step to step."""
        return {"network": self.network.state_dict(), "adam": self.adam.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from ``state_dict``."""
        self.network.load_state_dict(state["network"])
        self.adam.load_state_dict(state["adam"])

    def _shard(
        self, batch: Batch, total: Tensor, values: Mapping[str, Tensor], logits: Tensor
    ) -> Shard:
        losses = as_numbers(total, values)
        of_labels = self.recipe.objective.of_labels
        return Shard(batch.images.detach(), batch.soft_labels, logits.detach(), losses, of_labels)

    @torch.no_grad()
    def sample(self, count: int, rng: torch.Generator) -> Shard:
        """Return ``count`` images, the first ones of a batch as large as in the training."""
        whole = self.draw(max(count, self.recipe.batch_size), rng)
        batch = Batch(whole.images[:count], whole.soft_labels[:count])
        return self._shard(batch, *self.losses(batch))


class GeneratorSource:
    """Trains a generator and then samples shards from it.

    Its BatchNorm sees batches of the size that it was trained on.
    """

    steps = 0
    sequential = False
    training: GeneratorTraining  # from `prepare` on

    def __init__(self, teacher: Teacher, recipe: GeneratorRecipe, iterations: int) -> None:
        self.teacher = teacher
        self.recipe = recipe
        self.preparation_steps = iterations

    def prepare(self, seed: int, scratch: Scratch, progress: Progress) -> Mapping[str, bytes]:
        """Train the generator, from ``scratch`` where an earlier run began; return its files.

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
            rng = generator(seed, "generator", number)
            made = self.training.step(self.recipe.batch_size, rng, number)
            if (number + 1) % CHECKPOINT_STEPS == 0 or number + 1 == self.preparation_steps:
                scratch.save({"steps": number + 1, **self.training.state_dict()})
            progress.step(**made.losses)
        return self.training.files()

    def make(self, count: int, rng: torch.Generator, progress: Progress) -> Shard:
        """Sample ``count`` images.

        Raises:
            NonFiniteLoss: a term of the trained generator is NaN or infinite.
        """
        shard = self.training.sample(count, rng)
        last = {name: torch.tensor(value) for name, value in shard.losses.items()}
        require_finite(last, self.preparation_steps)
        return shard._replace(
            images=shard.images.cpu().contiguous(),
            soft_labels=shard.soft_labels.cpu(),
            logits=shard.logits.cpu(),
        )

    def remember(self, batch: Batch) -> None:
        """Do nothing: shards do not depend on each other."""
