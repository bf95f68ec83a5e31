"""Tables of training runs, benchmark scores and prices that others published: looked for, checked, never kept here."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import quote

import pandas as pd
import yaml

from replication.checks import one_of
from replication.places import (
    ChecksumMismatch,
    DataNotFound,
    data_places,
    file_sha256,
    looked,
    retrieve,
)

RAW: Final = "https://raw.githubusercontent.com"
FOLDER: Final = "meek"
"""Folder that the tables are kept in, inside the data or the cache folder."""


class TableSource(NamedTuple):
    """Where a table comes from."""

    about: str
    """What it holds."""
    file: str
    """Its name on this machine."""
    sha256: str
    repository: str
    """On GitHub, owner/name."""
    commit: str
    path: str
    """In the repository."""
    licence: str
    """What the repository itself says; "none stated" permits no copies, so none is kept in this project."""
    reduced: tuple[str, str] | None = None
    """Name and SHA-256 of a copy with fewer columns, which is read where the whole file is not there."""

    @property
    def url(self) -> str:
        """Address of the file at that commit."""
        return f"{RAW}/{self.repository}/{self.commit}/{quote(self.path)}"


_CHINCHILLA: Final = ("epoch-research/analyzing-chinchilla", "92258837425e1b5f2851d624287f0120583a3d0e")
_MEEK: Final = ("hansgundlach/Meek_Models", "061770ece6daa7cb264a0cd5fc0323633a85a90f")
_AIDER: Final = ("Aider-AI/aider", "5dc9490bb35f9729ef2c95d00a19ccd30c26339c")
_PRICES: Final = ("epoch-research/llm-benchmark-efficiency", "34b923314338360d1b1bbed6ec30d9299e54fdae")
_COSTS: Final = ("epoch-research/training-cost-trends", "263c40a159307e917213d1dc433c617e47d55bfe")

TABLES: Final[Mapping[str, TableSource]] = MappingProxyType(
    {
        "chinchilla": TableSource(
            "245 training runs digitised by Epoch AI from figure 4 of Hoffmann et al. 2022 (arXiv 2203.15556)",
            "chinchilla_fig4_svg_extracted_data.csv",
            "193478df4e90f040016431996c45682659306840ecdadf83cfb9cd5ca0aa1b30",
            *_CHINCHILLA,
            "data/svg_extracted_data.csv",
            "none stated",
        ),
        "meek_benchmarks": TableSource(
            "parameters, training tokens and MMLU of 38 models",
            "meek_Epoch_benchmarks.csv",
            "212cae1c26d15ff7dfd0394f6b9bfad7356675bf698f1c49f1a3c7b9156d5f0c",
            *_MEEK,
            "datasets/Epoch_benchmarks.csv",
            "none stated",
        ),
        "art_analysis": TableSource(
            "prices, sizes, dates and scores of 162 models, scraped from Artificial Analysis in spring 2025",
            "meek_art_analysis_scrape.csv",
            "b5e1af8de4f2b992ec0d32790579b14cc1a5b3088e0c10822346e54fc9acb168",
            *_MEEK,
            "datasets/art_analysis_scrape.csv",
            "none stated",
        ),
        "aider_polyglot": TableSource(
            "score, cost and test date of 69 runs of the Aider polyglot benchmark",
            "aider_polyglot_leaderboard.yml",
            "85a50b25953512d18ba4bb0c23c0b8e626fcf9a5b52d287644b8a0b44b9535de",
            *_AIDER,
            "aider/website/_data/polyglot_leaderboard.yml",
            "Apache-2.0",
        ),
        "price_trends": TableSource(
            "21 regressions of the price of a fixed performance over time (Cottier et al. 2025)",
            "epoch_lbe_lowest_price_results.csv",
            "8764ac557cacf35d179a06f4a4256d097a798c49582981f118869ec51b69c2bb",
            *_PRICES,
            "results/default/lowest_price_models_above_previous_frontier/lowest_price_models_results.csv",
            "none stated",
        ),
        "ml_systems": TableSource(
            "dates, domains and training compute of 1,892 machine-learning systems (Epoch AI)",
            "epoch_tct_all_ml_systems.csv",
            "74509130a942f476053447d26cd9a3805a03d48b8feffef714826c5e340c9ec2",
            *_COSTS,
            "data/All ML Systems - full view.csv",
            "none stated",
            reduced=(
                "epoch_tct_all_ml_systems_slim.csv",
                "6a3b3998379a23e7697a4c8588be05526c9b924f349069cf371bd6febfe01dd1",
            ),
        ),
        "api_prices": TableSource(
            "scores of 309 models with their prices of each month, April 2024 to October 2025",
            "api_inference_merged.csv",
            "6e0cbf7f69e4cb039a64b24b8057c79daa382e181c5f1633a6ea2352c12d35e2",
            "hansgundlach/Algorithmic_Progress_Inference",
            "a6381e26b51c771ff73ecaffbb7dafbbbb411af5",
            "data/merged_with_training_compute.csv",
            "none stated",
        ),
        "llm_elo": TableSource(
            "LMArena ratings, launch months and input prices of 435 models, July 2026",
            "llmpricing_elo_2026-07-19.csv",
            "38ec8f458d0dec671ba51b0e6e327b8f8175a0526da13114ec3dec6f35cd7412",
            "sanand0/llmpricing",
            "ae3a1b1df6af5d7866aa62c6703863194030baf0",
            "elo.csv",
            "MIT",
        ),
    }
)
"""The tables, by the short names under which they are asked for."""


def table_path(name: str) -> Path:
    """Find a table's file and check its bytes.

    It is looked for in `$REPLICATION_DATA`, then in the cache folder, in each of them in `meek/` first.

    Parameters
    ----------
    name
        One of `TABLES`.

    Raises
    ------
    DataNotFound
        if it is not there.
    ChecksumMismatch
        if it is damaged or another version.
    ValueError
        if there is no such table.
    """
    return _find(name)[0]


def read_table(name: str) -> pd.DataFrame:
    """Read a table; its columns keep their names, with single blanks for the line breaks in some of them.

    Parameters
    ----------
    name
        One of `TABLES`.

    Raises
    ------
    DataNotFound, ChecksumMismatch, ValueError
        as `table_path` does.
    """
    path = table_path(name)
    if path.suffix == ".yml":
        return pd.DataFrame(yaml.safe_load(path.read_text(encoding="utf-8")))
    table = pd.read_csv(path, encoding="utf-8-sig")  # some of the files begin with a byte-order mark
    return table.rename(columns=lambda column: " ".join(column.split()))


def download_table(name: str) -> Path:
    """Download a table from its authors' repository, at the commit that is known, and check it.

    It goes to `meek/` in `$REPLICATION_DATA`, else in the cache folder.

    Parameters
    ----------
    name
        One of `TABLES`; mind its licence.

    Returns
    -------
    pathlib.Path
        the file. One that is there already and whole is not downloaded again.

    Raises
    ------
    DataNotFound
        if it cannot be downloaded.
    ChecksumMismatch
        if something else came.
    ValueError
        if there is no such table.
    """
    source = TABLES[one_of("name", name, TABLES)]
    return retrieve(f"the table {name!r}", source.url, source.sha256, f"{FOLDER}/{source.file}")


def download_tables() -> dict[str, Path]:
    """Download every table (5 MB in all); errors as `download_table` has them."""
    return {name: download_table(name) for name in TABLES}


def tables_checksum() -> str:
    """Checksum of all tables that are here together: of their names and their files' SHA-256.

    Raises
    ------
    DataNotFound
        if none of them is there.
    ChecksumMismatch
        if one is damaged or another version.
    """
    digest, missing = hashlib.sha256(), 0
    for name in TABLES:
        try:
            digest.update(f"{name}\0{_find(name)[1]}\n".encode())
        except DataNotFound:
            missing += 1
    if missing == len(TABLES):
        raise DataNotFound(
            f"none of the tables {', '.join(TABLES)} was found. Looked in {looked()}, in each {FOLDER}/ first. "
            'To get them: python -c "from replication import data; data.download_tables()"'
        )
    return digest.hexdigest()


def _find(name: str) -> tuple[Path, str]:
    """The first file that is there, and its SHA-256, which must be the one that is known."""
    source = TABLES[one_of("name", name, TABLES)]
    known = dict([(source.file, source.sha256), *([source.reduced] if source.reduced else [])])
    for place in data_places():
        for path in (home / file for home in (place / FOLDER, place) for file in known):
            if not path.is_file():
                continue
            found, wanted = file_sha256(path), known[path.name]
            if found != wanted:
                raise ChecksumMismatch(
                    f"{path} is damaged or another version: its SHA-256 is {found}, {wanted} was expected. Delete it "
                    f"and get it again; replication.data.download_table({name!r}) downloads it"
                )
            return path, found
    raise DataNotFound(
        f"the table {name!r} ({source.about}) was not found. Looked in {looked()}, in each {FOLDER}/ first, "
        f"for {' and '.join(known)}. To get it: download {source.url} by "
        f"python -c \"from replication import data; data.download_table('{name}')\", or put it as {source.file} into a "
        f"folder and set REPLICATION_DATA to that folder. Its repository's licence: {source.licence}"
    )
