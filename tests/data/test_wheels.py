from __future__ import annotations

import ast
import base64
import hashlib
import importlib.metadata
import itertools
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pins import skipping_without_the_pins

from replication import data
from replication.data import wheels

ROOT = Path(__file__).parents[2]
PROSE = "".join(f"Sentence number {i} of a description says something of its own. \n" for i in range(12))


def test_the_versions_are_those_of_the_lock() -> None:
    lock = dict(re.findall(r"^([a-z0-9._-]+)==(\S+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    wrong = {name: lock.get(name) for name, version in wheels.DISTRIBUTIONS.items() if lock.get(name) != version}
    assert not wrong, (
        f"requirements.lock and replication/data/wheels.py differ; the lock has {wrong}. Put these versions into "
        "DISTRIBUTIONS, run the tests of the corpus, and put the checksum they report into CORPUS_SHA256"
    )


@pytest.mark.parametrize(
    ("path", "domain"),
    [
        ("networkx/convert.py", "code"),
        ("networkx/tests/test_convert.py", "tests"),
        ("networkx/tests/helpers.py", "tests"),
        ("nbval/test_plugin.py", "tests"),
        ("contest/winner.py", "code"),
        ("sphinx/environment/collectors/metadata.py", "code"),
        ("pygments/lexers/_php_builtins.py", "tables"),
        ("idna/uts46data.py", "tables"),
        ("tzdata/zoneinfo/zone.tab", "tables"),
        ("tzdata/zones", "tables"),
        ("tzdata/zoneinfo/Europe/Vienna", None),
        ("docutils/parsers/rst/include/isonum.txt", "tables"),
        ("pooch/tests/data/large-data.txt", None),
        ("pooch/tests/data/README.md", None),
        ("sphinx-9.0.4.dist-info/METADATA", "prose"),
        ("sphinx-9.0.4.dist-info/licenses/LICENSE.rst", "licences"),
        ("docutils-0.22.4.dist-info/licenses/licenses/gpl-3-0.txt", "licences"),
        ("sphinx-9.0.4.dist-info/INSTALLER", None),
        ("sphinx-9.0.4.dist-info/RECORD", None),
        ("sphinx-9.0.4.dist-info/entry_points.txt", None),
        ("sphinx-9.0.4.dist-info/direct_url.json", None),
        ("../../../share/jupyter/lab/schemas/plugin.json", None),
        ("../../../bin/jupyter", None),
        ("sphinx-9.0.4.data/scripts/tool.py", None),
        ("sphinx/__pycache__/application.cpython-311.pyc", None),
        ("jupyterlab/schemas/plugin.json", "schemas"),
        ("jupyterlab/schemas/package.json.orig", "manifests"),
        ("nbformat/v4/nbformat.v4.schema.json", "schemas"),
        ("jupyterlab/static/build_log.json", None),
        ("sphinx/locale/de/LC_MESSAGES/sphinx.po", "translations"),
        ("sphinx/locale/de/LC_MESSAGES/sphinx.js", None),
        ("sphinx/search/minified-js/german-stemmer.js", None),
        ("sphinx/search/non-minified-js/german-stemmer.js", "javascript"),
        ("furo/theme/furo.min.js", None),
        ("sphinx/themes/nature/static/nature.css.jinja", "stylesheets"),
        ("sphinx/ext/autosummary/templates/class.rst", "templates"),
        ("alabaster/layout.html", "templates"),
        ("attr/__init__.pyi", "stubs"),
    ],
)
def test_domain_of(path: str, domain: str | None) -> None:
    assert wheels.domain_of(path) == domain


MODULE = '''# comment stays
"""Module.

{filler}
"""
import os
try:
    class A:
        r\'\'\'Raw \\d and é.
        {filler}\'\'\'
        x = "not a docstring"
except ValueError:
    pass
else:
    def one_liner(): "Short."
match os.name:
    case "posix":
        async def g():
            """
            {filler}
            """; return 1
def é(): "{filler}"
'''


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_docstrings_are_cut_out(newline: str) -> None:
    filler = "many words " * 20
    source = MODULE.replace("{filler}", filler).replace("\n", newline)
    code, docstrings = wheels._split_docstrings(source.encode())
    left = """
        # comment stays
        import os try: class A: x = "not a docstring" except ValueError: pass else: def one_liner():
        match os.name: case "posix": async def g(): ; return 1 def é():
    """
    assert code.decode().split() == left.split()
    parts = [part.strip() for part in docstrings.decode().replace(f"Module.{newline * 2}", "").split("\n\n")]
    # of `one_liner` nothing, because it is short; of the others all, without quotes
    assert parts == [filler.strip(), f"Raw \\d and é.{newline}        {filler.strip()}", filler.strip(), filler.strip()]


def test_docstrings_are_those_that_python_sees() -> None:
    source = Path(ast.__file__).read_bytes()
    tree = ast.parse(source)
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node, clean=False) for node in ast.walk(tree) if isinstance(node, nodes)]
    code, docstrings = wheels._split_docstrings(source)
    for text in filter(None, texts):
        if "\\" not in text and len(text) > 20:
            long = len(text.encode()) >= wheels.SMALLEST
            assert (text.strip() in docstrings.decode()) == long
            assert not (long and text in code.decode())


def test_what_python_cannot_parse_gives_nothing() -> None:
    assert wheels._split_docstrings(b"print 'two'\n") == (b"", b"")
    assert wheels._split_docstrings(b"type X = int\n") == (b"", b"")  # newer than the oldest Python that is supported


def test_translated_strings() -> None:
    catalogue = r"""
msgid ""
msgstr ""
"Language: de\n"

#: a.py:1
msgid "one"
msgstr "eins"

msgid "two"
msgid_plural "twos"
msgstr[0] "zwei \"a\""
msgstr[1] ""
"drei\n"
"vier"

msgid "untranslated"
msgstr ""
"""
    assert wheels._translated(catalogue.encode()).decode() == 'eins\nzwei "a"\ndrei\nvier'


LINES = st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=3_000), max_size=30)


@settings(max_examples=50, deadline=None)
@given(LINES)
def test_pieces_are_whole_lines_within_the_limits(lines: list[str]) -> None:
    text = "\n".join(lines)
    position = 0
    for piece in wheels._pieces(text.encode()):
        assert wheels.SMALLEST <= len(piece.encode()) <= wheels.LARGEST
        position = text.index(piece, position)
        assert position == 0 or text[position - 1] == "\n"
        position += len(piece)
        assert position == len(text) or text[position - 1] == "\n"


def test_pieces_leave_out_only_what_is_too_short_or_too_long() -> None:
    line = "x" * 99 + "\n"
    assert [len(piece) for piece in wheels._pieces((line * 41).encode())] == [4_000]  # the 41st line alone is too short
    assert [len(piece) for piece in wheels._pieces((line * 42).encode())] == [4_000, 200]
    long = "y" * 4_001 + "\n"
    assert wheels._pieces((line * 3 + long + line * 2).encode()) == [line * 3, line * 2]


@given(st.integers(0, 200), st.integers(1, 50))
def test_spread_is_even(length: int, count: int) -> None:
    chosen = wheels._spread(range(length), count)
    assert len(chosen) == min(length, count)
    gaps = [b - a for a, b in itertools.pairwise(chosen)]
    assert all(gap > 0 for gap in gaps)
    assert not gaps or max(gaps) - min(gaps) <= 1
    assert not chosen or chosen[0] == 0


def jaccard(a: str, b: str) -> float:
    def shingles(text: str) -> set[str]:
        words = text.split()
        return {" ".join(words[i : i + 5]) for i in range(max(1, len(words) - 4))}

    one, other = shingles(a), shingles(b)
    return len(one & other) / len(one | other)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 60), min_size=30, max_size=60, unique=True),
    st.lists(st.lists(st.integers(0, 59), max_size=4), min_size=2, max_size=6),
)
def test_near_duplicates_as_by_definition(base: list[int], edits: list[list[int]]) -> None:
    texts = []
    for edit in edits:
        words = [str(word) for word in base]
        for position in edit:
            if position < len(words):
                words[position] = f"new{position}"
        texts.append(" ".join(words))
    expected: list[bool] = []
    for i, text in enumerate(texts):
        expected.append(not any(expected[j] and jaccard(text, texts[j]) >= 0.8 for j in range(i)))
    assert list(wheels._first_of_similar(texts)) == expected


def test_near_duplicates_are_judged_against_what_was_kept() -> None:
    words = [f"w{i}" for i in range(100)]
    first, second, third = (" ".join(words[start : start + 80]) for start in (0, 8, 16))
    assert jaccard(first, second) >= 0.8 > jaccard(first, third)
    assert jaccard(second, third) >= 0.8
    assert list(wheels._first_of_similar([first, second, third])) == [True, False, True]


def test_other_versions_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = dict(wheels.DISTRIBUTIONS, sphinx="1.0")

    def version(name: str) -> str:
        if name == "tqdm":
            raise importlib.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(importlib.metadata, "version", version)
    with pytest.raises(data.DataNotFound) as raised:
        wheels.build()
    message = str(raised.value)
    assert f"sphinx {wheels.DISTRIBUTIONS['sphinx']} is wanted, here it is 1.0" in message
    assert f"tqdm {wheels.DISTRIBUTIONS['tqdm']} is wanted, here it is not installed" in message
    assert f"sphinx=={wheels.DISTRIBUTIONS['sphinx']} tqdm==" in message
    assert "sympy" not in message


Install = Callable[..., Path]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install a made-up distribution, the only one of the corpus."""

    def make(files: dict[str, bytes], unlisted: dict[str, bytes] | None = None, tag: str = "py3-none-any") -> Path:
        site = tmp_path / "site"
        purelib = str(tag.endswith("none-any")).lower()
        info = {
            "made_up-1.0.dist-info/METADATA": f"Metadata-Version: 2.4\nName: made-up\nVersion: 1.0\n\n{PROSE}".encode(),
            "made_up-1.0.dist-info/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: {purelib}\nTag: {tag}\n".encode(),
        }
        record = ""
        for name, content in {**info, **files, **(unlisted or {})}.items():
            path = site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
            if name in info or name in files:
                digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
                record += f"{name},sha256={digest},{len(content)}\n"
        record += "made_up/__pycache__/a.cpython-311.pyc,,\nmade_up-1.0.dist-info/RECORD,,\n"
        (site / "made_up-1.0.dist-info" / "RECORD").write_text(record)
        monkeypatch.syspath_prepend(str(site))
        monkeypatch.setattr(wheels, "DISTRIBUTIONS", {"made-up": "1.0"})
        return site

    return make


def numbered(word: str, count: int = 40) -> bytes:
    return "".join(f"{word}_{i} = {i}\n" for i in range(count)).encode()


def test_build_reads_what_record_lists(install: Install) -> None:
    listed = {
        "made_up/a.py": b'"""' + numbered("word") + b'"""\n' + numbered("a"),
        "made_up/tests/test_a.py": numbered("test"),
        "made_up/latin.rst": "Grüße ".encode("latin-1") * 50,
        "made_up/tiny.rst": b"too short",
        "made_up/style.css": b"a{b:c}" * 100,
        "made_up/b.py": numbered("a"),  # the same words as the code of a.py
    }
    install(listed, unlisted={"made_up/generated.py": numbered("generated")})
    assert [tuple(document) for document in wheels.build()] == [
        ("prose", "made-up", "made_up-1.0.dist-info/METADATA", PROSE),
        ("code", "made-up", "made_up/a.py", numbered("a").decode()),
        ("docstrings", "made-up", "made_up/a.py", numbered("word").decode().strip()),
        ("tests", "made-up", "made_up/tests/test_a.py", numbered("test").decode()),
    ]


def test_prose_is_the_description_without_headers(install: Install) -> None:
    install({})
    (document,) = wheels.build()
    assert document == ("prose", "made-up", "made_up-1.0.dist-info/METADATA", PROSE)


def test_pieces_of_a_file_are_numbered_and_limited(install: Install) -> None:
    install({"made_up/long.rst": numbered("entry", 10_000)})
    documents = [document for document in wheels.build() if "long" in document.path]
    assert len(documents) == wheels.PIECES_EACH
    assert documents[0].path == "made_up/long.rst#000"
    assert [document.path for document in documents] == sorted(document.path for document in documents)


@pytest.mark.parametrize("damage", ["changed", "missing"])
def test_a_file_that_is_not_the_wheels_is_an_error(install: Install, damage: str) -> None:
    path = install({"made_up/a.rst": numbered("a")}) / "made_up" / "a.rst"
    if damage == "changed":
        path.write_bytes(path.read_bytes() + b"# edited\n")
    else:
        path.unlink()
    with pytest.raises(data.ChecksumMismatch, match=r"a\.rst of made-up was changed.*--force-reinstall.*made-up==1\.0"):
        wheels.build()


def test_a_platforms_own_wheel_is_refused(install: Install) -> None:
    install({}, tag="cp311-cp311-linux_x86_64")
    with pytest.raises(data.DataNotFound, match=r"made-up 1\.0 as it is on PyPI, one wheel for all platforms"):
        wheels.build()


def test_tests_are_skipped_for_want_of_the_pinned_versions_and_for_nothing_else(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(data.DataNotFound), skipping_without_the_pins():
        raise data.DataNotFound("another thing")
    monkeypatch.setitem(wheels.DISTRIBUTIONS, "idna", "0.0")
    with pytest.raises(pytest.skip.Exception, match=r"idna 0\.0 is wanted"), skipping_without_the_pins():
        wheels.build()
    with pytest.raises(ValueError, match="no data"), skipping_without_the_pins():
        raise ValueError("no data")
