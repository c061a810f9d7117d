"""Images from noise: pixels are what is optimised (ZeroQ, DSG, IntraQ, HAST, DynaDFQ)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from dynadfq.log import Progress, require_finite
from dynadfq.losses import Objective, SynthesisStep
from dynadfq.teacher import Recording, Teacher


@dataclass(frozen=True)
class PixelOptimiser:
    """Adam on pixels; its rate falls by ``decay`` after ``patience`` iterations without gain (DynaDFQ, Sec. 4.1)."""

    iterations: int = 4000
    learning_rate: float = 0.5
    decay: float = 0.1
    patience: int = 100
    min_learning_rate: float = 1e-4

    def __call__(
        self,
        teacher: Teacher,
        soft_labels: Tensor,
        objective: Objective[SynthesisStep],
        rng: torch.Generator,
        progress: Progress,
    ) -> tuple[Tensor, Tensor, dict[str, float]]:
        """(B, classes) labels to (B, C, H, W) images, the teacher's (B, classes) logits on them, and their losses.

        Raises:
            NonFiniteLoss: a term is NaN or infinite.
        """
        noise = torch.randn(len(soft_labels), *teacher.input_shape, generator=rng)
        images = noise.to(teacher.device).contiguous(memory_format=torch.channels_last).requires_grad_()
        soft_labels = soft_labels.to(teacher.device)
        adam = torch.optim.Adam([images], lr=self.learning_rate)
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(
            adam, factor=self.decay, patience=self.patience, min_lr=self.min_learning_rate
        )
        with teacher.recording() as recording:
            for iteration in range(self.iterations):
                total, values, _ = _step(teacher, images, soft_labels, objective, recording)
                require_finite(values, iteration)
                (images.grad,) = torch.autograd.grad(total, images)
                adam.step()
                plateau.step(total.detach())
                progress.step(
                    total=float(total.detach()), **{name: float(value.detach()) for name, value in values.items()}
                )
            with torch.no_grad():
                total, values, logits = _step(teacher, images, soft_labels, objective, recording)
        losses = {"total": float(total), **{name: float(value) for name, value in values.items()}}
        return images.detach().cpu().contiguous(), logits.cpu(), losses


def _step(
    teacher: Teacher, images: Tensor, soft_labels: Tensor, objective: Objective[SynthesisStep], recording: Recording
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    recording.clear()
    logits = teacher(images)
    total, values = objective(SynthesisStep(images, soft_labels, logits, recording))
    return total, values, logits
