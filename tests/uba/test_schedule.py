"""The UBA schedule: its algebra, its exactness, and its manners as a torch scheduler."""

from __future__ import annotations

import io
import itertools
import math
import pickle
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from torch.optim.lr_scheduler import (
    ChainedScheduler,
    ConstantLR,
    CosineAnnealingLR,
    ExponentialLR,
    LambdaLR,
    LinearLR,
    LRScheduler,
    SequentialLR,
    StepLR,
)

from replication.uba.schedule import UBALR, get_uba_schedule_with_warmup, uba

S = (np.arange(20_000) + 0.5) / 20_000
PHIS = (0.0, 1e-3, 0.5, 1.0, 2.0, 5.0, 200.0)


def make(*peaks: float) -> torch.optim.Optimizer:
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": peak} for peak in peaks or (0.1,)]
    optimizer = torch.optim.SGD(groups, lr=0.1, momentum=0.9)
    optimizer.step()  # torch warns if the scheduler moves first
    return optimizer


def rates(scheduler: LRScheduler, steps: int) -> list[list[float]]:
    """Rates of every group in force at steps 0…steps, read from the optimizer."""
    found = []
    for _ in range(steps + 1):
        found.append([group["lr"] for group in scheduler.optimizer.param_groups])
        scheduler.optimizer.step()
        scheduler.step()
    return found


def flat(scheduler: LRScheduler, steps: int) -> list[float]:
    return [row[0] for row in rates(scheduler, steps)]


# --- phi = 2 is cosine annealing --------------------------------------------------------------------------------------


@given(st.integers(1, 5000), st.floats(1e-6, 1e3), st.floats(0, 1), st.data())
def test_phi_2_is_the_closed_form_of_cosine_bit_for_bit(total, peak, share, data):
    floor, t = share * peak, data.draw(st.integers(0, total))
    # where t = T the cosine's 1 + cos(pi) is exactly 0, so the floor is exact as well
    cosine = floor + (peak - floor) * (1 + math.cos(math.pi * t / total)) / 2
    assert uba(t, total, 2, peak=peak, floor=floor) == cosine
    assert uba(np.array([t]), total, 2, peak=peak, floor=floor)[0] == cosine


@pytest.mark.parametrize(("total", "eta_min"), [(1, 0.0), (7, 1e-3), (100, 0.0), (1000, 3e-5)])
def test_scheduler_with_phi_2_equals_torchs_closed_form_bit_for_bit(total, eta_min):
    ours = rates(UBALR(make(0.1, 0.3), total, 2, eta_min=eta_min), total)
    reference = CosineAnnealingLR(make(0.1, 0.3), total, eta_min)
    for t, row in enumerate(ours):
        reference.last_epoch = t
        assert row == reference._get_closed_form_lr()


def test_scheduler_with_phi_2_follows_torchs_recursion_to_rounding():
    ours, torchs = (flat(s, 1000) for s in (UBALR(make(), 1000, 2), CosineAnnealingLR(make(), 1000)))
    np.testing.assert_allclose(ours, torchs, rtol=0, atol=1e-12)


# --- the curve --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("phi", [1e-6, 0.05, 0.5, 1, 2, 2.5, 5, 10, 50, 1e6])
def test_equals_the_published_form_of_the_formula(phi):
    t = np.arange(100)
    c = 1 + np.cos(np.pi * t / 100)
    published = 0.01 + (0.3 - 0.01) * 2 * c / (2 * phi + (2 - phi) * c)
    np.testing.assert_allclose(uba(t, 100, phi, peak=0.3, floor=0.01), published, rtol=1e-11)


@given(st.integers(1, 3000), st.floats(1e-300, 1e300), st.floats(1e-6, 1e3), st.floats(0, 1))
def test_finite_falling_and_between_floor_and_peak_for_every_phi(total, phi, peak, share):
    floor = share * peak
    values = uba(np.arange(total + 3), total, phi, peak=peak, floor=floor)
    slack = 4 * np.finfo(float).eps * peak
    assert np.isfinite(values).all()
    assert (np.diff(values) <= slack).all()
    assert values.min() >= floor - slack
    assert values.max() <= peak + slack
    assert values[0] == pytest.approx(peak, rel=1e-15)
    assert (values[total:] == floor).all()
    relative = uba(np.arange(total + 1), total, phi)  # without a floor nothing rounds past an end
    assert (np.diff(relative) <= 0).all()
    assert relative.min() >= 0
    assert relative[0] == 1


@given(st.integers(2, 2000), st.data())
def test_larger_phi_is_nowhere_higher(total, data):
    small, large = sorted(data.draw(st.tuples(*[st.floats(1e-6, 1e6)] * 2)))
    t = np.arange(total)
    assert (uba(t, total, large) <= uba(t, total, small) + 1e-15).all()


def test_phi_0_is_constant_at_the_peak_even_at_and_past_the_end():
    assert (uba(np.arange(30), 20, 0, peak=0.3, floor=0.1) == 0.1 + (0.3 - 0.1)).all()
    assert uba(20, 20, 0) == 1.0
    assert flat(UBALR(make(0.3), 20, 0), 30) == [0.3] * 31


@pytest.mark.parametrize(("phi", "inside"), [(1e-300, 1.0), (1e300, 0.0)])
def test_extreme_phi_are_the_limits(phi, inside):
    values = uba(np.arange(101), 100, phi)
    assert values[0] == 1
    assert values[-1] == 0
    np.testing.assert_allclose(values[1:-1], inside, atol=1e-290)


@given(st.floats(1e-3, 1e3), st.integers(1, 500), st.floats(0, 1))
def test_phi_and_4_over_phi_are_mirror_images(phi, total, share):
    t = share * total
    assert uba(t, total, phi) == pytest.approx(1 - uba(total - t, total, 4 / phi), abs=1e-12)


@pytest.mark.parametrize("phi", [0.5, 1.0, 2.0, 5.0, 50.0])
def test_starts_and_ends_as_its_expansions_say(phi):
    total, h = 1.0, 1e-3
    assert 1 - uba(h / math.pi, total, phi) == pytest.approx(phi / 8 * h**2, rel=1e-4)
    assert uba(1 - h / math.pi, total, phi) == pytest.approx(h**2 / (2 * phi), rel=1e-4)


@pytest.mark.parametrize("phi", [0.25, 1.0, 3.0, 40.0])
def test_is_rexs_map_of_the_cosine(phi):
    t, a = np.arange(200), phi / 2
    x = (1 + np.cos(np.pi * t / 200)) / 2
    np.testing.assert_allclose(uba(t, 200, phi), x / (a + (1 - a) * x), rtol=1e-11)
    if phi == 1:
        np.testing.assert_allclose(uba(t, 200, phi), x / (0.5 + 0.5 * x), rtol=1e-11)


@pytest.mark.parametrize(
    ("phi", "mean", "half"),
    [
        (0.05, 0.864, 0.900), (0.25, 0.739, 0.784), (0.5, 0.667, 0.705), (1, 0.586, 0.608), (2, 0.500, 0.500),
        (2.5, 0.472, 0.465), (5, 0.387, 0.359), (10, 0.309, 0.268), (50, 0.167, 0.126),
    ],
)  # fmt: skip
def test_mean_mean_square_and_half_height_of_the_curve(phi, mean, half):
    """Numbers computed elsewhere; the first, .864, is .8635 and stands rounded up."""
    values, root = uba(S, 1, phi), math.sqrt(phi / 2)
    assert values.mean() == pytest.approx(mean, abs=5.5e-4)
    assert values.mean() == pytest.approx(1 / (1 + root), rel=1e-6)
    assert (values**2).mean() == pytest.approx((2 + root) / (2 * (1 + root) ** 2), rel=1e-6)
    assert uba(2 / math.pi * math.atan(1 / root), 1, phi) == pytest.approx(0.5, rel=1e-12)
    assert S[np.argmax(values < 0.5)] == pytest.approx(half, abs=5.5e-4)


SHAPES = {
    "linear": (1 - S, 2.00, 0.005, 0.075),
    "rex": ((1 - S) / (0.5 + 0.5 * (1 - S)), 0.74, 0.005, 0.075),
    "square": ((1 - S) ** 2, 7.9, 0.05, 0.046),
    "step 50/75": (0.1 ** ((S >= 0.5) + 1.0 * (S >= 0.75)), 1.7, 0.05, 0.206),
    "step 30/60/80": (0.2 ** ((S >= 0.3) + 1.0 * (S >= 0.6) + (S >= 0.8)), 6.1, 0.05, 0.156),
}


@pytest.mark.parametrize("name", SHAPES)
def test_closest_phi_to_other_shapes(name):
    """Printed digits of the least-squares fits; they pin the whole curve, not a point of it."""
    shape, phi, last_digit, error = SHAPES[name]
    fit = minimize_scalar(lambda x: float(np.mean((uba(S, 1, math.exp(x)) - shape) ** 2)), (-1, 2), tol=1e-9)
    assert math.exp(fit.x) == pytest.approx(phi, abs=last_digit + 1e-9)
    assert math.sqrt(fit.fun) == pytest.approx(error, abs=0.0005)


# --- one function, two paths ------------------------------------------------------------------------------------------


@given(
    st.floats(0, 400),
    st.integers(1, 300),
    st.sampled_from([0.0, 2.0]) | st.floats(1e-300, 1e300),
    st.floats(0, 1),
    st.floats(0, 0.99),
)
def test_scalars_and_arrays_agree_bit_for_bit(step, total, phi, share, start):
    arguments = {"peak": 0.7, "floor": 0.7 * share, "warmup": math.floor(start * total)}
    scalar = uba(step, total, phi, **arguments)
    assert isinstance(scalar, float)
    array = uba(np.array([step, step]), total, np.array([[phi], [phi]]), **arguments)
    assert array.shape == (2, 2)
    assert array.dtype == np.float64
    assert (array == scalar).all()


@pytest.mark.parametrize("phi", PHIS)
@pytest.mark.parametrize("warmup", [0, 7])
def test_function_scheduler_and_lambda_factory_are_one_schedule(phi, warmup):
    total = 50
    expected = [uba(t, total, phi, warmup=warmup) for t in range(total + 5)]
    assert flat(UBALR(make(1.0), total, phi, warmup_iters=warmup), total + 4) == expected
    assert flat(get_uba_schedule_with_warmup(make(1.0), warmup, total, phi), total + 4) == expected


def test_lambda_factory_scales_the_floor_with_each_peak_and_can_be_pickled():
    scheduler = get_uba_schedule_with_warmup(make(0.1, 0.4), 2, 10, 5, num_cycles=2, eta_min_ratio=0.1)
    assert isinstance(scheduler, LambdaLR)
    again = pickle.loads(pickle.dumps(scheduler.lr_lambdas[0]))
    ours = UBALR(make(1.0), 10, 5, eta_min=0.1, warmup_iters=2, num_cycles=2)
    for t, (row, value) in enumerate(zip(rates(scheduler, 12), flat(ours, 12), strict=True)):
        assert row == [0.1 * value, 0.4 * value]
        assert again(t) == value


# --- warm-up, cycles, budget ------------------------------------------------------------------------------------------


def test_warm_up_rises_to_the_peak_inside_the_budget():
    values = flat(UBALR(make(0.8), 12, 5, eta_min=0.1, warmup_iters=4), 13)
    assert values[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert values[4] == pytest.approx(0.8)
    assert values[4:13] == [uba(t, 8, 5, peak=0.8, floor=0.1) for t in range(9)]
    assert values[12:] == [0.1, 0.1]


def test_cycles_repeat_the_whole_curve_and_end_once():
    values = flat(UBALR(make(0.5), 33, 5, eta_min=0.05, warmup_iters=3, num_cycles=3), 34)
    cycle = [uba(t, 10, 5, peak=0.5, floor=0.05) for t in range(10)]
    np.testing.assert_allclose(values[3:33], cycle * 3, rtol=1e-13)
    assert values[33:] == [0.05, 0.05]


def test_cycles_that_do_not_divide_the_budget_keep_their_number():
    values = np.array(flat(UBALR(make(1.0), 10, 2, num_cycles=3), 9))
    assert (np.diff(values) > 0).sum() == 2


@pytest.mark.parametrize("phi", [0.5, 2.0, 5.0])
def test_past_the_budget_the_floor_is_held(phi):
    assert flat(UBALR(make(), 5, phi, eta_min=0.01), 30)[5:] == [0.01] * 26


def test_budget_of_one_step_starts_at_the_peak():
    assert flat(UBALR(make(0.3), 1, 5), 2) == [0.3, 0.0, 0.0]


@pytest.mark.parametrize("phi", [0.5, 2.0, 5.0])
def test_no_drift_after_many_steps(phi):
    """Stepped, the rate stays the closed form; a recursion would have gathered rounding."""
    total = 10**5
    scheduler = UBALR(make(), total, phi)
    scheduler.optimizer.step()
    for t in range(1, total):
        scheduler.step()
        if t % 9999 == 0:
            assert scheduler.get_last_lr() == [uba(t, total, phi, peak=0.1)]


def test_exact_at_step_999_999_of_a_million():
    scheduler = UBALR(make(), 10**6, 5)
    scheduler.optimizer.step()
    scheduler.last_epoch = 10**6 - 3
    scheduler.optimizer.param_groups[0]["lr"] = scheduler._closed_form(10**6 - 3)[0]
    scheduler.step()
    scheduler.step()
    assert scheduler.get_last_lr() == [uba(10**6 - 1, 10**6, 5, peak=0.1)]
    assert scheduler.get_last_lr()[0] == pytest.approx(0.1 * (math.pi / 10**6) ** 2 / 10, rel=1e-6)


# --- torch's protocol -------------------------------------------------------------------------------------------------


def test_each_parameter_group_keeps_its_own_peak():
    for t, row in enumerate(rates(UBALR(make(0.1, 0.02, 0.5), 20, 5, eta_min=0.01), 22)):
        assert row == [uba(t, 20, 5, peak=peak, floor=0.01) for peak in (0.1, 0.02, 0.5)]


def test_tensor_learning_rates_are_updated_in_place():
    lr = torch.tensor(0.5, dtype=torch.float64)
    optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=lr, capturable=False, foreach=False)
    scheduler = UBALR(optimizer, 10, 5)
    optimizer.step()
    for t in range(1, 12):
        scheduler.step()
        assert optimizer.param_groups[0]["lr"] is lr
        assert float(lr) == pytest.approx(uba(t, 10, 5, peak=0.5), rel=1e-15)


def test_tensor_rates_are_never_asked_for_their_value(monkeypatch):
    """On a GPU each step would wait for it. A factor is kept all the same, and after the end there is none."""
    lr = torch.tensor(0.5, dtype=torch.float64)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr, foreach=False)
    scheduler, seen = UBALR(optimizer, 10, 5), []
    optimizer.step()
    with monkeypatch.context() as patched:
        for name in ("__bool__", "__float__", "item", "tolist"):
            patched.setattr(torch.Tensor, name, lambda *_: pytest.fail("a rate was read"))
        for t in range(12):
            if t == 3:
                lr.mul_(0.25)
            scheduler.step()
            seen.append(lr.clone())
    factor = [1.0] * 3 + [0.25] * 9
    expected = [f * uba(t + 1, 10, 5, peak=0.5) for t, f in enumerate(factor)]
    assert torch.stack(seen).tolist() == pytest.approx(expected, rel=1e-12)


def test_the_rate_drives_the_training_step():
    weight = torch.nn.Parameter(torch.zeros(1, dtype=torch.float64))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    scheduler = UBALR(optimizer, 10, 5, warmup_iters=2)
    for _ in range(10):
        weight.grad = torch.ones_like(weight)
        optimizer.step()
        scheduler.step()
    assert -weight.item() == pytest.approx(sum(uba(t, 10, 5, peak=0.5, warmup=2) for t in range(10)))


@pytest.mark.parametrize("stop", [0, 1, 3, 10, 19, 20, 24])
@pytest.mark.parametrize("order", ["optimizer first", "scheduler first", "scheduler only"])
@pytest.mark.parametrize("phi", [0.5, 2.0])
def test_resuming_from_a_checkpoint_is_exact(stop, order, phi):
    def build(budget: int, shape: float) -> UBALR:
        return UBALR(make(0.1, 0.3), budget, shape, eta_min=0.01, warmup_iters=3, num_cycles=2)

    whole = rates(build(20, phi), 26)
    first = build(20, phi)
    rates(first, stop - 1)
    file = io.BytesIO()
    torch.save({"optimizer": first.optimizer.state_dict(), "scheduler": first.state_dict()}, file)
    file.seek(0)
    state = torch.load(file, weights_only=True)
    second = build(11, 9.0)  # everything must come from the checkpoint
    if order == "optimizer first":
        second.optimizer.load_state_dict(state["optimizer"])
    with pytest.warns(UserWarning, match="replaces"):
        second.load_state_dict(state["scheduler"])
    if order == "scheduler first":
        second.optimizer.load_state_dict(state["optimizer"])
    assert second.phi == phi
    assert second.get_last_lr() == whole[stop]
    assert rates(second, 26 - stop) == whole[stop:]


def test_restoring_by_last_epoch_continues_the_curve():
    optimizer = make(0.4)
    rates(UBALR(optimizer, 20, 5), 6)  # seven steps done
    restored = UBALR(optimizer, 20, 5, last_epoch=6)
    assert flat(restored, 5) == [uba(t, 20, 5, peak=0.4) for t in range(7, 13)]


def test_in_sequential_it_starts_from_the_initial_rate_at_its_milestone():
    optimizer = make(0.4)
    parts = [ConstantLR(optimizer, 0.25, total_iters=100), UBALR(optimizer, 10, 5), UBALR(optimizer, 20, 0.5)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = flat(SequentialLR(optimizer, parts, milestones=[5, 15]), 40)
    assert found[:5] == pytest.approx([0.1] * 5)
    assert found[5:15] == [uba(t, 10, 5, peak=0.4) for t in range(10)]
    assert found[15:] == [uba(t, 20, 0.5, peak=0.4) for t in range(26)]


MULTIPLIERS = {
    "linear": (lambda opt: LinearLR(opt, 0.2, 0.7, total_iters=6), lambda t: 0.2 + 0.5 * min(t, 6) / 6),
    "constant": (lambda opt: ConstantLR(opt, 0.3, total_iters=4), lambda t: 0.3 if t < 4 else 1.0),
    "step": (lambda opt: StepLR(opt, 3, 0.5), lambda t: 0.5 ** (t // 3)),
    "exponential": (lambda opt: ExponentialLR(opt, 0.9), lambda t: 0.9**t),
}


@pytest.mark.parametrize(("name", "ours_first"), [*itertools.product(MULTIPLIERS, [True, False])])
@pytest.mark.parametrize("phi", [0.5, 2.0, 5.0])
def test_chained_with_a_multiplying_scheduler_the_factors_multiply(name, ours_first, phi):
    build, factor = MULTIPLIERS[name]
    optimizer = make(0.4, 0.2)
    parts = (
        [UBALR(optimizer, 12, phi), build(optimizer)] if ours_first else [build(optimizer), UBALR(optimizer, 12, phi)]
    )
    for t, row in enumerate(rates(ChainedScheduler(parts, optimizer), 14)):
        assert row == pytest.approx([uba(t, 12, phi, peak=p) * factor(t) for p in (0.4, 0.2)], rel=1e-12, abs=0)


def test_a_rate_set_by_hand_stays_as_a_factor():
    scheduler = UBALR(make(0.4), 12, 5)
    rates(scheduler, 3)
    scheduler.optimizer.param_groups[0]["lr"] *= 0.5
    assert flat(scheduler, 5) == pytest.approx([0.5 * uba(t, 12, 5, peak=0.4) for t in range(4, 10)], rel=1e-13)


def test_a_rate_set_by_hand_after_the_end_has_no_factor_to_keep():
    scheduler = UBALR(make(0.4), 5, 5)
    rates(scheduler, 6)
    scheduler.optimizer.param_groups[0]["lr"] = 0.3
    scheduler.step()
    assert scheduler.get_last_lr() == [0.0]


def test_a_finished_optimizer_can_be_scheduled_again():
    optimizer = make(0.4)
    rates(UBALR(optimizer, 6, 5), 6)
    assert optimizer.param_groups[0]["lr"] == 0
    assert flat(UBALR(optimizer, 8, 0.5), 8) == [uba(t, 8, 0.5, peak=0.4) for t in range(9)]


def test_get_lr_outside_a_step_warns_and_changes_nothing():
    scheduler = UBALR(make(), 10, 5)
    with pytest.warns(UserWarning, match="get_last_lr"):
        assert scheduler.get_lr() == [0.1]
    found = flat(scheduler, 3)
    with pytest.warns(UserWarning, match="get_last_lr"):
        assert scheduler.get_lr() == scheduler.get_last_lr()
    assert found + flat(scheduler, 3) == [uba(t, 10, 5, peak=0.1) for t in range(8)]


# --- refusals ---------------------------------------------------------------------------------------------------------

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *[("step", v) for v in (-1, NAN, INF)],
        *[("total", v) for v in (0, -3, NAN, INF)],
        *[("phi", v) for v in (-1e-9, -5, NAN, INF)],
        *[("floor", v) for v in (-0.1, 0.2, NAN)],
        *[("warmup", v) for v in (-1, 10, 11, NAN)],
        *[("peak", v) for v in (-1, NAN, INF)],
    ],
)
@pytest.mark.parametrize("array", [False, True])
def test_function_refuses_by_name(name, value, array):
    good = {"step": 3, "total": 10, "phi": 5, "peak": 0.1, "floor": 0.0, "warmup": 2}
    bad = np.array([good[name], value], dtype=float) if array else value
    with pytest.raises(ValueError, match=f"^{name}: "):
        uba(**good | {name: bad})


BAD = [
    *[("total", v) for v in (0, -1, 10.0, "10", True, NAN, None)],
    *[("phi", v) for v in (-1e-9, NAN, INF, -INF, "5", None, True)],
    *[("warmup", v) for v in (-1, 10, 11, 2.0, True)],
    *[("cycles", v) for v in (0, -1, 1.5, True, 11)],
    ("last_epoch", -2),
    ("last_epoch", 0.5),
]


@pytest.mark.parametrize(("name", "value"), [*BAD, *[("eta_min", v) for v in (-0.1, 0.2, NAN, "0", True)]])
def test_scheduler_refuses_by_name_and_leaves_the_optimizer_alone(name, value):
    argument = {"total": "total_iters", "warmup": "warmup_iters", "cycles": "num_cycles"}.get(name, name)
    optimizer = make(0.3, 0.1)
    with pytest.raises((TypeError, ValueError), match=f"^{argument}: "):
        UBALR(optimizer, **{"total_iters": 10, "phi": 5.0} | {argument: value})
    assert [group["lr"] for group in optimizer.param_groups] == [0.3, 0.1]
    assert all("initial_lr" not in group for group in optimizer.param_groups)


@pytest.mark.parametrize(
    ("name", "value"),
    [*[case for case in BAD if case[0] != "last_epoch"], *[("eta_min_ratio", v) for v in (-0.1, 1.5, NAN, True)]],
)
def test_lambda_factory_refuses_by_name(name, value):
    names = {"total": "num_training_steps", "warmup": "num_warmup_steps", "cycles": "num_cycles"}
    arguments = {"num_warmup_steps": 0, "num_training_steps": 10, "phi": 5.0} | {names.get(name, name): value}
    with pytest.raises((TypeError, ValueError), match=f"^{names.get(name, name)}: "):
        get_uba_schedule_with_warmup(make(), **arguments)


def test_refusal_says_what_came_and_what_is_allowed():
    with pytest.raises(ValueError, match=r"warmup_iters: must be less than total_iters \(10\), got 12"):
        UBALR(make(), 10, 5, warmup_iters=12)
    with pytest.raises(ValueError, match=r"total_iters: must be an integer of at least 1, got 10\.0"):
        UBALR(make(), 10.0, 5)
    with pytest.raises(ValueError, match=r"eta_min: .*got 0\.2; group 1 has 0\.1"):
        UBALR(make(0.3, 0.1), 10, 5, eta_min=0.2)


def test_numpy_numbers_are_accepted():
    scheduler = UBALR(make(), np.int64(10), np.float32(5), warmup_iters=np.int32(2))
    assert flat(scheduler, 4) == [uba(t, 10, 5, peak=0.1, warmup=2) for t in range(5)]
    assert type(scheduler.total_iters) is int
    assert type(scheduler.phi) is float


def test_something_that_is_no_optimizer_is_refused():
    with pytest.raises(TypeError, match="not an Optimizer"):
        UBALR(object(), 10, 5)


# --- another budget, other groups -------------------------------------------------------------------------------------


@pytest.mark.parametrize("phi", [0.5, 2.0, 5.0])
def test_stretching_keeps_the_rate_and_the_rest_of_the_curve(phi):
    scheduler = UBALR(make(0.1, 0.02), 100, phi, warmup_iters=10, eta_min=0.001)
    before = rates(scheduler, 59)
    scheduler.extend(140)
    after = rates(scheduler, 80)
    # steps 60 to 140 run the curve from place 60 to place 100
    for group, peak in enumerate((0.1, 0.02)):
        expected = uba(60 + 0.5 * np.arange(81), 100, phi, peak=peak, floor=0.001, warmup=10)
        np.testing.assert_allclose([row[group] for row in after], expected, rtol=1e-12, atol=1e-15)
    assert before[0][0] == pytest.approx(0.01)
    # and it can be done again
    scheduler = UBALR(make(), 100, phi)
    flat(scheduler, 19)
    scheduler.extend(180)
    flat(scheduler, 79)
    scheduler.extend(120)
    np.testing.assert_allclose(
        flat(scheduler, 20), uba(60 + 2 * np.arange(21), 100, phi, peak=0.1), rtol=1e-12, atol=1e-15
    )


@pytest.mark.parametrize("total", [60, 301, 1000])
def test_stretching_the_warm_up_rises_to_the_peak_and_no_further(total):
    scheduler = UBALR(make(), 100, 5, warmup_iters=10)
    flat(scheduler, 2)
    present = scheduler.get_last_lr()[0]
    scheduler.extend(total)
    after = np.array(flat(scheduler, total - 3))
    assert after[0] == present
    assert after.max() <= 0.1
    top = int(after.argmax())
    assert (np.diff(after[: top + 1]) >= 0).all()
    assert (np.diff(after[top:]) <= 0).all()
    assert uba(9.5, 100, 5, peak=0.1, warmup=10) == 0.1


def test_a_new_rate_for_lr_and_initial_lr_starts_a_whole_new_schedule():
    """What is advised after the last step: with ``lr`` alone it would be a factor, also on the floor."""
    optimizer = make(0.4)
    rates(UBALR(optimizer, 6, 5, eta_min=0.01), 6)
    for group in optimizer.param_groups:
        group["lr"] = group["initial_lr"] = 0.05
    found = flat(UBALR(optimizer, 8, 5, eta_min=0.01), 8)
    assert found == [uba(t, 8, 5, peak=0.05, floor=0.01) for t in range(9)]


def test_annealing_starts_a_whole_curve_from_the_present_rate():
    scheduler = UBALR(make(0.1, 0.04), 100, 5, warmup_iters=10, eta_min=0.001)
    rates(scheduler, 49)
    present = scheduler.get_last_lr()
    scheduler.extend(90, how="anneal")
    after = rates(scheduler, 40)
    for group, peak in enumerate(present):
        expected = uba(np.arange(41), 40, 5, peak=peak, floor=0.001)
        np.testing.assert_allclose([row[group] for row in after], expected, rtol=1e-12)


@pytest.mark.parametrize("how", ["stretch", "anneal"])
def test_an_extended_schedule_is_resumed_exactly(how):
    def extended() -> UBALR:
        scheduler = UBALR(make(), 50, 0.5)
        flat(scheduler, 19)
        scheduler.extend(70, how=how)
        return scheduler

    expected = flat(extended(), 50)
    first = extended()
    begin = flat(first, 9)
    second = UBALR(make(), 70, 0.5)
    second.load_state_dict(first.state_dict())
    assert begin + flat(second, 40) == expected


def test_a_factor_of_another_scheduler_survives_an_extension():
    optimizer = make()
    ours, other = UBALR(optimizer, 100, 5), ConstantLR(optimizer, factor=0.5, total_iters=1000)
    chained = ChainedScheduler([ours, other])
    flat(chained, 39)
    ours.extend(160)
    np.testing.assert_allclose(
        flat(chained, 20), 0.5 * np.asarray(uba(40 + 0.5 * np.arange(21), 100, 5, peak=0.1)), rtol=1e-9
    )


@pytest.mark.parametrize(
    ("done", "total", "how", "message"),
    [
        (10, 10, "stretch", "total_iters: must be more than the 10 steps done, got 10"),
        (10, 20.5, "stretch", "total_iters: must be an integer"),
        (20, 40, "stretch", "total_iters: nothing of the curve is left after 20 of 20 steps"),
        (20, 40, "anneal", "total_iters: nothing of the curve is left after 20 of 20 steps"),
        (20, 40, "stretch", "set lr and initial_lr of the groups to a new rate and start a new schedule"),
        (10, 40, "jump", "how: must be one of stretch, anneal, got 'jump'"),
    ],
)
def test_extension_refuses_by_name_and_changes_nothing(done, total, how, message):
    scheduler = UBALR(make(), 20, 5)
    flat(scheduler, done - 1)
    state = dict(scheduler.state_dict())
    with pytest.raises((TypeError, ValueError), match=message):
        scheduler.extend(total, how=how)
    assert scheduler.state_dict() == state


def test_annealing_from_below_the_floor_is_refused_by_name():
    scheduler = UBALR(make(0.1, 0.12), 100, 5, warmup_iters=10, eta_min=0.05)
    flat(scheduler, 1)
    with pytest.raises(ValueError, match=r"^how: anneal goes down to eta_min \(0.05\), .* 2 steps, got 0.03, 0.036;"):
        scheduler.extend(50, how="anneal")
    scheduler.extend(50)


def test_a_state_with_another_budget_or_shape_says_what_it_replaces():
    old = UBALR(make(), 100, 5, eta_min=0.01, warmup_iters=4)
    flat(old, 9)
    new = UBALR(make(), 200, 2)
    with pytest.warns(UserWarning, match="the state's") as told:
        new.load_state_dict(old.state_dict())
    assert [str(warning.message) for warning in told] == [
        "total_iters: the state's 100 replaces 200; to go on with 200, call extend(200) after loading",
        "phi: the state's 5.0 replaces 2.0",
        "eta_min: the state's 0.01 replaces 0.0",
        "warmup_iters: the state's 4 replaces 0",
    ]
    new.extend(200)
    assert new.total_iters == 200
    assert new.get_last_lr() == old.get_last_lr()


def test_a_state_of_more_groups_is_refused_by_name():
    with pytest.raises(
        ValueError, match="state_dict: must be of at most the optimizer's 1 parameter groups, got one of 2"
    ):
        UBALR(make(), 10).load_state_dict(UBALR(make(0.1, 0.2), 10).state_dict())


@pytest.mark.parametrize("stop", [1, 25, 60])
@pytest.mark.parametrize("eta_min", [0.0, 0.01])
def test_a_group_that_joins_goes_on_as_with_torchs_cosine(stop, eta_min):
    found = []
    for build in (lambda o: UBALR(o, 100, eta_min=eta_min), lambda o: CosineAnnealingLR(o, 100, eta_min)):
        scheduler = build(make())
        flat(scheduler, stop - 1)
        scheduler.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.03})
        if isinstance(scheduler, CosineAnnealingLR):
            scheduler.base_lrs.append(0.03)  # without it torch's own zip fails at this version
        found.append(rates(scheduler, 100 - stop))
    np.testing.assert_allclose(found[0], found[1], rtol=1e-9, atol=1e-12)
    assert found[0][0][1] == 0.03
    assert found[0][-1] == pytest.approx([eta_min] * 2)


@pytest.mark.parametrize("stop", [5, 49])
def test_a_group_that_joins_cycles_has_its_rate_for_a_peak(stop):
    scheduler = UBALR(make(), 100, 5, eta_min=0.001, num_cycles=2)
    flat(scheduler, stop - 1)
    scheduler.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.03})
    found = [row[1] for row in rates(scheduler, 100 - stop)][1:]
    alone = flat(UBALR(make(0.03), 100, 5, eta_min=0.001, num_cycles=2), 100)
    assert found == alone[stop + 1 :]
    assert max(found) <= 0.03 + 1e-15


def test_a_group_that_joins_after_the_end_has_the_floor():
    scheduler = UBALR(make(), 10, eta_min=0.01)
    flat(scheduler, 11)
    scheduler.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.03})
    assert rates(scheduler, 2)[1:] == [[0.01, 0.01]] * 2


def test_annealing_leaves_a_frozen_group_at_zero_and_runs_one_curve():
    scheduler = UBALR(make(0.1, 0.0), 40, 5, num_cycles=4)
    rates(scheduler, 14)
    scheduler.extend(55, how="anneal")
    peak = scheduler.get_last_lr()[0]
    found = np.array(rates(scheduler, 40))
    np.testing.assert_allclose(found[:, 0], uba(np.arange(41), 40, 5, peak=peak), rtol=1e-12, atol=1e-15)
    assert (found[:, 1] == 0).all()


def test_the_state_of_another_scheduler_is_refused_by_name():
    with pytest.raises(ValueError, match="state_dict: must be of a UBALR, got one without total_iters, phi"):
        UBALR(make(), 10).load_state_dict(CosineAnnealingLR(make(), 10).state_dict())


def test_a_group_that_joins_in_warm_up_joins_the_ramp():
    scheduler = UBALR(make(), 100, 5, warmup_iters=10)
    flat(scheduler, 3)
    scheduler.optimizer.add_param_group({"params": [torch.nn.Parameter(torch.zeros(1))], "lr": 0.02})
    after = rates(scheduler, 20)[1:]
    np.testing.assert_allclose([row[1] for row in after], 0.2 * np.asarray([row[0] for row in after]), rtol=1e-12)


def test_repr_says_the_schedule():
    assert repr(UBALR(make(), 100, warmup_iters=5)) == (
        "UBALR(total_iters=100, phi=2.0, eta_min=0.0, warmup_iters=5, num_cycles=1, last_epoch=0)"
    )
