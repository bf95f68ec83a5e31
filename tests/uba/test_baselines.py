"""The baselines against their own published formulas, written out here a second time."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from replication.uba.baselines import SCHEDULES, factors, make_scheduler
from replication.uba.schedule import UBALR, uba

OPTIONS = {"uba": {"phi": 5.0}, "power": {"exponent": 2.0}}
TOTALS = (2, 7, 10, 100, 333)


def optimizer(*peaks: float) -> torch.optim.Optimizer:
    return torch.optim.SGD([{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": p} for p in peaks or (0.1,)], lr=1)


def close(found: np.ndarray, formula) -> None:
    expected = [formula(t) for t in range(len(found))]
    np.testing.assert_allclose(found, expected, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("total", TOTALS)
def test_step_drops_by_gamma_from_each_milestone_on(total):
    close(factors("step", total), lambda t: 0.1 ** ((t / total >= 0.5) + (t / total >= 0.75)))


@pytest.mark.parametrize("total", TOTALS)
def test_cosine_is_half_a_period_without_restarts(total):
    close(factors("cosine", total), lambda t: (1 + math.cos(math.pi * t / total)) / 2)


@pytest.mark.parametrize("total", TOTALS)
def test_cyclic_is_smiths_triangular_formula(total):
    def smith(i: int) -> float:
        half = total / 4
        cycle = math.floor(1 + i / (2 * half))
        x = abs(i / half - 2 * cycle + 1)
        return 0.1 + 0.9 * max(0.0, 1 - x)

    close(factors("cyclic", total), smith)


def test_cyclic_starts_at_the_base_and_touches_the_peak_once_per_cycle():
    table = factors("cyclic", 40)
    assert table[0] == pytest.approx(0.1)
    assert np.flatnonzero(table > 1 - 1e-9).tolist() == [10, 30]


def anneal(start: float, end: float, share: float) -> float:
    return end + (start - end) * (1 + math.cos(math.pi * share)) / 2


@pytest.mark.parametrize("total", [10, 100, 333])
def test_onecycle_climbs_to_the_peak_then_falls_far_below_the_start(total):
    top, end, low = 0.3 * total - 1, total - 1, 1 / 25

    def two_phases(t: int) -> float:
        if t <= top:
            return anneal(low, 1, t / top)
        return anneal(1, low / 1e4, (t - top) / (end - top))

    close(factors("onecycle", total), two_phases)


@pytest.mark.parametrize("total", TOTALS)
@pytest.mark.parametrize("exponent", [0.5, 2.0])
def test_power_is_a_power_of_the_time_left(total, exponent):
    close(factors("power", total, exponent=exponent), lambda t: (1 - t / total) ** exponent)


@pytest.mark.parametrize("name", SCHEDULES)
def test_no_schedule_touches_momentum(name):
    tuned = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.1, momentum=0.9)
    scheduler = make_scheduler(name, tuned, 20, **OPTIONS.get(name, {}))
    for _ in range(19):
        tuned.step()
        scheduler.step()
        assert tuned.param_groups[0]["momentum"] == 0.9


@pytest.mark.parametrize("total", TOTALS)
def test_linear_is_one_minus_s_with_zero_based_steps(total):
    close(factors("linear", total), lambda t: 1 - t / total)


@pytest.mark.parametrize("total", TOTALS)
def test_rex_is_the_published_profile(total):
    close(factors("rex", total), lambda t: (1 - t / total) / (0.5 + 0.5 * (1 - t / total)))


def test_rex_is_not_the_widespread_flatter_variant():
    rest = 1 - np.arange(100) / 100
    assert np.abs(factors("rex", 100) - rest / (0.1 + 0.9 * rest)).max() > 0.2


@pytest.mark.parametrize("total", TOTALS)
def test_wsd_stays_and_cools_down_by_one_minus_sqrt(total):
    start = total - round(0.2 * total)
    close(factors("wsd", total), lambda t: 1.0 if t < start else 1 - math.sqrt((t - start) / (total - start)))


@pytest.mark.parametrize("total", TOTALS)
def test_constant_is_the_peak_at_every_step(total):
    assert (factors("constant", total) == 1).all()


@pytest.mark.parametrize("phi", [0.5, 2.0, 5.0])
def test_uba_is_the_schedule_under_test(phi):
    assert isinstance(make_scheduler("uba", optimizer(), 10, phi=phi), UBALR)
    assert factors("uba", 50, phi=phi).tolist() == [uba(t, 50, phi) for t in range(50)]


@pytest.mark.parametrize("name", SCHEDULES)
def test_peaks_scale_every_group_by_the_same_table(name):
    options = OPTIONS.get(name, {})
    tuned = optimizer(0.2, 0.05)
    scheduler = make_scheduler(name, tuned, 20, **options)
    for factor in factors(name, 20, **options):
        assert [group["lr"] for group in tuned.param_groups] == pytest.approx([0.2 * factor, 0.05 * factor], rel=1e-9)
        tuned.step()
        if scheduler.last_epoch < 19:  # one-cycle refuses to go past its budget
            scheduler.step()


def test_tables_are_cached_and_read_only():
    table = factors("rex", 10)
    assert factors("rex", 10) is table
    with pytest.raises(ValueError, match="read-only"):
        table[0] = 5
    assert factors("rex", 11) is not table


def test_the_registry_is_what_is_tested_here_and_cannot_be_changed():
    with pytest.raises(TypeError):
        SCHEDULES["mine"] = SCHEDULES["rex"]  # type: ignore[index]
    assert set(SCHEDULES) == {
        "uba",
        "step",
        "cosine",
        "cyclic",
        "onecycle",
        "linear",
        "rex",
        "wsd",
        "power",
        "constant",
    }


# --- refusals ---------------------------------------------------------------------------------------------------------


def test_unknown_name_is_refused_with_the_nearest_and_all_known():
    with pytest.raises(ValueError, match=r"name: must be one of uba, step, .*, got 'cosin'; did you mean 'cosine'\?$"):
        make_scheduler("cosin", optimizer(), 10)


def test_unknown_name_without_a_near_one_has_no_hint():
    with pytest.raises(ValueError, match=r"got 'zzzz'$"):
        factors("zzzz", 10)


def test_unknown_and_missing_options_are_refused_by_name():
    with pytest.raises(TypeError, match="unexpected keyword argument 'phi'"):
        make_scheduler("step", optimizer(), 10, phi=2)
    with pytest.raises(TypeError, match="missing 1 required keyword-only argument: 'phi'"):
        factors("uba", 10)


@pytest.mark.parametrize("total", [1, 0, -5, 10.0, True, math.nan, "10", None])
def test_budget_is_refused_by_name(total):
    with pytest.raises(ValueError, match=r"^total: must be an integer of at least 2"):
        make_scheduler("linear", optimizer(), total)
