"""Where data are looked for and cached, and the errors that say what is missing or wrong."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import platformdirs

__all__ = ["ChecksumMismatch", "DataNotFound", "cache_folder", "data_folder", "file_sha256"]


class DataNotFound(FileNotFoundError):
    """Data are not on this machine; the message says which, where they were looked for and how to get them."""


class ChecksumMismatch(ValueError):
    """Data are there, but not the bytes they should be; the message says what was expected, what came, what to do."""


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
