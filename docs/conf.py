"""The site: what was found, notebooks as they were executed, the package's reference, the commands, the design."""

from __future__ import annotations

import base64
import contextlib
import html
import json
import re
from pathlib import Path
from typing import Any

import click
import matplotlib
from bs4 import BeautifulSoup, Tag
from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.logging import getLogger

from replication import __version__
from replication.cli import cli
from replication.evidence import VERDICTS
from replication.evidence.scoreboard import ANSWER_MARKS, MARKS, Mark, Standing
from replication.runs import publish
from replication.runs.profiles import Project

HERE = Path(__file__).parent
PROJECT = Project.find()
logger = getLogger(__name__)
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
FIRST_IMPORT = re.compile(r"^from replication\.(\w+) ", re.MULTILINE)
SOURCE_LINK = re.compile(r"\]\((?:\.\./)+(replication/[\w/]+)\.py(?:#\w+)?\)")
NOTEBOOK_LINK = re.compile(r"\]\((\w+)\.ipynb\)")
# a row of a table of tests: where a claim was decided
TEST_ROW = re.compile(r"<tr>(?=<td[^>]*>(?:[\w-]+ )?([\w-]+)</td>)")
# verdicts, answers, and the words that tables have for checks
SHOWN: dict[str, Mark] = {**MARKS, **ANSWER_MARKS, "holds": ANSWER_MARKS["yes"], "fails": ANSWER_MARKS["no"]}
SAID = re.compile(rf"(\W )?(?:\d+ )?({'|'.join(sorted(SHOWN, key=len, reverse=True))})\.?", re.IGNORECASE)
# characters from which on a cell is prose, so that a phone shows its table's rows one below the other
PROSE = 60

project = "Replications"
copyright = "the authors of the replications"
release = __version__
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.apidoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
]
exclude_patterns = ["_build", "generated/api/modules.rst", "generated/papers.md"]
html_theme = "furo"
html_static_path = ["_static", "generated/static"]
html_css_files = ["site.css", "verdicts.css"]
html_js_files = ["sort.js"]
html_copy_source = False
html_show_sourcelink = False
# formulas that browsers show by themselves: the site needs no network
html_math_renderer = "mathml"
html_title = "Replications on a training budget"

# a page shows what the committed notebook holds: nothing is executed here
nb_execution_mode = "off"
nb_code_prompt_show = nb_code_prompt_hide = "code"
# the same table is stored as text too, but a page shows its HTML
nb_mime_priority_overrides = [("html", "text/html", 0)]
# the scoreboard is Markdown with tables and links to pages
nb_render_markdown_format = "myst"
myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3

apidoc_modules = [
    {
        "path": "../replication",
        "destination": "generated/api",
        "separate_modules": True,
        "module_first": True,
        "automodule_options": {"members", "show-inheritance"},
    }
]
# a name that a package re-exports is documented once, where it is defined
autodoc_default_options = {"ignore-module-all": True}
# fields of several classes share names such as `n`; a link to either is as good
suppress_warnings = ["ref.python"]
# a signature is names and defaults as they are written; the section of parameters has types, shapes and units
autodoc_typehints = "none"
autodoc_preserve_defaults = True
autodoc_member_order = "bysource"
default_role = "code"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Keys", "params_style")]


def copy_notebooks() -> dict[str, list[str]]:
    """Copy the pages to where Sphinx looks, and list each notebook's, the largest scale first.

    They lie as in the repository, so links between them need no change. A page that did not change keeps its date and
    is not built again.
    """
    pages: dict[str, list[str]] = {}
    for stem in PROJECT.notebooks():
        found = [publish.page_file(PROJECT, profile, stem) for profile in reversed(publish.sorted_profiles(PROJECT))]
        found = [*filter(Path.exists, found), PROJECT.notebook_file(stem)]
        pages[stem] = [path.relative_to(PROJECT.root).with_suffix("").as_posix() for path in found]
    listed = {f"{page}.ipynb" for of in pages.values() for page in of}
    for path in [*HERE.glob("notebooks/*.ipynb"), *HERE.glob("results/*/*.ipynb")]:
        if path.relative_to(HERE).as_posix() not in listed:
            path.unlink()
    for of in pages.values():
        for page in of:
            (HERE / page).parent.mkdir(parents=True, exist_ok=True)
            write(HERE / f"{page}.ipynb", for_the_site(page, of, pages))
    return pages


def for_the_site(page: str, of: list[str], pages: dict[str, list[str]]) -> str:
    """A page with links to reference pages and to the largest scales, its inputs folded, and its other scales named."""

    def largest(found: re.Match[str]) -> str:
        return f"](/{pages[found[1]][0]}.ipynb)"

    text = (PROJECT.root / f"{page}.ipynb").read_text(encoding="utf-8")
    node = json.loads(NOTEBOOK_LINK.sub(largest, SOURCE_LINK.sub(reference_link, text)))
    for cell in node["cells"]:
        if cell["cell_type"] == "code":
            # the answer's code only makes room for it
            answer = "answer" in cell["metadata"].get("tags", [])
            cell["metadata"]["tags"] = ["remove-input" if answer else "hide-input"]
    others = [f"[the same at {scale(other)}](/{other}.ipynb)" for other in of if other != page]
    if others:
        title, _, rest = "".join(node["cells"][0]["source"]).partition("\n")
        node["cells"][0]["source"] = f"{title}\n\n*At the {scale(page)} scale; {', '.join(others)}.*\n{rest}"
    if page == of[0] and others:
        entries = "\n".join(f"At {scale(other)} </{other}>" for other in of[1:])
        toctree = f"```{{toctree}}\n:hidden:\n\n{entries}\n```"
        node["cells"].append({"cell_type": "markdown", "id": "scales", "metadata": {}, "source": toctree})
    return json.dumps(node)


def scale(page: str) -> str:
    """The scale that a page shows."""
    folder = page.split("/")[-2]
    return PROJECT.profiles()[0] if folder == "notebooks" else folder


def write_papers(pages: dict[str, list[str]]) -> None:
    """Write a card for each paper, with its key figure and what the README says of it, and the navigation."""
    board = publish.board(PROJECT)
    cards = [card(lead, board.papers[lead.claims.paper], pages) for lead in board.leads]
    papers: dict[str, str] = {}
    for stem in pages:
        paper = json.loads(PROJECT.notebook_file(stem).read_text())["metadata"].get("replication", {}).get("paper", "")
        papers[paper] = papers.get(paper, "") + f"\n/{pages[stem][0]}"
    trees = [
        f"```{{toctree}}\n:hidden:\n{f':caption: {paper}' if paper else ''}\n{entries}\n```"
        for paper, entries in papers.items()
    ]
    text = [str(board), "````{container} cards", *cards, "````", *trees]
    write(HERE / "generated" / "papers.md", "\n\n".join(text) + "\n")


def card(lead: Standing, standings: tuple[Standing, ...], pages: dict[str, list[str]]) -> str:
    """What was found on one paper: picture, sentence, how its claims stand, questions, and the method's page."""
    claims = lead.claims
    page = lead.page(lead.scale) if lead.scale else pages[claims.notebooks[0]][0]
    node = json.loads((PROJECT.root / f"{page}.ipynb").read_text(encoding="utf-8"))
    (answer,) = (cell for cell in node["cells"] if "answer" in cell["metadata"].get("tags", []))
    pictures = [output["data"]["image/png"] for output in answer["outputs"] if "image/png" in output.get("data", {})]
    picture = HERE / "generated" / f"{claims.paper}.png"
    picture.write_bytes(base64.b64decode("".join(pictures[0])))
    words = [one.word for one in standings]
    stand = " ".join(f"**{MARKS[word].sign} {words.count(word)} {word}**" for word in VERDICTS if word in words)
    listed = [f"- [](/{pages[stem][0]}.ipynb)" for stem in claims.notebooks]
    # the first import of a page on a method is the method's
    first = {path: FIRST_IMPORT.search(path.read_text(encoding="utf-8")) for path in sorted(HERE.glob("*.md"))}
    methods = [path for path, found in first.items() if found and found[1] == claims.paper]
    listed += [f"- Use it: [](/{path.name})" for path in methods]
    return "\n\n".join(
        [
            "```{container} card",
            f"[![{claims.title}: the key figure](/generated/{picture.name})](/{page}.ipynb)",
            f"**{claims.title}**",
            lead.finding,
            stand,
            "\n".join(listed),
            "```",
        ]
    )


def write_colours() -> None:
    """Write the style of each verdict and answer, in the scoreboard's colours."""
    folder = HERE / "generated" / "static"
    folder.mkdir(parents=True, exist_ok=True)
    rules = (f".{name(word)} {{ background: {m.fill}; color: {m.ink}; }}" for word, m in SHOWN.items())
    write(folder / "verdicts.css", "\n".join(rules) + "\n")


def name(word: str) -> str:
    """The class of a verdict or answer."""
    return f"said-{word.replace(' ', '-')}"


def reference_link(found: re.Match[str]) -> str:
    """Lead `](../replication/uba/schedule.py)` to the reference page of the module."""
    module = found[1].removesuffix("/__init__").replace("/", ".")
    return f"](/generated/api/{module}.rst)"


def write(path: Path, text: str) -> None:
    """Write a page if it is new or changed."""
    if not path.exists() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


def write_commands() -> None:
    """Write the page of commands from the help that the commands print."""
    context = click.Context(cli, info_name="replicate", max_content_width=100, terminal_width=100)
    parts = ["# Commands", f"```text\n{cli.get_help(context)}\n```"]
    for name in cli.list_commands(context):
        command = cli.get_command(context, name)
        assert command is not None
        inner = click.Context(command, info_name=name, parent=context, max_content_width=100, terminal_width=100)
        parts.append(f"## replicate {name}\n\n```text\n{command.get_help(inner)}\n```")
    (HERE / "generated").mkdir(exist_ok=True)
    write(HERE / "generated" / "commands.md", "\n\n".join(parts) + "\n")


def draw_pictures() -> None:
    """Run the examples of the pages on methods, which save the pictures that the pages show."""
    matplotlib.use("agg")
    with contextlib.chdir(HERE / "generated"):
        for page in sorted(HERE.glob("*.md")):
            names: dict[str, Any] = {}
            examples = EXAMPLE.findall(page.read_text(encoding="utf-8"))
            # what follows a page's last picture draws nothing; the tests run it
            while examples and "savefig" not in examples[-1]:
                examples.pop()
            for code in examples:
                exec(compile(code, page.name, "exec"), names)


def anchor_tests(app: Any, doctree: nodes.document) -> None:
    """Give each row of a page's tables of tests an anchor, and tell MyST of it, which checks the links to it."""
    slugs = app.env.metadata[app.env.docname].setdefault("myst_slugs", {})
    for raw in doctree.findall(nodes.raw):
        if "<th" not in raw.astext() or ">yes if<" not in raw.astext():
            continue

        def anchored(row: re.Match[str]) -> str:
            if row[1] in slugs:
                return row[0]
            slugs[row[1]] = (0, row[1], row[1])
            return f'<tr id="{row[1]}">'

        raw.children = [nodes.Text(TEST_ROW.sub(anchored, raw.astext()))]


def dress(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Mark verdicts and answers, and label the cells of tables, for phones and for sorting."""
    del app, template, doctree
    if page.startswith(("generated/", "_modules/")) or not {"<strong", "<table"} & set(
        re.findall(r"<\w+", context.get("body", ""))
    ):
        return
    soup = BeautifulSoup(context["body"], "html.parser")
    for told in soup.select("strong, td a"):
        found = SAID.fullmatch(told.text)
        word = found[2].lower() if found else ""
        # an answer is a plain word where it stands in a sentence
        if found and (word in MARKS or told.find_parent("td")):
            told["class"] = [*told.get_attribute_list("class", []), "said", name(word)]
            told["data-rank"] = str([*SHOWN].index(word))
            # the sign stays with its word
            told.string = f"{SHOWN[word].sign}\N{NO-BREAK SPACE}{told.text.removeprefix(found[1] or '')}"
    for table in soup.find_all("table"):
        label(table)
    for claim in soup.select("[data-label=claim]"):
        decided = [row for row in soup.select("tr[id]") if row.td and row.td.text.startswith(f"{claim.text} ")]
        if decided and claim.string:
            claim.string.wrap(soup.new_tag("a", href=f"#{decided[0]['id']}"))
    context["body"] = str(soup)


def label(table: Tag) -> None:
    """Tell each cell its column's name, and whether it is empty or prose."""
    heads = [head.text.strip() for head in table.select("thead th")]
    for row in table.select("tbody tr"):
        for cell, head in zip(row.find_all("td"), heads, strict=False):
            cell["data-label"] = head
            if cell.text.strip() in ("", "–"):
                cell["class"] = "empty"
            if len(cell.text) > PROSE:
                cell["class"] = "long"
                table["class"] = [*{*table.get_attribute_list("class", []), "prose"}]


def escape_stars(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Keep reStructuredText from reading `F(x, **conditioning)` and `(*shape, S)` in a docstring as emphasis."""
    del app, what, name, obj, options
    for place, line in enumerate(lines):
        quoted = line.split("`")  # every second piece stands in backticks
        quoted[::2] = [re.sub(r"(\*\*(?=\w+[,)])|(?<=\()\*(?=\w))", r"\\\1", piece) for piece in quoted[::2]]
        lines[place] = "`".join(quoted)


def leave_out_modules_without_source(app: Any) -> list[Any]:
    """Take modules that have no source page (such as builtins) off viewcode's list, which would link to none."""
    known = getattr(app.env, "_viewcode_modules", {})
    for name in [name for name, entry in known.items() if not entry]:
        del known[name]
    return []


def mathml(node: nodes.Element, *, block: bool) -> str:
    """A formula as MathML; one that docutils cannot read stays as it is, with a warning."""
    text = node.astext()
    # what it does not know: another word for an ellipsis, and sizes of brackets
    known = re.sub(r"\\[Bb]igg?[lrm]?(?![A-Za-z])", "", text.replace(r"\dots", r"\ldots"))
    try:
        return str(tex2mathml(known, as_block=block))
    except MathError as error:
        logger.warning("a formula cannot be shown: %s", error, location=node)
        return f"<code>{html.escape(text)}</code>"


def inline_math(translator: Any, node: nodes.math) -> None:
    """Write a formula within the text."""
    translator.body.append(mathml(node, block=False))
    raise nodes.SkipNode


def display_math(translator: Any, node: nodes.math_block) -> None:
    """Write a formula on a line of its own."""
    translator.body.append(f'<div class="math">{mathml(node, block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Any) -> None:
    """Connect what is ours."""
    app.add_html_math_renderer("mathml", (inline_math, None), (display_math, None))
    app.connect("autodoc-process-docstring", escape_stars)
    app.connect("doctree-read", anchor_tests)
    app.connect("html-page-context", dress)
    app.connect("html-collect-pages", leave_out_modules_without_source, priority=100)  # before viewcode makes its pages


write_commands()
write_colours()
write_papers(copy_notebooks())
draw_pictures()
