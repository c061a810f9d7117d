"""A method's recipe for preparing and training its student."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dynadfq.ptq.preparation import Preparation
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.batches import StoredBatches
from dynadfq.training.parts import BatchLoss, BatchStream, TrainingContext

Transform = Callable[[Teacher], Teacher]


@dataclass(frozen=True)
class StudentRecipe:
    """A method's recipe for preparing and training its student.

    loss: builds the loss of a batch; None trains nothing.
    batches: builds the stream of batches.
    trains_generator: the batches come from an online generator, which ranks cannot share.
    ranges: sets the activation ranges; None is ``quantization.ranges``.
    transforms: changes of the float network before it is quantized, in order.
    preparations: changes of the calibrated student, in order.
    require: raises an error where the loss cannot serve a network, as one without feature maps.
    """

    loss: Callable[[TrainingContext], BatchLoss] | None = None
    batches: Callable[[TrainingContext], BatchStream] = StoredBatches
    trains_generator: bool = False
    ranges: Preparation | None = None
    transforms: Sequence[Transform] = ()
    preparations: Sequence[Preparation] = ()
    require: Callable[[Teacher], None] | None = None

    def loss_to_train(self, context: TrainingContext) -> BatchLoss | None:
        """Return the loss of a batch; None where nothing is trained.

        That is where there is no loss, no step, or no term with a weight above 0.

        Args:
            context: of the training.
        """
        if self.loss is None or not context.steps:
            return None
        loss = self.loss(context)
        return None if loss.is_zero else loss
