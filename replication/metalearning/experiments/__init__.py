"""Experiments of the paper, a module for each notebook."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike


def rows_along(
    quantity: str, values: ArrayLike, cell: Mapping[str, Any], **axes: Iterable[Any] | None
) -> Iterator[dict[str, Any]]:
    """A row for each number of an array.

    Parameters
    ----------
    quantity : str
        What the numbers are.
    values : array_like
        With an axis for each of `axes`, in their order.
    cell : mapping
        Columns that are the same in all rows.
    **axes : iterable or None
        By column its levels along the axis; None counts from 0.

    Raises
    ------
    ValueError
        The levels do not fit the array.

    Examples
    --------
    >>> [*rows_along("loss", [[0.5, 0.25]], {"N": 3}, method=["DRS"], seed=None)][1]
    {'quantity': 'loss', 'N': 3, 'method': 'DRS', 'seed': 1, 'value': 0.25}
    """
    array = np.asarray(values)
    levels = [range(size) if of is None else of for size, of in zip(array.shape, axes.values(), strict=True)]
    for at, value in zip(itertools.product(*levels), array.ravel().tolist(), strict=True):
        yield {"quantity": quantity, **cell, **dict(zip(axes, at, strict=True)), "value": value}
