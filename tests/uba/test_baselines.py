"""Every baseline equals its published formula; names and options are checked."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from replication.uba.baselines import SCHEDULES, factors, make_scheduler

T = 200
S = np.arange(T) / T


def triangular(t: float, half: float, base: float) -> float:
    """Smith 2017: cycle = floor(1 + i/(2 h)), x = |i/h − 2 cycle + 1|, base + (1 − base) max(0, 1 − x)."""
    cycle = math.floor(1 + t / (2 * half))
    return base + (1 - base) * max(0.0, 1 - abs(t / half - 2 * cycle + 1))


def onecycle(t: float) -> float:
    """torch's two-phase form: cosine up from 1/25 over 30 %, cosine down to 1/(25 · 10⁴)."""
    up, low, last = 0.3 * T - 1, 1 / 25, 1 / 25e4
    begin, end, share = (low, 1.0, t / up) if t <= up else (1.0, last, (t - up) / (T - 1 - up))
    return end + (begin - end) * (1 + math.cos(math.pi * share)) / 2


def wsd(t: int) -> float:
    rise, start = 0.05 * T, 0.8 * T
    if t < rise:
        return (t + 1) / rise
    return 1.0 if t < start else 1 - math.sqrt((t - start) / (T - start))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("step", np.where(S < 0.5, 1, np.where(S < 0.75, 0.1, 0.01))),
        ("cosine", (1 + np.cos(np.pi * S)) / 2),
        ("cyclic", [triangular(t, T / 4, 0.1) for t in range(T)]),
        ("onecycle", [onecycle(t) for t in range(T)]),
        ("linear", 1 - S),
        ("rex", (1 - S) / (1 - S / 2)),
        ("wsd", [wsd(t) for t in range(T)]),
        ("constant", np.ones(T)),
    ],
)
def test_equals_its_formula(name, expected):
    np.testing.assert_allclose(factors(name, T), expected, rtol=1e-9, atol=1e-12)


def test_every_baseline_is_covered_here():
    assert set(SCHEDULES) == {"uba", "step", "cosine", "cyclic", "onecycle", "linear", "rex", "wsd", "constant"}


def test_rex_is_not_the_widespread_flat_variant():
    wrong = (1 - S) / (0.1 + 0.9 * (1 - S))
    assert np.abs(factors("rex", T) - wrong).max() > 0.2


@pytest.mark.parametrize("name", SCHEDULES)
def test_scales_with_the_peak_of_each_group(name):
    """What the population trainer relies on: rate = peak × factor, for every peak."""
    options = {"phi": 5.0} if name == "uba" else {}
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (0.3, 0.02)]
    optimizer = torch.optim.SGD(groups)
    scheduler = make_scheduler(name, optimizer, 40, **options)
    seen = []
    for _ in range(40):
        seen.append([group["lr"] for group in optimizer.param_groups])
        optimizer.step()
        if len(seen) < 40:
            scheduler.step()
    expected = factors(name, 40, **options)[:, None] * [0.3, 0.02]
    np.testing.assert_allclose(seen, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", SCHEDULES)
def test_does_not_cycle_the_momentum(name):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    scheduler = make_scheduler(name, optimizer, 10, **({"phi": 5.0} if name == "uba" else {}))
    for _ in range(5):
        optimizer.step()
        scheduler.step()
    assert optimizer.param_groups[0]["momentum"] == 0.9


def test_tables_are_shared_and_read_only():
    assert factors("cosine", 10) is factors("cosine", 10)
    with pytest.raises(ValueError, match="read-only"):
        factors("cosine", 10)[0] = 2


def test_unknown_names_and_options_are_refused():
    with pytest.raises(ValueError, match="did you mean 'cosine'"):
        factors("cosin", 10)
    with pytest.raises(TypeError, match="gama: not an option of schedule 'step'"):
        factors("step", 10, gama=0.1)
    with pytest.raises(TypeError, match="phi: schedule 'uba' needs"):
        factors("uba", 10)
    with pytest.raises(ValueError, match="total"):
        factors("cosine", 1)
    with pytest.raises(ValueError, match="warmup and cooldown"):
        factors("wsd", 10, warmup=0.6, cooldown=0.6)
