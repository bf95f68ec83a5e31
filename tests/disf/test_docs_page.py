"""The page on DiSF: its examples run as they stand, and the picture shows what its title says."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "disf.md").read_text(encoding="utf-8")


def test_examples_run_and_draw_what_the_page_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    plt.close("all")
    names: dict[str, Any] = {}
    first, *others = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(compile(first, "disf.md", "exec"), names)
    (picture,) = re.findall(r"!\[.*\]\(generated/(.*)\)", PAGE)
    assert "<svg" in (tmp_path / picture).read_text(encoding="utf-8")
    disf, random = (np.asarray(line.get_ydata(), dtype=float) for line in plt.gca().get_lines())
    plt.close("all")
    assert disf.sum() == pytest.approx(random.sum(), rel=1e-6)
    assert disf[0] < random[0]
    assert disf[-1] > random[-1]
    for code in others:
        exec(compile(code, "disf.md", "exec"), names)
    assert names["found"][2:64].sum() > names["chance"][2:64].sum()
