from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest

from replication import data, places
from replication.places import cache_folder, data_folder, file_sha256


def test_folders_follow_the_environment(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache_folder() == cache
    assert data_folder() is None
    monkeypatch.setenv("REPLICATION_DATA", str(tmp_path))
    monkeypatch.delenv("REPLICATION_CACHE")
    assert data_folder() == tmp_path
    assert cache_folder().name == "replication"


def test_file_sha256(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 100_000)
    assert file_sha256(path) == hashlib.sha256(b"abc" * 100_000).hexdigest()


def test_missing_data_is_a_missing_file_and_damage_is_not() -> None:
    assert issubclass(data.DataNotFound, FileNotFoundError)
    assert not issubclass(data.ChecksumMismatch, FileNotFoundError)  # damage must never pass for absence


def test_checksum_refuses_unknown_names() -> None:
    with pytest.raises(ValueError, match="name: must be one of digits, cifar10, meek, got 'cifar100'; did you"):
        data.checksum("cifar100")


def test_a_clone_that_is_not_worked_on_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("REPLICATION_HOME", raising=False)
    other = tmp_path / "other"
    for folder in ("notebooks", "replication"):
        (other / folder).mkdir(parents=True)
    (other / "pyproject.toml").touch()
    monkeypatch.chdir(other / "notebooks")
    assert places.elsewhere() is None  # some other project
    (other / "replication" / "places.py").touch()
    assert places.elsewhere() == other
    command = [sys.executable, "-m", "replication", "list", "--help"]
    told = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (
        f"replicate works on {places.home()}, but the current folder is in another clone, {other}: use" in told.stderr
    )
    monkeypatch.setenv("REPLICATION_HOME", str(other))
    assert places.elsewhere() is None
    monkeypatch.delenv("REPLICATION_HOME")
    home = places.home()
    assert home is not None
    monkeypatch.chdir(home / "notebooks")
    assert places.elsewhere() is None
