"""Images, text and tables for the experiments: what is on every machine, what is looked for, and the user's own.

`digits` and `text_corpus` need no network and give the same bytes everywhere. `cifar10` and `read_table` look in
`$REPLICATION_DATA` and say, where they find nothing, how to get it. What had to be built or unpacked is cached in
`$REPLICATION_CACHE`, or else in the user's cache folder.
"""

from __future__ import annotations

from replication.checks import extra, one_of

with extra("notebooks"):
    from replication.data.images import Images, averaged, cifar10, cifar10_checksum, digits, download_cifar10
    from replication.data.tables import (
        TABLES,
        TableSource,
        download_table,
        download_tables,
        read_table,
        table_path,
        tables_checksum,
    )
    from replication.data.text import Corpus, read_text, table_bits, text_checksum, text_corpus
    from replication.places import ChecksumMismatch, DataNotFound, cache_folder, checksum_of, data_folder

__all__ = [
    "TABLES",
    "ChecksumMismatch",
    "Corpus",
    "DataNotFound",
    "Images",
    "TableSource",
    "averaged",
    "cache_folder",
    "checksum",
    "cifar10",
    "data_folder",
    "digits",
    "download_cifar10",
    "download_table",
    "download_tables",
    "read_table",
    "read_text",
    "table_bits",
    "table_path",
    "text_checksum",
    "text_corpus",
]


def checksum(name: str) -> str:
    """SHA-256, in hexadecimal, of a data set that notebooks use, as its `checksum` attribute has it.

    Parameters
    ----------
    name
        "digits", "cifar10", or "meek" for all of `TABLES` that are here; for text there is `text_checksum`.

    Raises
    ------
    DataNotFound
        if the data are not on this machine.
    ChecksumMismatch
        if they are damaged.
    ValueError
        if there is no such data set.
    """
    takers = {"digits": lambda: digits().checksum, "cifar10": cifar10_checksum, "meek": tables_checksum}
    return checksum_of(name, takers[one_of("name", name, takers)])
