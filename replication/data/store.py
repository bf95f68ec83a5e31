"""Where data are looked for and cached, and the errors that say what is missing or wrong."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import platformdirs

__all__ = ["ChecksumMismatch", "DataNotFound", "cache_folder", "data_folder", "file_sha256", "retrieve"]


class DataNotFound(FileNotFoundError):
    """Data are not on this machine; the message says which, where they were looked for and how to get them."""


class ChecksumMismatch(ValueError):
    """Data are there, but not the bytes they should be; the message says what was expected, what it got, what to do."""


def cache_folder() -> Path:
    """Folder for what can be made again: `$REPLICATION_CACHE`, else the user's cache folder for this package."""
    return Path(os.environ.get("REPLICATION_CACHE") or platformdirs.user_cache_path("replication")).expanduser()


def data_folder() -> Path | None:
    """Folder the user keeps data sets in, `$REPLICATION_DATA`; None where that is not set."""
    value = os.environ.get("REPLICATION_DATA")
    return Path(value).expanduser() if value else None


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def retrieve(what: str, url: str, sha256: str, folder: Path, file: str) -> Path:
    """Download a file and check it; one that is there already and whole is not downloaded again.

    Parameters
    ----------
    what
        how the data are called in a sentence.
    url, sha256
        where they are, and what they must be.
    folder, file
        where to put them.

    Raises
    ------
    DataNotFound
        if they cannot be downloaded.
    ChecksumMismatch
        if something else came.
    """
    try:
        import pooch  # imported here: it brings a progress bar that warns on stderr inside a notebook

        return Path(pooch.retrieve(url, f"sha256:{sha256}", file, folder))
    except OSError as error:  # requests' exceptions are OSErrors
        raise DataNotFound(
            f"{what} could not be downloaded from {url} ({error}). Download it elsewhere, put it as {file} into a "
            "folder and set REPLICATION_DATA to that folder"
        ) from error
    except ValueError as error:
        raise ChecksumMismatch(
            f"what {url} sent is not {what}: its SHA-256 should be {sha256} ({error}). Try again later, or through "
            "another connection"
        ) from error
