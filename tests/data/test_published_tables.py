from __future__ import annotations

import hashlib
import http.server
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from replication import data
from replication.data import tables as module

CSV = '\ufeffModel,"Output Price\nUSD/1M Tokens"\none,$4.40 \n"two, too",$0.00 \n'
YML = "- model: one\n  total_cost: 0 # not known\n- model: two\n"


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture
def toys(cache: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """Two small tables in the place of the real ones; one of them also has a reduced copy."""
    files = {"toy.csv": CSV.encode(), "toy.yml": YML.encode(), "toy_slim.csv": b"Model\none\n"}
    common = ("owner/name", "0" * 40)
    reduced = ("toy_slim.csv", sha(files["toy_slim.csv"]))
    toys = {
        "csv": module.TableSource(
            "toys", "toy.csv", sha(files["toy.csv"]), *common, "a folder/toy.csv", "none stated", reduced
        ),
        "yml": module.TableSource("toys", "toy.yml", sha(files["toy.yml"]), *common, "toy.yml", "MIT"),
    }
    monkeypatch.setattr(module, "TABLES", toys)
    return files


def put(folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_bytes(content)
    return path


def test_the_registry_is_sound() -> None:
    known = [(t.file, t.sha256) for t in data.TABLES.values()] + [t.reduced for t in data.TABLES.values() if t.reduced]
    assert len({file for file, _ in known}) == len({digest for _, digest in known}) == len(known)
    for table in data.TABLES.values():
        assert len(table.sha256) == 64
        assert len(table.commit) == 40
        assert table.licence
        assert table.url.startswith(f"https://raw.githubusercontent.com/{table.repository}/{table.commit}/")
        assert " " not in table.url


def test_csv_and_yaml_are_read(toys: dict[str, bytes], cache: Path) -> None:
    for name in ("toy.csv", "toy.yml"):
        put(cache, name, toys[name])
    table = data.read_table("csv")
    assert list(table.columns) == ["Model", "Output Price USD/1M Tokens"]  # no byte-order mark, no line break
    assert table["Model"].tolist() == ["one", "two, too"]
    runs = data.read_table("yml")
    assert runs["model"].tolist() == ["one", "two"]
    assert runs["total_cost"].tolist()[0] == 0
    assert runs["total_cost"].isna().tolist() == [False, True]


def test_where_it_is_looked_for(
    toys: dict[str, bytes], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = tmp_path / "own"
    monkeypatch.setenv("REPLICATION_DATA", str(own))
    # from the last place to the first: each one found goes before those found until then
    for folder in (cache, cache / "meek", own, own / "meek"):
        path = put(folder, "toy.csv", toys["toy.csv"])
        assert data.table_path("csv") == path


def test_a_reduced_copy_is_read_where_the_whole_is_not(toys: dict[str, bytes], cache: Path) -> None:
    slim = put(cache, "toy_slim.csv", toys["toy_slim.csv"])
    assert data.table_path("csv") == slim
    whole = put(cache, "toy.csv", toys["toy.csv"])
    assert data.table_path("csv") == whole


def test_another_version_is_refused(toys: dict[str, bytes], cache: Path) -> None:
    path = put(cache, "toy.yml", b"- model: three\n")
    with pytest.raises(data.ChecksumMismatch, match=f"{path} is damaged or another version.*{sha(toys['toy.yml'])}"):
        data.read_table("yml")
    with pytest.raises(data.ChecksumMismatch):
        module.tables_checksum()


def test_missing_tables_are_explained(
    toys: dict[str, bytes], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLICATION_DATA", str(tmp_path / "own"))
    with pytest.raises(data.DataNotFound) as raised:
        data.read_table("csv")
    message = str(raised.value)
    for word in (
        "'csv' (toys)",
        f"{tmp_path / 'own'} ($REPLICATION_DATA) and {cache} (the cache folder)",
        "toy.csv and toy_slim.csv",
        "download_table('csv')",
        "owner/name/" + "0" * 40 + "/a%20folder/toy.csv",
        "none stated",
    ):
        assert word in message
    with pytest.raises(data.DataNotFound, match=r"the cache folder.*download_tables\(\)"):
        module.tables_checksum()
    with pytest.raises(ValueError, match=r"name: must be one of csv, yml, got 'scv'; did you mean 'csv'\?"):
        data.read_table("scv")


def test_the_checksum_tells_which_tables_are_here(
    toys: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REPLICATION_DATA", str(tmp_path))
    put(tmp_path, "toy_slim.csv", toys["toy_slim.csv"])
    seen = [data.checksum("meek")]
    put(tmp_path, "toy.csv", toys["toy.csv"])
    seen.append(data.checksum("meek"))
    put(tmp_path, "toy.yml", toys["toy.yml"])
    seen.append(data.checksum("meek"))
    assert len(set(seen)) == 3
    expected = f"csv\0{sha(toys['toy.csv'])}\nyml\0{sha(toys['toy.yml'])}\n"
    assert seen[-1] == sha(expected.encode())


class Site(http.server.BaseHTTPRequestHandler):
    files: dict[str, bytes] = {}  # noqa: RUF012 (set anew by every test)
    requests = 0

    def do_GET(self) -> None:
        type(self).requests += 1
        content = self.files.get(self.path)
        self.send_response(200 if content is not None else 404)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def site(toys: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> Iterator[type[Site]]:
    """A web server on this machine in the place of GitHub."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Site) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        root = f"/owner/name/{'0' * 40}"
        Site.requests = 0
        Site.files = {f"{root}/a%20folder/toy.csv": toys["toy.csv"], f"{root}/toy.yml": toys["toy.yml"]}
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        monkeypatch.setattr(module, "RAW", f"http://127.0.0.1:{server.server_port}")
        yield Site
        server.shutdown()
        thread.join()


def test_download(site: type[Site], cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = data.download_tables()
    assert paths == {"csv": cache / "meek" / "toy.csv", "yml": cache / "meek" / "toy.yml"}
    assert data.table_path("yml") == paths["yml"]  # found where it was put
    assert data.download_table("yml") == paths["yml"]
    assert site.requests == 2
    monkeypatch.setenv("REPLICATION_DATA", str(tmp_path / "own"))
    assert data.download_table("csv") == tmp_path / "own" / "meek" / "toy.csv"


def test_download_of_something_else(site: type[Site], cache: Path) -> None:
    site.files = dict.fromkeys(site.files, b"<html>moved</html>")
    with pytest.raises(data.ChecksumMismatch, match=r"is not the table 'csv': its SHA-256 should be [0-9a-f]{64}"):
        data.download_table("csv")
    assert not list(cache.rglob("*.csv"))


def test_download_of_what_is_gone(site: type[Site], cache: Path) -> None:
    site.files = {}
    with pytest.raises(data.DataNotFound, match=r"'yml' could not be downloaded from .* put it as toy.yml"):
        data.download_table("yml")


def test_the_real_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not os.environ.get("REPLICATION_DATA"):
        pytest.skip("REPLICATION_DATA is not set")
    monkeypatch.setenv("REPLICATION_CACHE", str(tmp_path))
    rows = {"chinchilla": 245, "meek_benchmarks": 38, "art_analysis": 162, "aider_polyglot": 69, "price_trends": 21}
    rows |= {"ml_systems": 1892, "api_prices": 309, "llm_elo": 435}
    assert rows.keys() == data.TABLES.keys()
    missing = []
    for name, count in rows.items():
        try:
            table = data.read_table(name)
        except data.DataNotFound:
            missing.append(name)
            continue
        assert len(table) == count
        assert not any("\n" in column for column in table.columns)
    if missing:
        pytest.skip(f"not here: {', '.join(missing)}")
    assert "Output Price USD/1M Tokens" in data.read_table("art_analysis")
    assert data.read_table("ml_systems")["Training compute (FLOP)"].notna().sum() == 988


def test_reading_does_not_import_torch() -> None:
    code = "import sys; from replication import data; data.TABLES; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120, check=False).returncode == 0
