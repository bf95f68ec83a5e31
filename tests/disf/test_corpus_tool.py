"""`select_corpus`: what it reads, what it selects, what it leaves alone, and how it goes on."""

from __future__ import annotations

import contextlib
import gzip
import inspect
import io
import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import threading
import warnings
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner, Result
from filelock import FileLock
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rich.console import Console
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

from replication.cli import cli
from replication.disf import features as features_module
from replication.disf import selection
from replication.disf.corpus import (
    CorpusError,
    Selected,
    extractors,
    inputs,
    pipeline,
    readers,
    rows,
    select_corpus,
    workers,
)
from replication.disf.corpus.journal import Journal
from replication.disf.corpus.progress import Stages
from replication.disf.corpus.workers import Workers

WORDS = [first + last for first in ("alpha", "beta", "gamma", "delta") for last in ("", "s", "ed", "ing", "er")]


@pytest.fixture(autouse=True)
def small_tfidf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extractors, "_BUCKETS", 2**10)
    monkeypatch.setattr(extractors, "_DIMENSIONS", 8)


def texts(count: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, size=rng.integers(5, 30))) for _ in range(count)]


def lines(values: Iterable[Any]) -> bytes:
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def write_zstd(path: Path, *contents: bytes) -> None:
    """A file of one frame for each of the contents."""
    whole = b""
    for content in contents:
        with pa.output_stream(str(path), compression="zstd") as file:
            file.write(content)
        whole += path.read_bytes()
    path.write_bytes(whole)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A thousand documents in files of every kind."""
    folder = tmp_path / "corpus"
    (folder / "b").mkdir(parents=True)
    found = [{"id": i, "text": text} for i, text in enumerate(texts(1000))]
    (folder / "a.jsonl").write_bytes(lines(found[:300]))
    (folder / "b" / "1.json.gz").write_bytes(
        gzip.compress(lines(found[300:400])) + gzip.compress(lines(found[400:500]))
    )
    write_zstd(folder / "b" / "2.jsonl.zst", lines(found[500:600]), lines(found[600:700]))
    pq.write_table(pa.Table.from_pylist(found[700:990]), folder / "c.parquet", row_group_size=64)
    for i in range(990, 1000):
        (folder / f"d{i}.txt").write_text(found[i]["text"])
    return folder


def read(path: Path) -> list[dict[str, Any]]:
    with readers.opened(path) as file:
        return [json.loads(line) for line in file]


def snapshot(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mtime_ns for path in folder.rglob("*") if path.is_file()}


# ------------------------------------------------------------------------------------------------ what is selected


@given(
    count=st.integers(1, 300),
    batch_size=st.integers(2, 70),
    ratio=st.floats(0.01, 1),
    seed=st.integers(0, 3),
    cuts=st.lists(st.integers(0, 300), max_size=4),
    dtype=st.sampled_from(["float32", "float64", ">f4", "float16"]),
)
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_picks_are_those_of_select_however_features_are_cut_into_files(
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    batch_size: int,
    ratio: float,
    seed: int,
    cuts: list[int],
    dtype: str,
) -> None:
    folder = tmp_path_factory.mktemp("features")
    features = np.random.default_rng(count).standard_normal((count, 5)).astype(dtype)
    (folder / "in").mkdir()
    edges = [0, *sorted(min(cut, count) for cut in cuts), count]
    for number, (start, stop) in enumerate(itertools.pairwise(edges)):
        np.save(folder / "in" / f"{number}.npy", features[start:stop])
    options: dict[str, Any] = {"ratio": ratio, "batch_size": batch_size, "seed": seed}
    if ratio * count < 0.5:
        with pytest.raises(CorpusError, match=f"ratio: {ratio} of {count} rows selects none"):
            select_corpus(None, folder / "out.jsonl", features=folder / "in", **options)
        return
    done = select_corpus(None, folder / "out.jsonl", features=folder / "in", shuffle=None, **options)
    expected = selection.select(features.astype(features.dtype.newbyteorder("=")), **options)
    found = read(folder / "out.jsonl")
    assert [line["document"] for line in found] == list(expected)
    assert done.counts["selected"] == len(expected)
    for line in found:
        start = edges[int(line["file"].removesuffix(".npy"))]
        assert start + line["row"] == line["document"]
        assert line["batch"] == line["document"] // batch_size


@pytest.mark.parametrize(
    "options",
    [
        {"k": 7},
        {"k_per_batch": 3},
        {"k": 7, "second": "authors", "on_duplicates": "keep"},
        {"ratio": 0.1, "criterion": "participation", "second": "farthest", "seed": 5},
    ],
)
def test_parameters_reach_the_selection(tmp_path: Path, options: dict[str, Any]) -> None:
    features = np.random.default_rng(0).standard_normal((150, 6)).astype(np.float32)
    features[40] = features[3]
    np.save(tmp_path / "f.npy", features)
    select_corpus(None, tmp_path / "out.jsonl", features=tmp_path / "f.npy", batch_size=64, shuffle=None, **options)
    expected = selection.select(features, batch_size=64, **options)
    assert [line["document"] for line in read(tmp_path / "out.jsonl")] == expected.tolist()


def test_corpus_gives_whole_records_with_their_places(corpus: Path, tmp_path: Path) -> None:
    done = select_corpus(corpus, tmp_path / "out.jsonl", ratio=0.1, batch_size=128)
    found = read(tmp_path / "out.jsonl")
    assert done.counts | {"bytes": 0} == {
        "files": 14,
        "bytes": 0,
        "ignored": 0,
        "empty": 0,
        "broken": 0,
        "unreadable": 0,
        "documents": 1000,
        "copies": 0,
        "batches": 8,
        "selected": 100,
        "missing": 0,
    }
    assert len(found) == 100
    everything = texts(1000)
    for record in found:
        where = record["_selection"]
        assert record["text"] == everything[where["document"]]
        if "id" in record:
            assert record["id"] == where["document"]
        if where["file"] == "a.jsonl":
            assert where["line"] == where["document"] + 1
        if where["file"] == "c.parquet":
            assert where["row"] == where["document"] - 700
    assert {record["_selection"]["file"] for record in found} >= {
        "a.jsonl",
        "b/1.json.gz",
        "b/2.jsonl.zst",
        "c.parquet",
    }
    ranks = [(record["_selection"]["batch"], record["_selection"]["pick"]) for record in found]
    assert ranks == sorted(ranks)


@pytest.mark.slow  # pools of processes start
def test_result_does_not_depend_on_workers_nor_on_the_size_of_shards(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pipeline, "_SHARD", 64)
    for count in (1, 2):
        select_corpus(corpus, tmp_path / f"{count}.jsonl", ratio=0.1, batch_size=128, workers=count)
    monkeypatch.setattr(pipeline, "_SHARD", 1000)
    select_corpus(corpus, tmp_path / "large.jsonl", ratio=0.1, batch_size=128)
    assert len({(tmp_path / f"{name}.jsonl").read_bytes() for name in ("1", "2", "large")}) == 1


def test_records_keep_their_bytes(tmp_path: Path) -> None:
    odd = '{"z": 1.10, "text": "h\\u00e9 \\ud83d", "n": 12345678901234567890123, "a": {"b": []} }'
    (tmp_path / "in.jsonl").write_text(f"\ufeff{odd}\r\n\n  {odd.replace('1.10', '2.50')}")
    select_corpus(tmp_path / "in.jsonl", tmp_path / "out.jsonl", ratio=1, on_duplicates="keep")
    found = sorted((tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines())
    where = [json.loads(line)["_selection"] for line in found]
    assert [(place["line"], place["document"]) for place in where] == [(1, 0), (3, 1)]
    start = odd[: odd.rindex("}")].rstrip()
    assert found[0].startswith(start + ', "_selection": {"file": "in.jsonl"')
    assert found[1].startswith(start.replace("1.10", "2.50") + ", ")


def test_a_selection_from_a_selection_keeps_the_bytes_of_records(tmp_path: Path) -> None:
    odd = [
        '{"id": 1.10, "text": "one", "big": 1e400, "big": -0, "a" : [1.0, {"_selection": 1}]',
        '{ "_selection" : [1, "}, {"], "id": "h\u00e9", "id":  3.0e1 , "text": "two"',
        '{"text": "three"',
    ]
    (tmp_path / "0.jsonl").write_text("\n".join(f"{record}}}" for record in odd), encoding="utf-8")
    for number in range(3):
        select_corpus(tmp_path / f"{number}.jsonl", tmp_path / f"{number + 1}.jsonl", ratio=1)
    expected = sorted([odd[0], '{ "id": "h\u00e9", "id":  3.0e1 , "text": "two"', odd[2]])
    found = sorted((tmp_path / "3.jsonl").read_text(encoding="utf-8").splitlines())
    for line, record in zip(found, expected, strict=True):
        assert line.startswith(record + ', "_selection": {"file": "2.jsonl", "line": ')
        assert line.endswith("}}")
        assert json.loads(line)["_selection"]["batch"] == 0
    select_corpus(tmp_path / "3.jsonl", tmp_path / "ids.jsonl", ratio=1, write="ids")
    ids = sorted((tmp_path / "ids.jsonl").read_text().splitlines())
    assert [line.split(", ")[0].split("{")[1] for line in ids] == ['"file": "3.jsonl"', '"id":  3.0e1', '"id": 1.10']


def test_selection_from_a_selection_tells_the_last_place_only(corpus: Path, tmp_path: Path) -> None:
    select_corpus(corpus, tmp_path / "1.jsonl", ratio=0.1)
    select_corpus(tmp_path / "1.jsonl", tmp_path / "2.jsonl", ratio=0.1)
    found = read(tmp_path / "2.jsonl")
    assert len(found) == 10
    assert {record["_selection"]["file"] for record in found} == {"1.jsonl"}
    assert (tmp_path / "2.jsonl").read_text().count('"_selection"') == 10


@pytest.mark.parametrize("name", ["out.JSONL.GZ", "out.jsonl.zst"])
def test_output_is_compressed_by_its_name(corpus: Path, tmp_path: Path, name: str) -> None:
    select_corpus(corpus, tmp_path / "out.jsonl", ratio=0.05)
    select_corpus(corpus, tmp_path / name, ratio=0.05)
    assert read(tmp_path / name) == read(tmp_path / "out.jsonl")
    assert (tmp_path / name).read_bytes()[:2] == {"gz": b"\x1f\x8b", "st": b"\x28\xb5"}[name[-2:].lower()]


def test_ids_without_records(corpus: Path, tmp_path: Path) -> None:
    select_corpus(corpus, tmp_path / "out.jsonl", ratio=0.1, write="ids")
    for line in read(tmp_path / "out.jsonl"):
        assert "text" not in line
        assert line.get("id", line["document"]) == line["document"]
        assert ("id" in line) == (not line["file"].endswith(".txt"))


def test_parquet_features_with_identifiers_equal_npy_ones(tmp_path: Path) -> None:
    features = np.random.default_rng(1).standard_normal((700, 4)).astype(np.float32)
    (tmp_path / "parquet").mkdir()
    names = [f"doc-{i}" for i in range(700)]
    for number, kind in enumerate((pa.list_(pa.float32()), pa.list_(pa.float32(), 4))):
        part = slice(number * 350, (number + 1) * 350)
        table = pa.table({"vector": pa.array(list(features[part]), type=kind), "id": names[part]})
        pq.write_table(table, tmp_path / "parquet" / f"{number}.parquet", row_group_size=100)
    np.save(tmp_path / "f.npy", features)
    select_corpus(None, tmp_path / "a.jsonl", features=tmp_path / "parquet", ratio=0.1, batch_size=128)
    select_corpus(None, tmp_path / "b.jsonl", features=tmp_path / "f.npy", ratio=0.1, batch_size=128)
    found = read(tmp_path / "a.jsonl")
    assert [line["document"] for line in found] == [line["document"] for line in read(tmp_path / "b.jsonl")]
    assert [line["id"] for line in found] == [names[line["document"]] for line in found]


def test_another_column_of_ready_made_features_is_selected_from_in_the_same_work_folder(tmp_path: Path) -> None:
    columns = dict(zip("ab", np.random.default_rng(0).standard_normal((2, 60, 4)), strict=True))
    pq.write_table(pa.table({name: list(vectors) for name, vectors in columns.items()}), tmp_path / "f.parquet")
    for name, vectors in columns.items():
        options: dict[str, Any] = {"features": tmp_path / "f.parquet", "feature_key": name, "shuffle": None}
        select_corpus(None, tmp_path / f"{name}.jsonl", k=9, work=tmp_path / "work", **options)
        expected = selection.select(vectors, k=9).tolist()
        assert [line["document"] for line in read(tmp_path / f"{name}.jsonl")] == expected


@pytest.mark.parametrize("whole", ["npy", "parquet"])
def test_damaged_files_of_features_are_left_out_whole(tmp_path: Path, whole: str) -> None:
    features = np.random.default_rng(1).standard_normal((60, 4)).astype(np.float32)
    folder = tmp_path / "features"
    folder.mkdir()
    for name in ("a", "c"):
        if whole == "npy":
            np.save(folder / f"{name}.npy", features)
        else:
            pq.write_table(pa.table({"vector": list(features)}), folder / f"{name}.parquet")
    (folder / "b.parquet").write_bytes(b"PAR1" if whole == "npy" else (folder / "a.parquet").read_bytes()[:-9])
    options: dict[str, Any] = {"features": folder, "k": 6, "batch_size": 60, "on_duplicates": "keep"}
    with pytest.raises(CorpusError, match="1 unreadable files"):
        select_corpus(None, tmp_path / "out.jsonl", **options)
    done = select_corpus(None, tmp_path / "out.jsonl", on_error="skip", **options)
    assert (done.counts["documents"], done.counts["selected"], done.counts["unreadable"]) == (120, 6, 1)
    assert {line["file"].partition(".")[0] for line in read(tmp_path / "out.jsonl")} == {"a", "c"}


def test_documents_of_equal_features_are_refused_by_their_numbers(tmp_path: Path) -> None:
    said = texts(300)
    said[200] = " ".join(reversed(said[100].split()))  # as many of each word, in another order
    (tmp_path / "in.jsonl").write_bytes(lines({"text": text} for text in said))
    with pytest.raises(CorpusError, match=r"document 200 \(from 0\) has the features of document 100;"):
        select_corpus(tmp_path / "in.jsonl", tmp_path / "out.jsonl", k=9, on_duplicates="error")


def test_text_files_have_the_texts_key_in_the_output(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for number, text in enumerate(texts(30)):
        (tmp_path / "in" / f"{number}.txt").write_text(text)
    select_corpus(tmp_path / "in", tmp_path / "a.jsonl", k=9, text_key="content")
    assert {"content", "_selection"} == {*read(tmp_path / "a.jsonl")[0]}
    select_corpus(tmp_path / "a.jsonl", tmp_path / "b.jsonl", k=3, text_key="content")


def test_an_unknown_kind_is_named_with_its_compression(corpus: Path, tmp_path: Path) -> None:
    (corpus / "x.csv.gz").write_bytes(b"")
    (corpus / "y.csv").write_bytes(b"")
    with pytest.raises(
        CorpusError, match=r"x.csv.gz ends in .csv.gz, which is not read(.|\n)*y.csv ends in .csv, which"
    ):
        select_corpus(corpus, tmp_path / "out.jsonl", ratio=0.1)


def test_threads_of_one_process_lose_no_note(tmp_path: Path) -> None:
    features = np.random.default_rng(0).standard_normal((1000, 8))
    features[:, 0] *= 1e-6
    np.save(tmp_path / "f.npy", features)
    before = list(warnings.filters)
    with ThreadPoolExecutor(4) as threads:
        options: dict[str, Any] = {"features": tmp_path / "f.npy", "ratio": 0.2, "batch_size": 20, "workers": threads}
        note, *_ = select_corpus(None, tmp_path / "out.jsonl", **options).notes
    assert note.endswith("(50 of 50 batches)")
    assert warnings.filters == before


def test_ready_made_features_of_a_corpus(corpus: Path, tmp_path: Path) -> None:
    features = np.random.default_rng(1).standard_normal((1000, 4)).astype(np.float32)
    np.save(tmp_path / "f.npy", features)
    select_corpus(corpus, tmp_path / "out.jsonl", features=tmp_path / "f.npy", ratio=0.02, shuffle=None)
    found = read(tmp_path / "out.jsonl")
    assert [record["_selection"]["document"] for record in found] == selection.select(features, ratio=0.02).tolist()
    assert [record["text"] for record in found] == [texts(1000)[r["_selection"]["document"]] for r in found]
    np.save(tmp_path / "f.npy", features[:-1])
    with pytest.raises(CorpusError, match="holds 999 rows, but the corpus has 1000 documents"):
        select_corpus(corpus, tmp_path / "other.jsonl", features=tmp_path / "f.npy", ratio=0.02)


def test_batches_of_copies_give_what_they_have_and_say_so(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.ones((100, 3), np.float32))
    done = select_corpus(None, tmp_path / "out.jsonl", features=tmp_path / "f.npy", k=8, batch_size=50)
    assert [done.counts[name] for name in ("selected", "missing", "copies")] == [1, 7, 99]


# ------------------------------------------------------------------------------------------------ order, copies, mix


def sorted_corpus(folder: Path, domains: int = 8, each: int = 60) -> Path:
    """A file for each domain, each with words of its own."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    for domain in range(domains):
        words = [f"word{domain}x{number}" for number in range(40)]
        found = [" ".join(rng.choice(words, size=12)) for _ in range(each)]
        (folder / f"{domain}.jsonl").write_bytes(lines({"text": text} for text in found))
    return folder


def test_shuffle_makes_batches_of_all_domains_and_file_order_is_had_on_request(tmp_path: Path) -> None:
    corpus = sorted_corpus(tmp_path / "corpus")
    made = {}
    for name, shuffle in (("default", {}), ("0", {"shuffle": 0}), ("1", {"shuffle": 1}), ("file", {"shuffle": None})):
        done = select_corpus(corpus, tmp_path / f"{name}.jsonl", k=48, batch_size=60, write="ids", **shuffle)
        made[name] = read(tmp_path / f"{name}.jsonl")
        assert len(made[name]) == done.counts["selected"] == 48
        manifest = json.loads((tmp_path / f"{name}.jsonl.manifest.json").read_text())
        assert manifest["parameters"]["shuffle"] == shuffle.get("shuffle", 0)
        ranks = [(line["batch"], line["pick"]) for line in made[name]]
        assert ranks == [(batch, pick) for batch in range(8) for pick in range(6)]  # written in order of selection
    assert made["default"] == made["0"] != made["1"]
    domains = {name: {(line["batch"], line["file"]) for line in found} for name, found in made.items()}
    assert len(domains["file"]) == 8  # each domain has a batch to itself
    assert len(domains["0"]) > 24


def test_copies_of_a_text_are_selected_once_wherever_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    once = texts(40)
    whole = [*once, *once[::-1], "of its own"]
    for number in range(3):
        (folder / f"{number}.jsonl").write_bytes(
            lines({"text": text} for text in whole[number * 27 : number * 27 + 27])
        )
    options: dict[str, Any] = {"ratio": 1, "batch_size": 9, "features": "minilm"}
    # as MiniLM's, whose last digits depend on the batch: no two rows have the same bytes
    rng = np.random.default_rng(0)
    monkeypatch.setattr(features_module, "minilm", lambda found: rng.standard_normal((len(found), 4), np.float32))
    for at_once in (1 << 22, 7):
        monkeypatch.setattr("replication.disf.corpus.copies._AT_ONCE", at_once)
        done = select_corpus(folder, tmp_path / f"{at_once}.jsonl", **options)
        assert [done.counts[name] for name in ("documents", "copies", "selected", "missing")] == [81, 40, 41, 40]
        found = {line["_selection"]["document"] for line in read(tmp_path / f"{at_once}.jsonl")}
        assert found == {*range(40), 80}  # the first of each
    kept = select_corpus(folder, tmp_path / "kept.jsonl", on_duplicates="keep", **options)
    assert [kept.counts[name] for name in ("copies", "selected")] == [0, 81]
    with pytest.raises(
        CorpusError, match="40 documents are exact copies of earlier ones, the first of them document 40"
    ):
        select_corpus(folder, tmp_path / "refused.jsonl", on_duplicates="error", **options)


def test_hashes_that_somebody_deleted_are_made_again(corpus: Path, tmp_path: Path) -> None:
    select_corpus(corpus, tmp_path / "a.jsonl", ratio=0.1, work=tmp_path / "work")
    for path in (tmp_path / "work" / "hashes").iterdir():
        path.unlink()
    select_corpus(corpus, tmp_path / "b.jsonl", ratio=0.1, work=tmp_path / "work")
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


@pytest.mark.parametrize("stage", ["hashes", "features"])
def test_what_was_deleted_of_unfinished_work_is_made_again(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    monkeypatch.setattr(pipeline, "_SHARD", 100)
    monkeypatch.setattr(inputs, "_TASK_FILES", 1)
    expected = select_corpus(corpus, tmp_path / "expected.jsonl", ratio=0.1).output.read_bytes()

    def interrupt(what: str, done: int, total: int) -> None:
        if what == {"hashes": "files indexed", "features": "documents embedded"}[stage] and 0 < done < total:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        select_corpus(corpus, tmp_path / "out.jsonl", ratio=0.1, progress=interrupt)
    for path in [path for path in (tmp_path / "out.jsonl.work" / stage).rglob("*.npy") if path.is_file()]:
        path.unlink()
    assert select_corpus(corpus, tmp_path / "out.jsonl", ratio=0.1).output.read_bytes() == expected


def test_mix_tells_files_or_folders_of_corpus_and_selection(corpus: Path, tmp_path: Path, monkeypatch: Any) -> None:
    done = select_corpus(corpus, tmp_path / "out.jsonl", ratio=0.1, batch_size=128)
    assert {name: counts[0] for name, counts in done.mix.items()} == {
        "a.jsonl": 300,
        "b": 400,
        "c.parquet": 290,
        **{f"d{i}.txt": 1 for i in range(990, 1000)},
    }
    files = [record["_selection"]["file"].split("/")[0] for record in read(tmp_path / "out.jsonl")]
    assert {name: counts[1] for name, counts in done.mix.items()} == {name: files.count(name) for name in done.mix}
    assert select_corpus(corpus, tmp_path / "out.jsonl", ratio=0.1, batch_size=128).mix == done.mix
    monkeypatch.setattr(pipeline, "_MOST_FILES", 12)
    assert select_corpus(corpus, tmp_path / "out.jsonl", ratio=0.1, batch_size=128, force=True).mix == {}


def test_uneven_norms_of_given_features_are_told(tmp_path: Path) -> None:
    features = np.random.default_rng(0).standard_normal((400, 64)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    np.save(tmp_path / "even.npy", features * 3)
    features[100:] *= 0.3  # one part of four is long
    np.save(tmp_path / "uneven.npy", features)
    notes = {
        name: select_corpus(None, tmp_path / f"{name}.jsonl", features=tmp_path / f"{name}.npy", k=9).notes
        for name in ("even", "uneven")
    }
    assert notes["even"] == []
    (note,) = notes["uneven"]
    assert "lengths of the features' rows are uneven (mean 0.475, standard deviation 0.303)" in note
    said = replicate("--features", tmp_path / "uneven.npy", "--k", 9, "--out", tmp_path / "again.jsonl")
    assert f"warning: {note}" in said.stderr


def test_rows_that_are_left_out_do_not_make_lengths_uneven(tmp_path: Path) -> None:
    features = np.random.default_rng(0).standard_normal((400, 64)).astype(np.float32)
    features /= np.linalg.norm(features, axis=1, keepdims=True)
    features[:80] = np.nan
    np.save(tmp_path / "f.npy", features)
    done = select_corpus(None, tmp_path / "out.jsonl", features=tmp_path / "f.npy", k=9, on_error="skip")
    assert (done.counts["broken"], done.notes) == (80, [])


def test_dimensions_that_epsilon_would_decide_are_told(tmp_path: Path) -> None:
    features = np.random.default_rng(0).standard_normal((100, 64))
    features[:, 0] *= 1e-6
    np.save(tmp_path / "f.npy", features)
    options: dict[str, Any] = {"features": tmp_path / "f.npy", "k": 8, "batch_size": 50}
    (note,) = select_corpus(None, tmp_path / "out.jsonl", **options).notes
    assert "a variance below the objective's epsilon" in note
    assert note.endswith("(2 of 2 batches)")
    assert select_corpus(None, tmp_path / "out.jsonl", **options).notes == [note]


def test_copies_of_ready_made_features_are_selected_once_though_texts_differ(tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_bytes(lines({"text": text} for text in texts(40)))
    features = np.random.default_rng(0).standard_normal((40, 4))
    features[35] = features[3]
    np.save(tmp_path / "f.npy", features)
    options: dict[str, Any] = {"features": tmp_path / "f.npy", "ratio": 1, "batch_size": 10, "shuffle": None}
    done = select_corpus(tmp_path / "in.jsonl", tmp_path / "out.jsonl", **options)
    assert [done.counts[name] for name in ("copies", "selected")] == [1, 39]
    assert {line["_selection"]["document"] for line in read(tmp_path / "out.jsonl")} == {*range(40)} - {35}


LANGUAGES = {"english": ("abcdefghij", 700), "german": ("klmnopäöüß", 240), "russian": ("абвгдежзик", 60)}


def test_rows_of_a_minority_language_are_as_long_as_others_and_it_is_selected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its words are far from the first axes, which leaves its rows short, and DiSF passes short rows over."""
    rng = np.random.default_rng(0)
    (tmp_path / "corpus").mkdir()
    for language, (letters, count) in LANGUAGES.items():
        words = ["".join(rng.choice([*letters], size=7)) for _ in range(730)]
        found = []
        for _ in range(count):
            topic = 10 + 60 * rng.integers(12)
            own = rng.choice(words[topic : topic + 60], size=rng.integers(10, 40))
            found.append(" ".join([*rng.choice(words[:10], size=rng.integers(2, 12)), *own]))
        (tmp_path / "corpus" / f"{language}.jsonl").write_bytes(lines({"text": text} for text in found))
    monkeypatch.setattr(extractors, "_BUCKETS", 2**14)
    monkeypatch.setattr(extractors, "_DIMENSIONS", 16)
    before: list[Any] = []
    unit = features_module.unit
    monkeypatch.setattr(features_module, "unit", lambda rows: before.append(rows) or unit(rows))
    done = select_corpus(tmp_path / "corpus", tmp_path / "out.jsonl", k=200, batch_size=500)
    (rows_before,) = before
    lengths = np.linalg.norm(rows_before, axis=1)
    assert lengths[-60:].mean() < 0.7 * lengths[:-60].mean()
    (file,) = (tmp_path / "out.jsonl.work" / "features").rglob("*.npy")
    np.testing.assert_allclose(np.linalg.norm(np.load(file), axis=1), 1, atol=1e-5)
    assert [counts[0] for counts in done.mix.values()] == [700, 240, 60]
    assert done.mix["russian.jsonl"][1] >= 4  # 12 by its share


# ------------------------------------------------------------------------------------------------ features


def test_streamed_tfidf_is_that_of_scikit_learn(tmp_path: Path) -> None:
    documents = texts(200)
    made = extractors.prepare(
        "tfidf", documents=lambda: iter(documents), total=200, key="x", seed=3, folder=tmp_path, tell=lambda *_: None
    )
    counts = HashingVectorizer(n_features=2**10, alternate_sign=False, norm=None).transform(documents)
    weighted = TfidfTransformer(sublinear_tf=True).fit_transform(counts)
    expected = TruncatedSVD(8, random_state=3).fit_transform(weighted)
    found = np.concatenate([made(documents[:50]), made(documents[50:])])
    assert found.dtype == np.float32
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-4)


def test_tfidf_is_fitted_on_a_seeded_sample(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(extractors, "_SAMPLE", 20)
    seen: list[int] = []

    def fit(sample: Iterable[str], seed: int, path: Path) -> None:
        seen.append(len({*sample}))
        np.save(path, np.full(3, seed))

    monkeypatch.setattr(extractors, "_fit", fit)
    documents = [str(i) for i in range(300)]
    for seed in (0, 1, 1):
        extractors.prepare(
            "tfidf",
            documents=lambda: iter(documents),
            total=300,
            key=str(seed),
            seed=seed,
            folder=tmp_path,
            tell=lambda *_: None,
        )
    assert seen == [20, 20]


@pytest.mark.parametrize("name", ["minilm", "sentence-transformer:some/model"])
def test_embeddings_of_models_are_those_of_the_library(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def embed(found: list[str], model: str = "") -> Any:
        assert (model == "some/model") == (name != "minilm")
        return np.array([[len(text), text.count("a"), text.count("e"), text.count("m")] for text in found], np.float32)

    monkeypatch.setattr(features_module, "minilm", embed)
    monkeypatch.setattr(features_module, "sentence_transformer", embed)
    select_corpus(corpus, tmp_path / "out.jsonl", features=name, ratio=0.05, write="ids", shuffle=None)
    expected = selection.select(embed(texts(1000), "some/model" if name != "minilm" else ""), ratio=0.05)
    assert [line["document"] for line in read(tmp_path / "out.jsonl")] == expected.tolist()
    assert json.loads((tmp_path / "out.jsonl.manifest.json").read_text())["features"]["name"] == name


def test_missing_model_is_told_before_anything_is_read(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def embed(found: list[str]) -> Any:
        raise ImportError("these features need transformers: pip install …")

    monkeypatch.setattr(features_module, "minilm", embed)
    with pytest.raises(CorpusError, match="minilm cannot be used: these features need transformers: pip install"):
        select_corpus(corpus, tmp_path / "out.jsonl", features="minilm", ratio=0.05)
    assert not list((tmp_path / "out.jsonl.work").glob("index*"))


# ------------------------------------------------------------------------------------------------ what is read


def entries(path: Path, key: str = "text", **about: Any) -> list[tuple[int, str, str]]:
    (source,) = readers.sources(path, None, ("jsonl", "parquet", "text"))
    assert isinstance(source, readers.Source)
    return [(entry.number, entry.text, entry.fault) for entry in readers.entries(source, key, **about)]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"{", "is not JSON"),
        (b'{"text": "a"} {"text": "b"}', "is not JSON: Extra data"),
        (b'{"text": "\xff"}', "is not JSON: 'utf-8' codec can't decode"),
        (b'["text"]', "is list, not an object"),
        (b'{"txt": "a"}', "has no key 'text'"),
        (b'{"text": null}', "has NoneType under 'text', not a string"),
        (b'{"text": 1' + b"0" * 5000 + b"}", "is not JSON: Exceeds the limit"),
        (b'{"text": ' + b"[" * 100_000, "is nested too deeply"),
    ],
)
def test_broken_lines_are_told_from_documents(tmp_path: Path, line: bytes, fault: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "one"}\n' + line + b'\n\n{"text": "two"}')
    first, broken, last = entries(path)
    assert (first, last) == ((1, "one", ""), (4, "two", ""))
    assert (broken[0], broken[1]) == (2, "")
    assert broken[2].startswith(fault)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.dictionary(pa.int8(), pa.string())])
def test_parquet_columns_of_text(tmp_path: Path, kind: Any) -> None:
    values = pa.array(["one", None, "", "two"]).cast(kind)
    pq.write_table(pa.table({"body": values, "n": [1, 2, 3, 4]}), tmp_path / "a.parquet")
    assert entries(tmp_path / "a.parquet", "body") == [(0, "one", ""), (1, "", ""), (2, "", ""), (3, "two", "")]
    with pytest.raises(readers.DamagedFile, match="has no column 'text', but body, n"):
        entries(tmp_path / "a.parquet")
    with pytest.raises(readers.DamagedFile, match="has int64 in column 'n', not text"):
        entries(tmp_path / "a.parquet", "n")


def test_parquet_rows_of_any_type_become_json(tmp_path: Path) -> None:
    import datetime
    import decimal

    row = {
        "text": "a",
        "when": datetime.datetime(2025, 1, 2, 3, 4, 5),
        "blob": b"\x00\xff",
        "price": decimal.Decimal("1.50"),
        "nan": float("nan"),
        "deep": [{"x": 1.5, "y": None}],
    }
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "a.parquet")
    select_corpus(tmp_path / "a.parquet", tmp_path / "out.jsonl", ratio=1)
    (found,) = read(tmp_path / "out.jsonl")
    assert found.pop("_selection")["row"] == 0
    assert found == {
        "text": "a",
        "when": "2025-01-02T03:04:05",
        "blob": "AP8=",
        "price": "1.50",
        "nan": None,
        "deep": [{"x": 1.5, "y": None}],
    }


def beyond_python() -> pa.Table:
    """Columns with values that Python's own types cannot hold, in the second row of three."""

    def column(values: list[int], kind: Any) -> Any:
        return pa.array(values, pa.int64()).view(kind)

    far = 10**18
    invalid = pa.array([b"fine", b"\xff!", b"fine"]).view(pa.string())
    return pa.table(
        {
            "text": ["one", "two", "three"],
            "when": column([0, far, 0], pa.timestamp("us")),
            "zone": column([0, -far, 0], pa.timestamp("ms", "UTC")),
            "odd": column([0, 1, 0], pa.timestamp("s", "Nowhere/Town")),
            "name": invalid,
            "names": pa.ListArray.from_arrays(pa.array([0, 1, 2, 3], pa.int32()), invalid),
            "deep": pa.StructArray.from_arrays([invalid, pa.array([1, 2, 3])], ["x", "n"]),
            "day": pa.array([0, 10**8, 0], pa.int32()).view(pa.date32()),
        }
    )


def test_parquet_values_that_python_cannot_hold_are_carried_through(tmp_path: Path) -> None:
    pq.write_table(beyond_python(), tmp_path / "a.parquet")
    select_corpus(tmp_path / "a.parquet", tmp_path / "out.jsonl", ratio=1)
    found = {record["text"]: record for record in read(tmp_path / "out.jsonl")}
    assert found["one"]["when"] == "1970-01-01T00:00:00"
    assert found["one"]["zone"] == "1970-01-01T00:00:00+00:00"
    row = {name: value for name, value in found["two"].items() if name not in ("text", "_selection")}
    name = b"\xff!".decode("utf-8", "surrogateescape")
    assert row == {
        "when": "33658-09-27T01:46:40.000000",
        "zone": "-31686769-06-29T22:13:20.000+00:00",
        "odd": "1970-01-01T00:00:01.000+00:00",
        "name": name,
        "names": [name],
        "deep": {"x": name, "n": 2},
        "day": "275760-09-13",
    }
    for key in row:
        out = tmp_path / f"{key}.jsonl"
        select_corpus(tmp_path / "a.parquet", out, ratio=1, write="ids", id_key=key)
        assert {json.dumps(line[key]) for line in read(out)} == {json.dumps(one[key]) for one in found.values()}


def test_identifiers_of_features_may_be_anything(tmp_path: Path) -> None:
    table = beyond_python().append_column("vector", pa.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]))
    pq.write_table(table, tmp_path / "f.parquet")
    for key in ("when", "name", "day"):
        out = tmp_path / f"{key}.jsonl"
        select_corpus(None, out, features=tmp_path / "f.parquet", ratio=1, id_key=key)
        assert all(key in line for line in read(out))


def test_rows_whose_text_is_not_utf8_are_named_and_left_out(tmp_path: Path) -> None:
    table = beyond_python().drop_columns(["text"]).rename_columns({"name": "text"})
    pq.write_table(table, tmp_path / "a.parquet")
    with pytest.raises(CorpusError, match=r"a\.parquet, row 1, is not UTF-8 in column 'text'"):
        select_corpus(tmp_path / "a.parquet", tmp_path / "out.jsonl", ratio=1)
    done = select_corpus(tmp_path / "a.parquet", tmp_path / "out.jsonl", ratio=1, on_error="skip", on_duplicates="keep")
    assert (done.counts["documents"], done.counts["broken"], done.counts["selected"]) == (2, 1, 2)


def test_damage_in_a_column_that_is_only_written_is_found_before_any_work(tmp_path: Path) -> None:
    table = pa.table({"text": texts(3000), "other": [os.urandom(8) for _ in range(3000)]})
    pq.write_table(table, tmp_path / "a.parquet", compression="gzip", use_dictionary=False)
    where = pq.ParquetFile(tmp_path / "a.parquet").metadata.row_group(0).column(1)
    content = bytearray((tmp_path / "a.parquet").read_bytes())
    content[where.data_page_offset + 60 : where.data_page_offset + 99] = bytes(39)
    (tmp_path / "a.parquet").write_bytes(content)
    with pytest.raises(CorpusError, match="1 unreadable files"):
        select_corpus(tmp_path / "a.parquet", tmp_path / "out.jsonl", ratio=0.1)
    assert not list((tmp_path / "out.jsonl.work").glob("features*"))


def test_a_folder_that_cannot_be_read_is_a_fault_like_another(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.scandir

    def scandir(path: Path) -> Any:
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    with pytest.raises(CorpusError, match=r"1 unreadable files in .*\n  corpus/b Permission denied"):
        select_corpus(corpus, tmp_path / "out.jsonl", ratio=0.1)
    done = select_corpus(corpus, tmp_path / "out.jsonl", ratio=0.1, on_error="skip")
    assert (done.counts["unreadable"], done.counts["documents"]) == (1, 600)
    assert done.faults == ["corpus/b Permission denied"]


@pytest.mark.parametrize(
    ("name", "damage", "why"),
    [
        ("a.jsonl.gz", lambda path: path.write_bytes(gzip.compress(lines([{"text": "a"}] * 99))[:-9]), "Truncated"),
        ("a.jsonl.gz", lambda path: path.write_bytes(b""), "has no bytes"),
        ("a.jsonl.gz", lambda path: path.write_bytes(b'{"text": "plain"}'), "incorrect header"),
        ("a.jsonl.zst", lambda path: write_zstd(path, os.urandom(9999)) or cut(path, 50), "Truncated"),
        ("a.jsonl.zst", lambda path: path.write_bytes(b"plain"), "Unknown frame"),
        ("a.parquet", lambda path: path.write_bytes(b"PAR1 not so"), "Parquet"),
        ("a.txt", lambda path: path.write_bytes(b"\xff\xfe\x00"), "is not UTF-8"),
    ],
)
def test_damaged_files_are_named_and_left_out_whole(
    tmp_path: Path, name: str, damage: Callable[[Path], object], why: str
) -> None:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "good.jsonl").write_bytes(lines({"text": text} for text in texts(20)))
    damage(folder / name)
    with pytest.raises(CorpusError, match=f"0 broken lines or rows and 1 unreadable files in .*\n.*{name}.*{why}"):
        select_corpus(folder, tmp_path / "out.jsonl", k=3)
    assert not (tmp_path / "out.jsonl").exists()
    done = select_corpus(folder, tmp_path / "out.jsonl", k=3, on_error="skip")
    assert (done.counts["documents"], done.counts["unreadable"], done.counts["selected"]) == (20, 1, 3)
    (fault,) = done.faults
    assert fault.startswith(f"corpus/{name} ")
    manifest = json.loads((tmp_path / "out.jsonl.manifest.json").read_text())
    assert [bool(file["error"]) for file in manifest["files"]] == [True, False]


def cut(path: Path, last: int) -> None:
    path.write_bytes(path.read_bytes()[:-last])


def test_broken_lines_and_empty_documents_are_counted(tmp_path: Path) -> None:
    good = [{"text": text} for text in texts(40)]
    content = lines([*good[:20], {"text": " \n"}, {"text": ""}]) + b"{broken\n" * 5 + lines(good[20:])
    (tmp_path / "in.jsonl").write_bytes(content)
    with pytest.raises(CorpusError) as caught:
        select_corpus(tmp_path / "in.jsonl", tmp_path / "out.jsonl", ratio=0.1)
    assert "5 broken lines or rows and 0 unreadable files" in str(caught.value)
    assert [f"line {n}," in str(caught.value) for n in range(22, 28)] == [False, True, True, True, False, False]
    done = select_corpus(tmp_path / "in.jsonl", tmp_path / "out.jsonl", ratio=0.1, on_error="skip")
    assert {name: done.counts[name] for name in ("documents", "empty", "broken", "selected")} == {
        "documents": 40,
        "empty": 2,
        "broken": 5,
        "selected": 4,
    }
    for record in read(tmp_path / "out.jsonl"):
        assert record["text"] == good[record["_selection"]["document"]]["text"]
    # what was left out once is not passed over in silence afterwards
    with pytest.raises(CorpusError, match="5 broken"):
        select_corpus(tmp_path / "in.jsonl", tmp_path / "out.jsonl", ratio=0.1)


def test_files_are_read_in_the_order_of_their_names_at_any_depth(tmp_path: Path) -> None:
    folder = tmp_path / "corpus"
    names = ["B.txt", "a/10.txt", "a/9.md", "a/b/c.txt", "a.txt", "é.txt"]
    for name in [*names, ".hidden/x.txt", ".y.txt", "z.bin", "table.npy", "a.parquet.gz", "d.bz2", "LICENSE"]:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    (folder / "round").symlink_to(folder)
    found = list(readers.sources(folder, None, ("jsonl", "parquet", "text")))
    assert [source.name for source in found if isinstance(source, readers.Source)] == names
    left = {source.name: source.fault for source in found if isinstance(source, readers.Left)}
    known = {"LICENSE": "", "round": "", "table.npy": ""}
    assert left == known | {name: f"ends in {name[-4:]}, which is not read" for name in ("z.bin", "d.bz2")} | {
        "a.parquet.gz": "ends in .parquet.gz, which is not read"
    }
    by_pattern = readers.sources(folder, "*.bin", ("jsonl", "parquet", "text"))
    assert [(s.name, s.kind) for s in by_pattern if isinstance(s, readers.Source)] == [("z.bin", "text")]


def test_only_the_beginning_of_a_document_decides(tmp_path: Path) -> None:
    starts = texts(60)
    for name, more in (("a", ""), ("b", " omega" * 5000)):
        (tmp_path / f"{name}.jsonl").write_bytes(lines({"text": f"{text:<200}{more}"} for text in starts))
        select_corpus(tmp_path / f"{name}.jsonl", tmp_path / f"{name}-out.jsonl", k=9, max_chars=200, write="ids")
    found = [[line["document"] for line in read(tmp_path / f"{name}-out.jsonl")] for name in "ab"]
    assert found[0] == found[1]


# ------------------------------------------------------------------------------------------------ going on


def test_second_call_does_nothing(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    first = select_corpus(corpus, out, ratio=0.1)
    before = snapshot(tmp_path)
    again = select_corpus(corpus, out, ratio=0.1, workers=1, on_error="skip")
    assert (first.reused, again.reused) == (False, True)
    assert snapshot(tmp_path) == before
    assert again.counts == first.counts
    os.utime(corpus / "a.jsonl")  # other times, the same bytes
    assert select_corpus(corpus, out, ratio=0.1).reused
    assert out.stat().st_mtime_ns == before["out.jsonl"]
    assert not select_corpus(corpus, out, ratio=0.1, force=True).reused


def test_other_parameters_or_inputs_do_not_replace_a_finished_output(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    select_corpus(corpus, out, ratio=0.1)
    before = out.read_bytes()
    with pytest.raises(CorpusError, match=r"other parameters \(ratio 0.1, now 0.2; seed 0, now 1\).*--force"):
        select_corpus(corpus, out, ratio=0.2, seed=1)
    (corpus / "a.jsonl").write_bytes(lines({"text": text} for text in texts(300, seed=1)))
    with pytest.raises(CorpusError, match=r"inputs that have changed since.*--force"):
        select_corpus(corpus, out, ratio=0.1)
    assert out.read_bytes() == before
    assert not select_corpus(corpus, out, ratio=0.1, force=True).reused
    assert out.read_bytes() != before


def test_files_of_others_are_not_replaced(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    out.write_text("mine\n")
    with pytest.raises(CorpusError, match="was not written by this command"):
        select_corpus(corpus, out, ratio=0.1)
    assert out.read_text() == "mine\n"
    select_corpus(corpus, out, ratio=0.1, force=True)
    out.write_text(out.read_text() + '{"text": "by hand"}\n')
    with pytest.raises(CorpusError, match="it was changed since"):
        select_corpus(corpus, out, ratio=0.1)


def test_only_what_a_change_touches_is_computed_again(corpus: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(pipeline, "_SHARD", 100)
    calls: list[int] = []

    class Stub:
        def __init__(self) -> None:
            self.identity = {"name": "stub"}

        def __call__(self, texts: list[str]) -> Any:
            calls.append(len(texts))
            rng = np.random.default_rng(0)
            return rng.standard_normal((2**16, 3), dtype=np.float32)[[hash_of(text) for text in texts]]

    monkeypatch.setattr(extractors, "prepare", lambda *_, **__: Stub())
    shared = {"work": tmp_path / "work", "features": "tfidf"}
    select_corpus(corpus, tmp_path / "a.jsonl", ratio=0.1, **shared)
    assert calls == [100] * 10
    select_corpus(corpus, tmp_path / "b.jsonl", ratio=0.2, seed=4, **shared)
    assert len(calls) == 10  # other parameters: the features stay
    (corpus / "e.jsonl").write_bytes(lines({"text": text} for text in texts(150, seed=9)))
    select_corpus(corpus, tmp_path / "c.jsonl", ratio=0.1, **shared)
    assert calls[10:] == [100, 50]  # a corpus that grew: only the new documents
    (removed, *_) = (tmp_path / "work" / "features").rglob("*.npy")
    removed.unlink()
    select_corpus(corpus, tmp_path / "d.jsonl", ratio=0.1, **shared)
    assert len(calls) == 13  # features that somebody deleted
    assert (tmp_path / "c.jsonl").read_bytes() == (tmp_path / "d.jsonl").read_bytes()


def hash_of(text: str) -> int:
    import zlib

    return zlib.crc32(text.encode()) & 0xFFFF


def test_interrupted_selection_goes_on_with_the_next_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "f.npy", np.random.default_rng(0).standard_normal((1000, 4)))
    arguments: dict[str, Any] = {"features": tmp_path / "f.npy", "ratio": 0.1, "batch_size": 100}
    select_corpus(None, tmp_path / "whole.jsonl", **arguments)
    batches: list[int] = []
    real = pipeline.select_noting

    def stopping(*positional: Any, batch: int, **named: Any) -> list[dict[str, Any]]:
        if len(batches) == 4:
            raise KeyboardInterrupt
        batches.append(batch)
        return real(*positional, batch=batch, **named)

    monkeypatch.setattr(pipeline, "select_noting", stopping)
    with pytest.raises(KeyboardInterrupt):
        select_corpus(None, tmp_path / "out.jsonl", **arguments)
    assert not (tmp_path / "out.jsonl").exists()
    (journal,) = (tmp_path / "out.jsonl.work").glob("picks-*.part")
    journal.write_bytes(journal.read_bytes()[:-3])  # the last line is torn
    again: list[int] = []
    monkeypatch.setattr(
        pipeline, "select_noting", lambda *p, batch, **n: again.append(batch) or real(*p, batch=batch, **n)
    )
    select_corpus(None, tmp_path / "out.jsonl", **arguments)
    assert again == list(range(3, 10))
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()


@pytest.mark.parametrize("name", ["j.jsonl", "j.jsonl.part"])
def test_journal_that_was_cut_or_spoilt_keeps_what_is_whole_and_is_never_taken_as_complete(
    tmp_path: Path, name: str
) -> None:
    Journal(tmp_path / "whole.jsonl").fill(lambda _: [{"a": 10 * a} for a in range(5)])
    whole = (tmp_path / "whole.jsonl").read_bytes()
    ends = [0, *(place + 1 for place, byte in enumerate(whole) if byte == ord("\n"))]
    spoilt = [whole[:end] for end in range(len(whole))]
    spoilt += [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(len(whole))]
    spoilt += [whole + b"more", whole + whole, b"\0" * len(whole), b'{"a": 0}\n{"a": 10}\n']
    for content in spoilt:
        (tmp_path / name).write_bytes(content)
        journal = Journal(tmp_path / "j.jsonl")
        assert not journal.complete
        begun: list[int] = []
        journal.fill(lambda done, begun=begun: begun.append(done) or ({"a": 10 * a} for a in range(done, 5)))
        assert begun == [min(5, sum(content[:end] == whole[:end] for end in ends[1:]))]
        assert (tmp_path / "j.jsonl").read_bytes() == whole
        assert [line["a"] for line in Journal(tmp_path / "j.jsonl")] == [0, 10, 20, 30, 40]
        (tmp_path / "j.jsonl").unlink()
    journal = Journal(tmp_path / "whole.jsonl")
    journal.fill(lambda _: pytest.fail("it is complete"))
    journal.path.write_bytes(whole[:-1])
    with pytest.raises(CorpusError, match="is damaged"):  # since it was looked at
        list(journal)


def test_a_journal_is_on_the_disk_before_it_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    named: list[bool] = []
    monkeypatch.setattr(os, "fsync", lambda _: named.append((tmp_path / "j.jsonl").exists()))
    Journal(tmp_path / "j.jsonl").fill(lambda _: [{"a": 1}])
    assert named == [False]
    assert (tmp_path / "j.jsonl").exists()


@pytest.mark.parametrize("cut", [0, 130, -1])
def test_files_of_the_work_folder_that_lost_their_end_are_made_again(corpus: Path, tmp_path: Path, cut: int) -> None:
    out = tmp_path / "out.jsonl"
    select_corpus(corpus, out, ratio=0.1)
    expected = out.read_bytes()
    files = sorted(path for path in (tmp_path / "out.jsonl.work").rglob("*") if path.suffix in {".npy", ".jsonl"})
    assert {path.name.split("-")[0] for path in files if path.suffix == ".jsonl"} == {"index", "picks", "shards"}
    for path in files:
        content = path.read_bytes()
        path.write_bytes(content[:cut])
        out.unlink()
        select_corpus(corpus, out, ratio=0.1)
        assert out.read_bytes() == expected, path.name
        assert path.read_bytes() == content, path.name


def test_a_spoilt_byte_in_the_features_is_noticed(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    select_corpus(corpus, out, ratio=0.1)
    expected = out.read_bytes()
    for path in sorted((tmp_path / "out.jsonl.work").rglob("*/*.npy")):
        content = bytearray(path.read_bytes())
        content[-2] ^= 64
        path.write_bytes(content)
        out.unlink()
        for picks in (tmp_path / "out.jsonl.work").glob("picks-*"):
            picks.unlink()
        select_corpus(corpus, out, ratio=0.1)
        assert out.read_bytes() == expected, path.name


def test_input_that_changes_during_the_work_is_noticed(corpus: Path, tmp_path: Path) -> None:
    def change(what: str, done: int, total: int) -> None:
        if what == "batches selected" and done == total:
            (corpus / "late.txt").write_text("one more")

    with pytest.raises(CorpusError, match="An input was changed during the work"):
        select_corpus(corpus, tmp_path / "out.jsonl", ratio=0.1, progress=change)
    assert not (tmp_path / "out.jsonl").exists()
    assert select_corpus(corpus, tmp_path / "out.jsonl", ratio=0.1).counts["documents"] == 1001


def test_document_that_vanishes_during_the_work_is_noticed(corpus: Path, tmp_path: Path) -> None:
    def change(what: str, done: int, total: int) -> None:
        if what == "files indexed" and done == total:
            (corpus / "a.jsonl").write_bytes(lines({"text": text} for text in texts(299)))

    with pytest.raises(CorpusError, match=r"a.jsonl has changed while it was being read \(300 documents were in it"):
        select_corpus(corpus, tmp_path / "out.jsonl", ratio=0.1, progress=change)


def test_one_process_at_a_time_works_in_a_folder(corpus: Path, tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    failed: list[str] = []

    def other() -> None:
        try:
            select_corpus(corpus, tmp_path / "out.jsonl", ratio=0.1, work=work)
        except CorpusError as error:
            failed.append(str(error))

    # whoever has the work folder, or with another one the output
    for lock in (work / ".lock", tmp_path / ".out.jsonl.lock"):
        with FileLock(lock):
            thread = threading.Thread(target=other)
            thread.start()
            thread.join()
    assert f"Another process is at work in {work}" in failed[0]
    assert f"Another process is at work on {tmp_path / 'out.jsonl'}" in failed[1]
    assert not (tmp_path / "out.jsonl").exists()


def test_left_overs_of_killed_processes_are_removed(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    others = [tmp_path / ".mine.out.jsonl", tmp_path / f".{'0af3' * 8}.train.out.jsonl"]
    # a work folder may be one in which other outputs are written, with work folders of their own
    work = tmp_path / "out.jsonl.work"
    others += [work / f".{'0af3' * 8}.b.jsonl", work / "b.jsonl.work" / "features" / f".{'0af3' * 8}.x.npy"]
    stale = [tmp_path / f".{'0af3' * 8}.out.jsonl", work / f".{'0af3' * 8}.tfidf-1.npy"]
    stale += [work / folder / f".{'0af3' * 8}.x.npy" for folder in ("features/tfidf-1", "hashes")]
    for path in [*others, *stale]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    select_corpus(corpus, out, ratio=0.1)
    assert not any(path.exists() for path in stale)
    # another output's name may end like this one's, and somebody may be writing it
    assert all(path.exists() for path in others)


# ------------------------------------------------------------------------------------------------ what is refused


def ready(tmp_path: Path, features: Any, **about: Any) -> Selected:
    if isinstance(features, bytes):
        (tmp_path / "f.npy").write_bytes(features)
    else:
        np.save(tmp_path / "f.npy", features, allow_pickle=True)
    return select_corpus(None, tmp_path / "out.jsonl", features=tmp_path / "f.npy", **({"ratio": 0.1} | about))


@pytest.mark.parametrize(
    ("features", "why"),
    [
        (b"", "No data left in file|EOFError"),
        (b"\x93NUMPY", "EOF: reading magic string"),
        (np.ones((4, 3), dtype=np.int64), "holds int64, not one of float16, float32, float64"),
        (np.ones((4, 3), dtype=complex), "holds complex128"),
        (np.array([["a"]], dtype=object), "Python objects"),
        (np.ones(4), r"has an array of shape \(4,\)"),
        (np.ones((4, 0)), r"has an array of shape \(4, 0\)"),
        (np.ones((2, 2, 2)), r"has an array of shape \(2, 2, 2\)"),
    ],
)
def test_features_of_the_wrong_type_or_shape_are_named(tmp_path: Path, features: Any, why: str) -> None:
    with pytest.raises(CorpusError, match=rf"1 unreadable files(.|\n)*f\.npy .*({why})"):
        ready(tmp_path, features)


def test_rows_that_are_not_finite_are_named_and_can_be_left_out(tmp_path: Path) -> None:
    features = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
    features[[7, 250], 1] = np.nan, np.inf
    with pytest.raises(CorpusError, match=r"2 broken lines or rows(.|\n)*row 7, has NaN or infinite(.|\n)*row 250"):
        ready(tmp_path, features)
    done = ready(tmp_path, features, ratio=1, batch_size=100, on_error="skip")
    found = [line["document"] for line in read(tmp_path / "out.jsonl")]
    assert sorted(found) == sorted({*range(300)} - {7, 250})
    assert (done.counts["selected"], done.counts["missing"], done.counts["broken"]) == (298, 2, 2)


def test_features_of_different_widths_are_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", np.ones((3, 4), np.float32))
    np.save(tmp_path / "in" / "b.npy", np.ones((3, 5), np.float32))
    with pytest.raises(CorpusError, match="different kinds: 4 x float32, 5 x float32"):
        select_corpus(None, tmp_path / "out.jsonl", features=tmp_path / "in", ratio=0.5)


@pytest.mark.parametrize(
    ("columns", "key", "why"),
    [
        ({"a": [[1.0], [2.0]], "b": [[1.0], [2.0]]}, None, r"has 2 columns of float vectors \(a, b\)"),
        ({"a": [1.0, 2.0]}, None, r"has 0 columns of float vectors"),
        ({"a": [[1.0], [2.0]]}, "x", "has no vectors of floats in column 'x', but columns a"),
        ({"a": [1.0, 2.0]}, "a", "has no vectors of floats in column 'a', but double"),
        ({"a": [[1.0], [2.0, 3.0]]}, None, "has no whole vector of 1 dimensions in row 1"),
        ({"a": [[1.0], None]}, None, "has no whole vector of 1 dimensions in row 1"),
        ({"a": [None, [1.0]]}, None, "has no vector in row 0"),
        ({"a": [[], []]}, None, "has 0 columns of float vectors"),
        ({"a": pa.array([[], []], pa.list_(pa.float32()))}, None, "has no vector in row 0"),
        ({"a": [[1.0], [None]]}, None, "has no whole vector of 1 dimensions in one of rows 0 to 2"),
    ],
)
def test_parquet_without_whole_vectors_is_named(tmp_path: Path, columns: Any, key: str | None, why: str) -> None:
    pq.write_table(pa.table(columns), tmp_path / "f.parquet")
    with pytest.raises(CorpusError, match=why):
        select_corpus(None, tmp_path / "out.jsonl", features=tmp_path / "f.parquet", feature_key=key, ratio=0.5)


def test_a_parquet_file_without_rows_is_one_of_no_features(tmp_path: Path) -> None:
    features = np.random.default_rng(0).standard_normal((30, 4)).astype(np.float32)
    (tmp_path / "in").mkdir()
    for name, part in (("0", features[:0]), ("1", features)):
        table = pa.table({"vector": pa.array(list(part), pa.list_(pa.float32()))})
        pq.write_table(table, tmp_path / "in" / f"{name}.parquet")
    done = select_corpus(None, tmp_path / "out.jsonl", features=tmp_path / "in", ratio=0.1)
    assert (done.counts["files"], done.counts["documents"], done.counts["selected"]) == (2, 30, 3)


def test_numbers_of_numpy_are_those_of_python(tmp_path: Path) -> None:
    np.save(tmp_path / "f.npy", np.random.default_rng(0).standard_normal((60, 4)))
    options: dict[str, int] = {"batch_size": 20, "seed": 3, "shuffle": 4, "k": 7, "max_chars": 9, "workers": 1}
    for name, number in (("python", int), ("numpy", np.int64)):
        given: dict[str, Any] = {option: number(value) for option, value in options.items()}
        select_corpus(None, tmp_path / f"{name}.jsonl", features=tmp_path / "f.npy", **given)
    assert (tmp_path / "python.jsonl").read_bytes() == (tmp_path / "numpy.jsonl").read_bytes()


def test_an_empty_path_is_the_current_folder(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(corpus)
    assert select_corpus("", tmp_path / "out.jsonl", ratio=0.1).counts["documents"] == 1000


def test_features_that_overflow_name_their_batch(tmp_path: Path) -> None:
    features = np.random.default_rng(0).standard_normal((100, 4)).astype(np.float32)
    features[60:] *= 1e37
    with pytest.raises(CorpusError, match=r"batch 1: features: .* overflow"):
        ready(tmp_path, features, ratio=0.2, batch_size=50, shuffle=None)


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({}, "k, ratio and k_per_batch: exactly one"),
        ({"k": 1, "ratio": 0.5}, "k, ratio and k_per_batch: exactly one"),
        ({"ratio": 1e-4}, "ratio: 0.0001 of 1000 rows selects none"),
        ({"ratio": 0.0}, r"ratio: must be a share in \(0, 1\], got 0.0"),
        ({"ratio": float("nan")}, "ratio: must be a share"),
        ({"ratio": 1.5}, "ratio: must be a share"),
        ({"k": 0}, "k: must be an integer of at least 1, got 0"),
        ({"k": 1001}, "k: cannot select 1001 of 1000 rows"),
        ({"k_per_batch": 0}, "k_per_batch: must be an integer of at least 1, got 0"),
        ({"k_per_batch": 2000}, "k_per_batch: cannot select 2000 of the 1024 rows of a batch"),
        ({"k_per_batch": 1001}, "k_per_batch: cannot select 1001 of the 1000 rows of a batch"),
        ({"k": 1.5}, "k: must be an integer of at least 1, got 1.5"),
        ({"ratio": "1%"}, r"ratio: must be a share in \(0, 1\], got '1%'"),
        ({"ratio": True}, "ratio: must be a share"),
        ({"ratio": 0.1, "shuffle": -1}, "shuffle: must be an integer of at least 0, got -1"),
        ({"ratio": 0.1, "batch_size": 1}, "batch_size: must be an integer of at least 2, got 1"),
        ({"ratio": 0.1, "batch_size": 64.5}, "batch_size: must be an integer of at least 2, got 64.5"),
        ({"ratio": 0.1, "batch_size": None}, "batch_size: must be an integer of at least 2, got None"),
        ({"ratio": 0.1, "seed": -1}, "seed: must be an integer of at least 0, got -1"),
        ({"ratio": 0.1, "seed": 1.5}, "seed: must be an integer of at least 0, got 1.5"),
        ({"ratio": 0.1, "workers": 0}, "workers: must be an integer of at least 1, got 0"),
        ({"ratio": 0.1, "workers": "all"}, "workers: must be an integer of at least 1, got 'all'"),
        ({"ratio": 0.1, "second": "best"}, "second: must be one of random, farthest, authors, got 'best'"),
        ({"ratio": 0.1, "criterion": "participation", "second": "authors"}, "second: the participation ratio"),
        ({"ratio": 0.1, "features": "minilmm"}, "minilmm: there is no such file or folder .*by name are tfidf, minilm"),
        ({"ratio": 0.1, "corpus": None}, "corpus: needed for the features 'tfidf'"),
        ({"ratio": 0.1, "corpus": "nowhere"}, "nowhere: there is no such file or folder"),
        ({"ratio": 0.1, "out": "selected.parquet"}, "out: selected.parquet will hold JSON lines"),
        ({"ratio": 0.1, "out": "corpus/selected.jsonl"}, "lies in .*corpus, of which it would be a part next time"),
        ({"ratio": 0.1, "work": "corpus/work"}, "lies in .*corpus, of which"),
        ({"ratio": 0.1, "text_key": "body"}, "has no key 'body'"),
        ({"ratio": 0.1, "write": "ids", "id_key": "document"}, "id_key: 'document' is a key of the output itself"),
        ({"ratio": 0.1, "pattern": "*.py"}, "holds no file to read, but 14 others, such as a.jsonl"),
    ],
)
def test_what_makes_no_sense_is_refused(corpus: Path, tmp_path: Path, arguments: dict[str, Any], why: str) -> None:
    given = {"corpus": corpus, "out": "out.jsonl", **arguments}
    root = given.pop("corpus")
    for name in ("out", "work"):
        if name in given:
            given[name] = tmp_path / given[name]
    with pytest.raises(CorpusError, match=why):
        select_corpus(root if root in (None, corpus) else tmp_path / root, given.pop("out"), **given)
    assert not list(tmp_path.glob("*.jsonl"))


@pytest.mark.parametrize("content", [b"", b'{"text": " "}\n'])
def test_corpus_without_documents_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "in.jsonl").write_bytes(content)
    with pytest.raises(CorpusError, match="holds no document"):
        select_corpus(tmp_path / "in.jsonl", tmp_path / "out.jsonl", ratio=0.5)
    (tmp_path / "empty").mkdir()
    with pytest.raises(CorpusError, match="holds no file to read, but nothing"):
        select_corpus(tmp_path / "empty", tmp_path / "out.jsonl", ratio=0.5)


# ------------------------------------------------------------------------------------------------ parts


@given(
    sizes=st.lists(st.integers(0, 9), max_size=8),
    size=st.integers(1, 12),
    shuffle=st.none() | st.integers(0, 3),
    data=st.data(),
)
def test_batches_cover_all_rows_once(sizes: list[int], size: int, shuffle: int | None, data: st.DataObject) -> None:
    total = sum(sizes) + 1
    without = np.array(data.draw(st.lists(st.booleans(), min_size=total, max_size=total)))
    groups = list(rows.groups(total, size, shuffle=shuffle, without=without))
    files = [(str(i), n) for i, n in enumerate([*sizes, 1])]
    found = list(rows.batches(files, groups))
    covered = [[(p.path, int(row)) for p in pieces for row in p.rows] for pieces in found]
    everything = [(str(i), row) for i, n in files for row in range(n)]
    kept = [place for place, out in zip(everything, without, strict=True) if not out]
    assert sorted(itertools.chain(*covered), key=everything.index) == kept
    assert [[everything.index(place) for place in batch] for batch in covered] == [rows.tolist() for rows in groups]
    assert [int(p.first + row) for pieces in found for p in pieces for row in p.rows] == [
        int(number) for group in groups for number in group
    ]
    assert all((np.diff(group) > 0).all() for group in groups)
    if shuffle is None:
        assert list(itertools.chain(*covered)) == kept


@pytest.mark.slow
def test_workers_of_a_cluster_write_the_same_bytes(corpus: Path, tmp_path: Path) -> None:
    from distributed import LocalCluster

    from replication.runs.cluster import connect

    alone = select_corpus(corpus, tmp_path / "alone.jsonl", ratio=0.1, batch_size=128)
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        connect(cluster.scheduler_address) as client,
    ):
        executor = client.get_executor(pure=False)
        done = select_corpus(corpus, tmp_path / "cluster.jsonl", ratio=0.1, batch_size=128, workers=executor)
        assert executor.submit(int).result() == 0  # still ours
    assert done.output.read_bytes() == alone.output.read_bytes()
    assert done.counts == alone.counts


def test_workers_take_few_calls_ahead(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []

    def calls() -> Iterable[Callable[[], int]]:
        for number in range(40):
            taken.append(number)
            yield int

    monkeypatch.setattr(workers, "ProcessPoolExecutor", lambda count, *_, **__: ThreadPoolExecutor(count))
    with Workers(2) as pool:
        results = iter(pool.in_order(calls()))
        next(results)
        assert len(taken) <= 4
        assert sum(1 for _ in results) == 39


def test_calls_that_wait_on_a_cluster_are_given_up_with_the_first_that_fails() -> None:
    begun, told = [], threading.Event()

    def call(number: int) -> None:
        begun.append(number)
        if number == 0:
            raise ArithmeticError
        told.wait(10)

    with ThreadPoolExecutor(1) as cluster:
        with Workers(cluster) as pool, pytest.raises(ArithmeticError):
            list(pool.in_order(partial(call, number) for number in range(20)))
        told.set()
    assert begun in ([0], [0, 1])


def test_progress_shows_lines_elsewhere_and_bars_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([0.0, 3.0, 10.0, 20.0])
    monkeypatch.setattr("replication.disf.corpus.progress.time.monotonic", lambda: next(clock))
    stream = io.StringIO()
    with Stages(Console(file=stream, width=100)) as stages:
        for done in (0, 300, 1000, 2000):
            stages("documents embedded", done, 2000)
    assert stream.getvalue().splitlines() == [
        "0 of 2,000 documents embedded",
        "1,000 of 2,000 documents embedded, 10 s to go",
        "2,000 of 2,000 documents embedded",
    ]
    monkeypatch.undo()
    for kind, lines in (("xterm", False), ("dumb", True)):
        monkeypatch.setenv("TERM", kind)
        stream = io.StringIO()
        with Stages(Console(file=stream, width=100, force_terminal=True)) as stages:
            stages("documents embedded", 1, 2)
        assert "documents embedded" in stream.getvalue()
        assert ("1 of 2 documents embedded\n" in stream.getvalue()) == lines


# ------------------------------------------------------------------------------------------------ the command


def replicate(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["select", *map(str, arguments)])


def test_command_says_what_it_did(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with (corpus / "a.jsonl").open("a") as file:
        file.write('{"text": ""}\nbroken\n')
    for name in ("LICENSE", "z.jsonl.bz2"):
        (corpus / name).touch()
    arguments = ("corpus", "--ratio", 0.1, "--out", "out.jsonl")
    stopped = replicate(*arguments)
    assert stopped.exit_code == 1
    assert "corpus/a.jsonl, line 302, is not JSON" in stopped.output
    assert "corpus/z.jsonl.bz2 ends in .bz2, which is not read" in stopped.output
    assert "Traceback" not in stopped.output
    done = replicate(*arguments, "--on-error", "skip")
    assert done.exit_code == 0, done.output
    assert "left out: corpus/a.jsonl, line 302, is not JSON" in done.stderr
    assert "left out: corpus/z.jsonl.bz2 ends in .bz2" in done.stderr
    assert "ignored: LICENSE\n" in done.stderr
    files = [record["_selection"]["file"].split("/")[0] for record in read(tmp_path / "out.jsonl")]
    parts = {"b": 400, "a.jsonl": 300, "c.parquet": 290} | {f"d{i}.txt": 1 for i in range(990, 1000)}
    shares = [(name, n, files.count(name)) for name, n in parts.items()]
    assert done.stdout.splitlines() == [
        "1,000 documents in 14 files (1 unreadable) (1 ignored); left out: 1 empty, 1 broken.",
        "100 selected: out.jsonl, described in out.jsonl.manifest.json",
        "share of the  corpus  selection",
        *(f"{name:12}  {n / 1000:6.1%}  {k / 100:9.1%}" for name, n, k in shares),
    ]
    again = replicate(*arguments, "--on-error", "skip", "--json")
    summary = json.loads(again.stdout)
    assert summary["reused"] is True
    assert summary["counts"]["selected"] == 100
    assert summary["output"] == "out.jsonl"


@pytest.mark.parametrize(
    ("arguments", "status", "why"),
    [
        (["corpus", "--ratio", "0.1"], 2, "Missing option '--out'"),
        (["corpus", "--ratio", "0.1", "--out", "o.jsonl", "--second", "best"], 2, "'best' is not one of"),
        (
            ["corpus", "--ratio", "0.1", "--out", "o.jsonl", "--shuffle", "no"],
            2,
            "'--shuffle': must be an integer or none, got 'no'",
        ),
        (["corpus", "--out", "o.jsonl"], 1, "Error: k, ratio and k_per_batch: exactly one of them is needed"),
        (["nowhere", "--ratio", "0.1", "--out", "o.jsonl"], 1, "Error: nowhere: there is no such file or folder"),
        (["corpus", "--ratio", "0.1", "--out", "/proc/o.jsonl"], 1, "Error: /proc/"),
    ],
)
def test_command_refuses_in_words(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], status: int, why: str
) -> None:
    monkeypatch.chdir(tmp_path)
    done = replicate(*arguments)
    assert done.exit_code == status
    assert why in done.output
    assert "Traceback" not in done.output


def test_examples_in_the_help_are_understood(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def stub(root: Path | None, out: Path, **options: Any) -> Selected:
        asked.append({"corpus": root, "out": out, **options})
        names = ("documents", "files", "unreadable", "ignored", "empty", "broken", "copies", "missing")
        counts = dict.fromkeys(names, 0)
        return Selected(out, out, {**counts, "selected": 0}, [], reused=False)

    monkeypatch.setattr("replication.disf.corpus.select_corpus", stub)
    cluster = contextlib.nullcontext(SimpleNamespace(get_executor=lambda pure: "executor"))
    monkeypatch.setattr("replication.runs.cluster.connect", lambda *_, **__: cluster)
    command = cli.get_command(click.Context(cli), "select")
    assert command is not None
    examples = re.findall(r"replicate (select .*)", command.help or "")
    assert len(examples) == 4
    for example in examples:
        done = CliRunner().invoke(cli, shlex.split(example))
        assert done.exit_code == 0, done.output
    assert {given["features"] for given in asked} == {"tfidf", "minilm", "embeddings.npy"}
    assert [given["workers"] for given in asked].count("executor") == 1
    defaults = inspect.signature(select_corpus).parameters
    assert set(asked[0]) == set(defaults)
    unasked = set(asked[0]) - {"corpus", "out", "ratio", "features", "progress"}
    assert {name: asked[0][name] for name in unasked} == {name: defaults[name].default for name in unasked}


def test_other_commands_do_not_wait_for_torch() -> None:
    code = (
        "import sys, importlib\nfor name in ('running', 'looking', 'keeping'):\n"
        "    importlib.import_module(f'replication.cli.{name}')\n"
        "print({'torch', 'pandas', 'sklearn', 'pyarrow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
