"""One batch, the unit of work: what a worker or a cluster computes, from files and arguments alone."""

from __future__ import annotations

import threading
import warnings
from typing import Any

import numpy as np

from replication.disf import selection
from replication.disf.corpus import rows
from replication.disf.corpus.errors import CorpusError
from replication.disf.corpus.rows import Piece
from replication.disf.selection import Criterion, OnDuplicates, Second, first_copies

# warnings are caught for all threads of a process, and a worker of a cluster may have several
_catching = threading.Lock()


def select_noting(pieces: list[Piece], k: int, *, batch: int, **options: Any) -> list[dict[str, Any]]:
    """What :func:`select_rows` selects, and what it warns of, which would not be heard from a worker."""
    with _catching, warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = select_rows(pieces, k, batch=batch, **options)
    notes = [str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)]
    return [{"batch": batch, "documents": found, "notes": notes}]


def select_rows(
    pieces: list[Piece],
    k: int,
    *,
    batch: int,
    seed: int,
    second: Second = "random",
    criterion: Criterion = "correlation",
    on_duplicates: OnDuplicates = "drop",
) -> list[int]:
    """Select from one batch of features on disk: a unit of work, which depends on its arguments and files only.

    Parameters
    ----------
    pieces : list of Piece
        Where the batch's rows are.
    k : int
        How many to select. Rows with NaN or infinite features are never selected, and fewer rows than ``k`` are
        selected where fewer are distinct.
    batch : int
        Number of the batch.
    seed : int
        Seed of the whole selection.
    second, criterion, on_duplicates
        As for :func:`replication.disf.selection.select`.

    Returns
    -------
    list of int
        Row numbers in the corpus, in order of selection.

    Raises
    ------
    CorpusError
        If the batch cannot be selected from; the message names it.
    """
    if not pieces:
        return []
    features = rows.read(pieces)
    numbers = np.concatenate([piece.first + piece.rows for piece in pieces])
    usable = np.isfinite(features).all(1)
    if not usable.all():
        features, numbers = features[usable], numbers[usable]
    k = min(k, len(numbers))
    if k == 0:
        return []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*could not be selected")  # counted by the caller
        try:
            picks = selection.select_batch(
                features,
                k,
                seed=selection.batch_seed(seed, batch),
                second=second,
                criterion=criterion,
                on_duplicates=on_duplicates,
            )
        except ValueError as error:
            same = first_copies(features)
            again = np.flatnonzero(same != np.arange(len(same)))
            if on_duplicates == "error" and len(again):  # told by the numbers in the corpus
                raise CorpusError(
                    f"document {numbers[again[0]]} (from 0) has the features of document {numbers[same[again[0]]]}; "
                    "on_duplicates='drop' selects only one of them"
                ) from error
            raise CorpusError(f"batch {batch}: {error}") from error
    found: list[int] = numbers[picks].tolist()
    return found
