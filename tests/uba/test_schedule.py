"""The schedule: its formula and limits, torch's scheduler interface, and what is refused."""

from __future__ import annotations

import io
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.optim.lr_scheduler import ChainedScheduler, ConstantLR, CosineAnnealingLR, LinearLR, SequentialLR

from replication.uba import UBALR, get_uba_schedule_with_warmup, uba
from replication.uba.baselines import factors

PHIS = st.floats(1e-300, 1e300)


def optimizer(*rates: float) -> torch.optim.SGD:
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": rate} for rate in rates or (1.0,)])


def trace(scheduler, steps: int) -> np.ndarray:
    """Rates (steps, groups) as a training loop sees them."""
    seen = []
    for _ in range(steps):
        seen.append(scheduler.get_last_lr())
        scheduler.optimizer.step()
        scheduler.step()
    return np.array(seen)


@given(st.integers(1, 10**6), st.integers(0, 10**6), st.floats(1e-6, 1e3), st.floats(0, 1))
def test_phi_two_is_cosine_bit_for_bit(total, step, peak, share):
    floor = share * peak
    t = min(step, total)
    cosine = floor + (peak - floor) * (1 + math.cos(math.pi * t / total)) / 2
    # at the very end cosine leaves a rounding error of the floor, the schedule returns it exactly
    assert uba(t, total, 2, peak=peak, floor=floor) == (cosine if t < total else floor)
    assert uba([t], [total], [2.0], peak=[peak], floor=[floor])[0] == (cosine if t < total else floor)


@given(PHIS, st.integers(2, 500))
def test_every_phi_is_monotone_finite_and_between_floor_and_peak(phi, total):
    values = uba(np.arange(total + 3), total, phi, peak=0.3, floor=0.0)
    assert np.isfinite(values).all()
    assert (np.diff(values) <= 0).all()
    assert values[0] == 0.3
    assert (values[total:] == 0).all()


@given(st.floats(0.01, 100), st.integers(2, 200))
def test_scalars_and_arrays_compute_the_same_bits(phi, total):
    steps = np.arange(total + 2)
    scalars = [uba(int(t), total, phi, peak=0.7, floor=0.1, warmup=total // 3) for t in steps]
    assert scalars == uba(steps, total, phi, peak=0.7, floor=0.1, warmup=total // 3).tolist()


@given(st.floats(0.05, 50), st.floats(0.01, 0.99))
def test_equals_the_published_form(phi, share):
    c = 1 + math.cos(math.pi * share)
    assert uba(share, 1, phi) == pytest.approx(2 * c / (2 * phi + (2 - phi) * c), rel=1e-9)


@given(st.floats(0.05, 50), st.floats(0.001, 0.999))
def test_mirror(phi, share):
    """f_phi(t) = 1 - f_{4/phi}(T - t): 5 mirrors 0.8 about cosine."""
    assert uba(share, 1, phi) == pytest.approx(1 - uba(1 - share, 1, 4 / phi), abs=1e-13)


@given(st.floats(0.1, 20), st.floats(0.0, 1.0, exclude_max=True))
def test_is_rex_map_of_the_cosine(phi, share):
    a, x = phi / 2, (1 + math.cos(math.pi * share)) / 2
    assert uba(share, 1, phi) == pytest.approx(x / (a + (1 - a) * x), rel=1e-9, abs=1e-15)


@pytest.mark.parametrize("phi", [0.5, 2.0, 8.0])
def test_first_and_last_order(phi):
    theta = 1e-3
    assert 1 - uba(theta / math.pi, 1, phi) == pytest.approx(phi / 8 * theta**2, rel=1e-4)
    assert uba(1 - theta / math.pi, 1, phi) == pytest.approx(theta**2 / (2 * phi), rel=1e-4)


@pytest.mark.parametrize(
    ("phi", "mean", "half"),
    [
        (0.05, 0.864, 0.900), (0.25, 0.739, 0.784), (0.5, 0.667, 0.705), (1, 0.586, 0.608), (2, 0.500, 0.500),
        (2.5, 0.472, 0.465), (5, 0.387, 0.359), (10, 0.309, 0.268), (50, 0.167, 0.126),
    ],
)  # fmt: skip
def test_mean_and_half_height(phi, mean, half):
    grid = (np.arange(20000) + 0.5) / 20000
    values = uba(grid, 1, phi)
    a = math.sqrt(phi / 2)
    assert values.mean() == pytest.approx(mean, abs=6e-4)
    assert (values**2).mean() == pytest.approx((2 + a) / (2 * (1 + a) ** 2), rel=1e-6)
    assert grid[np.searchsorted(-values, -0.5)] == pytest.approx(half, abs=6e-4)


@pytest.mark.parametrize(
    ("shape", "phi", "error"),
    [
        (lambda s: 1 - s, 2.00, 0.075),
        (lambda s: (1 - s) / (1 - s / 2), 0.74, 0.075),
        (lambda s: (1 - s) ** 2, 7.9, 0.046),
        (lambda s: np.where(s < 0.5, 1, np.where(s < 0.75, 0.1, 0.01)), 1.7, 0.206),
        (lambda s: 0.2 ** (1.0 * (s >= 0.3) + (s >= 0.6) + (s >= 0.8)), 6.1, 0.156),
    ],
)
def test_closest_phi_to_other_shapes(shape, phi, error):
    s = (np.arange(4000) + 0.5) / 4000
    phis = np.geomspace(0.3, 20, 2000)
    errors = np.sqrt(((uba(s, 1, phis[:, None]) - shape(s)) ** 2).mean(axis=1))
    assert phis[errors.argmin()] == pytest.approx(phi, rel=0.02)
    assert errors.min() == pytest.approx(error, abs=6e-4)


def test_phi_zero_is_constant():
    assert (uba(np.arange(12), 10, 0, peak=0.3) == 0.3).all()
    assert (trace(UBALR(optimizer(0.3), 10, 0), 12) == 0.3).all()


def test_ubalr_is_cosine_annealing_at_phi_two():
    """Bit for bit with torch's closed form; with its recursion, which rounds at every step, to 1e-12."""
    ours = trace(UBALR(optimizer(0.1, 0.37), 1000, 2, eta_min=0.003), 1000)
    peer = CosineAnnealingLR(optimizer(0.1, 0.37), 1000, eta_min=0.003)
    closed = []
    for epoch in range(1000):
        peer.last_epoch = epoch
        closed.append(peer._get_closed_form_lr())
    assert (ours == np.array(closed)).all()
    recursive = trace(CosineAnnealingLR(optimizer(0.1, 0.37), 1000, eta_min=0.003), 1000)
    np.testing.assert_allclose(ours, recursive, rtol=0, atol=1e-12)


def test_every_group_has_its_own_peak():
    rates = trace(UBALR(optimizer(0.1, 1.0), 20, 5.0, warmup_iters=4), 25)
    for group, peak in enumerate((0.1, 1.0)):
        assert rates[:, group].tolist() == [uba(t, 20, 5.0, peak=peak, warmup=4) for t in range(25)]


def test_no_drift_after_a_million_steps():
    total = 10**6
    scheduler = UBALR(optimizer(0.3), total, 5.0)
    scheduler.optimizer.step()
    for _ in range(total // 2):
        scheduler.step()
    assert scheduler.get_last_lr() == [uba(total // 2, total, 5.0, peak=0.3)]
    for _ in range(total // 2):
        scheduler.step()
    assert scheduler.get_last_lr() == [0.0]


@pytest.mark.parametrize("phi", [0.0, 0.5, 5.0])
def test_past_the_budget_the_last_value_is_held(phi):
    rates = trace(UBALR(optimizer(0.3), 10, phi, eta_min=0.01), 40)[10:]
    assert (rates == (0.3 if phi == 0 else 0.01)).all()


def test_warmup_is_linear_and_inside_the_budget():
    rates = trace(UBALR(optimizer(1.0), 10, 2.0, warmup_iters=4), 10)[:, 0]
    assert rates[:4].tolist() == [0.25, 0.5, 0.75, 1.0]
    np.testing.assert_allclose(rates[4:], (1 + np.cos(np.pi * np.arange(6) / 6)) / 2, atol=1e-15)


def test_cycles_are_equal_phases():
    rates = trace(UBALR(optimizer(1.0), 26, 5.0, warmup_iters=2, num_cycles=3), 26)[:, 0]
    assert (rates[2:10] == rates[10:18]).all()
    np.testing.assert_allclose(rates[2:10], [uba(t, 8, 5.0) for t in range(8)], rtol=1e-12)


@pytest.mark.parametrize("stop", [1, 3, 17])
def test_resumes_mid_run_through_a_checkpoint(stop):
    """Saved with torch.save, loaded with weights_only: the safe form has to be enough."""
    whole = trace(UBALR(optimizer(0.1, 0.2), 30, 5.0, warmup_iters=5), 30)
    first = UBALR(optimizer(0.1, 0.2), 30, 5.0, warmup_iters=5)
    trace(first, stop)
    file = io.BytesIO()
    torch.save({"optimizer": first.optimizer.state_dict(), "scheduler": first.state_dict()}, file)
    file.seek(0)
    saved = torch.load(file, weights_only=True)
    fresh = optimizer(0.1, 0.2)
    second = UBALR(fresh, 30, 5.0, warmup_iters=5)
    fresh.load_state_dict(saved["optimizer"])
    second.load_state_dict(saved["scheduler"])
    assert (trace(second, 30 - stop) == whole[stop:]).all()


def test_resumes_by_last_epoch():
    first = UBALR(optimizer(0.1), 30, 5.0)
    whole = trace(UBALR(optimizer(0.1), 30, 5.0), 30)
    trace(first, 11)
    second = UBALR(first.optimizer, 30, 5.0, last_epoch=10)
    assert (trace(second, 19) == whole[11:]).all()


def test_in_a_sequence_it_runs_its_own_budget():
    base = optimizer(0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # torch's own: SequentialLR steps with an epoch
        sequence = SequentialLR(
            base, [LinearLR(base, start_factor=0.1, total_iters=5), UBALR(base, 20, 5.0)], milestones=[5]
        )
        rates = trace(sequence, 25)[:, 0]
    np.testing.assert_allclose(rates[5:], [uba(t, 20, 5.0, peak=0.1) for t in range(20)], rtol=1e-12)


def test_in_a_chain_the_factors_multiply():
    base = optimizer(0.1)
    chain = ChainedScheduler([ConstantLR(base, factor=0.5, total_iters=6), UBALR(base, 20, 5.0)])
    rates = trace(chain, 20)[:, 0]
    expected = [uba(t, 20, 5.0, peak=0.1) * (0.5 if t < 6 else 1.0) for t in range(20)]
    np.testing.assert_allclose(rates, expected, rtol=1e-12)


def test_lambda_factory_computes_the_same():
    ours = trace(UBALR(optimizer(0.1), 40, 0.5, warmup_iters=6, eta_min=0.01), 45)
    factory = get_uba_schedule_with_warmup(optimizer(0.1), 6, 40, phi=0.5, eta_min_ratio=0.1)
    np.testing.assert_allclose(trace(factory, 45), ours, rtol=1e-12)


def test_table_of_factors_is_the_schedule():
    assert factors("uba", 50, phi=5.0).tolist() == [uba(t, 50, 5.0) for t in range(50)]


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"phi": -0.1}, "phi"), ({"phi": NAN}, "phi"), ({"phi": INF}, "phi"), ({"phi": [1, -1]}, "phi"),
        ({"total": 0}, "total"), ({"total": -5}, "total"), ({"total": NAN}, "total"), ({"step": -1}, "step"),
        ({"step": NAN}, "step"), ({"warmup": 10}, "warmup"), ({"warmup": -1}, "warmup"), ({"floor": 2}, "floor"),
        ({"floor": -1}, "floor"), ({"peak": NAN}, "peak|floor"),
    ],
)  # fmt: skip
def test_function_refuses_by_name(wrong, named):
    with pytest.raises(ValueError, match=named):
        uba(**({"step": 1, "total": 10, "phi": 2} | wrong))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"phi": -0.1}, "phi"), ({"phi": NAN}, "phi"), ({"phi": INF}, "phi"), ({"phi": "5x"}, "phi"),
        ({"total_iters": 0}, "total_iters"), ({"total_iters": 10.5}, "total_iters"),
        ({"total_iters": True}, "total_iters"), ({"warmup_iters": 10}, "warmup_iters"),
        ({"warmup_iters": -1}, "warmup_iters"), ({"num_cycles": 0}, "num_cycles"),
        ({"eta_min": -1.0}, "eta_min"), ({"eta_min": NAN}, "eta_min"), ({"eta_min": 2.0}, "eta_min"),
        ({"last_epoch": -2}, "last_epoch"),
    ],
)  # fmt: skip
def test_scheduler_refuses_by_name(wrong, named):
    with pytest.raises((ValueError, TypeError), match=f"^{named}"):
        UBALR(optimizer(1.0), **({"total_iters": 10, "phi": 2} | wrong))
