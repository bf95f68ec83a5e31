"""What the tool can be told, stated once: the arguments of `select_corpus`, and the options of `replicate select`."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import KW_ONLY, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

from replication.checks import one_of, whole
from replication.disf import selection
from replication.disf.corpus.errors import CorpusError
from replication.disf.corpus.inputs import Progress
from replication.disf.selection import Criterion, OnDuplicates, Second

_P = ParamSpec("_P")
_S = TypeVar("_S")
_R = TypeVar("_R")

_WRITTEN = ("file", "line", "row", "document", "batch", "pick")
"""Keys of the output where no records are written."""


@dataclass(frozen=True)
class Settings:
    """The names, types and defaults; :func:`~replication.disf.corpus.select_corpus` says what they mean.

    Of the types that one may have, the first is that of the option.
    """

    corpus: Path | str | None
    out: Path | str
    _: KW_ONLY
    features: str | Path = "tfidf"
    k: int | None = None
    ratio: float | None = None
    k_per_batch: int | None = None
    batch_size: int = 1024
    shuffle: int | None = 0
    seed: int = 0
    second: Second = "random"
    criterion: Criterion = "correlation"
    on_duplicates: OnDuplicates = "drop"
    text_key: str = "text"
    id_key: str = "id"
    feature_key: str | None = None
    pattern: str | None = None
    max_chars: int = 10_000
    write: Literal["records", "ids"] = "records"
    on_error: Literal["stop", "skip"] = "stop"
    work: Path | str | None = None
    workers: int | Executor = 1
    force: bool = False
    progress: Progress | None = None

    def checked(self) -> Settings:
        """The same settings with numbers of Python's own, which JSON can hold.

        Raises
        ------
        CorpusError
            Something makes no sense. It names the setting, what it is and what it may be.
        """
        plain: dict[str, Any] = {}
        try:
            for name, least in (("batch_size", 2), ("max_chars", 1), ("seed", 0)):
                plain[name] = whole(name, getattr(self, name), least)
            for name, least in (("shuffle", 0), ("k", 1), ("k_per_batch", 1)):
                if getattr(self, name) is not None:
                    plain[name] = whole(name, getattr(self, name), least)
            # of as many documents as there can be; of those that there are when they are counted
            selection.share_of(sys.maxsize, self.batch_size, self.k, self.ratio, self.k_per_batch)
            if self.ratio is not None:
                plain["ratio"] = float(self.ratio)
            for name, hint in get_type_hints(Settings).items():
                if get_origin(hint) is Literal:
                    one_of(name, getattr(self, name), get_args(hint))
            selection.check_options(self.second, self.criterion, self.on_duplicates)
            if self.id_key in _WRITTEN and (self.write == "ids" or self.corpus is None):
                raise ValueError(
                    f"id_key: {self.id_key!r} is a key of the output itself; write whole records, or rename it"
                )
            if not isinstance(self.workers, Executor):
                plain["workers"] = whole("workers", self.workers)
        except ValueError as error:
            raise CorpusError(str(error)) from error
        return replace(self, **plain)

    @property
    def parameters(self) -> dict[str, Any]:
        """What decides the output beside the inputs' contents; where nothing is at fault, `on_error` does not."""
        others = {"corpus", "out", "on_error", "work", "workers", "force", "progress"}
        return {one.name: getattr(self, one.name) for one in fields(self) if one.name not in others}


def taking(settings: Callable[_P, _S]) -> Callable[[Callable[[_S], _R]], Callable[_P, _R]]:
    """Let a function of settings be called with each of them as an argument."""

    def decorate(function: Callable[[_S], _R]) -> Callable[_P, _R]:
        @functools.wraps(function)
        def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
            return function(settings(*args, **kwargs))

        returned = inspect.signature(function).return_annotation
        call.__signature__ = inspect.signature(settings).replace(return_annotation=returned)  # type: ignore[attr-defined]
        return call

    return decorate
