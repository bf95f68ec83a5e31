from __future__ import annotations

from pathlib import Path

import pytest

from replication.runs import files


@pytest.mark.parametrize("text", ["", '{"a": 1', "\xff"])
def test_half_a_file_is_no_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    assert files.read_json(tmp_path / "a.json") is None
    assert files.read_json(tmp_path / "absent.json") is None
