"""Numbers that the room must give, and how exactly."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import torch

TARGETS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "adcm_targets.json").read_text())


def printed(number: str) -> Any:
    """A printed number, to be compared with ==: equal to half a unit of its last digit."""
    unit = 10.0 ** int(Decimal(number).as_tuple().exponent)
    return pytest.approx(float(number), rel=0, abs=0.5000001 * unit)


def double(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def antithetic(data: Any, n: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """n data with noise and with its opposite: 2n pairs (x0, z)."""
    g = generator(seed)
    x0 = data.sample(n, generator=g)
    z = torch.randn(x0.shape, generator=g, dtype=torch.float64)
    return torch.cat([x0, x0]), torch.cat([z, -z])
