"""The discretization experiment: its records decide its claims, its shortcuts are what they stand for, its figures."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import pytest
import torch
from adcm_targets import double, generator
from mutation import flips

from replication import evidence
from replication.adcm import figures_discretization as figures
from replication.adcm.experiments import discretization as experiment
from replication.adcm.gaussian import Gaussian
from replication.adcm.schedules import VE
from replication.adcm.segmentation import tangent

SMALL = experiment.Config(seeds=5, nodes=8, batch_size=16, networks=1, pairs=16, batches=100)


@pytest.fixture(scope="module")
def records():
    return evidence.gather(experiment, SMALL)


CLAIMS, NOTEBOOK = evidence.load_claims("adcm"), "20_adcm_discretization"
# exact statements do not depend on the size of the run
HOLD = ("A1-linear", "A2-covariant", "A2-closed", "A2-length", "A13-isotropic", "A13-plane", "A13-negative-plane")
FAIL = ("A13-image", "A15")


@pytest.fixture(scope="module")
def outcomes(records):
    return {found.test_id: found for found in evidence.evaluate(records, CLAIMS, NOTEBOOK, "smoke")}


@pytest.mark.parametrize("test", CLAIMS.at(NOTEBOOK, "smoke"), ids=lambda test: test.id)
def test_every_test_is_answered_and_can_flip(records, outcomes, test):
    assert outcomes[test.id].answer != "not run"
    assert flips(test, records)
    if test.id in HOLD + FAIL:
        assert outcomes[test.id].answer == ("yes" if test.id in HOLD else "no")


def test_standard_asks_what_smoke_asks():
    asked = ([test.id for test in CLAIMS.at(NOTEBOOK, scale)] for scale in ("smoke", "standard"))
    assert next(asked) == next(asked)


def test_numerators_are_those_of_mini_batches():
    """The sums' shortcut equals E[v.e] from the derivative, draw by draw, and their law is Wishart's."""
    data, batch, t = Gaussian([experiment.STD] * 3), 10, double(0.3, 4.0)
    x0, z = (
        data.sample(batch, generator=generator()),
        torch.randn(batch, 3, generator=generator(1), dtype=torch.float64),
    )
    rows = torch.stack([x0.flatten() / experiment.STD, z.flatten()])
    for antithetic in (False, True):
        pairs = (torch.cat([x0, x0]), torch.cat([z, -z])) if antithetic else (x0, z)
        found = experiment.numerators((rows @ rows.T)[None], t, antithetic=antithetic)[0]
        for i, time in enumerate(t.tolist()):
            value, v = tangent(data.denoiser(VE()), *pairs, time, VE())
            expected = (v * (value - pairs[0])).sum() / (2 if antithetic else 1)
            assert found[i].item() == pytest.approx(expected.item())
    sums = experiment.batch_sums(3, batch, 4000, seed=0)
    assert sums.mean(0).flatten().tolist() == pytest.approx([30, 0, 0, 30], abs=0.6)
    assert sums[:, 0, 1].std().item() == pytest.approx(math.sqrt(30), rel=0.05)


def test_the_closed_form_of_the_ratio_is_that_of_drawn_mini_batches():
    """Isotropic data, where sums can be drawn; anisotropic data through single draws of x0 and z."""
    t = double(0.3, 4.0, 80.0)
    drawn = experiment.numerators(experiment.batch_sums(3, 10, 40_000, seed=0), t, antithetic=False)
    exact = experiment.signal_to_noise(Gaussian([experiment.STD] * 3), 10, t)
    assert (drawn.mean(0) / drawn.std(0)).tolist() == pytest.approx(exact.tolist(), rel=0.05, abs=0.01)
    data, batches = Gaussian([2.0, 0.1]), 20_000
    x0 = data.sample(batches * 4, generator=generator())
    z = torch.randn(x0.shape, generator=generator(1), dtype=torch.float64)
    for i, time in enumerate(t.tolist()):
        value, v = tangent(data.denoiser(VE()), x0, z, time, VE())
        means = (v * (value - x0)).sum(-1).reshape(batches, 4).mean(-1)
        expected = experiment.signal_to_noise(data, 4, t)[i].item()
        assert float(means.mean() / means.std()) == pytest.approx(expected, rel=0.05, abs=0.02)


def test_the_image_like_spectrum_is_scaled_like_images():
    data = experiment.image_like(3072)
    assert data.std.square().mean().sqrt().item() == pytest.approx(experiment.STD)
    assert data.std[0].item() == pytest.approx(17.3, abs=0.05)
    assert experiment.signal_to_noise(data, 128, double(80.0)).item() == pytest.approx(2.76, abs=0.005)


def test_parts_of_consistency_add_up_and_the_floor_is_the_closed_form(records):
    rows = records[(records["data"] == "gaussian") & (records["seed"] == 0) & (records["tau"] == 1.0)]
    part = rows.dropna(subset=["value"]).groupby("quantity")["value"].first()
    assert part["global"] == pytest.approx(part["model_error"] + part["floor"] + part["cross"])
    floor = records[(records["quantity"] == "floor") & (records["data"] == "gaussian") & (records["tau"] == 1.0)]
    exact = Gaussian([experiment.STD] * 2).mse(double(1.0), VE(), "map").item()
    assert floor["value"].mean() == pytest.approx(exact, rel=0.3)


@pytest.mark.parametrize(
    "figure", ["optimality", "rates", "steps", "shares", "adaptivity", "consistency", "lengths", "noise"]
)
def test_figures_draw(records, figure):
    drawn = getattr(figures, figure)(records)
    assert all(axis.lines and axis.get_xlabel() for axis in drawn.axes)
    plt.close(drawn)


def test_config_refuses():
    with pytest.raises(ValueError, match="lam"):
        experiment.Config(lam=-1.0)
    with pytest.raises(ValueError, match="sead"):
        experiment.Config(sead=1)
