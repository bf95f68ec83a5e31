"""`replicate select` is killed, starved and locked out; what is finished stays, and the rest comes out the same."""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest

from replication.disf import selection
from replication.disf.corpus import CorpusError, extractors, pipeline, select_corpus
from replication.disf.corpus.journal import Journal

pytestmark = [
    pytest.mark.faults,
    pytest.mark.skipif(sys.platform == "win32", reason="signals and forks as on POSIX"),
]

# a fork is in the middle of the work at once, where a new process would import for seconds
FORK = multiprocessing.get_context("fork")


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three thousand documents, of which shards and batches are small, so that there is much to interrupt."""
    monkeypatch.setattr(extractors, "_BUCKETS", 2**9)
    monkeypatch.setattr(extractors, "_DIMENSIONS", 24)
    monkeypatch.setattr(pipeline, "_SHARD", 50)
    rng = np.random.default_rng(0)
    folder = tmp_path / "corpus"
    folder.mkdir()
    for number in range(3):
        texts = ("".join(map(chr, row)) for row in rng.integers(97, 105, size=(1000, 60)))
        content = "".join(json.dumps({"text": " ".join(text.split("a"))}) + "\n" for text in texts)
        (folder / f"{number}.jsonl.gz").write_bytes(gzip.compress(content.encode()))
    return folder


def select(corpus: Path, out: Path, **more: Any) -> None:
    select_corpus(corpus, out, **({"ratio": 0.2, "batch_size": 100} | more))


def forked(work: Callable[[], object]) -> Any:
    process = FORK.Process(target=work)
    process.start()
    return process


def whole(out: Path) -> None:
    """Whatever stands at the output's name is a whole output."""
    if out.exists():
        assert len(out.read_text().splitlines()) == 600
        assert all(json.loads(line) for line in out.read_text().splitlines())


def test_killed_at_any_instant_it_ends_with_the_same_output(corpus: Path, tmp_path: Path) -> None:
    begin = time.monotonic()
    select(corpus, tmp_path / "undisturbed.jsonl")
    duration = time.monotonic() - begin
    chance, out = random.Random(0), tmp_path / "out.jsonl"
    kills = 0
    for _ in range(10):
        process = forked(lambda: select(corpus, out))
        process.join(chance.uniform(0, duration / 8))  # short: other tests may have slowed the first
        kills += process.is_alive()
        process.kill()
        process.join()
        whole(out)
    assert kills >= 3
    select(corpus, out)
    assert out.read_bytes() == (tmp_path / "undisturbed.jsonl").read_bytes()
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"corpus"} | {
        f"{name}.jsonl{more}" for name in ("undisturbed", "out") for more in ("", ".work", ".manifest.json")
    } | {".undisturbed.jsonl.lock", ".out.jsonl.lock"}
    assert not [path for path in (tmp_path / "out.jsonl.work").rglob(".*") if path.name != ".lock"]


def test_disk_that_fills_up_is_an_error_and_loses_nothing(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.jsonl"
    said: Any = FORK.SimpleQueue()
    # enough for features, not for the output; then not even for those
    for limit in (60_000, 3_000):
        out.unlink(missing_ok=True)

        def starved(limit: int = limit) -> None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
            try:
                select(corpus, out)
            except OSError as error:
                said.put((os.strerror(error.errno or 0), str(error.filename).startswith(str(out))))

        forked(starved).join()
        assert said.get() == ("File too large", True)
        assert not out.exists()
    select(corpus, out)
    whole(out)


def test_disk_that_fills_up_while_a_line_is_written_names_the_journal(tmp_path: Path) -> None:
    said: Any = FORK.SimpleQueue()
    path = tmp_path / "lines.jsonl"

    def starved() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
        try:
            Journal(path).fill(lambda done: ({"line": line} for line in range(done, 40)))
        except OSError as error:
            said.put((os.strerror(error.errno or 0), str(error.filename)))

    forked(starved).join()
    assert said.get() == ("File too large", f"{path}.part")
    # the lines before it are kept, half a line is not
    begun: list[int] = []
    Journal(path).fill(lambda done: (begun.append(done), *({"line": line} for line in range(done, 40)))[1:])
    assert 5 < begun[0] < 20
    assert [line["line"] for line in Journal(path)] == list(range(40))


@pytest.mark.parametrize("name", ["a-file/out.jsonl", "/proc/out.jsonl"])
@pytest.mark.parametrize("which", ["out", "work"])
def test_places_that_cannot_be_written_are_found_before_any_work(
    corpus: Path, tmp_path: Path, name: str, which: str
) -> None:
    (tmp_path / "a-file").write_text("")
    places = {"out": tmp_path / "out.jsonl", which: tmp_path / name}
    said: list[str] = []
    with pytest.raises(OSError, match=r"a-file|/proc"):
        select_corpus(corpus, **places, ratio=0.1, progress=lambda what, *_: said.append(what))  # type: ignore[arg-type]
    assert said == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read and write everything")
def test_folders_without_permission_are_named(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "locked").mkdir(mode=0o500)
    with pytest.raises(PermissionError):
        select(corpus, tmp_path / "locked" / "out.jsonl")
    (corpus / "1.jsonl.gz").chmod(0)
    with pytest.raises(CorpusError, match=r"1\.jsonl\.gz Permission denied"):
        select(corpus, tmp_path / "out.jsonl")


@pytest.fixture
def features(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "f.npy", rng.standard_normal((40_000, 32), dtype=np.float32))
    return tmp_path / "f.npy"


def started(tmp_path: Path, features: Path) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    """The command with two workers, in the middle of selecting, and its workers."""
    options = ["--ratio", "0.1", "--batch-size", "512", "--workers", "2", "--shuffle", "none"]
    paths = ["--features", str(features), "--out", str(tmp_path / "out.jsonl")]
    with (tmp_path / "errors.txt").open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "replication", "select", *paths, *options],
            stderr=errors,
            # a shell's background job ignores Ctrl-C, and so would all that it starts
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    end = time.monotonic() + 200
    while not any(part.stat().st_size for part in (tmp_path / "out.jsonl.work").glob("picks-*.part")):
        assert process.poll() is None, (tmp_path / "errors.txt").read_text()
        assert time.monotonic() < end, "nothing was selected in 200 s"
        time.sleep(0.01)
    return process, psutil.Process(process.pid).children(recursive=True)


@pytest.mark.slow  # each worker imports torch and scikit-learn
@pytest.mark.parametrize("whom", ["the command", "a worker", "a person"])
def test_end_before_the_end_leaves_no_process_and_can_be_gone_on_from(
    tmp_path: Path, features: Path, whom: str
) -> None:
    process, children = started(tmp_path, features)
    workers = [child for child in children if child.memory_info().rss > 50 << 20]
    assert len(workers) == 2
    (part,) = (tmp_path / "out.jsonl.work").glob("picks-*.part")
    if whom == "a worker":
        workers[0].kill()
    elif whom == "a person":
        os.kill(process.pid, signal.SIGINT)
    else:
        process.kill()
    process.wait(60)
    expected = {"the command": -signal.SIGKILL, "a worker": 1, "a person": 130}[whom]
    assert process.returncode == expected, (tmp_path / "errors.txt").read_text()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []
    errors = (tmp_path / "errors.txt").read_text()
    assert "Traceback" not in errors
    assert ("Nothing finished is lost" in errors) == (whom != "the command")

    kept = part.read_bytes()[: part.read_bytes().rindex(b"\n") + 1]
    arguments: dict[str, Any] = {"features": features, "ratio": 0.1, "batch_size": 512, "shuffle": None}
    select_corpus(None, tmp_path / "out.jsonl", **arguments)
    assert part.with_suffix("").read_bytes().startswith(kept)
    found = [json.loads(line)["document"] for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert found == selection.select(np.load(features), ratio=0.1, batch_size=512).tolist()
