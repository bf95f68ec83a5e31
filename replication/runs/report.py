"""One page about runs: what was asked, the verdict of each claim, and what failed and how."""

from __future__ import annotations

import html
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from replication.runs import notebook
from replication.runs.files import read_json, write_text
from replication.runs.profiles import canonical
from replication.runs.store import Run, RunStore

if TYPE_CHECKING:
    from replication.evidence import Table

# lines of a traceback that a reader needs to see where it went wrong
_TRACEBACK = 12
_STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 75em; margin: 2em auto; padding: 0 1em; color: #222; }
table { border-collapse: collapse; margin: .7em 0; }
th, td { border-bottom: 1px solid #ddd; padding: .3em .6em; text-align: left; vertical-align: top; }
pre { background: #f6f6f6; padding: .7em; overflow-x: auto; } code { background: #f6f6f6; }
"""


@dataclass(frozen=True)
class Section:
    """What the page says of one run."""

    run: Run
    state: str
    summary: str
    link: str
    table: Table | None
    provenance: dict[str, str]
    trouble: str


def sections(store: RunStore, runs: Iterable[Run], page_folder: Path) -> Iterator[Section]:
    """What there is to say of each run; links are relative to the page's folder."""
    for run in runs:
        folder, state = store.folder(run), store.state(run)
        results, failure = store.results(run), read_json(folder / "failed.json")
        name = "notebook.ipynb" if results is not None else "notebook.failed.ipynb"
        page = folder / name
        link = Path(os.path.relpath(page, page_folder)).as_posix() if page.is_file() else ""
        summary, trouble = "", ""
        if results is not None:
            summary = notebook.sentence(results)
        if failure is not None:
            summary = summary or f"{failure['status']}: {failure['message']}"
            trouble = "\n".join(failure["traceback"].splitlines()[-_TRACEBACK:]).replace(
                f"{store.project.root}{os.sep}", ""
            )
        yield Section(run, state, summary, link, _table(results), _provenance(results), trouble)


def _table(results: dict[str, Any] | None) -> Table | None:
    if not results or not results["verdicts"]:
        return None
    from replication import evidence

    claims = evidence.load_claims(results["paper"])
    known = {claim.id for claim in claims.claims}
    # a stale run may hold the verdict of a claim that is gone
    verdicts = [evidence.Verdict.from_dict(v) for v in results["verdicts"] if v["claim_id"] in known]
    return evidence.verdict_table(verdicts, claims)


def _provenance(results: dict[str, Any] | None) -> dict[str, str]:
    found = (results or {}).get("provenance") or {}
    return {name: value if isinstance(value, str) else canonical(value) for name, value in found.items()}


def markdown(title: str, found: Sequence[Section]) -> str:
    """The page as Markdown."""
    lines = [f"# {title}", "", _overview(found), ""]
    for section in found:
        lines += [f"## {section.run.name}", "", f"{section.state}: {section.summary}".rstrip(": "), ""]
        lines += [f"Parameters: `{canonical(section.run.parameters)}`", ""]
        if section.link:
            lines += [f"[Executed notebook]({section.link})", ""]
        if section.table:
            lines += [section.table.to_markdown(), ""]
        if section.trouble:
            lines += ["```text", section.trouble, "```", ""]
        if section.provenance:
            lines += ["Provenance:", "", *(f"- {name}: {value}" for name, value in section.provenance.items()), ""]
    return "\n".join(lines)


def page(title: str, found: Sequence[Section]) -> str:
    """The page as one HTML file that needs no other."""
    text = html.escape
    body = [f"<h1>{text(title)}</h1><p>{text(_overview(found))}</p>"]
    for section in found:
        body.append(f"<h2>{text(section.run.name)}</h2>")
        body.append(f"<p>{text(f'{section.state}: {section.summary}'.rstrip(': '))}</p>")
        body.append(f"<p>Parameters: <code>{text(canonical(section.run.parameters))}</code></p>")
        if section.link:
            body.append(f'<p><a href="{text(section.link)}">Executed notebook</a></p>')
        if section.table:
            body.append(section.table.to_html())
        if section.trouble:
            body.append(f"<pre>{text(section.trouble)}</pre>")
        if section.provenance:
            entries = "".join(f"<tr><th>{text(n)}</th><td>{text(v)}</td></tr>" for n, v in section.provenance.items())
            body.append(f"<details><summary>Provenance</summary><table>{entries}</table></details>")
    return (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{text(title)}</title>'
        f"<style>{_STYLE}</style></head><body>{''.join(body)}</body></html>\n"
    )


def _overview(found: Sequence[Section]) -> str:
    states = [section.state for section in found]
    counts = ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))
    return f"{len(found)} runs: {counts}." if found else "No runs."


def write(store: RunStore, title: str, runs: Iterable[Run], stem: Path) -> tuple[Path, Path]:
    """Write the page as `stem`.html and `stem`.md; returns both."""
    found = list(sections(store, runs, stem.parent))
    paths = stem.with_suffix(".html"), stem.with_suffix(".md")
    for path, content in zip(paths, (page(title, found), markdown(title, found)), strict=True):
        write_text(path, content)
    return paths
