"""The consistency loss: distance, weights, the target's error as a function of time, refusals."""

from __future__ import annotations

import math

import pytest
import torch

from replication.adcm.loss import FLOOR, adaptive_loss, huber_constant, loss_weight, pseudo_huber, target_error
from replication.adcm.schedules import VE, FlowMatching


def test_pseudo_huber_is_one_distance_a_vector():
    a, b = torch.randn(5, 3, 2, 2).double(), torch.randn(5, 3, 2, 2).double()
    squared = (a - b).pow(2).sum((1, 2, 3))
    for c in (0.0, 0.03, 2.0):
        torch.testing.assert_close(pseudo_huber(a, b, c), (squared + c**2).sqrt() - c)
    # over replicas the sample axis is kept
    assert pseudo_huber(a, b, 0.1, batch_dims=2).shape == (5, 3)


def test_pseudo_huber_keeps_its_digits_near_zero():
    """sqrt(s + c^2) - c in float32 would be zero here; the distance is s / 2c."""
    a = torch.tensor([[1e-5]])
    assert pseudo_huber(a, torch.zeros(1, 1), 1.0).item() == pytest.approx(5e-11, rel=1e-5)


@pytest.mark.parametrize("c", [0.0, 0.1])
def test_gradient_at_zero_distance_is_zero(c):
    a = torch.ones(2, 3, requires_grad=True)
    pseudo_huber(a, torch.ones(2, 3), c).sum().backward()
    assert torch.equal(a.grad, torch.zeros(2, 3))


def test_huber_constant():
    assert huber_constant(3072) == pytest.approx(0.02993, abs=5e-6)
    assert huber_constant(2) == pytest.approx(0.00054 * math.sqrt(2))


def test_weights():
    t, r = torch.tensor([2.0, 4.0]), torch.tensor([1.5, 3.0])
    target, x0 = torch.tensor([[3.0, 4.0], [0.0, 1.0]]), torch.zeros(2, 2)
    assert loss_weight("per_sample", t=t, r=r, target=target, x0=x0).tolist() == pytest.approx([0.2, 1.0])
    assert loss_weight("per_sample", t=t, r=r, target=target, x0=x0, c=12.0)[0].item() == pytest.approx(1.0)
    assert loss_weight("w_t", t=t, r=r, error=lambda r: 2 * r).tolist() == pytest.approx([1 / 3, 1 / 6])
    assert loss_weight("inverse_step", t=t, r=r).tolist() == [2.0, 1.0]
    assert loss_weight("inverse_t", t=t, r=r).tolist() == [0.5, 0.25]
    assert loss_weight("one", t=t, r=r).tolist() == [1.0, 1.0]
    assert loss_weight("per_sample", t=t, r=r, target=x0, x0=x0).tolist() == pytest.approx([1 / FLOOR] * 2)


def test_no_gradient_reaches_the_target_or_the_weight():
    student = torch.tensor([[2.0, 0.0]], requires_grad=True)
    target = torch.tensor([[1.0, 0.0]], requires_grad=True)
    t, r, x0 = torch.tensor([1.0]), torch.tensor([0.9]), torch.tensor([[0.5, 0.0]])
    adaptive_loss(student, target, x0, 0.0, "per_sample", t=t, r=r).sum().backward()
    assert target.grad is None
    # 1 / d(target, x0) = 2 is a constant of the loss
    assert student.grad.tolist() == [[2.0, 0.0]]


def test_the_metric_of_the_loss_is_that_of_its_weight():
    """Eq. 11 with c = 1 in both: (sqrt(3^2 + ...) ...) by hand: d(0, sqrt 3) = 1, d(0, sqrt 8) = 2."""
    student, target, x0 = (torch.tensor([[v]]) for v in (8.0**0.5 + 3.0**0.5, 3.0**0.5, 0.0))
    one = torch.ones(1)
    assert adaptive_loss(student, target, x0, 1.0, "per_sample", t=one, r=one).item() == pytest.approx(2.0)


@pytest.mark.parametrize("schedule", [VE(t_max=10.0), FlowMatching()], ids=repr)
def test_target_error_against_the_closed_form(schedule):
    """f(x, t) = x / alpha has the error tau ||z||, of mean tau sqrt(pi / 2) in two dimensions."""
    times = torch.linspace(schedule.t_min, schedule.t_max, 7, dtype=torch.float64)
    error = target_error(
        lambda x, t: x / schedule.alpha(t)[:, None],
        lambda n: torch.randn(n, 2, generator=torch.Generator().manual_seed(1), dtype=torch.float64),
        schedule,
        times,
        0.0,
        batch_size=4000,
        generator=torch.Generator().manual_seed(2),
    )
    expected = schedule.ratio(times) * math.sqrt(math.pi / 2)
    torch.testing.assert_close(error.values, expected, rtol=0.03, atol=0)
    # linear in log-log, so exact between the nodes too; constant beyond them
    between = torch.tensor([0.03, 0.5, 0.9], dtype=torch.float64)
    torch.testing.assert_close(error(between), schedule.ratio(between) * math.sqrt(math.pi / 2), rtol=0.03, atol=0)
    assert error(torch.tensor([1e-6], dtype=torch.float64)).item() == pytest.approx(error.values[0].item())


def test_target_error_of_replicas_is_that_of_each():
    def sample(n):
        return torch.randn(3, n, 2, generator=torch.Generator().manual_seed(0))

    times = torch.tensor([0.1, 1.0, 5.0])
    scale = torch.tensor([0.5, 1.0, 2.0])[:, None, None]
    error = target_error(
        lambda x, t: scale * x,
        sample,
        VE(),
        times,
        0.1,
        batch_size=64,
        batch_dims=2,
        generator=torch.Generator().manual_seed(3),
    )
    assert error.values.shape == (3, 3)
    t = torch.tensor([[0.1, 0.3], [0.1, 0.3], [0.1, 0.3]])
    z = torch.randn(3, 64, 2, generator=torch.Generator().manual_seed(3))
    for k in range(3):
        x0 = sample(64)[k]
        alone = pseudo_huber(scale[k] * (x0 + 0.1 * z[k]), x0, 0.1).mean()
        assert error(t)[k, 0].item() == pytest.approx(alone.item(), rel=1e-5)
    assert error(t)[0, 1] != error(t)[2, 1]


def test_refusals():
    a, one = torch.zeros(2, 2), torch.ones(2)
    for c in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="c: must be at least 0"):
            pseudo_huber(a, a, c)
    with pytest.raises(ValueError, match=r"b: must have a's shape \(2, 2\), got \(2,\)"):
        pseudo_huber(a, one, 0.0)
    with pytest.raises(ValueError, match=r"weight: must be one of per_sample, w_t, .* got 'adaptive'"):
        loss_weight("adaptive", t=one, r=one)
    with pytest.raises(ValueError, match="error: weight='w_t' needs"):
        loss_weight("w_t", t=one, r=one)
    with pytest.raises(ValueError, match="target and x0"):
        loss_weight("per_sample", t=one, r=one)
    with pytest.raises(ValueError, match="times: need at least two, ascending"):
        target_error(lambda x, t: x, lambda n: torch.zeros(n, 2), VE(), torch.tensor([2.0, 1.0]), 0.0)
    with pytest.raises(ValueError, match=r"model: its error .* is not finite"):
        target_error(lambda x, t: x / 0, lambda n: torch.zeros(n, 2), VE(), torch.tensor([1.0, 2.0]), 0.0)
