"""Images and text for the experiments: what is on every machine, what is looked for, and the user's own.

`digits` and `text_corpus` need no network and give the same bytes everywhere. `cifar10` looks in `$REPLICATION_DATA`
and says, where it finds nothing, how to get it. What had to be built or unpacked is cached in `$REPLICATION_CACHE`, or
else in the user's cache folder.
"""

from __future__ import annotations

from replication.data.images import Images, cifar10, cifar10_checksum, digits, download_cifar10
from replication.data.store import ChecksumMismatch, DataNotFound, cache_folder, data_folder
from replication.data.text import Corpus, text_checksum, text_corpus, text_folder, text_jsonl

__all__ = [
    "ChecksumMismatch",
    "Corpus",
    "DataNotFound",
    "Images",
    "cache_folder",
    "checksum",
    "cifar10",
    "data_folder",
    "digits",
    "download_cifar10",
    "text_corpus",
    "text_folder",
    "text_jsonl",
]


def checksum(name: str) -> str:
    """SHA-256, in hexadecimal, of a data set that notebooks use, as its `checksum` attribute has it.

    Parameters
    ----------
    name
        "digits", "text" or "cifar10".

    Raises
    ------
    DataNotFound
        if the data are not on this machine.
    ChecksumMismatch
        if they are damaged.
    ValueError
        if there is no such data set.
    """
    if name == "digits":
        return digits().checksum
    if name == "text":
        return text_checksum()
    if name == "cifar10":
        return cifar10_checksum()
    raise ValueError(f"name: {name!r} is not a data set; there are digits, text and cifar10")
