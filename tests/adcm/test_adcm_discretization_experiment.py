"""The discretization experiment: its records decide its claims, its shortcuts are what they stand for, its figures."""

from __future__ import annotations

import math

import matplotlib.pyplot as plt
import pytest
import torch
from adcm_targets import double, generator

from replication import evidence
from replication.adcm import figures_discretization as figures
from replication.adcm.experiments import discretization as experiment
from replication.adcm.gaussian import Gaussian
from replication.adcm.schedules import VE
from replication.adcm.segmentation import tangent

SMALL = experiment.Config(seeds=5, nodes=8, batch_size=16, networks=1, pairs=16, batches=100)


@pytest.fixture(scope="module")
def records():
    return experiment.run(SMALL)


def test_every_claim_is_decided_and_can_flip(records):
    claims = evidence.load_claims("adcm").of("20_adcm_discretization")
    verdicts = {v.claim_id: v for v in evidence.evaluate(records, claims, "smoke")}
    for claim in claims:
        assert verdicts[claim.id].verdict != "not attempted", claim.id
        assert evidence.flips(claim, records, "smoke"), claim.id
    # exact statements do not depend on the size of the run
    for claim in ("A1-linear", "A2-covariant", "A2-closed", "A2-length", "A13-image"):
        assert verdicts[claim].verdict == "reproduced"
    for claim in ("A13-plane", "A13-negative", "A15"):
        assert verdicts[claim].verdict == "not reproduced"


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
