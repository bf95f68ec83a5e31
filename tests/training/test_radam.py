"""RAdam of a population takes torch.optim.RAdam's steps, through the warm-up and after it."""

from __future__ import annotations

import pytest
import torch

from replication.training import RAdam

STEPS = 60


@pytest.mark.parametrize("optimizer", [RAdam(), RAdam(betas=(0.8, 0.9), eps=1e-3), RAdam(betas=(0.9, 0.99))], ids=repr)
def test_equals_torch_optim_step_by_step(optimizer: RAdam) -> None:
    """Three replicas at rates of their own that change every step; float64, so that rounding hides no wrong rule."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64)
    parameters = {"weight": start.clone()}
    state = optimizer.init(parameters)
    alone = [torch.nn.Parameter(start[r].clone()) for r in range(3)]
    peers = [torch.optim.RAdam([p], betas=optimizer.betas, eps=optimizer.eps) for p in alone]
    for count in range(1, STEPS + 1):
        gradient = torch.randn(3, 5, 4, generator=generator, dtype=torch.float64)
        lr = torch.rand(3, generator=generator, dtype=torch.float64)
        optimizer.step(parameters, {"weight": gradient}, state, lr, count)
        for r in range(3):
            alone[r].grad = gradient[r].clone()
            peers[r].param_groups[0]["lr"] = float(lr[r])
            peers[r].step()
        torch.testing.assert_close(
            parameters["weight"], torch.stack([p.detach() for p in alone]), rtol=1e-9, atol=1e-11
        )


def test_the_warm_up_is_momentum_alone() -> None:
    """Where the variance cannot be rectified, the step is proportional to the gradient, not to its sign."""
    optimizer = RAdam()
    parameters = {"weight": torch.zeros(1, 2)}
    gradient = torch.tensor([[1.0, 100.0]])
    optimizer.step(parameters, {"weight": gradient}, optimizer.init(parameters), torch.tensor([0.1]), 1)
    torch.testing.assert_close(parameters["weight"], -0.1 * gradient)


@pytest.mark.parametrize(("options", "named"), [({"betas": (0.9, 1.0)}, "betas"), ({"eps": 0.0}, "eps")])
def test_bad_options_are_named(options: dict[str, object], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        RAdam(**options)  # type: ignore[arg-type]
