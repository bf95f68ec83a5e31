"""Where a project's notebooks, runs and data are, and the errors that say which data are missing or wrong.

Every room may import this module, as it knows none of them.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

import replication

_known: ContextVar[dict[str, str] | None] = ContextVar("known", default=None)


def home() -> Path | None:
    """The folder with ``notebooks/`` and ``pyproject.toml``: `$REPLICATION_HOME`, or the clone that this package is in.

    The current folder plays no part, so everything does the same wherever it is started.
    """
    asked = os.environ.get("REPLICATION_HOME")
    candidates = [Path(asked).expanduser().absolute()] if asked else Path(replication.__file__).absolute().parents
    return _project(candidates)


def elsewhere() -> Path | None:
    """Another clone that the current folder is in, though `home` is what everything works on; None if there is none."""
    here, own = _project([Path.cwd(), *Path.cwd().parents]), home()
    if here is None or not (here / "replication" / "places.py").is_file():
        return None
    return None if own and here.resolve() == own.resolve() else here


def _project(candidates: Iterable[Path]) -> Path | None:
    for root in candidates:
        if (root / "notebooks").is_dir() and (root / "pyproject.toml").is_file():
            return root
    return None


def runs() -> Path | None:
    """The folder of the runs on this machine: `$REPLICATION_RUNS`, or ``runs/`` of the project; None without either.

    An address such as ``s3://…`` is the runner's business, which gives its kernels a folder.
    """
    asked = os.environ.get("REPLICATION_RUNS")
    if asked and "://" not in asked:
        return Path(asked).expanduser().absolute()
    root = home()
    return root / "runs" if root else None


class DataNotFound(FileNotFoundError):
    """Data are not on this machine; the message says which, where they were looked for and how to get them."""


class ChecksumMismatch(ValueError):
    """Data are there, but not the bytes they should be; the message says what was expected, what it got, what to do."""


def cache_folder() -> Path:
    """Folder for what can be made again: `$REPLICATION_CACHE`, else the user's cache folder for this package."""
    if asked := os.environ.get("REPLICATION_CACHE"):
        return Path(asked).expanduser()
    import platformdirs  # here, as selections need none of it

    return platformdirs.user_cache_path("replication")


def data_folder() -> Path | None:
    """Folder the user keeps data sets in, `$REPLICATION_DATA`; None where that is not set."""
    value = os.environ.get("REPLICATION_DATA")
    return Path(value).expanduser() if value else None


def data_places() -> dict[Path, str]:
    """The folders in which data are looked for, in this order, each with what people call it."""
    own = data_folder()
    return ({own: "$REPLICATION_DATA"} if own else {}) | {cache_folder(): "the cache folder"}


def looked() -> str:
    """Where data were looked for, in words."""
    return " and ".join(f"{place} ({name})" for place, name in data_places().items())


@contextmanager
def unchanging() -> Iterator[None]:
    """Take the data for unchanging inside the block, so that `checksum_of` reads each once."""
    token = _known.set({})
    try:
        yield
    finally:
        _known.reset(token)


def checksum_of(name: str, take: Callable[[], str]) -> str:
    """A data set's checksum, as `take` gives it; inside `unchanging` it is taken once."""
    known = _known.get()
    if known is None:
        return take()
    if name not in known:
        known[name] = take()
    return known[name]


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def retrieve(what: str, url: str, sha256: str, file: str) -> Path:
    """Download a file to the first of `data_places` and check it; one that is there and whole is not downloaded again.

    Parameters
    ----------
    what
        how the data are called in a sentence.
    url, sha256
        where they are, and what they must be.
    file
        path that they get there.

    Raises
    ------
    DataNotFound
        if they cannot be downloaded.
    ChecksumMismatch
        if something else came.
    """
    target = next(iter(data_places())) / file
    try:
        import pooch  # imported here: it brings a progress bar that warns on stderr inside a notebook

        return Path(pooch.retrieve(url, f"sha256:{sha256}", target.name, target.parent))
    except OSError as error:  # requests' exceptions are OSErrors
        raise DataNotFound(
            f"{what} could not be downloaded from {url} ({error}). Download it elsewhere, put it as {target.name} into "
            "a folder and set REPLICATION_DATA to that folder"
        ) from error
    except ValueError as error:
        raise ChecksumMismatch(
            f"what {url} sent is not {what}: its SHA-256 should be {sha256} ({error}). Try again later, or through "
            "another connection"
        ) from error
