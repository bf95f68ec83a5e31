"""The site: notebooks as they were executed, the package's reference, the commands, the design."""

from __future__ import annotations

import contextlib
import html
import re
from pathlib import Path
from typing import Any

import click
import matplotlib
from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.util.logging import getLogger

from replication import __version__
from replication.cli import cli

HERE = Path(__file__).parent
logger = getLogger(__name__)
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)
SOURCE_LINK = re.compile(r"\]\(\.\./(replication/[\w/]+)\.py(?:#\w+)?\)")

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
exclude_patterns = ["_build", "generated/api/modules.rst"]
html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
# formulas that browsers show by themselves: the site needs no network
html_math_renderer = "mathml"
html_title = "Replications on a training budget"

# a page shows what the committed notebook holds: nothing is executed here
nb_execution_mode = "off"
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
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
default_role = "code"
napoleon_google_docstring = False
napoleon_use_ivar = True
napoleon_custom_sections = [("Keys", "params_style")]


def copy_notebooks() -> None:
    """Copy the notebooks to where Sphinx looks, with their links to sources led to the sources' reference pages.

    A page that did not change keeps its date and is not built again.
    """
    target = HERE / "notebooks"
    target.mkdir(exist_ok=True)
    sources = {path.name: path for path in (HERE.parent / "notebooks").glob("*.ipynb")}
    for path in target.glob("*.ipynb"):
        if path.name not in sources:
            path.unlink()
    for name, path in sources.items():
        write(target / name, SOURCE_LINK.sub(reference_link, path.read_text(encoding="utf-8")))


def reference_link(found: re.Match[str]) -> str:
    """Lead `](../replication/uba/schedule.py)` to the reference page of the module."""
    module = found[1].removesuffix("/__init__").replace("/", ".")
    return f"](../generated/api/{module}.rst)"


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
            for code in EXAMPLE.findall(page.read_text(encoding="utf-8")):
                if "savefig" in code or names:  # a page's later examples go on from its first
                    exec(compile(code, page.name, "exec"), names)


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
    app.connect("html-collect-pages", leave_out_modules_without_source, priority=100)  # before viewcode makes its pages


copy_notebooks()
write_commands()
draw_pictures()
