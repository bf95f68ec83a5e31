from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replication.evidence import dump_records, load_records, rows_of, tidy

numbers = st.floats(allow_nan=True, allow_infinity=True)
factors = {
    "text": st.one_of(st.none(), st.text(max_size=5)),
    "number": st.one_of(st.none(), st.floats(allow_nan=False), st.integers(-(2**40), 2**40)),
    "flag": st.one_of(st.none(), st.booleans()),
    "whole": st.integers(-(2**53), 2**53),
}
rows = st.lists(
    st.fixed_dictionaries({"quantity": st.text(min_size=1, max_size=4), "value": numbers}, optional=factors),
    max_size=12,
)


@given(rows)
def test_the_round_trip_through_json_is_exact(made: list[dict[str, Any]]) -> None:
    records = tidy(made)
    text = json.dumps(dump_records(records), allow_nan=False)
    loaded = load_records(json.loads(text))
    pd.testing.assert_frame_equal(loaded, records, check_exact=True)
    assert json.dumps(dump_records(loaded)) == text


@given(rows)
def test_tidy_is_idempotent(made: list[dict[str, Any]]) -> None:
    pd.testing.assert_frame_equal(tidy(tidy(made)), tidy(made), check_exact=True)


def test_types_and_missing_factors() -> None:
    records = tidy(
        [
            {"quantity": "loss", "seed": np.int64(3), "value": np.float32(0.5), "schedule": "uba"},
            {"quantity": "loss", "seed": 4, "value": 1, "phi": math.inf},
        ]
    )
    assert records.dtypes.astype(str).to_dict() == {
        "quantity": "object", "seed": "int64", "value": "float64", "schedule": "object", "phi": "float64",
    }  # fmt: skip
    assert dump_records(records) == {
        "quantity": {"levels": ["loss"], "codes": [0, 0]},
        "seed": [3, 4],
        "value": [0.5, 1.0],
        "schedule": {"levels": ["uba"], "codes": [0, None]},
        "phi": [None, "Infinity"],
    }


def test_a_nan_value_is_kept_and_a_missing_factor_is_not_a_value() -> None:
    dumped = dump_records(tidy([{"quantity": "loss", "value": math.nan}, {"quantity": "loss", "value": -math.inf}]))
    assert dumped["value"] == ["NaN", "-Infinity"]


def test_a_frame_with_another_text_type_gives_the_same_records() -> None:
    made = [{"quantity": "loss", "value": 1.0, "schedule": "uba"}, {"quantity": "loss", "value": 2.0, "schedule": None}]
    frame = pd.DataFrame(made)
    pd.testing.assert_frame_equal(tidy(frame.astype({"schedule": "category"})), tidy(made))
    pd.testing.assert_frame_equal(tidy(frame.astype({"schedule": "string"})), tidy(made))


def test_levels_without_rows_are_refused_also_of_a_column_that_is_not_there() -> None:
    records = tidy([{"quantity": "loss", "value": 1.0, "phi": 2.0}])
    for levels in ({"phi": 5.0}, {"kappa": 2.0}):
        with pytest.raises(ValueError, match=r"records: no rows of 'loss' with \{.*; give the records of the notebook"):
            rows_of(records, "loss", **levels)


def test_no_rows_are_records_too() -> None:
    assert list(tidy([]).columns) == ["quantity", "value"]
    assert load_records(dump_records(tidy([]))).empty


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ([{"value": 1.0}], "'quantity' is missing"),
        ([{"quantity": "loss"}], "'value' is missing"),
        ([{"quantity": "loss", "value": 1.0}, {"quantity": "loss", "value": None}], "row 1: value must be a number"),
        ([{"quantity": "loss", "value": "1"}], "row 0: value must be a number, not '1'"),
        ([{"quantity": "loss", "value": np.ones(1)}], r"call \.item\(\)"),
        ([{"quantity": "", "value": 1.0}], "row 0: quantity must be a non-empty text"),
        ([{"quantity": "a", "value": 1.0, "phi": 2}, {"quantity": "a", "value": 1.0, "phi": "2"}], "'phi' mixes kinds"),
        (
            [{"quantity": "a", "value": 1.0, "phi": True}, {"quantity": "a", "value": 1.0, "phi": 1}],
            "'phi' mixes kinds",
        ),
        ([{"quantity": "a", "value": 1.0, "phi": [1]}], "row 0: phi must be a text or a number"),
        (pd.DataFrame([["a", 1.0, 2.0]], columns=["quantity", "value", "value"]), "twice"),
    ],
)
def test_bad_rows_are_refused_by_name(bad: Any, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        tidy(bad)


@pytest.mark.parametrize(
    "dumped",
    [
        {"quantity": {"levels": ["a"], "codes": [1]}, "value": [1.0]},
        {"quantity": {"levels": ["a"], "codes": [-1]}, "value": [1.0]},
        {"quantity": {"levels": ["a"]}, "value": [1.0]},
        {"quantity": {"levels": ["a"], "codes": [0]}, "value": [1.0, 2.0]},
        {"quantity": {"levels": ["a"], "codes": [0]}, "value": ["one"]},
        {"quantity": {"levels": ["a"], "codes": [0]}, "value": 1.0},
        {"quantity": {"levels": ["a"], "codes": [0]}},
        ["quantity", "value"],
    ],
)
def test_what_is_not_in_the_stored_form_is_refused(dumped: Any) -> None:
    with pytest.raises(ValueError, match="records"):
        load_records(dumped)
