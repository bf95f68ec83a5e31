"""Tidy records: one row per measurement, and a JSON form of them that loses nothing."""

from __future__ import annotations

import math
import numbers
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pandas as pd

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def tidy(rows: Iterable[Mapping[str, Any]] | pd.DataFrame) -> pd.DataFrame:
    """Make a frame of records from rows, in the one form in which records are stored and judged.

    Parameters
    ----------
    rows : iterable of mappings, or DataFrame
        Each with ``quantity`` (non-empty text) and ``value`` (a number; NaN and infinities are kept), usually
        ``seed``, and any factor columns. A column is text, numbers or booleans; a row may lack a factor.

    Returns
    -------
    DataFrame
        ``value`` is float64; a numeric factor is int64 if whole numbers stand in every row, else float64 with NaN
        where it is missing.

    Raises
    ------
    ValueError
        A row lacks ``quantity`` or ``value``, a value is not a number, or a column mixes text and numbers.

    Examples
    --------
    >>> tidy([{"quantity": "loss", "seed": 0, "value": 1}, {"quantity": "gap", "value": float("nan"), "phi": 2.5}])
      quantity  seed  value  phi
    0     loss   0.0    1.0  NaN
    1      gap   NaN    NaN  2.5
    """
    if isinstance(rows, pd.DataFrame):
        if not rows.columns.is_unique:
            raise ValueError(f"records: the columns {list(rows.columns[rows.columns.duplicated()])} stand twice")
        length = len(rows)
        columns = {str(name): rows[name].tolist() for name in rows.columns}
    else:
        listed = list(rows)
        length = len(listed)
        names = list(dict.fromkeys(str(name) for row in listed for name in row))
        columns = {name: [row.get(name) for row in listed] for name in names}
    if not length:
        return _frame({"quantity": [], "value": []})
    for required in ("quantity", "value"):
        if required not in columns:
            raise ValueError(f"records: the column {required!r} is missing; there are {', '.join(columns)}")
    for index, quantity in enumerate(columns["quantity"]):
        if not isinstance(quantity, str) or not quantity:
            raise ValueError(f"records, row {index}: quantity must be a non-empty text, not {quantity!r}")
    columns["value"] = [_value(index, value) for index, value in enumerate(columns["value"])]
    return _frame({name: _factor(name, column) if name != "value" else column for name, column in columns.items()})


def rows_of(records: pd.DataFrame, quantity: str, **levels: object) -> pd.DataFrame:
    """The rows of a quantity, where factors have the given levels; there must be some.

    Raises
    ------
    ValueError
        There is no such row.

    Examples
    --------
    >>> records = tidy([{"quantity": "loss", "value": 1, "phi": 2.0}, {"quantity": "loss", "value": 3, "phi": 5.0}])
    >>> rows_of(records, "loss", phi=5.0)["value"].tolist()
    [3.0]
    """
    rows = records[records["quantity"] == quantity]
    for column, level in levels.items():
        rows = rows[rows[column] == level] if column in rows else rows[:0]
    if rows.empty:
        where = f" with {levels}" if levels else ""
        raise ValueError(f"records: no rows of {quantity!r}{where}; give the records of the notebook's experiment")
    return rows


def dump_records(records: pd.DataFrame) -> dict[str, Any]:
    """Records as a JSON-able dict, column by column.

    Text and boolean columns are dictionary-encoded: ``{"levels": [...], "codes": [...]}`` with null for a missing one.
    Numbers stand as they are (JSON keeps every bit of a float); NaN and infinities stand as text.

    Examples
    --------
    >>> dump_records(tidy([{"quantity": "loss", "value": 0.1}, {"quantity": "loss", "value": float("inf")}]))
    {'quantity': {'levels': ['loss'], 'codes': [0, 0]}, 'value': [0.1, 'Infinity']}
    """
    records = tidy(records)
    return {str(name): _dump_column(str(name), records[name].tolist()) for name in records.columns}


def load_records(dumped: Mapping[str, Any]) -> pd.DataFrame:
    """The records that `dump_records` was given.

    Raises
    ------
    ValueError
        The dict is not of that form.
    """
    try:
        columns = {name: _load_column(column) for name, column in dumped.items()}
    except (AttributeError, KeyError, IndexError, TypeError) as error:
        raise ValueError(f"records: not in the stored form ({type(error).__name__}: {error})") from error
    if len({len(column) for column in columns.values()}) > 1:
        raise ValueError("records: the columns are not equally long")
    return tidy(pd.DataFrame({name: pd.Series(column, dtype=object) for name, column in columns.items()}))


def _value(index: int, value: Any) -> float:
    if not isinstance(value, numbers.Real):
        hint = "; call .item() on an array or tensor of one element" if hasattr(value, "item") else ""
        raise ValueError(f"records, row {index}: value must be a number, not {value!r}{hint}")
    return float(value)


def _missing(value: Any) -> bool:
    return value is None or value is pd.NA or (isinstance(value, float) and math.isnan(value))


def _factor(name: str, column: Sequence[Any]) -> list[Any]:
    kinds: dict[type, int] = {}
    clean: list[Any] = []
    for index, value in enumerate(column):
        if _missing(value):
            clean.append(None)
            continue
        plain = value.item() if hasattr(value, "item") else value
        if not isinstance(plain, bool | str | int | float):
            raise ValueError(f"records, row {index}: {name} must be a text or a number, not {value!r}")
        kinds.setdefault(plain.__class__ if isinstance(plain, bool | str) else float, index)
        clean.append(plain)
    if len(kinds) > 1:
        first, second = sorted(kinds.values())[:2]
        raise ValueError(
            f"records: the column {name!r} mixes kinds: row {first} has {column[first]!r}, row {second} has "
            f"{column[second]!r}; use a column of its own for each"
        )
    return clean


def _frame(columns: Mapping[str, list[Any]]) -> pd.DataFrame:
    return pd.DataFrame({name: _series(name, column) for name, column in columns.items()})


def _series(name: str, column: list[Any]) -> pd.Series[Any]:
    present = [value for value in column if value is not None]
    if name == "value" or any(isinstance(value, float) for value in present):
        return pd.Series(column, dtype="float64")
    if present and isinstance(present[0], int) and not isinstance(present[0], bool):
        return pd.Series(column, dtype="int64" if len(present) == len(column) else "float64")
    return pd.Series(column, dtype=object)


def _dump_column(name: str, column: list[Any]) -> Any:
    if name != "value" and all(value is None or isinstance(value, str | bool) for value in column):
        levels = list(dict.fromkeys(value for value in column if value is not None))
        code = {level: index for index, level in enumerate(levels)}
        return {"levels": levels, "codes": [None if value is None else code[value] for value in column]}
    if name != "value":
        column = [None if _missing(value) else value for value in column]
    return [_dump_number(value) for value in column]


def _dump_number(value: float | None) -> float | str | None:
    if value is None or math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _load_column(column: Any) -> list[Any]:
    if isinstance(column, Mapping):
        levels, codes = list(column["levels"]), column["codes"]
        if any(code is not None and not 0 <= code < len(levels) for code in codes):
            raise IndexError("a code without a level")
        return [None if code is None else levels[code] for code in codes]
    if not isinstance(column, list):
        raise TypeError("a column is neither a list nor levels with codes")
    return [_NON_FINITE[value] if isinstance(value, str) else value for value in column]
