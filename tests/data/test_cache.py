from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from replication.atomic import replacing
from replication.data.cache import made_once


def test_what_several_ask_for_at_once_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.txt"
    made: list[int] = []

    def read() -> str | None:
        return path.read_text() if path.exists() else None

    def make() -> str:
        made.append(1)
        time.sleep(0.1)
        with replacing(path) as temporary:
            temporary.write_text("whole")
        return "whole"

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: made_once(path, read, make), range(4))) == ["whole"] * 4
    assert made == [1]
