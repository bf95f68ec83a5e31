"""The pages on methods: every example runs as it stands, and every picture that a page shows is drawn by it."""

from __future__ import annotations

import ast
import io
import json
import re
import warnings
from pathlib import Path
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import pytest

import replication.compat  # noqa: F401 - transformers and Lightning import torchvision

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
PAGES = sorted(path.name for path in DOCS.glob("*.md") if EXAMPLE.search(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES)
def test_examples_run_and_draw_their_pictures(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    matplotlib.use("agg")
    plt.close("all")  # of other tests
    text = (DOCS / page).read_text(encoding="utf-8")
    names: dict[str, Any] = {"__name__": "page"}
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        for code in EXAMPLE.findall(text):
            exec(compile(code, page, "exec"), names)
    for picture in re.findall(r"!\[.+\]\(generated/(.*)\)", text):
        assert "<svg" in (tmp_path / picture).read_text(encoding="utf-8")


@pytest.mark.parametrize("paper", sorted(path.parent.name for path in (ROOT / "replication").glob("*/claims.yaml")))
def test_each_method_has_a_page_with_a_formula_a_picture_and_its_notebooks(paper: str) -> None:
    texts = [(DOCS / page).read_text(encoding="utf-8") for page in PAGES]
    (page,) = (text for text in texts if re.findall(r"^from replication\.(\w+)", text, re.MULTILINE)[0] == paper)
    assert re.search(r"\$[^$]*=[^$]*\$", EXAMPLE.sub("", page)), "a formula"
    assert "](generated/" in page, "a picture"
    linked = re.findall(r"\]\((notebooks/\w+\.ipynb)\)", page)
    papers = [
        json.loads((ROOT / path).read_text(encoding="utf-8"))["metadata"]["replication"]["paper"] for path in linked
    ]
    assert {*papers} == {paper}, "what was found"


def test_signatures_of_the_reference_are_short(tmp_path: Path) -> None:
    """Names and defaults, by the site's own settings; written out, the types of one function fill half a screen."""
    application = pytest.importorskip("sphinx.application")
    from sphinx.addnodes import desc_signature

    found = ast.parse((DOCS / "conf.py").read_text(encoding="utf-8")).body
    named = [(one.targets[0].id, one.value) for one in found if isinstance(one, ast.Assign)]  # type: ignore[attr-defined]
    settings = {name: ast.literal_eval(value) for name, value in named if name.startswith(("autodoc_", "napoleon_"))}
    settings["extensions"] = ["sphinx.ext.autodoc", "sphinx.ext.napoleon"]
    modules = ("uba.schedule", "adcm.segmentation", "disf.selection", "meek.fit", "metalearning.linear", "training")
    members = "".join(f".. automodule:: replication.{name}\n   :members:\n\n" for name in modules)
    (tmp_path / "index.rst").write_text(f"Reference\n=========\n\n{members}", encoding="utf-8")
    out = [tmp_path / name for name in ("out", "trees")]
    app = application.Sphinx(tmp_path, None, *out, "dummy", settings, status=None, warning=io.StringIO())
    app.build()
    signatures = [
        node.astext()
        for node in app.env.get_doctree("index").findall(desc_signature)
        if node.parent["objtype"] in ("function", "class", "method")
    ]
    assert len(signatures) > 40
    assert [one for one in signatures if len(one) > 200] == []


def test_pages_are_linked() -> None:
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    for page in PAGES:
        assert f"\n{page.removesuffix('.md')}\n" in index, f"docs/index.md does not list {page}"
