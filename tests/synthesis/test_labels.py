import pytest
import torch

from dynadfq.losses.objective import label_entropy
from dynadfq.synthesis.labels import (
    OneHotLabels,
    SimilarClassLabels,
    TargetProbabilityLabels,
    dirichlet,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def similarity():
    rows = torch.randn(10, 32, generator=generator())
    return rows @ rows.T


@pytest.mark.parametrize("classes", [1, 2, 3, 7])
@pytest.mark.parametrize("ratio", [0.0, 0.25, 0.5, 1.0])
def test_labels_share_one_among_similar_classes(similarity, classes, ratio):
    labels = SimilarClassLabels(similarity, classes, ratio)(64, generator())
    assert labels.shape == (64, 10)
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(64))
    support = labels > 0
    assert support.sum(dim=1).max() <= classes
    shared = support.sum(dim=1) > 1
    assert shared.sum() == (round(ratio * 64) if classes > 1 else 0)
    ranked = (
        similarity.clone().fill_diagonal_(torch.inf).argsort(dim=1, descending=True)[:, :classes]
    )
    supports = {frozenset(row.tolist()) for row in ranked}
    assert {frozenset(row.nonzero().flatten().tolist()) for row in support[shared]} <= supports
    assert len(labels.argmax(dim=1).unique()) > 3


def test_the_own_class_is_always_in_the_support(similarity):
    weak = similarity.clone()
    weak[3] = 1.0 + torch.arange(
        10
    )  # raw inner products: a class may resemble others more than itself
    weak[3, 3] = -100.0
    own = torch.randint(10, (400,), generator=generator())  # the sampler's first draw
    labels = SimilarClassLabels(weak, 2, 1.0)(400, generator())
    assert (own == 3).any()
    assert (labels[torch.arange(400), own] > 0).all()


def test_shares_go_to_random_positions(similarity):
    first, second = (
        (SimilarClassLabels(similarity)(64, generator(seed)).amax(1) == 1).tolist()
        for seed in (0, 1)
    )
    assert sum(first) == sum(second) == 32 and first != second


@pytest.mark.parametrize(("classes", "entropy"), [(2, 0.5), (3, 0.8333), (5, 1.2833), (10, 1.9290)])
def test_mean_entropy_of_a_flat_dirichlet(classes, entropy):
    rows = dirichlet(40_000, classes, 1.0, generator())
    torch.testing.assert_close(rows.sum(dim=1), torch.ones(40_000))
    entropies = label_entropy(rows.double())
    error = entropies.std() / 200
    assert abs(entropies.mean() - entropy) < 4 * error


def test_concentration_moves_towards_equal_shares():
    entropies = [
        label_entropy(dirichlet(2000, 3, alpha, generator())).mean() for alpha in (0.2, 1.0, 20.0)
    ]
    assert entropies[0] < entropies[1] < entropies[2]


@pytest.mark.parametrize("sampler", [OneHotLabels(6), SimilarClassLabels(torch.eye(6), 2, 0.5)])
def test_labels_depend_on_the_generator_alone(sampler):
    assert torch.equal(sampler(32, generator(1)), sampler(32, generator(1)))
    assert not torch.equal(sampler(32, generator(1)), sampler(32, generator(2)))


def test_one_hot_labels_cover_the_classes():
    labels = OneHotLabels(6)(300, generator())
    assert torch.equal(labels.amax(dim=1), torch.ones(300)) and torch.equal(
        labels.sum(dim=1), torch.ones(300)
    )
    assert labels.sum(dim=0).min() > 20


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_targets_are_the_largest_entries(share):
    labels = TargetProbabilityLabels(10, 0.6, share)(2000, generator())
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(2000))
    target, own = labels.max(dim=1)
    assert target.min() >= 0.6 and target.max() <= 1 and len(own.unique()) == 10
    assert (target < 1).float().mean().item() == pytest.approx(share, abs=0.04)
    others = labels.scatter(1, own[:, None], torch.nan)
    assert torch.equal(
        others.nan_to_num(2).amin(dim=1), others.nan_to_num(-2).amax(dim=1)
    )  # share the rest evenly
    if share:
        lowered = target[target < 1]
        assert lowered.mean().item() == pytest.approx(0.8, abs=0.02)


def test_certain_targets_are_one_hot_labels():
    assert torch.equal(
        TargetProbabilityLabels(10, 1.0, 1.0)(64, generator()).amax(dim=1), torch.ones(64)
    )
