"""What holds for every method: one walk over all of them, and over every hyperparameter they
have."""

import importlib
import re
import typing
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

import pytest
import safetensors.torch
import torch
from PIL import Image

from dynadfq.methods import METHODS
from dynadfq.methods.base import MethodContext
from dynadfq.ops.precision import compute_precision
from dynadfq.quant.build import load_student
from dynadfq.quant.config import Scheme
from dynadfq.quant.selector_config import SelectorShape
from dynadfq.runtime.config import Config, choices, leaves
from dynadfq.runtime.progress import Progress
from dynadfq.runtime.resume import Scratch
from dynadfq.runtime.seeding import generator
from dynadfq.synthesis.config import PixelOptimizerConfig
from dynadfq.synthesis.dataset import SyntheticSet
from dynadfq.synthesis.synthesize import synthesize_set
from dynadfq.teacher.similarity import class_similarity
from dynadfq.teacher.teacher import Teacher
from dynadfq.training.config import FinetuneConfig, SelectorTrainingConfig
from dynadfq.training.finetune import finetune_student
from dynadfq.training.prepare import new_student, prepare_student

# Those that make their images; what holds for images of a data set is in test_real_data.py.
NAMES = [name for name, method in METHODS.items() if method.data_free]
FINE = FinetuneConfig(
    epochs=2, steps_per_epoch=2, batch_size=8, learning_rate=1e-3, range_learning_rate=1e-3
)
SCHEME = Scheme(
    weight_bits=4, activation_bits=(4,), target_bits=4, selector=SelectorShape(pool=2, hidden=16)
)
DYNAMIC = Scheme(
    weight_bits=4,
    activation_bits=(3, 4, 5),
    target_bits=4,
    selector=SelectorShape(pool=2, hidden=16, dropout=0.0),
)
# What a hyperparameter acts on may be switched off by default: these other settings switch it on.
NEEDED = {
    "dfq.student.correction_images": {"bias_correction": "empirical"},
    "qimera.images.cbn_mix": {"class_conditional": "always", "superposed_share": 1.0},
    "qimera.images.superposed_classes": {"superposed_share": 1.0},
    "squant.student.bn_sigmas": {"range_rule": "bn_sigma"},
}
# Values that a walk by one step would not reach or could not tell apart.
OTHER = {
    "synq.student.hardest_label": 0.0,
    "adadfq.student.lower_margin": 0.7,
    "qimera.images.superposed_share": 1.0,
    "adaround.student.iterations": 5,
    "adaround.student.num_images": 8,
    "adaround.student.batch_size": 4,
    "adaround.student.learning_rate": 0.01,
    "adaround.student.regularization": 10.0,
    "adaround.student.warm_start": 0.9,
    "dfq.student.correction_images": 8,
    "dynadfq.student.mixup_start": 0.0,
    "intraq.images.lowest_target": 0.6,  # half of the default is below the bound
    "intraq.images.margin_low": 0.6,  # the tiny network's distances are within the default margins
    "intraq.images.margin_high": 0.1,
}
# What the tiny network has nothing for: no ReLU6, no bias high enough to absorb. The method's own
# tests have networks that do.
ELSEWHERE = ("dfq.student.relu6_as_relu", "dfq.student.absorb")
# What takes long by default: roundings change in a few steps, and generators learn of few images.
ROUNDING = {"iterations": 40, "learning_rate": 0.05, "regularization": 0.1}
SMALL_BATCHES = {"generator_batch_size": 16}
QUICK = {
    "adaround.student": ROUNDING,
    **{f"{name}.images": SMALL_BATCHES for name in NAMES if METHODS[name].trains_generator},
}


def name_of(value):
    return value if isinstance(value, str) else ""


def settings_of(name, side, **changes):
    quick = QUICK.get(f"{name}.{side}", {})
    return METHODS[name].model_fields[side].default.__class__(**{**quick, **changes})


def pictures(folder):
    """Labelled images of the tiny network's classes, four of each; returns where they are read."""
    rng = torch.Generator().manual_seed(0)
    for number in range(24):
        path = folder / "train" / str(number % 6) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = torch.randint(256, (8, 8, 3), dtype=torch.uint8, generator=rng)
        Image.fromarray(pixels.numpy()).save(path)
    return {"data": "image-folder", "root": str(folder)}


def make_images(name, teacher, folder, iterations=3, **changes):
    if not METHODS[name].data_free:
        changes = {**pictures(folder.with_name(f"{folder.name}-pictures")), **changes}
    recipe = settings_of(name, "images", **changes).recipe(
        MethodContext(teacher, class_similarity(teacher), 0)
    )
    source = recipe.source(teacher, PixelOptimizerConfig(iterations=iterations, learning_rate=0.1))
    return synthesize_set(source, 16, 8, 0, folder, Scratch(None))


def teach(name, teacher, images, scheme=SCHEME, schedule=FINE, **changes):
    recipe = settings_of(name, "student", **changes).recipe()
    student = new_student(teacher, recipe, scheme, 0)
    prepare_student(
        student, teacher, images, recipe, 0, finetune=FinetuneConfig(calibration_images=16)
    )
    history = finetune_student(
        student, teacher, images, recipe, schedule, SelectorTrainingConfig(), 0, Scratch(None)
    )
    return student, history


def tiny_teacher(make_net):
    return Teacher(make_net(), (3, 8, 8), 6, (0.5, 0.4, 0.6), (0.2, 0.3, 0.25))


@pytest.fixture(scope="session")
def sets(make_net, tmp_path_factory):
    """Each method's own images of the tiny network, made when first asked for."""

    class Sets(dict[str, SyntheticSet]):
        def __missing__(self, name):
            folder = tmp_path_factory.mktemp(name)
            self[name] = make_images(name, tiny_teacher(make_net), folder)
            return self[name]

    yield Sets()


@pytest.fixture(scope="session")
def content_of(make_net, tmp_path_factory):
    """The tensors of the images of a method with some settings, made once."""

    @cache
    def made(name, changes):
        folder = tmp_path_factory.mktemp(name)
        return content(make_images(name, tiny_teacher(make_net), folder, **dict(changes)))

    return lambda name, **changes: made(name, tuple(changes.items()))


@pytest.fixture(scope="session")
def taught(make_net, sets):
    """A student of a method with some settings, taught once; no test changes it."""

    @cache
    def made(name, changes):
        return teach(name, tiny_teacher(make_net), sets[name], **dict(changes))[0]

    return lambda name, **changes: made(name, tuple(changes.items()))


def weights(student):
    return {key: tensor.detach().clone() for key, tensor in student.network.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)


def content(images):
    """All tensors of a set."""
    tensors = [
        (file.name, safetensors.torch.load_file(file))
        for file in sorted(images.folder.glob("*.safetensors"))
    ]
    return {f"{name}/{key}": tensor for name, found in tensors for key, tensor in found.items()}


def another_value(key, field, default):
    """An allowed value that is not the default."""
    if key in OTHER:
        return OTHER[key]
    if isinstance(default, bool):
        return not default
    if names := choices(field):
        return next(name for name in names if name != default)
    bounds = {type(bound).__name__: bound for bound in field.metadata}
    top = getattr(bounds.get("Le"), "le", None)
    if isinstance(default, int):
        return default + 1 if top is None or default < top else default - 1
    moved = 0.5 * default if default else 0.5
    return moved if top is None or moved <= top else 0.5 * top


def hyperparameters(side, names):
    found = []
    for name in names:
        section = typing.cast(type[Config], METHODS[name].model_fields[side].annotation)
        found += [
            (name, key, field)
            for key, field in leaves(section)
            if f"{name}.{side}.{key}" not in ELSEWHERE
        ]
    return found


@pytest.mark.parametrize("name", METHODS)
def test_a_methods_defaults_are_those_of_its_sections(name):
    for side in ("images", "student"):
        section = METHODS[name].model_fields[side]
        assert section.default == section.annotation()


@pytest.mark.parametrize("name", METHODS)
def test_a_method_says_where_it_comes_from(name):
    file = importlib.import_module(METHODS[name].__module__)
    assert file.__doc__ and re.search(r"arXiv \d{4}\.\d{4,5}|WACV 2025|not data-free", file.__doc__)
    assert file.__name__ == f"dynadfq.methods.{name}"
    assert len(Path(str(file.__file__)).read_text().splitlines()) <= 200


@pytest.mark.parametrize("name", NAMES)
def test_its_images_get_better(name, teacher, tmp_path):
    before, after = (
        make_images(name, teacher, tmp_path / str(n), n).manifest["shards"] for n in (0, 3)
    )
    losses = [[shard["losses"]["total"] for shard in shards] for shards in (before, after)]
    assert torch.isfinite(torch.tensor(losses)).all()
    context = MethodContext(teacher, class_similarity(teacher), 0)
    recipe = settings_of(name, "images").recipe(context)
    if getattr(recipe, "optimized", True):
        assert sum(losses[1]) < sum(losses[0])
    else:
        assert losses[1] == losses[0]


def shifted_labels(sampler, shift, count, rng):
    labels = sampler(count, rng).roll(shift, dims=1)
    return labels


@pytest.mark.parametrize("name", NAMES)
def test_the_gate_counts_images_that_their_labels_shaped(name, teacher):
    recipe = settings_of(name, "images").recipe(
        MethodContext(teacher, class_similarity(teacher), 0)
    )
    if METHODS[name].trains_generator:
        assert recipe.objective.of_labels
        return
    shards = []
    for shift in (0, 1):
        labels = partial(shifted_labels, recipe.labels, shift)
        shifted = replace(recipe, labels=labels)
        source = shifted.source(teacher, PixelOptimizerConfig(iterations=2))
        with Progress("synthesize", 1) as progress:
            source.prepare(0, Scratch(None), progress)
            shards.append(source.make(8, generator(0), progress))
    one, other = shards
    assert one.of_labels != torch.equal(one.images, other.images)


@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
@pytest.mark.parametrize("name", METHODS)
def test_its_student_learns(name, dynamic, teacher, sets):
    plain = FinetuneConfig(
        epochs=6,
        steps_per_epoch=4,
        batch_size=16,
        learning_rate=3e-4,
        crop_scale=1.0,
        horizontal_flip=False,
    )
    student, history = teach(name, teacher, sets[name], DYNAMIC if dynamic else SCHEME, plain)
    assert not student.training
    logits, bits = student.run(sets[name].take(torch.arange(8)).images)
    assert torch.isfinite(logits).all() and bits.shape == (8, len(student.sites))
    if METHODS[name].trains_student:
        assert history["loss"].iloc[-2:].mean() < history["loss"].iloc[:2].mean()
    else:
        assert history.empty


@pytest.mark.parametrize("name", METHODS)
def test_it_works_in_bfloat16(name, teacher, tmp_path):
    with compute_precision("bfloat16", teacher.device):
        images = make_images(name, teacher, tmp_path)
        student, history = teach(name, teacher, images, DYNAMIC)
    assert all(tensor.dtype == torch.float32 for tensor in content(images).values())
    state = [
        tensor for tensor in student.network.state_dict().values() if tensor.is_floating_point()
    ]
    assert all(
        tensor.dtype != torch.bfloat16 and bool(torch.isfinite(tensor).all()) for tensor in state
    )
    exact, _ = teach(name, teacher, images, DYNAMIC)
    if len(
        history
    ):  # losses are float32: a divergence of two answers that differ little is small, and positive
        assert not history.filter(like="distillation").lt(0).any(axis=None)
        assert not same(weights(student), weights(exact))


@pytest.mark.parametrize("name", METHODS)
def test_its_student_comes_back_from_a_file(name, taught, sets, make_net, tmp_path):
    student = taught(name)
    student.save(tmp_path)
    again = load_student(tmp_path, make_net())
    images = sets[name].take(torch.arange(16)).images
    assert torch.equal(student(images), again(images))


@pytest.mark.parametrize(("name", "key", "field"), hyperparameters("images", NAMES), ids=name_of)
def test_no_image_hyperparameter_is_dead(name, key, field, content_of):
    path = f"{name}.images.{key}"
    needed = NEEDED.get(path, {})
    changed = {**needed, key: another_value(path, field, field.default)}
    assert not same(content_of(name, **needed), content_of(name, **changed))


@pytest.mark.parametrize(("name", "key", "field"), hyperparameters("student", METHODS), ids=name_of)
def test_no_student_hyperparameter_is_dead(name, key, field, taught):
    path = f"{name}.student.{key}"
    needed = NEEDED.get(path, {})
    changed = {**needed, key: another_value(path, field, field.default)}
    one, other = (weights(taught(name, **changes)) for changes in (needed, changed))
    assert not same(one, other)
