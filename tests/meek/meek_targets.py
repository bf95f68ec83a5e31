"""Numbers that the room must give, and how exactly."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

TARGETS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "meek_targets.json").read_text())


def printed(number: str) -> Any:
    """A printed number, to be compared with ==: equal to half a unit of its last digit."""
    unit = 10.0 ** int(Decimal(number).as_tuple().exponent)
    # a hair more, for a value that is printed after rounding a tie
    return pytest.approx(float(number), rel=0, abs=0.5000001 * unit)


def all_printed(numbers: list[str]) -> list[Any]:
    return [printed(number) for number in numbers]
