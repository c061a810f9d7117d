"""Fine-tuning by several ranks is that of one process with the same batch, up to float rounding.

A step differs in the order of float32 sums. The next steps amplify that where a value lies at the
edge of two codes."""

from dataclasses import replace

import pytest
import torch
from finetuning import changed, finetune
from ranks import run_ranks
from torch.nn.functional import dropout

from dynadfq.losses.attention import BRANCHES, LAST_MAP, attention_term, map_term
from dynadfq.losses.objective import distillation_term, label_term
from dynadfq.quant.selector_config import SelectorShape
from dynadfq.runtime import distributed
from dynadfq.runtime.distributed import BatchPart
from dynadfq.training.batches import StoredBatches
from dynadfq.training.config import FinetuneConfig, SelectorTrainingConfig
from dynadfq.training.features import last_convolution, residual_branches
from dynadfq.training.loss import PerturbedLoss, StudentLoss
from dynadfq.training.mixup import EasyMixup
from dynadfq.training.ranks import DropoutOfPart, divided
from dynadfq.training.recipe import StudentRecipe

ONE_STEP = 1e-6
FOUR_STEPS = 1e-4  # measured: 4e-7 and 2e-5, relative to a tensor's largest value
TERMS = (label_term(1.0), distillation_term(20.0, 20.0))
SCHEDULE = FinetuneConfig(
    epochs=2,
    steps_per_epoch=2,
    batch_size=12,
    decay_every=1,
    learning_rate=1e-3,
    range_learning_rate=1e-3,
    max_gradient_norm=1.0,  # of the whole batch's gradient, whose norm is larger
)


def features(teacher):
    return {BRANCHES: residual_branches(teacher), LAST_MAP: [last_convolution(teacher)]}


def mixed(context):
    loss = StudentLoss(context, TERMS)
    return EasyMixup(StoredBatches(context), loss, context, share=0.5, start=0)


def perturbed(context):
    terms = (*TERMS, attention_term(10.0))
    return PerturbedLoss(StudentLoss(context, terms, features(context.teacher)), 0.01)


def aligned(context):
    terms = (*TERMS, map_term(10.0))
    return StudentLoss(context, terms, features(context.teacher), teacher_gradients=True)


PLAIN = StudentRecipe(lambda context: StudentLoss(context, TERMS))
RECIPES = {
    "mixup": replace(PLAIN, batches=mixed),
    "perturbed": StudentRecipe(perturbed),
    "maps": StudentRecipe(aligned),
}


@pytest.fixture
def tune(make_student, teacher, synthetic):
    """Fine-tune in so many ranks: each rank's parameters, ranges included, and its history."""

    def run(ranks, recipe, budget="constraint", widths=(3, 4, 5), schedule=SCHEDULE, scratch=None):
        student = make_student(
            *widths, shape=SelectorShape(pool=2, hidden=16, dropout=0.5), learned_ranges=True
        )

        def work():
            if distributed.rank():  # what counts is the first rank's
                torch.nn.init.zeros_(student.layers[0].weight)
            selector = SelectorTrainingConfig(learning_rate=1e-2, budget=budget, bit_weight=10.0)
            history = finetune(
                student, teacher, synthetic, recipe, schedule, selector, scratch=scratch
            )
            return student.network.state_dict(), history

        return run_ranks(ranks, work)

    return run


def farthest(one, other):
    """Largest difference of two states' tensors, each relative to the tensor's largest value."""
    scale = {name: max(float(tensor.abs().max()), 1e-6) for name, tensor in one.items()}
    return max(
        float((tensor - other[name]).abs().max()) / scale[name] for name, tensor in one.items()
    )


@pytest.mark.parametrize(
    ("name", "budget", "ranks"),
    [
        ("mixup", "constraint", 2),
        ("mixup", "penalty", 3),
        ("perturbed", "constraint", 2),
        ("maps", "penalty", 2),
    ],
)
def test_ranks_equal_one_process(tune, name, budget, ranks):
    """A perturbed image is moved by signs of gradients. One that flips in a later step says
    nothing: one step is."""
    schedules = [
        (SCHEDULE.model_copy(update={"epochs": 1, "steps_per_epoch": 1}), ONE_STEP),
        (SCHEDULE, FOUR_STEPS),
    ]
    for schedule, tolerance in schedules[:1] if name == "perturbed" else schedules:
        [(alone, history)] = tune(1, RECIPES[name], budget, schedule=schedule)
        (first, told), *others = tune(ranks, RECIPES[name], budget, schedule=schedule)
        assert farthest(alone, first) < tolerance
        assert all(
            torch.equal(tensor, state[key]) for state, _ in others for key, tensor in first.items()
        )
        assert list(told) == list(history)
        assert (told["gradient_norm"] > schedule.max_gradient_norm).all()
        assert told.to_numpy() == pytest.approx(history.to_numpy(), rel=FOUR_STEPS, abs=1e-5)


def test_a_student_of_one_width_without_a_limit_of_the_gradient(tune):
    how = {"widths": (4,), "schedule": SCHEDULE.model_copy(update={"max_gradient_norm": 0.0})}
    [(alone, _)] = tune(1, RECIPES["mixup"], **how)
    assert all(farthest(alone, state) < FOUR_STEPS for state, _ in tune(2, RECIPES["mixup"], **how))


def test_what_two_ranks_began_one_or_two_end(tune, tmp_path):
    [(alone, history)] = tune(1, RECIPES["mixup"])
    tune(2, RECIPES["mixup"], schedule=SCHEDULE.model_copy(update={"epochs": 1}), scratch=tmp_path)
    begun = (tmp_path / "state.pt").read_bytes()
    for ranks in (1, 2):
        (tmp_path / "state.pt").write_bytes(begun)
        for state, told in tune(ranks, RECIPES["mixup"], scratch=tmp_path):
            assert len(told) == len(history) == 2 and farthest(alone, state) < FOUR_STEPS


def test_dropout_of_parts_is_dropout_of_the_whole():
    x = torch.randn(6, 5)
    torch.manual_seed(3)
    whole = dropout(x, 0.4)
    for rank in range(3):
        torch.manual_seed(3)
        part = BatchPart(rank, 3)
        layer = DropoutOfPart(0.4, part)
        assert torch.equal(layer(part.of(x)), part.of(whole))
        assert torch.equal(layer.eval()(x), x)


def test_the_students_dropout_is_its_own_again(make_student):
    student = make_student()

    def work():
        own = student.selector.dropout
        with pytest.raises(KeyError), divided(student):
            assert isinstance(student.selector.dropout, DropoutOfPart)
            raise KeyError
        return student.selector.dropout is own

    assert run_ranks(2, work) == [True, True]
    with divided(student):
        assert not isinstance(student.selector.dropout, DropoutOfPart)


@pytest.mark.parametrize(
    ("recipe", "batch_size", "message"),
    [
        (
            PLAIN,
            9,
            "batch_size: 9 images cannot be divided evenly among 2 processes; choose a multiple of "
            "2, or as many processes as one of 1, 3, 9",
        ),
        (
            replace(PLAIN, trains_generator=True),
            8,
            "online_generator: a generator is trained in one process only, and there are 2; "
            "set launch.processes to 1, or online_generator to false",
        ),
    ],
)
def test_what_ranks_cannot_share_is_refused(
    make_student, teacher, synthetic, recipe, batch_size, message
):
    schedule = changed(SCHEDULE, batch_size=batch_size)

    def work():
        student = make_student()
        with pytest.raises(ValueError) as caught:
            finetune(student, teacher, synthetic, recipe, schedule)
        return str(caught.value)

    assert run_ranks(2, work) == [message, message]
