from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from replication import data
from replication.data import text, wheels
from replication.data.wheels import Document


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[data.Corpus, Path]:
    """The embedded corpus, built once, and its cache folder."""
    folder = tmp_path_factory.mktemp("corpus")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("REPLICATION_CACHE", str(folder))
        return data.text_corpus(), folder


@pytest.fixture
def small(cache: Path, monkeypatch: pytest.MonkeyPatch) -> list[Document]:
    """A made-up corpus of two documents in place of the embedded one; the list grows by one at each build."""
    documents = [Document("prose", "b", "x", "Grüße\n"), Document("code", "a", "y", "x = 1\n")]
    builds: list[Document] = []

    def build() -> list[Document]:
        builds.append(documents[0])
        return documents

    monkeypatch.setattr(wheels, "build", build)
    monkeypatch.setattr(text, "CORPUS_SHA256", data.Corpus.of(documents).checksum)
    return builds


def test_embedded_corpus_is_the_same_everywhere(built: tuple[data.Corpus, Path]) -> None:
    corpus, _ = built
    assert corpus.checksum == text.CORPUS_SHA256 == data.text_checksum()


def test_embedded_corpus_is_what_it_says(built: tuple[data.Corpus, Path]) -> None:
    documents = built[0].documents
    assert list(documents.columns) == ["domain", "distribution", "path", "text"]
    assert built[0].domains == (
        *("code", "docstrings", "javascript", "latex", "licences", "manifests", "prose", "schemas", "stubs"),
        *("stylesheets", "tables", "templates", "tests", "translations"),
    )
    assert set(documents["distribution"]) <= set(wheels.DISTRIBUTIONS)
    counts = documents["domain"].value_counts()
    assert (counts >= 100).sum() >= 10
    assert counts.min() >= 50
    sizes = documents["text"].map(lambda document: len(document.encode()))
    assert sizes.between(200, 4_000).all()
    assert 5e6 < sizes.sum() < 15e6
    assert documents["text"].is_unique
    order = list(zip(documents["distribution"], documents["path"], documents["domain"], strict=True))
    assert order == sorted(order)


def test_no_distribution_fills_a_domain_with_one_file(built: tuple[data.Corpus, Path]) -> None:
    documents = built[0].documents
    files = documents["path"].str.partition("#")[0]
    assert documents.groupby(["distribution", files, "domain"]).size().max() <= wheels.PIECES_EACH
    assert documents.groupby(["distribution", "domain"]).size().max() <= wheels.SHARE_LARGEST


def test_cache_is_read(built: tuple[data.Corpus, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    corpus, folder = built
    monkeypatch.setenv("REPLICATION_CACHE", str(folder))
    monkeypatch.setattr(wheels, "build", lambda: pytest.fail("built again"))
    again = data.text_corpus()
    assert again.checksum == corpus.checksum
    assert again.documents.equals(corpus.documents)


@pytest.mark.parametrize("damage", ["cut", "garbage", "changed", "shape"])
def test_damaged_cache_is_built_again(small: list[Document], cache: Path, damage: str) -> None:
    first = data.text_corpus()
    (path,) = cache.glob("*.jsonl.gz")
    content = path.read_bytes()
    if damage == "cut":
        path.write_bytes(content[:-12])
    elif damage == "garbage":
        path.write_bytes(b"no archive")
    elif damage == "changed":
        path.write_bytes(gzip.compress(gzip.decompress(content).replace(b"x = 1", b"x = 2")))
    else:
        path.write_bytes(gzip.compress(b"[1, 2]\n"))
    assert data.text_corpus().documents.equals(first.documents)
    assert len(small) == 2
    assert path.read_bytes() == content
    data.text_corpus()
    assert len(small) == 2


def test_another_corpus_is_an_error_and_not_cached(
    small: list[Document], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = text.CORPUS_SHA256
    monkeypatch.setattr(text, "CORPUS_SHA256", "0" * 64)
    with pytest.raises(data.ChecksumMismatch, match=f"{got} here; {'0' * 64} was expected.*--force-reinstall"):
        data.text_corpus()
    assert not list(cache.glob("*.gz"))


def test_checksum_wants_the_packages_or_the_cache(
    small: list[Document], cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wheels, "DISTRIBUTIONS", {"no-such-distribution": "1.0"})
    with pytest.raises(data.DataNotFound, match=r"no-such-distribution 1\.0 is wanted, here it is not installed"):
        data.text_checksum()
    data.text_corpus()
    assert data.text_checksum() == text.CORPUS_SHA256


def test_checksum_covers_every_column_and_the_order() -> None:
    documents = [Document("d", "p", "a", "one"), Document("d", "p", "b", "two")]
    seen = {data.Corpus.of(documents).checksum, data.Corpus.of(documents[::-1]).checksum}
    for field in Document._fields:
        seen.add(data.Corpus.of([documents[0]._replace(**{field: "new"}), documents[1]]).checksum)
    assert len(seen) == 6


def test_domains(small: list[Document]) -> None:
    corpus = data.text_corpus()
    assert corpus.domains == ("code", "prose")
    assert len(corpus) == 2


def test_text_folder(tmp_path: Path) -> None:
    for name, content in {"a/1.txt": "eins", "a/deep/2.txt": "zwei", "b/1.txt": "drei", "top.txt": "vier"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content, encoding="utf-8")
    (tmp_path / "a" / "image.png").write_bytes(b"\x89PNG\xff")
    corpus = data.read_text(str(tmp_path))
    assert [tuple(row) for row in corpus.documents.itertuples(index=False)] == [
        ("a", tmp_path.name, "a/1.txt", "eins"),
        ("a", tmp_path.name, "a/deep/2.txt", "zwei"),
        ("b", tmp_path.name, "b/1.txt", "drei"),
        ("text", tmp_path.name, "top.txt", "vier"),
    ]
    assert data.text_checksum(str(tmp_path)) == corpus.checksum
    (tmp_path / "a" / "image.png").rename(tmp_path / "a" / "image.txt")
    with pytest.raises(ValueError, match=r"image\.txt is not UTF-8"):
        data.read_text(str(tmp_path))
    (tmp_path / "empty").mkdir()
    with pytest.raises(data.DataNotFound, match=r"holds no file named \*\.txt"):
        data.read_text(str(tmp_path / "empty"))
    with pytest.raises(data.DataNotFound, match="is not a folder"):
        data.read_text(str(tmp_path / "nowhere"))


def test_relative_path_is_refused_with_the_absolute_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=f"got 'corpus.jsonl'; from here that is {tmp_path}/corpus.jsonl"):
        data.read_text("corpus.jsonl")


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz"])
def test_text_jsonl(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"corpus{suffix}"
    lines = [
        {"text": "Grüße", "domain": "a"},
        None,
        {"text": "two"},
        {"text": "3", "domain": "b"},
    ]
    content = "".join(f"{json.dumps(line)}\n" if line else "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    corpus = data.read_text(str(path))
    assert data.text_checksum(str(path)) == corpus.checksum
    assert list(corpus.documents["text"]) == ["Grüße", "two", "3"]
    assert list(corpus.documents["domain"]) == ["a", "text", "b"]
    assert list(corpus.documents["path"]) == ["1", "3", "4"]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b"{'text': 1}", "line 2: Expecting property name"),
        (b'{"text": "cut', "line 2: Invalid control character"),
        (b'["text"]', 'line 2: expected an object with a string "text"'),
        (b'{"text": 1}', 'line 2: expected an object with a string "text"'),
        (b'{"text": "a", "domain": 3}', "line 2: the domain must be a string, found 3"),
        (b'{"text": "\xff"}', "line 2: .*utf-8"),
        (rb'{"text": "\ud800"}', r"jsonl, line 2: .*'\\ud800' .*surrogates not allowed"),
        (rb'{"text": "a", "domain": "\udfff"}', r"jsonl, line 2: .*'\\udfff' .*surrogates not allowed"),
    ],
)
def test_broken_lines_are_named(tmp_path: Path, line: bytes, message: str) -> None:
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(b'{"text": "fine"}\n' + line + b"\n")
    with pytest.raises(ValueError, match=message):
        data.read_text(str(path))


def test_damaged_or_empty_jsonl(tmp_path: Path) -> None:
    path = tmp_path / "corpus.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "fine"}\n' * 9)[:-9])
    with pytest.raises(ValueError, match="the compressed file is damaged"):
        data.read_text(str(path))
    path.write_bytes(b"not gzip")
    with pytest.raises(ValueError, match="the compressed file is damaged"):
        data.read_text(str(path))
    path.write_bytes(gzip.compress(b"\n"))
    with pytest.raises(data.DataNotFound, match="holds no document"):
        data.read_text(str(path))
    with pytest.raises(data.DataNotFound, match="there is no file"):
        data.read_text(str(tmp_path / "nowhere.jsonl"))
