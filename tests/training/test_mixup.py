import pytest
import torch

from dynadfq.training.mixup import easiest, mix_pairs

RNG = torch.Generator().manual_seed(0)
IMAGES = torch.randn(20, 3, 4, 4, generator=RNG)
LABELS = torch.rand(20, 6, generator=RNG).softmax(dim=1)
CHOSEN = torch.tensor([1, 4, 5, 9, 16, 17])


def mix(chosen=CHOSEN, seed=0):
    return mix_pairs(IMAGES, LABELS, chosen, torch.Generator().manual_seed(seed))


def test_only_the_chosen_change():
    before = IMAGES.clone(), LABELS.clone()
    images, labels = mix()
    others = torch.ones(20, dtype=torch.bool).index_fill(0, CHOSEN, False)
    assert torch.equal(images[others], IMAGES[others]) and torch.equal(
        labels[others], LABELS[others]
    )
    changed = (images != IMAGES).flatten(1).any(dim=1)
    assert torch.equal(changed, ~others)  # nobody is mixed with itself
    assert torch.equal(IMAGES, before[0]) and torch.equal(LABELS, before[1])


def test_mixed_images_and_labels_are_convex_with_one_share():
    images, labels = mix()
    torch.testing.assert_close(labels.sum(dim=1), torch.ones(20))
    for i in CHOSEN.tolist():
        fits = []
        for j in CHOSEN.tolist():
            difference = IMAGES[i] - IMAGES[j]
            share = ((images[i] - IMAGES[j]) * difference).sum() / difference.square().sum().clamp(
                min=1e-12
            )
            image = share * IMAGES[i] + (1 - share) * IMAGES[j]
            label = share * LABELS[i] + (1 - share) * LABELS[j]
            fits.append(
                torch.allclose(image, images[i], atol=1e-5)
                and torch.allclose(label, labels[i], atol=1e-5)
                and -1e-5 <= share <= 1 + 1e-5
            )
        assert any(fits)


def test_partners_and_shares_are_drawn_from_the_generator():
    assert all(torch.equal(a, b) for a, b in zip(mix(seed=1), mix(seed=1), strict=True))
    assert not torch.equal(mix(seed=1)[0], mix(seed=2)[0])
    pixels = torch.eye(64)[:, :, None, None]
    everyone = torch.arange(64)
    mixed = torch.stack([mix_pairs(pixels, torch.eye(64), everyone, RNG)[1] for _ in range(20)])
    own = mixed.diagonal(dim1=1, dim2=2)
    assert (
        abs(own.mean() - 0.5) < 0.05 and own.min() < 0.05 and own.max() > 0.95
    )  # uniform in 0 … 1
    assert ((mixed > 0).sum(dim=2) == 2).all() and ((mixed > 0).sum(dim=1) == 2).all()


def test_nobody_chosen():
    images, labels = mix(torch.empty(0, dtype=torch.long))
    assert torch.equal(images, IMAGES) and torch.equal(labels, LABELS)


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.25, 2), (0.5, 4), (1.0, 8)])
def test_easiest_are_the_lowest_losses(share, count):
    losses = torch.tensor([0.5, 0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4])
    chosen = easiest(losses, share)
    assert len(chosen) == count
    assert chosen.tolist() == [1, 3, 5, 7, 0, 6, 4, 2][:count]
