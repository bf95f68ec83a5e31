"""The named feature space and the check for copies."""

from __future__ import annotations

import pytest
import torch

from replication.adcm.features import classifier_features, memorised_share, nearest_distance
from replication.adcm.metrics import frechet_distance


def stripes(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Horizontal against vertical stripes, with noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.randint(2, (n,), generator=generator)
    stripe = (torch.arange(8) % 4 < 2).float() - 0.5
    both = torch.stack([stripe[:, None].expand(8, 8), stripe[None].expand(8, 8)])
    return both[labels][:, None] + 0.3 * torch.randn(n, 1, 8, 8, generator=generator), labels


@pytest.fixture(scope="module")
def features():
    return classifier_features(stripes(128, 0), stripes(64, 1), data="stripes", width=4, steps=25, batch_size=16)


def test_the_classifier_learns_and_its_features_have_a_name(features):
    assert features.error <= 0.05
    assert features.name == "ResNet-8 (width 4) trained on stripes, 16 pooled features"
    assert features(stripes(70, 2)[0], batch_size=32).shape == (70, 16)


def test_distances_in_the_features_tell_images_from_noise(features):
    real, other, noise = (features(x) for x in (stripes(200, 3)[0], stripes(200, 4)[0], torch.randn(200, 1, 8, 8)))
    assert frechet_distance(real, other) < 0.2 * frechet_distance(real, noise)


def test_the_features_depend_on_the_seed_only(features):
    again = classifier_features(stripes(128, 0), stripes(64, 1), data="stripes", width=4, steps=25, batch_size=16)
    x = stripes(10, 5)[0]
    torch.testing.assert_close(again(x), features(x), rtol=0, atol=0)


def test_nearest_distance_is_the_least_of_all():
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(7, 1, 3, 3, generator=generator)
    b = torch.randn(40, 1, 3, 3, generator=generator)
    expected = torch.stack([(b - x).flatten(1).norm(dim=1).min() for x in a])
    torch.testing.assert_close(nearest_distance(a, b, batch_size=3), expected)
    assert not nearest_distance(b[4:6], b).any()
    few = torch.stack([(b[:3] - x).flatten(1).norm(dim=1).min() for x in a])
    torch.testing.assert_close(nearest_distance(a, b[:3]), few)


def test_copies_are_found_among_images_that_differ_little():
    others = 100 + 0.01 * torch.randn(2000, 48, generator=torch.Generator().manual_seed(0))
    assert not nearest_distance(others[:5], others).any()


def test_copies_are_memorised_and_new_images_are_not():
    generator = torch.Generator().manual_seed(0)
    train, held_out, new = torch.randn(3, 400, 1, 4, 4, generator=generator)
    floor = nearest_distance(held_out, train)
    assert memorised_share(nearest_distance(train[:50] + 0.01, train), floor) == 1
    assert memorised_share(nearest_distance(new, train), floor, level=0.1) == pytest.approx(0.1, abs=0.06)
    half = torch.cat([train[:50], new[:50] + 100])
    assert memorised_share(nearest_distance(half, train), floor) == 0.5


@pytest.mark.parametrize("level", [0.0, 1.0])
def test_a_level_that_is_no_share_is_refused(level):
    with pytest.raises(ValueError, match=r"^level: "):
        memorised_share(torch.zeros(2), torch.ones(2), level=level)


@pytest.mark.parametrize("others", [torch.zeros(0, 2), torch.zeros(3, 5)])
def test_nothing_to_compare_with_is_refused(others):
    with pytest.raises(ValueError, match=r"^others: "):
        nearest_distance(torch.zeros(4, 2), others)
