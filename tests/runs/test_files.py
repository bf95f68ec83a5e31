from __future__ import annotations

from pathlib import Path

import pytest

from replication.atomic import read_json


@pytest.mark.parametrize("text", ["", '{"a": 1', "\xff"])
def test_half_a_file_is_no_file(tmp_path: Path, text: str) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    assert read_json(tmp_path / "a.json") is None
    assert read_json(tmp_path / "absent.json") is None
