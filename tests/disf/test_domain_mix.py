"""The domain mix of a selection from a corpus that is sorted by domain, with and without a shuffle."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from replication import data
from replication.disf.corpus import extractors, select_corpus

EACH, SHARE = 96, 0.125


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """One file with the documents of eight domains of the embedded corpus, one domain after the other."""
    try:
        documents = data.text_corpus().documents
    except data.DataNotFound as missing:
        pytest.skip(str(missing))
    sizes = documents["domain"].value_counts()
    names = sorted(sizes.index[sizes >= EACH])[:8]
    assert len(names) == 8
    rng = np.random.default_rng(0)
    with (tmp_path / "sorted.jsonl").open("w", encoding="utf-8") as file:
        for name in names:
            texts = documents.loc[documents["domain"] == name, "text"].to_numpy()
            for text in rng.choice(texts, size=EACH, replace=False):
                file.write(json.dumps({"text": str(text)[:1000], "domain": name}) + "\n")
    return tmp_path / "sorted.jsonl"


def test_mix_of_domains_with_and_without_shuffle(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In file order each domain gives its share, whatever is in it; shuffled, domains compete."""
    monkeypatch.setattr(extractors, "_DIMENSIONS", 64)
    mixes = {}
    for name, shuffle in (("file order", None), ("shuffled", 0)):
        out = tmp_path / f"{name}.jsonl"
        select_corpus(corpus, out, ratio=SHARE, batch_size=EACH, shuffle=shuffle, work=tmp_path / "work")
        found = [json.loads(line)["domain"] for line in out.read_text(encoding="utf-8").splitlines()]
        mixes[name] = {domain: found.count(domain) for domain in sorted(set(found))}
    domains = sorted({*mixes["file order"], *mixes["shuffled"]})
    with capsys.disabled():
        lines = [f"\n{'selected of ' + str(EACH):15} {'file order':>10} {'shuffled':>10}"]
        lines += [
            f"{one:15} {mixes['file order'].get(one, 0):10} {mixes['shuffled'].get(one, 0):10}" for one in domains
        ]
        print("\n".join(lines))  # noqa: T201
    wanted = round(SHARE * EACH)
    assert set(mixes["file order"].values()) == {wanted}
    counts = mixes["shuffled"].values()
    assert sum(counts) == 8 * wanted
    assert max(counts) >= wanted + 4
