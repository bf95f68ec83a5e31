"""Numbers that the room must give, and how exactly."""

from __future__ import annotations

import json
import math
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mutation import flips

from replication import evidence
from replication.evidence.samples import samples, select
from replication.evidence.verdicts import answer, limits

TARGETS: dict[str, Any] = json.loads((Path(__file__).parents[1] / "golden" / "meek_targets.json").read_text())


def printed(number: str) -> Any:
    """A printed number, to be compared with ==: equal to half a unit of its last digit."""
    unit = 10.0 ** int(Decimal(number).as_tuple().exponent)
    # a hair more, for a value that is printed after rounding a tie
    return pytest.approx(float(number), rel=0, abs=0.5000001 * unit)


def all_printed(numbers: list[str]) -> list[Any]:
    return [printed(number) for number in numbers]


def follows(test: evidence.Test, records: pd.DataFrame) -> bool:
    """Whether a test's answer follows what was measured: shifted out of its limits "no", inside them "yes".

    Draws of one estimate are moved as a whole; their interval need not lie evenly around the middle.
    """
    if getattr(test, "rows", "") != "draws":
        return flips(test, records)
    rows, test = select(records, test), test.model_copy(update={"min_seeds": 2})
    low, high = limits(test)
    inside = (low + high) / 2 if math.isfinite(low + high) else high - 1e6 if math.isfinite(high) else low + 1e6
    outside = high + 1e6 if math.isfinite(high) else low - 1e6
    said = []
    for target in (outside, inside):
        # a narrow cloud around the target, each draw at its place
        moved = target + 1e-6 * (rows["value"] - rows["value"].median())
        said.append(answer(test, samples(rows.assign(value=moved), test)).answer)
    return said == ["no", "yes"]
