from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and no data folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("REPLICATION_CACHE", str(folder))
    monkeypatch.delenv("REPLICATION_DATA", raising=False)
    return folder
